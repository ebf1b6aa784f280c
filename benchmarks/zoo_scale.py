"""What the zoo costs beside the jobs: supervisor, resuming, memory, and what a second worker brings.

    python benchmarks/zoo_scale.py [--parts supervisor,workers] [--rows 10000] [--json FILE]

- supervisor: jobs whose worker writes a finished result and nothing else, so that what is left is the supervisor: its
  CPU and wall time a job; entering a store in which every job is done, keys included; memory after a tenth of the jobs
  and at their end; renewing the leases of a thousand running jobs;
- workers: generated models, quantized for real: 40 with one worker and 200 with two. The speed-up needs a machine that
  does nothing else; this part takes some five minutes.

The JSON file keeps the parts that were not asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from record import write

from calib.runtime.session import ov
from calib.zoo.commands import Zoo, open_zoo, run
from calib.zoo.cost import seconds_of
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import ZooJob
from calib.zoo.output import Output
from calib.zoo.process import Local
from calib.zoo.supervisor import Folders, Supervisor, enter
from calib.zoo.task import RESULT, Ended, Task, write_marker


class _Instant:
    """A runner whose jobs are done when they are started: what is left is the supervisor."""

    poll_seconds = 0.0

    def __init__(self) -> None:
        self._tasks: list[Task] = []
        self.memory: list[int] = []

    def room(self) -> tuple[float, float]:
        return (float("inf"), float("inf")) if len(self._tasks) < 2 else (0.0, 0.0)

    def start(self, task: Task) -> str:
        folder = Path(task.folder) / RESULT
        folder.mkdir(parents=True)
        write_marker(folder, task.key, {"model": task.job.name, "status": "quantized"})
        self._tasks.append(task)
        return "instant"

    def ended(self) -> list[tuple[Task, Ended]]:
        self.memory.append(psutil.Process().memory_info().rss)
        tasks, self._tasks = self._tasks, []
        return [(task, Ended(0, {})) for task in tasks]

    def interrupt(self, key: str) -> bool:
        return False

    def stop(self, key: str) -> None:
        self._tasks = []

    def close(self) -> None:
        self._tasks = []


def jobs_of(folder: Path, count: int) -> list[ZooJob]:
    """Make jobs whose models are a few bytes, each other's different."""
    jobs = []
    for number in range(count):
        path = folder / f"m{number:05}.onnx"
        path.write_bytes(f"model {number}".encode())
        os.utime(path, (1e9, 1e9))  # settled: a file of this second is read again
        jobs.append(ZooJob(path.stem, path.name, str(path), str(folder), "data.npz", retries=0))
    return jobs


