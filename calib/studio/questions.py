"""Questions to a model or its data, each answered by a command of calib in a process of its own.

A model that crashes OpenVINO, or takes minutes, is no matter to the server. An answer is kept beside the runs, under a
hash of the command, the files that it reads and the version of calib, so that it is asked for once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.report.escape import printable
from calib.report.files import write_text
from calib.values.version import __version__

# Two processes at once: one may take minutes, and short ones should not wait for it.
AT_ONCE = 2
MOST_FILES = 20_000  # of a folder that are looked at
MOST_ANSWER = 64 << 20

# -P as for a zoo's workers: a file in the folder must not stand in for a library.
PYTHON = (sys.executable, "-P", "-m")

CALIB, PROBE = "calib", "calib.studio.probe"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        state: Either "done", "failed" or "asked".
        found: Its JSON; None unless it is done.
        error: Lines of its error, printable.
    """

    state: str
    found: Any = None
    error: tuple[str, ...] = ()


class Questions:
    """Asks, and remembers the answers.

    Args:
        folder: Folder of the answers.
        base: Folder that relative paths start from.
    """

    def __init__(self, folder: Path, base: Path):
        self._folder = folder
        self._base = base
        self._room = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[str, asyncio.Task[Answer]] = {}
        self._known: dict[str, Answer] = {}

    def known(self, words: Sequence[str], files: Sequence[Path]) -> Answer | None:
        """Return the answer if it is known, None otherwise; nothing is started."""
        return self._recalled(self._key(words, files))

    def ask(self, words: Sequence[str], files: Sequence[Path], *, again: bool = False) -> asyncio.Task[Answer]:
        """Return a task that ends with the answer; the same question is asked once, whoever waits for it.

        Args:
            words: ``CALIB`` or ``PROBE``, and its arguments; what it prints on stdout is JSON.
            files: Files and folders that the answer depends on.
            again: Whether to ask anew after a failure.
        """
        key = self._key(words, files)
        if key not in self._asked or (again and self._asked[key].done()):
            self._asked[key] = asyncio.create_task(self._answered(key, words, again))
        return self._asked[key]

    async def close(self) -> None:
        """Stop everything that is being asked."""
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _answered(self, key: str, words: Sequence[str], again: bool) -> Answer:
        if not again and (known := self._recalled(key)):
            return known
        async with self._room:
            answer = await self._run(words)
        self._known[key] = answer
        text = json.dumps({"words": list(words), "state": answer.state, "found": answer.found, "error": answer.error})
        await asyncio.to_thread(write_text, self._folder / f"{key}.json", text)
        self._asked.pop(key, None)
        return answer

    async def _run(self, words: Sequence[str]) -> Answer:
        process = await asyncio.create_subprocess_exec(
            *PYTHON,
            *words,
            cwd=self._base,
            env=os.environ | dict.fromkeys(_THREADS, "1"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, said = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        try:
            return Answer("done", json.loads(out[:MOST_ANSWER])) if process.returncode == 0 else failed(said)
        except ValueError:
            return failed(said)

    def _recalled(self, key: str) -> Answer | None:
        if key not in self._known:
            try:
                kept = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
                self._known[key] = Answer(kept["state"], kept["found"], tuple(kept["error"]))
            except (OSError, ValueError, KeyError, TypeError):
                return None
        return self._known[key]

    def _key(self, words: Sequence[str], files: Sequence[Path]) -> str:
        stamps = [stamp for path in files for stamp in _stamps(path)]
        return hashlib.sha256(repr((list(words), stamps, __version__)).encode("utf-8", "replace")).hexdigest()[:32]


def failed(said: bytes) -> Answer:
    """Return a failure with the message of ``error: …`` on stderr and what follows it, or the last lines there."""
    lines = [printable(line) for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if line.startswith("error: ")), None)
    told = lines[-5:] if start is None else [lines[start].removeprefix("error: "), *lines[start + 1 :]]
    return Answer("failed", None, tuple(told or ["it ended without a word"]))


def _stamps(path: Path) -> list[tuple[str, int, int, int]]:
    """Return name, size, time and inode of a file, or of the files of a folder."""
    try:
        if not path.is_dir():
            facts = path.stat()
            return [(str(path), facts.st_size, facts.st_mtime_ns, facts.st_ino)]
        found = []
        for at, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                facts = os.lstat(os.path.join(at, name))
                found.append((os.path.join(at, name), facts.st_size, facts.st_mtime_ns, facts.st_ino))
            if len(found) > MOST_FILES:
                break
    except OSError:
        return [(str(path), -1, 0, 0)]
    return found
