"""A zoo under kill -9, full disks, broken files, too little memory and time: nothing lost, nothing done twice.

covers: calib.zoo.process, calib.zoo.worker
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from trust_fixtures.tiny import images
from zoo_faults.killed_worker import POINTS
from zoo_faults.nursery import Nursery
from zoo_faults.tiny_zoo import (
    THOROUGH_ENOUGH,
    outcomes,
    results,
    rows_and_attempts,
    run_undisturbed,
    supervise,
    wait_for,
    write_zoo,
)

from calib.zoo.commands import open_zoo

# Points in or after every other stage, and all while the result is saved; workers are killed at every point.
SUPERVISORS = (*POINTS[1:-3:3], *POINTS[-3:])


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zoo(tmp_path_factory.mktemp("fast"))


@pytest.fixture(scope="module")
def undisturbed(nursery: Nursery, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of a run that nothing happened to."""
    return run_undisturbed(nursery, manifest, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def staged(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The manifest of a zoo whose job goes through every stage, and the results of an undisturbed run."""
    folder = tmp_path_factory.mktemp("staged")
    manifest = write_zoo(folder, "a", settings=THOROUGH_ENOUGH, more=f"resources: {{retries: {len(POINTS)}}}\n")
    wanted = run_undisturbed(nursery, manifest, folder / "calm")
    report = wanted["a/report.json"]
    assert (
        report["status"] == "mostly_float" and len(report["search"]) > 1 and report["speed"]
    )  # which keeps the budget
    return manifest, wanted


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_workers_killed_before_in_and_after_every_stage_cost_an_attempt_each_and_nothing_else(
    nursery: Nursery, staged: tuple[Path, dict[str, Any]], tmp_path: Path
):
    manifest, wanted = staged
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    assert (
        supervise(nursery, manifest, zoo.folders.root, "", {"a": [[point, "kill"] for point in POINTS]}).wait(300) == 0
    )
    assert results(zoo) == wanted
    # a result that was complete when its worker died is kept
    assert POINTS[-1] == "complete" and outcomes(zoo)["a"] == [("died", -9)] * (len(POINTS) - 1) + [("done", -9)]
    assert not list((zoo.folders.root / "work").iterdir())


def test_a_supervisor_killed_in_or_after_stages_and_while_saving_goes_on_where_it_was(
    nursery: Nursery, staged: tuple[Path, dict[str, Any]], tmp_path: Path
):
    manifest, wanted = staged
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    faults = {"a": [[point, "kill supervisor"] for point in SUPERVISORS]}
    for _ in SUPERVISORS:
        assert supervise(nursery, manifest, zoo.folders.root, "", faults).wait() == -signal.SIGKILL
    assert supervise(nursery, manifest, zoo.folders.root, "", faults).wait() == 0
    assert results(zoo) == wanted
    assert outcomes(zoo)["a"] == [("abandoned", None)] * (len(SUPERVISORS) - 1) + [("done", None)]
    rows, attempts = rows_and_attempts(zoo)
    assert rows[0].tries == 1  # its supervisors' deaths do not count against a job
    assert not any(alive(int(one.worker.split(":")[1])) for one in attempts)
    assert not list((zoo.folders.root / "work").iterdir())


def test_a_worker_that_always_dies_is_given_up_and_the_rest_go_on(nursery: Nursery, manifest: Path, tmp_path: Path):
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    faults = {"b": [["load begins", "kill"]] * 3}
    assert supervise(nursery, manifest, zoo.folders.root, "", faults).wait() == 0
    rows = {row.name: row for row in rows_and_attempts(zoo)[0]}
    assert {name: row.status for name, row in rows.items()} == {"a": "quantized", "b": "failed", "c": "quantized"}
    assert "killed by SIGKILL, at the last of 3 tries" in rows["b"].reason
    assert outcomes(zoo)["b"] == [("died", -9)] * 3


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ("JobStore.claim:after", 0),
        ("Local.start:after", 0),
        ("Output.publish:before", 2),
        ("os.replace:after", 1),
        ("Output.publish:after", 2),
        ("JobStore.finish:after", 2),
    ],
)
def test_a_supervisor_killed_at_its_own_work_loses_nothing_and_nothing_is_done_twice(
    nursery: Nursery, manifest: Path, undisturbed: dict[str, bytes], tmp_path: Path, point: str, kept: int
):
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    for name in "abc" if point.startswith("os.") else ():
        Path(zoo.output.of(name)).mkdir(parents=True)  # not by one rename then, but file by file
    assert supervise(nursery, manifest, zoo.folders.root, point).wait() == -signal.SIGKILL
    assert supervise(nursery, manifest, zoo.folders.root).wait() == 0
    assert results(zoo) == undisturbed
    rows, attempts = rows_and_attempts(zoo)
    assert [row.status for row in rows] == ["quantized"] * 3
    assert all(one.outcome in ("done", "abandoned") and one.ended for one in attempts)
    assert [one.outcome for one in attempts].count("done") == 3
    # what was finished before the kill has one attempt, and that is "done"
    alone = [found for found in outcomes(zoo).values() if [outcome for outcome, _ in found] == ["done"]]
    assert len(alone) >= kept
    assert all(row.tries == 1 for row in rows)


def test_workers_die_with_their_supervisor_and_the_status_tells(nursery: Nursery, manifest: Path, tmp_path: Path):
    def status(*more: str) -> str:
        said = tmp_path / "said"
        said.unlink(missing_ok=True)
        command = ["zoo", "status", str(manifest), "-o", str(tmp_path / "out"), *more]
        assert nursery.start("calib.cli:main", command, out=said).wait() == 0
        return said.read_text()

    faults = {name: [["in statistics", "sleep"]] for name in "abc"}
    supervisor = supervise(nursery, manifest, tmp_path / "out", "", faults)
    work = tmp_path / "out" / "work"
    wait_for(lambda: len(list(work.glob("*/asleep"))) == 2)
    workers = [int(wait_for(path.read_text)) for path in work.glob("*/asleep")]
    live = status()
    assert "3 models: 2 running, 1 waiting" in live and live.count("running for ") == 2
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    wait_for(lambda: not any(alive(pid) for pid in workers), 10)
    left = status("--watch")  # it would never end if these counted as running
    assert "3 models: 3 waiting" in left and left.count("its supervisor is gone") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_leaves_its_jobs_waiting(
    nursery: Nursery, manifest: Path, tmp_path: Path, number: int
):
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    command = ["zoo", "run", str(manifest), "-o", str(tmp_path / "out"), "-j", "1"]
    supervisor = nursery.start("calib.cli:main", command, err=tmp_path / "err")
    wait_for(lambda: list((tmp_path / "out" / "work").glob("*/task.json")))
    workers = wait_for(lambda: psutil.Process(supervisor.pid).children())
    os.kill(supervisor.pid, number)
    assert supervisor.wait() == 130
    assert "error: interrupted" in (tmp_path / "err").read_text()
    assert not any(alive(worker.pid) for worker in workers)
    rows, attempts = rows_and_attempts(zoo)
    assert [(row.status, row.tries) for row in rows] == [("waiting", 0)] * 3
    assert [one.outcome for one in attempts] == ["interrupted"]
    assert not list((tmp_path / "out" / "work").iterdir())


def test_two_supervisors_share_the_jobs_of_one_store(
    nursery: Nursery, manifest: Path, undisturbed: dict[str, Any], tmp_path: Path
):
    both = [supervise(nursery, manifest, tmp_path / "out") for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    assert outcomes(zoo) == {name: [("done", 0)] for name in "abc"}
    assert results(zoo) == undisturbed


def test_too_much_memory_or_time_fails_that_job_alone_with_that_reason(nursery: Nursery, tmp_path: Path):
    limits = """
overrides:
- {match: a, resources: {memory: 500MiB}}
- {match: b, resources: {timeout: 2s}}
"""
    manifest = write_zoo(tmp_path, "abcd", more=limits)
    zoo = open_zoo(str(manifest))
    faults = {"a": [["in statistics", "grow"]], "b": [["in statistics", "sleep"]], "d": [["in insert", "no memory"]]}
    assert supervise(nursery, manifest, zoo.folders.root, "", faults).wait() == 0
    found, attempts = rows_and_attempts(zoo)
    rows = {row.name: row for row in found}
    assert rows["c"].status == "quantized"
    assert rows["a"].status == "failed" and "above its cap of 500 MiB (resources.memory)" in rows["a"].reason
    assert rows["b"].status == "failed" and "longer than 2 s (resources.timeout)" in rows["b"].reason
    assert max(one.peak_memory or 0 for one in attempts if one.key == rows["a"].key) > 500 << 20
    assert rows["d"].status == "failed" and rows["d"].reason.startswith("there was not enough memory")
    assert not any(Path(zoo.output.of(name)).exists() for name in "abd")
    assert not list((zoo.folders.root / "work").iterdir())
    retry = ["zoo", "retry", str(manifest), "--only", "a"]
    assert nursery.start("calib.cli:main", retry, err=tmp_path / "err").wait() == 0
    assert (tmp_path / "err").read_text().splitlines()[-1].startswith("a: quantized: SQNR ")


def test_broken_files_fail_their_job_with_a_reason_and_exit_code_4(nursery: Nursery, tmp_path: Path):
    manifest = write_zoo(tmp_path, more="overrides: [{match: c, calibration: bad.npz}]\n")
    (tmp_path / "b.bin").write_bytes(b"")
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 no archive")
    child = nursery.start("calib.cli:main", ["zoo", "run", str(manifest), "-j", "2"], out=tmp_path / "said")
    assert child.wait() == 4
    rows = {row.name: row for row in rows_and_attempts(open_zoo(str(manifest)))[0]}
    assert rows["a"].status == "quantized"
    assert rows["b"].status == "failed" and "b.bin" in rows["b"].reason
    assert rows["c"].status == "failed" and "bad.npz" in rows["c"].reason
    assert "3 models: 1 quantized, 2 failed" in (tmp_path / "said").read_text()


def test_a_full_disk_fails_the_job_whose_result_does_not_fit(nursery: Nursery, manifest: Path, tmp_path: Path):
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    faults = {"a": [["insert ends", "full disk"]], "b": [["saved", "full disk"]]}
    assert supervise(nursery, manifest, zoo.folders.root, "", faults).wait() == 0
    rows = {row.name: row for row in rows_and_attempts(zoo)[0]}
    assert [row.status for row in rows.values()] == ["failed", "failed", "quantized"]
    for name in "ab":
        reason = rows[name].reason
        assert "can't be written" in reason or "too large" in reason.lower(), reason
        assert not Path(zoo.output.of(name)).exists()
    assert not list((tmp_path / "out" / "work").iterdir())


def test_an_unchanged_job_is_not_run_again_and_a_changed_one_is(nursery: Nursery, tmp_path: Path):
    manifest = write_zoo(tmp_path, "a")
    zoo = open_zoo(str(manifest))

    def attempts_after_a_run() -> int:
        assert supervise(nursery, manifest, zoo.folders.root).wait() == 0
        return len(rows_and_attempts(zoo)[1])

    assert [attempts_after_a_run() for _ in range(2)] == [1, 1]
    np.savez(tmp_path / "data.npz", image=images(4, seed=5))
    assert attempts_after_a_run() == 2
    os.unlink(f"{zoo.output.of('a')}/a.bin")  # nobody notices; but without its marker it is not done
    os.unlink(f"{zoo.output.of('a')}/job.json")
    assert attempts_after_a_run() == 3
    assert Path(f"{zoo.output.of('a')}/a.bin").is_file()
