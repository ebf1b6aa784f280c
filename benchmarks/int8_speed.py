"""Time INT8 next to f32, the machine's default precision and NNCF's INT8, and ask how much of it ran in INT8.

Latency at one thread and throughput with a stream a CPU, all models of a network interleaved (see
``calib/runtime/timing.py``); CPU time is compared where other work shared the machine. The share is that of the
multiply-accumulates whose executed primitive is an INT8 one, asked of the compiled model.

    pip install -e '.[benchmark]'
    python benchmarks/int8_speed.py [--seconds 4] [--samples 30] [--subjects resnet18,mobilenet_v2]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import record
from peers import PEERS
from subjects import SUBJECTS

from calib.benchmark import executed_int8_share
from calib.graph.load import load_model
from calib.runtime.paired import Timings
from calib.runtime.session import F32, core, ov
from calib.runtime.timing import Candidate, default_precision, time_models

QUANTIZED = ("calib", "nncf")
BATCH_FEEDS = 4


def candidates(path: Path, models: dict[str, ov.Model]) -> list[Candidate]:
    """Every model in f32, and in the default precision where that is another one."""
    both = [("f32", F32)] + ([] if default_precision() == "f32" else [(default_precision(), {})])
    every = {"fp32": core().read_model(path), **models}
    return [Candidate(f"{name} {title}", model, config) for name, model in every.items() for title, config in both]


def figures(times: Timings) -> dict[str, Any]:
    """Return the medians, and speed-ups over FP32 in f32 with their interval."""
    found: dict[str, Any] = {"basis": times.basis, "rounds": times.rounds, "noisy": times.noisy, "note": times.note}
    for timing in times.candidates:
        speedup = times.speedup(timing.name)
        found[timing.name] = {
            "wall ms": round(timing.wall_ms.value, 4),
            "cpu ms": round(timing.cpu_ms.value, 4),
            "speedup": round(speedup.value, 3),
            "interval": [round(speedup.low, 3), round(speedup.high, 3)],
        }
    return found


def measure(subject: str, samples: int, seconds: float) -> dict[str, Any]:
    feeds = SUBJECTS[subject].samples(samples)
    with tempfile.TemporaryDirectory() as folder:
        path = SUBJECTS[subject].write(Path(folder))
        with contextlib.redirect_stdout(sys.stderr):  # NNCF's bars
            models = {name: PEERS[name]().quantize(path, feeds) for name in QUANTIZED}
        shares = {name: round(executed_int8_share(load_model(model)), 4) for name, model in models.items()}
        every = candidates(path, models)
        inputs = [[feed] for feed in feeds[:BATCH_FEEDS]]
        latency = time_models(every, inputs, rounds=10_000, seconds=seconds)
        cores = len(os.sched_getaffinity(0))
        throughput = time_models(every, inputs, threads=cores, streams=cores, rounds=10_000, seconds=seconds)
        # Ours against theirs directly: their own pairs, not the quotient of two ratios.
        direct = {}
        for title in ("f32", default_precision()):
            names = (f"nncf {title}", f"calib {title}")
            pair = [next(c for c in every if c.name == name) for name in names]
            ratio = time_models(pair, inputs, rounds=10_000, seconds=seconds / 2).speedup(names[1])
            direct[title] = [round(value, 3) for value in (ratio.value, ratio.low, ratio.high)]
    return {
        "int8 share": shares,
        "latency": figures(latency),
        "throughput": figures(throughput),
        "calib over nncf": direct,
    }


def show(subject: str, found: dict[str, Any]) -> None:
    shares = found["int8 share"]
    for name, row in found["latency"].items():
        if isinstance(row, dict):
            busy = found["throughput"][name]
            share = shares.get(name.split()[0])
            low, high = row["interval"]
            print(
                f"{subject:<19}{name:<12}{'' if share is None else f'{share:.1%}':>7}{row['cpu ms']:>10.3f}"
                f"{row['speedup']:>8.2f}  [{low:.2f}, {high:.2f}]{1000 / busy['wall ms']:>10.0f}{busy['speedup']:>8.2f}"
            )
    ratios = ", ".join(f"{title} {r[0]:.2f} [{r[1]:.2f}, {r[2]:.2f}]" for title, r in found["calib over nncf"].items())
    print(f"{subject:<19}calib over nncf: {ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "int8_speed.json")
    arguments = parser.parse_args()
    for name in QUANTIZED:
        PEERS[name]().prepare()
    titles = f"{'network':<19}{'model':<12}{'INT8':>7}{'CPU ms':>10}{'× f32':>8}"
    print(f"{titles}  {'interval':<12}{'a second':>10}{'× f32':>8}")
    results = {}
    for subject in arguments.subjects.split(","):
        results[subject] = measure(subject, arguments.samples, arguments.seconds)
        show(subject, results[subject])
        settings = {"samples": arguments.samples, "seconds": arguments.seconds}
        record.write(arguments.output, settings, results)


if __name__ == "__main__":
    main()
