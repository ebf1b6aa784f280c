from __future__ import annotations

from pathlib import Path

from calib.studio.supervise import _Everything, _held
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import ZooJob


def test_what_is_entered_while_it_runs_is_run_too(tmp_path: Path):
    job = ZooJob("a", "a", "a.onnx", str(tmp_path), "x.npz")
    with JobStore(tmp_path / "zoo.sqlite") as server, _Everything(tmp_path / "zoo.sqlite") as supervisor:
        assert supervisor.claim(threads=9, memory=1e9) is None
        server.enter([("k1", "f1-1", job), ("k2", "f1-1", job)], ["a"])  # of one model and data: at the same time
        claimed = [supervisor.claim(threads=9, memory=1e9) for _ in range(2)]
        assert [found and found[0].key for found in claimed] == ["k1", "k2"]


def test_one_supervisor_holds_a_folder(tmp_path: Path):
    with _held(tmp_path) as first, _held(tmp_path) as second:
        assert (first, second) == (True, False)
    with _held(tmp_path) as again:
        assert again
