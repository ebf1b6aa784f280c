"""Events of a job: numbered by where they end in a file, whatever was cut off, and no more than a few a second."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from calib.progress import recorder, silent
from calib.zoo import events as events_module
from calib.zoo.events import Event, EventFile, doing, note, read_events, recorded


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_events_are_read_on_from_any_number_over_all_attempts(tmp_path: Path):
    path = tmp_path / "logs" / "a.jsonl"
    assert read_events(path) == []
    with EventFile(path, 1) as file:
        for index in range(5):
            file.write("log", {"text": f"line {index}\n ü"})
    note(path, 2, "status", {"status": "paused"})
    events = read_events(path)
    assert [event.attempt for event in events] == [1, 1, 1, 1, 1, 2]
    assert [event.number for event in events] == sorted({event.number for event in events})
    for index, event in enumerate(events):
        assert read_events(path, event.number) == events[index + 1 :]
    assert read_events(path, events[-1].number + 1) == events  # a number of a file that is gone


def test_a_line_that_was_cut_off_is_passed_over_and_the_next_attempt_begins_a_new_one(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    note(path, 1, "log", {"text": "whole"})
    with open(path, "ab") as file:
        file.write(b'{"time":1,"attempt":1,"kind":"log","val')
    before = read_events(path)
    assert [event.values["text"] for event in before] == ["whole"]
    note(path, 2, "log", {"text": "after"})
    assert [event.values["text"] for event in read_events(path)] == ["whole", "after"]
    assert [event.values["text"] for event in read_events(path, before[-1].number)] == ["after"]


def test_what_one_call_reads_is_bounded_and_a_long_line_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events_module, "MOST_BYTES", 100)
    path = tmp_path / "a.jsonl"
    texts = ["x" * 500, "short", "y" * 50]
    for text in texts:
        note(path, 1, "log", {"text": text})
    seen, after = list[str](), 0
    while events := read_events(path, after):
        seen += [event.values["text"] for event in events]
        after = events[-1].number
    assert seen == texts


def test_numbers_that_are_not_finite_are_null_for_every_reader(tmp_path: Path):
    note(tmp_path / "a.jsonl", 1, "search", {"drop": math.inf, "interval": (0.5, math.nan), "names": ["NaN"]})
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    values = json.loads(line, parse_constant=pytest.fail)["values"]
    assert values == {"drop": None, "interval": [0.5, None], "names": ["NaN"]}


def test_lines_of_several_processes_do_not_mix(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    code = f"""
import sys
from calib.zoo.events import EventFile
with EventFile({str(path)!r}, int(sys.argv[1])) as file:
    for index in range(300):
        file.write("log", {{"index": index, "text": "z" * 700}})
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(attempt)]) for attempt in (1, 2)]
    assert [one.wait() for one in writers] == [0, 0]
    events, after = list[Event](), 0
    while more := read_events(path, after):
        events, after = [*events, *more], more[-1].number
    for attempt in (1, 2):
        assert [event.values["index"] for event in events if event.attempt == attempt] == list(range(300))


def test_stages_are_written_with_their_progress_warnings_and_data(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    with EventFile(path, 1) as file, recorded(silent, file)("statistics", 4) as stage:
        stage.update(1, "first")
        stage.say("warning: too few")
        stage.say("a line")
        record = recorder(stage)
        assert record is not None
        record("search", {"step": 1})
        assert doing(path).startswith("statistics: first, ") and doing(path).endswith(" left")
    events = read_events(path)
    assert kinds(events) == ["stage", "progress", "warning", "log", "search", "stage"]
    assert [event.values["state"] for event in events if event.kind == "stage"] == ["begun", "ended"]
    assert events[1].values["done"] == 1 and events[1].values["total"] == 4
    assert events[1].values["left_s"] == pytest.approx(3 * events[1].values["seconds"])
    assert events[2].values == {"stage": "statistics", "text": "too few"}
    assert doing(path) == "statistics"
    with silent("load") as plain:
        assert recorder(plain) is None


def test_ten_thousand_updates_are_a_few_events_and_the_last_is_never_lost(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    with EventFile(path, 1) as file, recorded(silent, file)("correct", 10_000) as stage:
        for index in range(10_000):
            stage.update(1, f"layer {index}")
    progress = [event for event in read_events(path) if event.kind == "progress"]
    assert len(progress) < 30
    assert progress[-1].values["done"] == 10_000 and progress[-1].values["note"] == "layer 9999"


def test_a_file_that_can_not_be_written_costs_the_events_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    with EventFile(tmp_path / "file" / "a.jsonl", 1) as file:
        file.write("log", {"text": "nowhere"})
    assert capsys.readouterr().err == f"events are no longer written: {os.strerror(errno.EEXIST)}\n"
    with EventFile("", 1) as file:
        file.write("log", {"text": "nobody asked"})
    assert doing(tmp_path / "none.jsonl") == ""
