"""A zoo under kill -9, full disks, broken files, too little memory and time: nothing lost, nothing done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from calib.demo import demo_folder
from calib.zoo.jobs import Attempt, JobRow
from calib.zoo.process import Local
from calib.zoo.zoo import Zoo, open_store, open_zoo, run

HELPERS = Path(__file__).parents[1] / "zoo_faults"

MANIFEST = """
root: {demo}
sources: [{{glob: "*.xml"}}]
defaults: {{calibration: "{demo}/calibration.npz", samples: 8, estimator: minmax, effort: fast}}
resources: {{threads: 1, retries: 2}}
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "zoo.yaml"
    path.write_text(MANIFEST.format(demo=demo_folder()))
    return path


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The model files of a run that nothing happened to."""
    zoo = open_zoo(str(manifest), str(tmp_path_factory.mktemp("undisturbed")))
    rows = run(zoo, zoo.jobs, print, runner=Local(2))
    assert [row.status for row in rows] == ["quantized"] * 3
    return models(zoo)


def models(zoo: Zoo) -> dict[str, bytes]:
    """Name → bytes of each model file; reports hold times and are left out."""
    root = Path(zoo.output.place)
    files = (path for path in root.rglob("*") if path.suffix in (".xml", ".bin"))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def rows_and_attempts(zoo: Zoo) -> tuple[list[JobRow], list[Attempt]]:
    with open_store(zoo, new=False) as store:
        return store.rows(), store.attempts()


def faulty(folder: Path, faults: dict[str, Any]) -> tuple[str, ...]:
    """The command of a worker that meets these faults."""
    path = folder / "faults.json"
    path.write_text(json.dumps(faults))
    return sys.executable, str(HELPERS / "killed_worker.py"), str(path)


def supervise(manifest: Path, out: Path, point: str = "", faults: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HELPERS / "killed_supervisor.py"), str(manifest), str(out), point, faults]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def wait_for(condition, seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s")


@pytest.mark.parametrize(
    "points",
    [
        (["begin", "load"], ["end", "load"], ["begin", "statistics"]),
        (["end", "statistics"], ["end", "insert"], ["end", "report"]),
        (["begin", "report"], ["saved", ""], ["complete", ""]),
    ],
)
def test_killed_workers_are_tried_again_and_give_the_same_bytes(
    manifest: Path, undisturbed: dict[str, bytes], tmp_path: Path, points: tuple[list[str], ...]
):
    names = ("mobilenet", "resnet", "vit")
    faults = {name: {"at": point, "how": "kill"} for name, point in zip(names, points, strict=True)}
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    rows = run(zoo, zoo.jobs, print, runner=Local(2, faulty(tmp_path, faults)))
    assert [row.status for row in rows] == ["quantized"] * 3
    assert models(zoo) == undisturbed
    attempts = {name: [] for name in names}
    for attempt in rows_and_attempts(zoo)[1]:
        attempts[next(row.name for row in rows if row.key == attempt.key)].append((attempt.outcome, attempt.exit))
    for name, point in zip(names, points, strict=True):
        # a result that was complete when its worker died is kept
        wanted = [("done", -9)] if point == ["complete", ""] else [("died", -9), ("done", 0)]
        assert attempts[name] == wanted
    assert not list((tmp_path / "out" / "work").iterdir())


def test_a_worker_that_always_dies_is_given_up_and_the_rest_go_on(manifest: Path, tmp_path: Path):
    script = tmp_path / "always.sh"
    script.write_text(f'grep -q \'"resnet"\' "$1" && kill -9 $$\nexec {sys.executable} -m calib.zoo.worker "$1"\n')
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    rows = {row.name: row for row in run(zoo, zoo.jobs, print, runner=Local(2, ("sh", str(script))))}
    assert {name: row.status for name, row in rows.items()} == {
        "mobilenet": "quantized",
        "resnet": "failed",
        "vit": "quantized",
    }
    assert "killed by SIGKILL, at the last of 3 tries" in rows["resnet"].reason
    died = [one for one in rows_and_attempts(zoo)[1] if one.key == rows["resnet"].key]
    assert [(one.number, one.outcome, one.exit) for one in died] == [(n, "died", -9) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ("JobStore.claim:after", 0),
        ("Local.start:after", 0),
        ("Output.publish:before", 2),
        ("Output.publish:after", 2),
        ("JobStore.finish:after", 2),
    ],
)
def test_a_killed_supervisor_loses_nothing_and_nothing_is_done_twice(
    manifest: Path, undisturbed: dict[str, bytes], tmp_path: Path, point: str, kept: int
):
    out = tmp_path / "out"
    assert supervise(manifest, out, point).wait(60) == -signal.SIGKILL
    zoo = open_zoo(str(manifest), str(out))
    rows = run(zoo, zoo.jobs, print, runner=Local(2))
    assert [row.status for row in rows] == ["quantized"] * 3
    assert models(zoo) == undisturbed
    attempts = rows_and_attempts(zoo)[1]
    assert all(one.outcome in ("done", "abandoned") and one.ended for one in attempts)
    assert [one.outcome for one in attempts].count("done") == 3
    # what was finished before the kill has one attempt, and that is "done"
    alone = [row.key for row in rows if [a.outcome for a in attempts if a.key == row.key] == ["done"]]
    assert len(alone) >= kept
    assert all(row.tries == 1 for row in rows)  # its supervisor's death does not count against a job


def test_workers_die_with_their_supervisor(manifest: Path, tmp_path: Path):
    faults = {name: {"at": ["begin", "statistics"], "how": "sleep"} for name in ("mobilenet", "resnet", "vit")}
    command = faulty(tmp_path, faults)
    supervisor = supervise(manifest, tmp_path / "out", "", command[2])
    work = tmp_path / "out" / "work"
    wait_for(lambda: len(list(work.glob("*/asleep"))) == 2)
    workers = [int(wait_for(path.read_text)) for path in work.glob("*/asleep")]
    supervisor.kill()
    supervisor.wait()
    wait_for(lambda: not any(alive(pid) for pid in workers), 10)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_with_130_and_leaves_its_jobs_waiting(manifest: Path, tmp_path: Path, number: int):
    calib = "import sys; from calib.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", calib, "zoo", "run", str(manifest), "-o", str(tmp_path / "out"), "-j", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as supervisor:
        wait_for(lambda: list((tmp_path / "out" / "work").glob("*/task.json")))
        wait_for(lambda: psutil.Process(supervisor.pid).children())
        workers = psutil.Process(supervisor.pid).children()
        supervisor.send_signal(number)
        assert supervisor.wait(30) == 130
        assert supervisor.stderr and "error: interrupted" in supervisor.stderr.read()
    assert not any(alive(worker.pid) for worker in workers)
    rows, attempts = rows_and_attempts(open_zoo(str(manifest), str(tmp_path / "out")))
    assert [(row.status, row.tries) for row in rows] == [("waiting", 0)] * 3
    assert [one.outcome for one in attempts] == ["interrupted"]
    assert not list((tmp_path / "out" / "work").iterdir())


def test_two_supervisors_share_the_jobs_of_one_store(manifest: Path, undisturbed: dict[str, bytes], tmp_path: Path):
    both = [supervise(manifest, tmp_path / "out") for _ in range(2)]
    assert [one.wait(90) for one in both] == [0, 0]
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    rows, attempts = rows_and_attempts(zoo)
    assert [row.status for row in rows] == ["quantized"] * 3
    assert [one.outcome for one in attempts] == ["done"] * 3
    assert models(zoo) == undisturbed


def test_too_much_memory_or_time_fails_that_job_alone_with_that_reason(manifest: Path, tmp_path: Path):
    limits = """
