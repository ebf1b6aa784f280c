"""A zoo's worker that kills itself once at a named point, or sleeps there: ``killed_worker.py FILE TASK``.

FILE is JSON: job name → {"at": [what, stage], "how": "kill" | "sleep" | "grow"}; the points are begin, in and end of a
stage, and saved and complete for the result. Each fault happens at the first attempt only.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calib.zoo import worker
from calib.zoo.task import Task


def main(faults: str, task_file: str) -> int:
    task = Task.from_json(Path(task_file).read_text())
    fault = json.loads(Path(faults).read_text()).get(task.job.name) if task.number == 1 else None

    def reached(*point: str) -> None:
        if fault and fault["at"] == list(point):
            if fault["how"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            hoard = b"x" * (600 << 20 if fault["how"] == "grow" else 1)
            Path(task.folder, "asleep").write_text(str(os.getpid()))
            time.sleep(120)
            del hoard

    class Inside:
        def update(self, count: int = 1, note: str = "") -> None:
            pass

        def say(self, line: str) -> None:
            pass

    @contextmanager
    def progress(stage: str, total: int | None = None) -> Iterator[Inside]:
        print("stage", stage, file=sys.stderr, flush=True)
        reached("begin", stage)
        inside = Inside()
        yield inside
        reached("end", stage)

    def after(name: str, point: str) -> None:
        original = getattr(worker, name)

        def wrapped(*arguments, **named):
            found = original(*arguments, **named)
            reached(point, "")
            return found

        setattr(worker, name, wrapped)

    after("quantize", "saved")
    after("write_marker", "complete")
    return worker.main([task_file], progress)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
