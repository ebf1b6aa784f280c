"""A zoo's worker that meets faults at named points: ``killed_worker.py FILE TASK``.

FILE is JSON: job name → a list of ``[point, how]``, the k-th for the k-th attempt; later attempts meet none.

Points are ``STAGE begins``, ``in STAGE`` (between two of the stage's own steps) and ``STAGE ends``, then ``in save``
(the model is on disk, plan and report are not), ``saved`` (the result lacks its page and its marker) and ``complete``.
How is ``kill``, ``kill supervisor``, ``sleep``, ``slow``, ``grow``, ``no memory`` or ``full disk``. Times that a
clock would give are the same in every run. The log tells of each pass of statistics and of each baseline.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import calib.engine.baseline
import calib.engine.building
import calib.engine.candidates
import calib.engine.correcting
import calib.engine.evaluators
import calib.engine.report
import calib.engine.result
import calib.engine.speedup
import calib.pipeline
from calib.progress import silent
from calib.runtime.timing import Speed
from calib.values.facts import SpeedFacts
from calib.zoo import worker
from calib.zoo.task import Task

# stage → a step in its midst; the other stages tell of their steps themselves
STEPS = {
    "load": (calib.pipeline, "open_evaluator"),
    "baseline": (calib.engine.baseline, "check_baseline"),
    "equalize": (calib.engine.correcting, "rescale"),
    "insert": (calib.engine.building, "executed_layers"),
    "speed": (calib.engine.speedup, "measure_speed"),
    "report": (calib.engine.report, "layer_facts"),
    "save": (calib.engine.result, "save_model"),
}
STAGES = ("load", "baseline", "equalize", "statistics", "correct", "insert", "search", "speed", "report")

# In the order in which a job comes by.
POINTS = (
    "load begins",
    *(point for stage in STAGES for point in (f"in {stage}", f"{stage} ends")),
    "in save",
    "saved",
    "complete",
)


def main(faults: str, task_file: str) -> int:
    task = Task.from_json(Path(task_file).read_text())
    planned = json.loads(Path(faults).read_text()).get(task.job.name, []) if faults else []
    point, how = planned[task.number - 1] if task.number <= len(planned) else ("", "")
    met: list[str] = []

    def reached(here: str) -> None:
        if here == point and not met:
            met.append(here)
            _suffer(how, task)

        def say(self, line: str) -> None:
            pass

    @contextmanager
    def progress(stage: str, total: int | None = None) -> Iterator[Any]:
        reached(f"{stage} begins")
        with silent(stage, total) as inside:
            _then(inside, "update", lambda: reached(f"in {stage}"))
            yield inside
        reached(f"{stage} ends")

    _then(calib.engine.correcting, "collect", lambda: _count("statistics"))
    _then(calib.engine.evaluators.SampleEvaluator, "baseline", lambda: _count("baseline"))
    calib.engine.speedup.measure_speed = _speed
    calib.engine.candidates.time_models = _times
    for stage, (module, name) in STEPS.items():
        _then(module, name, lambda stage=stage: reached(f"in {stage}"))
    _then(worker, "quantize", lambda: reached("saved"))
    _then(worker, "write_marker", lambda: reached("complete"))
    return worker.main([task_file], progress)


def _then(module: Any, name: str, after: Callable[[], None]) -> None:
    """Have something happen after each call of a function."""
    original = getattr(module, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        found = original(*arguments, **named)
        after()
        return found

    setattr(module, name, wrapped)


def _count(what: str) -> None:
    print(f"computed {what}", file=sys.stderr, flush=True)


def _suffer(how: str, task: Task) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "kill supervisor":
        os.kill(os.getppid(), signal.SIGKILL)  # ours is then the kernel's to end, by SIGIO
    if how == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, 1 << 12))  # of each file; Python turns the signal off
        return
    if how == "slow":  # from here on each evaluation takes a second more
        original = calib.engine.evaluators.SampleEvaluator.run

        def slowly(*arguments: Any) -> Any:
            time.sleep(1.0)
            return original(*arguments)

        calib.engine.evaluators.SampleEvaluator.run = slowly
        return
    if how == "no memory":
        now = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10  # pyright: ignore
        resource.setrlimit(resource.RLIMIT_AS, (now, now))
        bytearray(600 << 20)
    hoard = b"x" * (600 << 20 if how == "grow" else 1)
    Path(task.folder, "asleep").write_text(str(os.getpid()))
    time.sleep(120)
    del hoard


def _speed(*_: Any, **__: Any) -> Speed:
    facts = {"latency_f32_ms": 2.0, "latency_default_ms": 2.0, "latency_int8_ms": 1.0}
    return Speed(SpeedFacts(**facts, speedup_f32=2.0, speedup_default=2.0))


def _times(models: Any, *_: Any, **__: Any) -> Any:
    """Give the models the latencies 1, 2, 3… ms."""
    order = {timed.name: index + 1.0 for index, timed in enumerate(models)}
    return type("Times", (), {"time_ms": staticmethod(order.__getitem__)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
