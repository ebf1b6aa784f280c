"""What the supervisor does with what its runner tells it; the runner here makes results without a worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from calib.zoo import supervisor
from calib.zoo.control import ask
from calib.zoo.jobs import JobRow, JobStore
from calib.zoo.make_jobs import ZooJob
from calib.zoo.output import Output
from calib.zoo.supervisor import Folders, Supervisor
from calib.zoo.task import RESULT, Ended, Task, write_marker


class Machine:
    """A runner with one place for a job of two threads; ``behave`` says how each attempt ends."""

    poll_seconds = 0.0

    def __init__(self, behave: Callable[[Task], Ended]):
        self._behave = behave
        self._tasks: list[Task] = []
        self.order: list[str] = []

    def room(self) -> tuple[float, float]:
        return (2.0, 1 << 30) if not self._tasks else (0.0, 0.0)

    def start(self, task: Task) -> str:
        self._tasks.append(task)
        self.order.append(task.job.name)
        return "machine"

    def ended(self) -> list[tuple[Task, Ended]]:
        tasks, self._tasks = self._tasks, []
        return [(task, self._behave(task)) for task in tasks]

    def stop(self, key: str) -> None:
        self._tasks = [task for task in self._tasks if task.key != key]

    def close(self) -> None:
        self._tasks = []


def good(task: Task) -> Ended:
    folder = Path(task.folder) / RESULT
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    write_marker(folder, task.key, {"model": task.job.name, "status": "quantized"})
    return Ended(0, {"board": {}}, peak_memory=5)


def job(name: str, **more: object) -> ZooJob:
    return ZooJob(name, f"{name}.xml", f"/{name}.xml", "/", "data.npz", **more)  # type: ignore[arg-type]


def supervised(tmp_path: Path, behave: Callable[[Task], Ended], *jobs: ZooJob) -> tuple[dict[str, JobRow], list[str]]:
    with JobStore(tmp_path / "zoo.sqlite") as store:
        store.enter(
            [(one.name.replace("/", "-"), one.name.replace("/", "-"), one) for one in jobs], [one.name for one in jobs]
        )
        said: list[str] = []
        output = Output(str(tmp_path / "models"))
        Supervisor(store, Folders(tmp_path), output, Machine(behave), said.append).run(60)
        return {row.name: row for row in store.rows()}, said


def test_results_are_published_and_told_of(tmp_path: Path):
    rows, said = supervised(tmp_path, good, job("a"), job("deep/b"))
    assert {name: row.status for name, row in rows.items()} == {"a": "quantized", "deep/b": "quantized"}
    assert said == ["a: quantized", "deep/b: quantized"]
    assert (tmp_path / "models/deep/b/model.bin").read_bytes() == b"weights"


def test_a_job_larger_than_every_machine_fails_and_says_what_it_needs(tmp_path: Path):
    rows, _ = supervised(tmp_path, good, job("large", threads=3), job("hungry", memory=2 << 30), job("fits", threads=2))
    assert {name: row.status for name, row in rows.items()} == {
        "large": "failed", "hungry": "failed", "fits": "quantized",
    }  # fmt: skip
    assert "needs 3 threads" in rows["large"].reason and "needs 1 threads and 2048 MiB" in rows["hungry"].reason


@pytest.mark.parametrize(
    ("ended", "status", "tries", "reason"),
    [
        (Ended(1, {"kind": "DataError", "reason": "no samples"}), "failed", 1, "no samples"),
        (Ended(-9, {}, stopped="used 3 MiB"), "failed", 1, "used 3 MiB"),
        (Ended(-11, {}), "failed", 3, "killed by SIGSEGV, at the last of 3 tries"),
        (Ended(-11, {"crash": "in the stage 'load'"}), "failed", 3, "at the last of 3 tries: in the stage 'load'; see"),
        (Ended(0, {}), "failed", 3, "exit code 0 and without a word"),
        (Ended(None, {}, lost="machine x was lost"), "failed", 3, "machine x was lost, at the last of 3 tries"),
    ],
)
def test_each_way_to_end_has_its_reason_and_only_deaths_are_tried_again(
    tmp_path: Path, ended: Ended, status: str, tries: int, reason: str
):
    rows, _ = supervised(tmp_path, lambda task: ended, job("a"))
    assert (rows["a"].status, rows["a"].tries) == (status, tries)
    assert reason in rows["a"].reason


def test_a_result_that_can_not_be_published_fails_its_job_alone(tmp_path: Path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a").write_text("a file where the folder should be")
    rows, _ = supervised(tmp_path, good, job("a"), job("b"))
    assert rows["a"].status == "failed" and "can't be written" in rows["a"].reason
    assert rows["b"].status == "quantized"


class Late(Machine):
    """Its workers end at the twentieth look, whatever they did before; ``begun`` is what each does at once."""

    def __init__(self, begun: Callable[[Task], object]):
        super().__init__(lambda task: Ended(0, {"board": {}}))
        self._begun = begun
        self._looks = 0
        self.stopped: list[str] = []

    def start(self, task: Task) -> str:
        self._begun(task)
        return super().start(task)

    def ended(self) -> list[tuple[Task, Ended]]:
        self._looks += 1
        return super().ended() if self._looks > 20 else []

    def stop(self, key: str) -> None:
        self.stopped.append(key)
        super().stop(key)

    def interrupt(self, key: str) -> bool:
        return False


@pytest.mark.parametrize(("complete", "status"), [(True, "quantized"), (False, "paused")])
def test_a_pause_stops_a_worker_unless_its_result_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: bool, status: str
):
    monkeypatch.setattr(supervisor, "LISTEN_SECONDS", 0.0)
    with JobStore(tmp_path / "zoo.sqlite") as store:
        store.enter([("a", "a", job("a"))], ["a"])

        def begun(task: Task) -> None:
            if complete:
                good(task)
            ask(store, task.key, "pause")

        runner = Late(begun)
        Supervisor(store, Folders(tmp_path), Output(str(tmp_path / "models")), runner, lambda text: None).run(60)
        assert store.row("a").status == status and runner.stopped == ([] if complete else ["a"])


def test_what_a_dead_supervisor_ran_under_an_older_manifest_holds_nobody_up(tmp_path: Path):
    code = f"""
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import ZooJob
store = JobStore({str(tmp_path / "zoo.sqlite")!r})
store.enter([("old", "family", ZooJob("a", "a.xml", "/a.xml", "/", "d.npz"))], ["a"])
store.claim(threads=9, memory=9)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with JobStore(tmp_path / "zoo.sqlite") as store:
        store.enter([("new", "family", job("a"))], ["a"])
        Supervisor(store, Folders(tmp_path), Output(str(tmp_path / "models")), Machine(good), print).run(60)
        assert [(row.key, row.status) for row in store.rows()] == [("new", "quantized")]
        assert [(one.key, one.outcome) for one in store.attempts()] == [("new", "done"), ("old", "abandoned")]