overrides:
- {match: resnet, resources: {memory: 500MiB}}
- {match: vit, resources: {timeout: 6s}}
"""
    path = tmp_path / "zoo.yaml"
    path.write_text(manifest.read_text() + limits)
    faults = {
        "resnet": {"at": ["begin", "statistics"], "how": "grow"},
        "vit": {"at": ["begin", "statistics"], "how": "sleep"},
    }
    zoo = open_zoo(str(path), str(tmp_path / "out"))
    rows = {row.name: row for row in run(zoo, zoo.jobs, print, runner=Local(3, faulty(tmp_path, faults)))}
    assert rows["mobilenet"].status == "quantized"
    assert rows["resnet"].status == "failed" and "above its cap of 500 MiB (resources.memory)" in rows["resnet"].reason
    assert rows["vit"].status == "failed" and "longer than 6 s (resources.timeout)" in rows["vit"].reason
    peaks = {one.key: one.peak_memory or 0 for one in rows_and_attempts(zoo)[1]}
    assert peaks[rows["resnet"].key] > 500 << 20
    again = {row.name: row.status for row in run(zoo, zoo.jobs, print, runner=Local(3), again=True)}
    assert again["resnet"] == "quantized"


def test_broken_files_and_a_full_disk_fail_their_job_with_a_reason_and_exit_code_4(manifest: Path, tmp_path: Path):
    for name in ("resnet", "vit", "mobilenet"):
        for suffix in (".xml", ".bin"):
            (tmp_path / f"{name}{suffix}").write_bytes((demo_folder() / f"{name}{suffix}").read_bytes())
    (tmp_path / "vit.bin").write_bytes(b"")
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 no archive")
    text = MANIFEST.format(demo=demo_folder()).replace(f"root: {demo_folder()}", f"root: {tmp_path}")
    (tmp_path / "zoo.yaml").write_text(text + "overrides: [{match: mobilenet, calibration: bad.npz}]\n")
    calib = "import sys; from calib.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", calib, "zoo", "run", str(tmp_path / "zoo.yaml"), "-j", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 4, ended.stderr
    zoo = open_zoo(str(tmp_path / "zoo.yaml"))
    rows = {row.name: row for row in rows_and_attempts(zoo)[0]}
    assert rows["resnet"].status == "quantized"
    assert rows["vit"].status == "failed" and "vit.bin" in rows["vit"].reason
    assert rows["mobilenet"].status == "failed" and "bad.npz" in rows["mobilenet"].reason
    assert "3 models: 1 quantized, 2 failed" in ended.stdout


def test_a_full_disk_fails_the_job_whose_result_does_not_fit(manifest: Path, tmp_path: Path):
    script = tmp_path / "small_disk.sh"
    script.write_text(f'ulimit -f 200\nexec {sys.executable} -m calib.zoo.worker "$1"\n')  # KiB in bash
    zoo = open_zoo(str(manifest), str(tmp_path / "out"))
    runner = Local(2, ("bash", str(script)))
    rows = {row.name: row for row in run(zoo, zoo.jobs, print, runner=runner)}
    statuses = {name: row.status for name, row in rows.items()}
    assert "failed" in statuses.values(), statuses
    for row in rows.values():
        if row.status == "failed":
            assert "can't be written" in row.reason or "too large" in row.reason.lower(), row.reason
            assert not (Path(zoo.output.place) / row.name).exists()
    assert not list((tmp_path / "out" / "work").iterdir())


def test_an_unchanged_job_is_not_run_again_and_a_changed_one_is(manifest: Path, tmp_path: Path):
    for suffix in (".xml", ".bin"):
        (tmp_path / f"resnet{suffix}").write_bytes((demo_folder() / f"resnet{suffix}").read_bytes())
    samples = np.load(demo_folder() / "calibration.npz")["image"]
    np.savez(tmp_path / "data.npz", image=samples[:4])
    (tmp_path / "zoo.yaml").write_text(
        "sources: [{glob: '*.xml'}]\ndefaults: {calibration: data.npz, effort: fast, estimator: minmax}\n"
    )
    zoo = open_zoo(str(tmp_path / "zoo.yaml"))
    for count in (1, 1):
        run(zoo, zoo.jobs, print, runner=Local(1))
        assert len(rows_and_attempts(zoo)[1]) == count
    np.savez(tmp_path / "data.npz", image=samples[4:8])
    (row,) = run(zoo, zoo.jobs, print, runner=Local(1))
    assert row.status == "quantized" and len(rows_and_attempts(zoo)[1]) == 2
    os.unlink(f"{zoo.output.of('resnet')}/resnet.bin")  # nobody notices; but without its marker it is not done
    os.unlink(f"{zoo.output.of('resnet')}/job.json")
    run(zoo, zoo.jobs, print, runner=Local(1))
    assert len(rows_and_attempts(zoo)[1]) == 3
    assert Path(f"{zoo.output.of('resnet')}/resnet.bin").is_file()
