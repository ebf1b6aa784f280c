"""Where results go: decided before the run, and what is complete is kept when something else can't be written.

covers: calib.cli.quantize, calib.engine.result
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from trust_fixtures.tiny import left_behind

from calib.cli import quantize as quantize_command
from calib.errors import OutputError
from calib.progress import silent

COMMAND = "from calib.cli import main\nmain()"
COMPLETE = ["job.yaml", "model.bin", "model.xml", "plan.json", "plan.npz", "report.json"]


def places(work: Path) -> list[str]:
    return [str(work / "model.xml"), "--calibration", str(work / "data.npz"), "-o", str(work / "out")]


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Refuse files of this process that grow beyond a size, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_folder_that_takes_no_files_is_found_before_the_run(quantize: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("calib.quantize", lambda *_, **__: pytest.fail("it ran"))
    ended = quantize(output="/proc/out")  # where even root can't make a folder, though permissions would allow it
    assert ended.code == 1 and ended.out == ""
    assert "/proc/out: the result can't be written: /proc takes no files" in ended.err


def test_looking_at_the_output_folder_leaves_nothing(work: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any, **__: Any) -> Any:
        raise OutputError("stopped here")

    monkeypatch.setattr("calib.quantize", refused)
    assert "stopped here" in quantize(output=work / "not" / "yet" / "there").err
    assert left_behind(work) == []


def test_temporary_files_are_made_inside_the_output_folder(work: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch):
    (work / "out").mkdir()
    moved: list[Path] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(Path(a)), replace(a, b))[1])
    assert quantize("--no-speed").code == 0
    assert moved and all(work / "out" in path.parents for path in moved)  # so that it may be a mount point


def test_a_page_that_does_not_fit_costs_neither_model_nor_report(work: Path, run: Any):
    with small_files(200_000):  # the page is larger, all the rest smaller
        ended = run("quantize", *places(work), "--effort", "fast", "--no-speed", "-q")
    assert ended.code == 1 and ended.out == ""
    assert "report.html can't be written" in ended.err and "'calib report' writes the page again" in ended.err
    assert sorted(path.name for path in (work / "out").iterdir()) == COMPLETE
    assert run("report", work / "out").code == 0 and (work / "out" / "report.html").is_file()


def test_a_full_stdout_costs_neither_model_nor_report(work: Path):
    command = [
        sys.executable,
        "-c",
        COMMAND,
        "quantize",
        *places(work),
        "--effort",
        "fast",
        "--no-speed",
        "--no-report",
    ]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
    assert "stdout can't be written: No space left on device" in ended.stderr
    assert f"the model and report.json are complete in {work / 'out'}" in ended.stderr
    assert sorted(path.name for path in (work / "out").iterdir()) == COMPLETE


@pytest.mark.parametrize("arguments", [["--help"], ["help"], ["schema", "config"], ["metrics", "--json"], ["data"]])
def test_a_full_stdout_is_said_by_every_command(arguments: list[str]):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1 and ended.stderr.startswith("error: ") and "No space left on device" in ended.stderr
    assert "unexpected" not in ended.stderr and "Traceback" not in ended.stderr


def test_a_working_folder_that_is_deleted_during_the_run_costs_nothing(
    work: Path, run: Any, monkeypatch: pytest.MonkeyPatch
):
    (work / "here").mkdir()
    monkeypatch.chdir(work / "here")

    @contextmanager
    def deleting(stage: str, total: int | None = None) -> Iterator[Any]:
        if stage == "insert":
            shutil.rmtree(work / "here")
        with silent(stage, total) as inner:
            yield inner

    monkeypatch.setattr(quantize_command, "progress", lambda ctx: deleting)
    arguments = [*places(work)[:-1], "out"]
    ended = run("quantize", *arguments, "--effort", "fast", "--no-speed")
    assert ended.code == 0, ended.err
    assert (work / "here" / "out" / "report.html").is_file()


def test_a_working_folder_that_is_gone_is_said(work: Path):
    code = "import os, shutil\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n" + COMMAND
    command = [sys.executable, "-c", code, "quantize", *places(work)[:-1], "out"]
    ended = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr.startswith("error: the current folder is gone"), ended.stderr


def test_an_output_that_looks_like_a_file_and_an_earlier_result_are_said(work: Path, run: Any):
    arguments = [
        "quantize",
        *places(work)[:-1],
        str(work / "int8.xml"),
        "--effort",
        "fast",
        "--no-speed",
        "--no-report",
    ]
    assert "int8.xml will be a folder" in run(*arguments).err
    again = run(*arguments)
    assert "holds an earlier result, which will be replaced" in again.err and "will be a folder" not in again.err
