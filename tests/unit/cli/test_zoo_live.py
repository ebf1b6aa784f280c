"""What a person sees of the jobs of a zoo that are running, on a terminal and in a file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from calib.cli.zoo_live import Live
from calib.progress_shown import QUIET_SECONDS
from calib.zoo.make_jobs import ZooJob
from calib.zoo.task import Task

NAMES = {"names": ["load", "baseline", "statistics"], "seconds": {}}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def task(tmp_path: Path) -> Task:
    job = ZooJob("nets/a/model", "a.xml", "/nets/a/model.xml", "/nets", "d.npz")
    return Task("key", 2, job, str(tmp_path), "log", events=str(tmp_path / "events.jsonl"))


def happened(task: Task, *events: tuple[str, dict[str, Any]], attempt: int = 2) -> None:
    with open(task.events, "a", encoding="utf-8") as file:
        for second, (kind, values) in enumerate(events):
            line = {"time": 100.0 + second, "attempt": attempt, "kind": kind, "values": values}
            file.write(json.dumps(line) + "\n")


def begun(stage: str, total: int | None = None) -> tuple[str, dict[str, Any]]:
    return "stage", {"stage": stage, "state": "begun", "total": total, "seconds": 0.0}


def ended(stage: str) -> tuple[str, dict[str, Any]]:
    return "stage", {"stage": stage, "state": "ended", "total": None, "seconds": 1.0}


FP32 = ("log", {"stage": "baseline", "text": "FP32: top-1 89.84 % on 2,500 samples"})
FIRST = (begun("load"), ("stages", NAMES), ended("load"), begun("baseline"), FP32, ended("baseline"))


def test_a_file_gets_a_line_for_each_stage_with_the_figures_and_the_outcome_last(task: Task):
    stream = io.StringIO()
    live = Live(stream, Clock())
    happened(task, begun("of an earlier attempt"), ended("of an earlier attempt"), attempt=1)
    happened(task, *FIRST)
    live.watch([task], 0, 3)
    happened(task, begun("statistics", 300), ("warning", {"stage": "statistics", "text": "one \x1b sample"}))
    happened(task, ended("statistics"))
    live.notice("nets/a: within budget")
    assert stream.getvalue().splitlines() == [
        "nets/a: [1/3] load  2.0 s",
        "nets/a: FP32: top-1 89.84 % on 2,500 samples",
        "nets/a: [2/3] baseline  2.0 s",
        r"nets/a: warning: one \x1b sample",
        "nets/a: [3/3] statistics  0.0 s",
        "nets/a: within budget",
    ]


def test_a_file_is_not_silent_for_minutes(task: Task):
    stream = io.StringIO()
    clock = Clock()
    live = Live(stream, clock)
    for _ in range(int(QUIET_SECONDS)):
        live.watch([task], 0, 1)
    assert 1 <= stream.getvalue().count("nets/a  starting") <= clock.now // QUIET_SECONDS


def test_a_terminal_shows_what_runs_below_the_lines_that_stay(task: Task):
    stream = Terminal()
    live = Live(stream, Clock())
    happened(task, *FIRST, begun("statistics", 300))
    happened(task, ("progress", {"stage": "statistics", "done": 30, "total": 300, "note": "", "left_s": None}))
    live.watch([task], 1, 3)
    live.notice("nets/b: within budget")
    live.close()
    first, rest = stream.getvalue().split("\x1b[2A\r\x1b[J", 1)
    assert "FP32: top-1 89.84 %" in first and "load" not in first  # stages that ended would be noise there
    assert first.splitlines()[-2].startswith("1 of 3 jobs ended") and "[3/3] statistics" in first.splitlines()[-1]
    assert "30 of 300" in first and rest.startswith("nets/b: within budget\n1 of 3 jobs")
    assert stream.getvalue().endswith("\x1b[J")
