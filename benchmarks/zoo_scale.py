"""What the zoo costs beside the jobs: supervisor, resuming, memory, and what a second worker brings.

    python benchmarks/zoo_scale.py [--models 200] [--rows 10000] [--json FILE]

- overhead: jobs whose worker writes a finished result and nothing else; the supervisor's own CPU time and what a job
  takes beyond its worker, the starts of processes left out;
- resume: entering a store in which every job is done (each result's marker is read again), keys included;
- memory: the supervisor's after a tenth of the jobs and at their end;
- workers: generated models, quantized for real with one and with two workers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from record import write

from calib.runtime.session import ov
from calib.zoo.jobs import JobStore
from calib.zoo.output import Output
from calib.zoo.plan import Job
from calib.zoo.process import Local
from calib.zoo.supervisor import Folders, Supervisor, enter
from calib.zoo.task import RESULT, Ended, Task, write_marker
from calib.zoo.zoo import Zoo, open_zoo, run


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

    def stop(self, key: str) -> None:
        self._tasks = []

    def close(self) -> None:
        self._tasks = []


def jobs_of(folder: Path, count: int) -> list[Job]:
    """Make jobs whose models are a few bytes, each other's different."""
    jobs = []
    for number in range(count):
        path = folder / f"m{number:05}.onnx"
        path.write_bytes(f"model {number}".encode())
        os.utime(path, (1e9, 1e9))  # settled: a file of this second is read again
        jobs.append(Job(path.stem, path.name, str(path), str(folder), "data.npz", retries=0))
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
        "memory_mib_after_a_tenth": runner.memory[tenth] / 2**20,
        "memory_mib_at_the_end": runner.memory[-1] / 2**20,
        "store_bytes": folders.store.stat().st_size,
    }


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
    zoo = generated(folder, count)
    started = time.perf_counter()
    rows = run(zoo, zoo.jobs, lambda text: None, runner=Local(slots))
    wall = time.perf_counter() - started
    if failed := [f"{row.name}: {row.reason}" for row in rows if row.status != "quantized"]:
        raise SystemExit("these figures would be of less work:\n" + "\n".join(failed))
    with JobStore(zoo.folders.store) as store:
        peaks = [one.peak_memory or 0 for one in store.attempts()]
    return {
        "workers": slots,
        "models": count,
        "seconds": wall,
        "seconds_a_model": wall / count,
        "largest_worker_mib": max(peaks) / 2**20,
        "supervisor_mib": psutil.Process().memory_info().rss / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "zoo_scale.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = {"supervisor": supervisor(Path(folder), options.rows)}
    print(found, file=sys.stderr, flush=True)
    for slots in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            found[f"workers_{slots}"] = workers(Path(folder) / "zoo", options.models, slots)
            print(found[f"workers_{slots}"], file=sys.stderr, flush=True)
    found["speed_up"] = found["workers_1"]["seconds"] / found["workers_2"]["seconds"]
    write(options.json, {"models": options.models, "rows": options.rows}, found)


if __name__ == "__main__":
    main()
