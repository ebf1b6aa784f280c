"""The supervisor of a studio's runs, a process of its own: ``python -P -m calib.studio.supervise OUT``.

The server starts it and forgets it: it is in a session of its own, runs whatever waits in the store with the supervisor
of a zoo, and ends when nothing waits. One runs for a folder at a time; if it is killed, the server, or the next one,
starts another, which goes on with what it left.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from calib.zoo.jobs import JobRow, JobStore
from calib.zoo.output import Output
from calib.zoo.process import Local
from calib.zoo.supervisor import Folders, Supervisor

# A person waits for it, and nothing else.
POLL_SECONDS = 0.2
_CHOOSE = (
    "CREATE TEMP TABLE IF NOT EXISTS chosen (key TEXT PRIMARY KEY)",
    "INSERT OR IGNORE INTO temp.chosen SELECT key FROM jobs WHERE current = 1",
)


class _Everything(JobStore):
    """A store whose jobs are all to be run, those too that are entered while it is open.

    Somebody watches each of them: two runs of one model and data run at the same time, although the second would be
    cheaper after the first.
    """

    def claim(self, **given: Any) -> tuple[JobRow, int] | None:
        self.choose()
        return super().claim(**given, shares=False)

    def choose(self) -> None:
        """Choose every job there is by now."""
        with self.store.transaction() as connection:
            for statement in _CHOOSE:
                connection.execute(statement)


@click.command()
@click.argument("output")
@click.option("--jobs", type=click.IntRange(1), default=1)
@click.option("--allow-python", is_flag=True)
def main(output: str, jobs: int, allow_python: bool) -> None:
    """Run what waits in OUTPUT until nothing does."""
    folders = Folders(Path(output))
    with _held(folders.root) as held:
        if not held:
            return
        with _Everything(folders.store) as store, closing(Local(jobs)) as runner:
            runner.poll_seconds = POLL_SECONDS
            while True:
                store.choose()
                place = Output(str(folders.root / "models"))
                Supervisor(store, folders, place, runner, click.echo, allow_python=allow_python).run()
                if not store.rows("status = 'waiting'"):
                    return


def start(output: Path, jobs: int, allow_python: bool) -> subprocess.Popen[bytes] | None:
    """Start a supervisor that outlives this process; None if one runs already."""
    with _held(output) as held:
        if not held:
            return None
    words = [sys.executable, "-P", "-m", "calib.studio.supervise", str(output), "--jobs", str(jobs)]
    (output / "logs").mkdir(exist_ok=True)
    with open(output / "logs" / "supervisor.log", "ab") as log:
        return subprocess.Popen(
            [*words, *(["--allow-python"] if allow_python else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@contextmanager
def _held(output: Path) -> Iterator[bool]:
    """Hold the lock of the folder's supervisor; False if another process holds it."""
    handle = os.open(output / ".supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


if __name__ == "__main__":
    main()
