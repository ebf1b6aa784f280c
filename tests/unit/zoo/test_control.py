"""Pause, resume and cancel by the store alone; tests/end_to_end/test_zoo_control.py asks real workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from calib.errors import UsageError
from calib.zoo.control import ask, ended_early, named, told
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import ZooJob

ALL = {"threads": float("inf"), "memory": float("inf")}


@pytest.fixture
def store(tmp_path: Path):
    with JobStore(tmp_path / "zoo.sqlite") as made:
        jobs = [ZooJob(name, f"{name}.xml", f"/{name}.xml", "/", "data.npz") for name in "ab"]
        made.enter([(one.name, one.name, one) for one in jobs], "ab")
        yield made


def claimed(store: JobStore, key: str) -> int:
    found = store.claim(**ALL, only=key)
    assert found is not None
    return found[1]


def test_a_job_that_waits_is_set_aside_at_once_and_taken_up_again(store: JobStore):
    assert ask(store, "a", "pause") == "paused" and ask(store, "a", "pause") == "paused"
    assert store.claim(**ALL, only="a") is None
    assert ask(store, "a", "cancel") == "cancelled"
    assert ask(store, "a", "pause") == "cancelled"  # makes no sense, and changes nothing
    assert ask(store, "a", "resume") == "waiting"
    assert ask(store, "b", "cancel") == "cancelled" and store.claim(**ALL, only="b") is None


@pytest.mark.parametrize(
    ("asked", "status"),
    [(["pause"], "paused"), (["cancel"], "cancelled"), (["cancel", "cancel"], "cancelled"),
     (["pause", "cancel"], "cancelled"), (["pause", "resume"], "waiting")],
)  # fmt: skip
def test_what_is_asked_of_a_running_job_holds_however_its_attempt_ends(store: JobStore, asked: list[str], status: str):
    number = claimed(store, "a")
    assert [ask(store, "a", action) for action in asked] == ["running"] * len(asked)
    wanted = {"pause": "pause", "cancel": "cancel now" if len(asked) == 2 and asked[0] == "cancel" else "cancel"}
    assert store.requests() == ({"a": wanted[asked[-1]]} if asked[-1] in wanted else {})
    assert store.finish("a", number, status="waiting", outcome="died") == status
    row = store.row("a")
    assert (row.status, row.request) == (status, "")
    assert row.tries == (1 if status == "waiting" else 0)  # what a user asked for is no failure


def test_a_job_that_has_ended_by_itself_keeps_its_result(store: JobStore):
    number = claimed(store, "a")
    ask(store, "a", "cancel")
    board = json.dumps({"status": "quantized"})
    assert store.finish("a", number, status="quantized", outcome="done", board=board) == "quantized"
    assert store.row("a").request == "" and ask(store, "a", "cancel") == "quantized"
    assert ask(store, "a", "resume") == "quantized" and not ended_early(store.row("a"))


def test_a_result_that_ended_early_is_gone_on_with(store: JobStore):
    number = claimed(store, "a")
    board = json.dumps({"status": "within_budget", "stopped": "it was interrupted"})
    store.finish("a", number, status="within_budget", outcome="done", board=board)
    assert ended_early(store.row("a"))
    assert ask(store, "a", "resume") == "waiting" and store.row("a").board == ""


@pytest.mark.parametrize(("action", "status"), [("pause", "paused"), ("cancel", "cancelled"), ("resume", "running")])
def test_a_job_of_a_dead_supervisor_is_set_aside_without_one(store: JobStore, tmp_path: Path, action: str, status: str):
    code = f"""
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import ZooJob
store = JobStore({str(tmp_path / "zoo.sqlite")!r})
store.enter([("a", "a", ZooJob("a", "a.xml", "/a.xml", "/", "data.npz"))], "ab")
store.claim(threads=9, memory=9)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert ask(store, "a", action) == status
    assert store.row("a").request == ""


def test_names_are_patterns_and_a_wrong_one_is_told_with_the_nearest(store: JobStore):
    assert [row.name for row in named(store, ["*"])] == ["a", "b"]
    assert [row.name for row in named(store, ["b"])] == ["b"]
    with pytest.raises(UsageError, match=r"aa: no job of this zoo has that name; did you mean a\?"):
        named(store, ["aa"])
    with pytest.raises(UsageError, match="calib zoo status lists them"):
        named(store, ["resnet"])


def test_each_outcome_is_told_in_a_sentence(store: JobStore):
    row = store.row("a")
    assert told(row, "pause", "paused") == "is paused"
    assert told(row, "resume", "waiting") == "is waiting already; there is nothing to resume"
    ask(store, "a", "pause")
    assert told(store.row("a"), "resume", "waiting") == "waits to be run; calib zoo run goes on with it"
    ask(store, "a", "resume")
    claimed(store, "a")
    assert "best model so far is kept" in told(store.row("a"), "cancel", "running")
    ask(store, "a", "cancel")
    assert told(store.row("a"), "cancel", "running") == "is being stopped at once"
