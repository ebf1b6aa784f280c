"""The zoo on a Dask cluster on loopback: same bytes as at home, and what is killed loses nothing.

covers: calib.zoo.cluster
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from zoo_faults.nursery import Nursery
from zoo_faults.tiny_zoo import outcomes, results, rows_and_attempts, run_undisturbed, write_zoo

from calib import cli
from calib.errors import UsageError
from calib.zoo.cluster import connect
from calib.zoo.commands import open_zoo

pytest.importorskip("distributed")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    # Dask leaves sockets to the garbage collector when a worker is killed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_zoo(tmp_path, "ab", more="resources: {memory: 1GiB, timeout: 100s}\n")


def zoo_run(*arguments: object) -> Any:
    with pytest.raises(SystemExit) as caught:
        cli.main.main(["zoo", "run", *map(str, arguments)], prog_name="calib")
    return caught.value.code or 0


def job_process() -> psutil.Process:
    """Wait until a job's own process runs on a machine of a cluster that this process started."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for process in psutil.Process().children(recursive=True):
            try:
                if "calib.zoo.worker" in process.cmdline():
                    return process
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.02)
    raise AssertionError("no job was started")


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def test_a_killed_machine_of_a_local_cluster_costs_an_attempt_and_nothing_else(
    nursery: Nursery,
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))  # of the machines of the cluster, which are processes
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    killed: list[int] = []

    def kill_the_first_machine_with_work() -> None:
        job = job_process()
        killed.extend([job.ppid(), job.pid])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first_machine_with_work)
    killer.start()
    assert zoo_run(manifest, "-o", tmp_path / "cluster", "--cluster", "local:2") == 0
    killer.join()
    assert "2 models: 2 quantized" in capsys.readouterr().out
    assert not list(temporary.glob(".calib-*"))
    zoo = open_zoo(str(manifest), str(tmp_path / "cluster"))
    attempts = rows_and_attempts(zoo)[1]
    assert sorted(one.outcome for one in attempts) == ["died", "done", "done"]
    (lost,) = [one for one in attempts if one.outcome == "died"]
    assert lost.number == 1 and "was lost" in lost.reason and lost.worker.startswith("dask tcp://127.0.0.1")
    assert all(gone(pid) for pid in killed)
    assert all(Path(one.log).is_file() for one in attempts if one.outcome == "done")
    assert results(zoo) == run_undisturbed(nursery, manifest, tmp_path / "home")


def test_jobs_of_a_dead_supervisor_are_ended_by_the_cluster_and_run_by_the_next_one(nursery: Nursery, tmp_path: Path):
    from distributed import LocalCluster  # pyright: ignore[reportPrivateImportUsage]

    manifest = write_zoo(tmp_path, "a")
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:  # pyright: ignore
        address = cluster.scheduler_address.replace("tcp", "dask")
        command = ["zoo", "run", str(manifest), "--cluster", address]
        first = nursery.start("calib.cli:main", command)
        job = job_process()
        os.kill(first.pid, signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        wait_for(lambda: gone(job.pid))
        assert nursery.start("calib.cli:main", command).wait() == 0
    assert outcomes(open_zoo(str(manifest))) == {"a": [("abandoned", None), ("done", 0)]}


@pytest.mark.parametrize("address", ["slurm:3", "local:", "local:x", "dask://"])
def test_an_address_that_leads_nowhere_is_a_mistake_of_usage(address: str):
    with pytest.raises(UsageError, match="--cluster"):
        connect(address)
