from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from calib.studio import questions
from calib.studio.questions import Questions


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """A command that stands in for calib; each start is counted, and what it does is its first argument."""
    program = (
        "import os, sys, time; open('starts', 'a').write('x'); what = sys.argv[1]\n"
        "if what == 'answer': print('{\"found\": 1}')\n"
        "elif what == 'fail': print('note', file=sys.stderr); sys.exit('error: no \\x1b[31mmodel\\nway out')\n"
        "elif what == 'crash': os.abort()\n"
        "elif what == 'sleep': time.sleep(60)\n"
        "else: print('no JSON')"
    )
    monkeypatch.setattr(questions, "PYTHON", (sys.executable, "-c", program))
    return lambda: len((tmp_path / "starts").read_text()) if (tmp_path / "starts").exists() else 0


def run(tmp_path: Path, work: Callable[[Questions], Coroutine[Any, Any, Any]]) -> Any:
    async def inside() -> Any:
        asked = Questions(tmp_path / "answers", tmp_path)
        try:
            return await work(asked)
        finally:
            await asked.close()

    return asyncio.run(inside())


def test_a_question_is_asked_once_until_its_file_changes(tmp_path: Path, count: Callable[[], int]):
    file = tmp_path / "model"
    file.write_text("1")

    async def twice(asked: Questions):
        assert asked.known(["answer"], [file]) is None
        return await asyncio.gather(asked.ask(["answer"], [file]), asked.ask(["answer"], [file]))

    first, second = run(tmp_path, twice)
    assert first == second and first.found == {"found": 1} and count() == 1

    async def known(asked: Questions):
        return asked.known(["answer"], [file])

    assert run(tmp_path, known) == first  # another server
    file.write_text("22")
    assert run(tmp_path, known) is None


def test_an_error_is_the_answer_as_printable_lines(tmp_path: Path, count: Callable[[], int]):
    answer = run(tmp_path, lambda asked: asked.ask(["fail"], []))
    assert (answer.state, answer.found, answer.error) == ("failed", None, ("no \\x1b[31mmodel", "way out"))


@pytest.mark.parametrize("what", ["crash", "nonsense"])
def test_a_process_that_crashes_or_talks_nonsense_is_an_answer_too(tmp_path: Path, count: Callable[[], int], what: str):
    answer = run(tmp_path, lambda asked: asked.ask([what], []))
    assert answer.state == "failed" and answer.error


def test_a_failure_is_asked_again_only_on_demand(tmp_path: Path, count: Callable[[], int]):
    async def work(asked: Questions):
        await asked.ask(["fail"], [])
        await asked.ask(["fail"], [])
        assert count() == 1
        await asked.ask(["fail"], [], again=True)
        assert count() == 2

    run(tmp_path, work)


def test_what_is_being_asked_ends_with_the_server(tmp_path: Path, count: Callable[[], int]):
    async def work(asked: Questions):
        task = asked.ask(["sleep"], [])
        while not count():
            await asyncio.sleep(0.02)
        await asked.close()
        return task

    assert run(tmp_path, work).cancelled()


def test_a_damaged_answer_is_asked_again(tmp_path: Path, count: Callable[[], int]):
    run(tmp_path, lambda asked: asked.ask(["answer"], []))
    (kept,) = (tmp_path / "answers").iterdir()
    assert json.loads(kept.read_text())["found"] == {"found": 1}
    kept.write_text("{")
    assert run(tmp_path, lambda asked: asked.ask(["answer"], [])).found == {"found": 1}
    assert count() == 2