def supervisor(folder: Path, rows: int) -> dict[str, Any]:
    (folder / "models").mkdir()
    jobs, names = jobs_of(folder / "models", rows), [f"m{number:05}" for number in range(rows)]
    folders, output, runner = Folders(folder), Output(str(folder / "out")), _Instant()
    with JobStore(folders.store) as store:
        started = time.perf_counter()
        enter(store, jobs, names, output)
        first = time.perf_counter() - started
        cpu, started = time.process_time(), time.perf_counter()
        Supervisor(store, folders, output, runner, lambda text: None).run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - started
        heartbeat = _heartbeat(folder / "beats.sqlite", jobs[:1000])
    with JobStore(folders.store) as store:
        started = time.perf_counter()
        done = enter(store, jobs, names, output)
        Supervisor(store, folders, output, runner, lambda text: None).run()
        resumed = time.perf_counter() - started
    assert len(done) == rows
    tenth = max(1, len(runner.memory) // 10)
    return {
        "rows": rows,
        "first_entering_seconds": first,
        "overhead_ms_a_job": wall / rows * 1000,
        "overhead_cpu_ms_a_job": cpu / rows * 1000,
        "resume_seconds": resumed,
        "heartbeat_ms_a_running_job": heartbeat,
        "memory_mib_after_a_tenth": runner.memory[tenth] / 2**20,
        "memory_mib_at_the_end": runner.memory[-1] / 2**20,
        "store_bytes": folders.store.stat().st_size,
    }


def _heartbeat(path: Path, jobs: list[ZooJob]) -> float:
    """Return the milliseconds in which the lease of one of many running jobs is renewed."""
    with JobStore(path) as store:
        store.enter([(job.name, job.name, job) for job in jobs], [job.name for job in jobs])
        for _ in jobs:
            store.claim(threads=1, memory=0)
        started = time.perf_counter()
        lost = store.renew([job.name for job in jobs])
        took = time.perf_counter() - started
    assert not lost
    return took / len(jobs) * 1000


FAST = "{calibration: data.npz, effort: fast, estimator: minmax}"


def generated(folder: Path, count: int, settings: str = FAST) -> Zoo:
    """Write small networks that differ in their weights and widths, and their manifest."""
    opset, random = ov.opset13, np.random.default_rng(0)
    (folder / "models").mkdir(parents=True)
    for number in range(count):
        width = 8 + number % 8
        image = opset.parameter([1, 3, 16, 16], np.float32, name="image")
        image.output(0).set_names({"image"})
        weights = random.normal(size=(width, 3, 3, 3)).astype(np.float32)
        features = opset.relu(opset.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
        pooled = opset.reduce_mean(features, np.array([2, 3]))
        scores = opset.matmul(pooled, random.normal(size=(width, 10)).astype(np.float32), False, False)
        model = ov.Model([scores], [image], f"m{number}")
        ov.save_model(model, folder / "models" / f"m{number:04}.xml", compress_to_fp16=False)
    np.savez(folder / "data.npz", image=random.normal(size=(16, 3, 16, 16)).astype(np.float32))
    text = f"root: models\nsources: [{{glob: '*.xml'}}]\ndefaults: {settings}\nresources: {{retries: 100}}\n"
    (folder / "zoo.yaml").write_text(text)
    return open_zoo(str(folder / "zoo.yaml"))


def workers(folder: Path, count: int, slots: int) -> dict[str, Any]:
    zoo, memory = generated(folder, count), []
    started = time.perf_counter()
    runner = Local(slots)
    rows = run(zoo, zoo.jobs, lambda text: memory.append(psutil.Process().memory_info().rss), runner=runner)
    wall = time.perf_counter() - started
    if failed := [f"{row.name}: {row.reason}" for row in rows if row.status != "quantized"]:
        raise SystemExit("these figures would be of less work:\n" + "\n".join(failed))
    with JobStore(zoo.folders.store) as store:
        attempts = store.attempts()
    files = [path for part in ("models", "logs") for path in (zoo.folders.root / part).rglob("*") if path.is_file()]
    return {
        "workers": slots,
        "models": count,
        "seconds": wall,
        "seconds_a_model": wall / count,
        "worker_seconds_a_model": sum(seconds_of(one) for one in attempts) / count,
        "idle_ms_between_jobs": (wall * slots - sum(seconds_of(one) for one in attempts)) / count * 1000,
        "bytes_a_job": sum(path.stat().st_size for path in files) / count,
        "largest_worker_mib": max(one.peak_memory or 0 for one in attempts) / 2**20,
        "supervisor_mib_after_a_tenth": memory[len(memory) // 10] / 2**20,
        "supervisor_mib_at_the_end": memory[-1] / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="supervisor,workers")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=200, help="for two workers; a fifth of them for one")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "zoo_scale.json")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: dict[str, Any] = json.loads(options.json.read_text())["results"] if options.json.exists() else {}
    settings = {"models": options.models, "rows": options.rows}
    if "supervisor" in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            found["supervisor"] = {**supervisor(Path(folder), options.rows), "load": os.getloadavg()[0]}
        write(options.json, settings, found)
    if "workers" in options.parts:
        for slots, count in ((1, options.models // 5), (2, options.models)):
            with tempfile.TemporaryDirectory() as folder:
                measured = workers(Path(folder) / "zoo", count, slots)
            found[f"workers_{slots}"] = {**measured, "load": os.getloadavg()[0]}
        found["speed_up"] = found["workers_1"]["seconds_a_model"] / found["workers_2"]["seconds_a_model"]
        write(options.json, settings, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
