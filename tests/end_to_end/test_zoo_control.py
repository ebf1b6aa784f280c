"""Pause, resume and cancel with real workers, in mid-run and through deaths.

covers: calib.zoo.worker, calib.cli.zoo
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from zoo_faults.nursery import Nursery
from zoo_faults.tiny_zoo import THOROUGH_ENOUGH, outcomes, results, rows_and_attempts, supervise, wait_for, write_zoo

from calib.zoo.commands import Zoo, open_store, open_zoo
from calib.zoo.control import ask
from calib.zoo.events import found_within

# Two plans keep it, and the second one reverts less: there is something to end early.
TWO_KEEP = THOROUGH_ENOUGH.replace("0.002", "0.003").replace("cpu-no-vnni", "cpu")


def asked(zoo: Zoo, action: str, name: str = "a") -> str:
    with open_store(zoo) as store:
        (key,) = [row.key for row in store.rows() if row.name == name]
        return ask(store, key, action)


def status(zoo: Zoo, name: str = "a") -> str:
    (row,) = [row for row in rows_and_attempts(zoo)[0] if row.name == name]
    return row.status


def report(zoo: Zoo) -> dict[str, Any]:
    return json.loads(Path(zoo.output.of("a"), "report.json").read_text())


def within(zoo: Zoo) -> bool:
    rows, attempts = rows_and_attempts(zoo)
    return bool(attempts) and found_within(zoo.folders.events("a", rows[0].key), attempts[-1].number)


def test_cancelled_a_search_ends_with_its_best_model_and_resumed_it_ends_as_if_undisturbed(
    nursery: Nursery, tmp_path: Path
):
    manifest = write_zoo(tmp_path, "a", TWO_KEEP)
    calm = open_zoo(str(manifest), str(tmp_path / "calm"))
    assert supervise(nursery, manifest, calm.folders.root).wait() == 0
    zoo = open_zoo(str(manifest))
    supervisor = supervise(nursery, manifest, zoo.folders.root, "", {"a": [["in search", "slow"]]})
    wait_for(lambda: zoo.folders.store.exists() and within(zoo))
    assert asked(zoo, "cancel") == "running"
    assert supervisor.wait() == 0
    early = report(zoo)
    assert status(zoo) == early["status"] == "mostly_float"
    assert early["accuracy"]["stopped"] == "it was interrupted" and "ended early" in early["status_reason"]
    assert sum(layer["planned"] == "float" for layer in early["layers"]) == 2
    shown = nursery.start("calib.cli:main", ["zoo", "status", str(manifest)], out=tmp_path / "said")
    assert shown.wait() == 0 and "ended early" in (tmp_path / "said").read_text()

    assert asked(zoo, "resume") == "waiting"
    assert supervise(nursery, manifest, zoo.folders.root).wait() == 0
    assert status(zoo) == "within_budget" and results(zoo) == results(calm)
    assert outcomes(zoo)["a"] == [("done", 0), ("done", 0)]


def test_cancelled_before_there_is_a_model_a_job_leaves_nothing_and_fails_nobody(nursery: Nursery, tmp_path: Path):
    manifest = write_zoo(tmp_path, "ab", TWO_KEEP)
    zoo = open_zoo(str(manifest))
    supervisor = supervise(nursery, manifest, zoo.folders.root, "", {"a": [["in statistics", "sleep"]]})
    wait_for(lambda: list((zoo.folders.root / "work").glob("*/asleep")))
    begun = time.monotonic()
    assert asked(zoo, "cancel") == "running"
    wait_for(lambda: status(zoo) == "cancelled", 10)
    assert time.monotonic() - begun < 5
    assert supervisor.wait() == 0 and status(zoo, "b") == "within_budget"
    assert not Path(zoo.output.of("a")).exists() and not list((zoo.folders.root / "work").iterdir())


def test_a_paused_job_waits_for_its_resumption_while_others_go_on(nursery: Nursery, tmp_path: Path):
    manifest = write_zoo(tmp_path, "ab", TWO_KEEP)
    calm = open_zoo(str(manifest), str(tmp_path / "calm"))
    assert supervise(nursery, manifest, calm.folders.root).wait() == 0
    zoo = open_zoo(str(manifest))
    supervisor = supervise(nursery, manifest, zoo.folders.root, "", {"a": [["search ends", "sleep"]]})
    wait_for(lambda: list((zoo.folders.root / "work").glob("*/asleep")))
    said = tmp_path / "said"
    assert nursery.start("calib.cli:main", ["zoo", "pause", str(manifest), "a"], out=said).wait() == 0
    assert "a is being paused" in said.read_text()
    assert supervisor.wait() == 0
    assert (status(zoo), status(zoo, "b")) == ("paused", "within_budget")
    assert supervise(nursery, manifest, zoo.folders.root).wait() == 0 and status(zoo) == "paused"
    assert asked(zoo, "resume") == "waiting"
    assert supervise(nursery, manifest, zoo.folders.root).wait() == 0
    assert results(zoo) == results(calm)
    assert outcomes(zoo)["a"] == [("paused", None), ("done", 0)]


def test_a_request_outlives_the_supervisor_and_the_worker_that_it_was_made_to(nursery: Nursery, tmp_path: Path):
    manifest = write_zoo(tmp_path, "a", TWO_KEEP)
    zoo = open_zoo(str(manifest))
    supervisor = supervise(nursery, manifest, zoo.folders.root, "", {"a": [["in statistics", "sleep"]]})
    wait_for(lambda: list((zoo.folders.root / "work").glob("*/asleep")))
    os.kill(supervisor.pid, signal.SIGSTOP)  # it can't obey
    assert asked(zoo, "pause") == "running"
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    assert supervise(nursery, manifest, zoo.folders.root).wait() == 0
    assert status(zoo) == "paused" and outcomes(zoo)["a"] == [("abandoned", None)]
    assert asked(zoo, "resume") == "waiting"
    assert supervise(nursery, manifest, zoo.folders.root).wait() == 0 and status(zoo) == "within_budget"
