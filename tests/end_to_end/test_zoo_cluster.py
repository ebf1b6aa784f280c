"""The zoo on a Dask cluster on loopback: same bytes as at home, and a machine that is killed loses nothing."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from calib.demo import demo_folder
from calib.errors import UsageError
from calib.zoo.cluster import Dask, connect
from calib.zoo.process import Local
from calib.zoo.zoo import Zoo, open_store, open_zoo, run

pytest.importorskip("distributed")

MANIFEST = """
root: {demo}
sources: [{{glob: [resnet.xml, mobilenet.xml]}}]
defaults: {{calibration: "{demo}/calibration.npz", samples: 8, estimator: minmax, effort: fast}}
resources: {{threads: 1, retries: 2, memory: 1GiB, timeout: 100s}}
"""


@pytest.fixture
def cluster() -> Iterator[Dask]:
    # Dask leaves sockets to the garbage collector when a worker is killed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dask = connect("local:2")
        yield dask
        dask.close()


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    (tmp_path / "zoo.yaml").write_text(MANIFEST.format(demo=demo_folder()))
    return str(tmp_path / "zoo.yaml")


def models(zoo: Zoo) -> dict[str, bytes]:
    root = Path(zoo.output.place)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.suffix in (".xml", ".bin")}


def kill_the_first_machine_with_work(killed: list[int]) -> None:
    """Wait until a job's own process runs on a machine, then kill the machine by its pid."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for process in psutil.Process().children(recursive=True):
            try:
                if "calib.zoo.worker" in process.cmdline():
                    killed += [process.ppid(), process.pid]
                    psutil.Process(process.ppid()).kill()
                    return
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)


def test_a_killed_machine_costs_an_attempt_and_nothing_else(cluster: Dask, manifest: str, tmp_path: Path):
    killed: list[int] = []
    zoo = open_zoo(manifest, str(tmp_path / "cluster"))
    killer = threading.Thread(target=kill_the_first_machine_with_work, args=(killed,))
    killer.start()
    rows = run(zoo, zoo.jobs, print, runner=cluster)
    killer.join()
    assert killed and [row.status for row in rows] == ["quantized"] * 2
    with open_store(zoo) as store:
        attempts = store.attempts()
    assert sorted(one.outcome for one in attempts) == ["died", "done", "done"]
    (lost,) = [one for one in attempts if one.outcome == "died"]
    assert lost.number == 1 and "was lost" in lost.reason and lost.worker.startswith("dask tcp://127.0.0.1")
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in killed)
    assert all(Path(one.log).is_file() for one in attempts if one.outcome == "done")

    home = open_zoo(manifest, str(tmp_path / "home"))
    run(home, home.jobs, print, runner=Local(2))
    assert models(zoo) == models(home)


@pytest.mark.parametrize("address", ["slurm:3", "local:", "local:x", "dask://"])
def test_an_address_that_leads_nowhere_is_a_mistake_of_usage(address: str):
    with pytest.raises(UsageError, match="--cluster"):
        connect(address)
