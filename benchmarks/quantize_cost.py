"""Measure what a whole ``quantize`` costs, next to NNCF's and to plain inference over the same samples.

CPU time of a process held to one CPU, a process for each run; reading the model, statistics, compiling and inserting
are in it, imports and making the samples are not. The runs alternate, and the median of them is kept. Plain inference
is that of the FP32 model in f32 on the same samples, compilation apart.

    pip install -e '.[benchmark]'
    python benchmarks/quantize_cost.py [--rounds 3] [--samples 200] [--subjects resnet18,mobilenet_v2]

A subject that holds a ``/`` is a folder with a network and its samples, see ``subjects.in_folder``. With several
numbers of samples, ``--samples 20,100,300``, each is measured, and a run adds to what an earlier one left on file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import record
from peers import PEERS
from subjects import subject_of

PLAIN = "plain inference"
RUNS = (PLAIN, "calib fast auto", "calib", "nncf")
CHOSEN = ("resnet18", "mobilenet_v2", "demo resnet", "demo mobilenet", "demo vit", "ppocr recognition")


def child(run: str, subject: str, path: Path, samples: int) -> None:
    """Print the CPU seconds and the peak memory of one run, in a process of its own."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before OpenVINO counts CPUs
    feeds = subject_of(subject).samples(samples)
    measured: Callable[[], Any]
    if run == PLAIN:
        from calib.runtime.session import Session, core

        session = Session(core().read_model(path))
        session([feeds[0]])

        def plain() -> None:
            for feed in feeds:
                session([feed])

        measured = plain
    else:
        peer = PEERS[run]()
        peer.prepare()

        measured = lambda: peer.quantize(path, feeds)  # noqa: E731

    wall, cpu = time.perf_counter(), time.process_time()
    measured()
    found = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        # not getrusage: its peak is inherited from the process that started this one
        "peak MiB": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024,
    }
    print(json.dumps(found))


def measure(run: str, subject: str, path: Path, samples: int) -> dict[str, float] | None:
    argv = [sys.executable, __file__, "--child", run, subject, str(path), "--samples", str(samples)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{run} on {subject} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def compare(subject: str, samples: int, rounds: int) -> dict[str, Any]:
    """Return the medians of every run on one network, and their ratios to plain inference."""
    with tempfile.TemporaryDirectory() as folder:
        path = subject_of(subject).write(Path(folder))
        found: dict[str, list[dict[str, float]]] = {run: [] for run in RUNS}
        for number in range(rounds):
            for run in RUNS[:: -1 if number % 2 else 1]:
                one = measure(run, subject, path, samples)
                if one:
                    found[run].append(one)
    rows: dict[str, Any] = {
        run: {key: round(median(one[key] for one in ones), 3) for key in ones[0]} for run, ones in found.items() if ones
    }
    for row in rows.values():
        row["ratio"] = round(row["cpu"] / rows[PLAIN]["cpu"], 3)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", default="200")
    parser.add_argument("--subjects", default=",".join(CHOSEN))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "quantize_cost.json")
    parser.add_argument("--child", nargs=3, metavar=("RUN", "SUBJECT", "PATH"))
    arguments = parser.parse_args()
    if arguments.child:
        run, subject, path = arguments.child
        child(run, subject, Path(path), int(arguments.samples))
        return
    print(f"{'network':<19}{'samples':>8} {'run':<17}{'CPU s':>8}{'× plain':>9}{'peak MiB':>10}")
    settings = {"rounds": arguments.rounds}
    results = record.on_file(arguments.output, settings)
    for subject in arguments.subjects.split(","):
        name = Path(subject).name
        for samples in map(int, arguments.samples.split(",")):
            rows = compare(subject, samples, arguments.rounds)
            results.setdefault(name, {})[str(samples)] = rows
            for run, row in rows.items():
                figures = f"{row['cpu']:>8.2f}{row['ratio']:>9.2f}{row['peak MiB']:>10.0f}"
                print(f"{name:<19}{samples:>8} {run:<17}{figures}", flush=True)
            record.write(arguments.output, settings, results)  # a run that is stopped leaves what was measured


if __name__ == "__main__":
    main()
