"""Time INT8 next to f32, the machine's default precision and NNCF's INT8, and ask how much of it ran in INT8.

Latency at one thread and throughput with a stream a CPU, all models of a network interleaved (see
``calib/runtime/timing.py``); CPU time is compared where other work shared the machine. The share is that of the
multiply-accumulates whose executed primitive is an INT8 one, asked of the compiled model.

One model compiled six times was up to 18 % faster one time than another, beyond the interval of each: where its
memory comes to lie decides. So calib is held against NNCF over several compilations of both, and the figure is the
median of their ratios with the lowest and the highest.

What is on file already with the same settings is not measured again: a run that was interrupted goes on.

    pip install -e '.[benchmark]'
    python benchmarks/int8_speed.py [--seconds 4] [--samples 30] [--compilations 5] [--subjects resnet18,mobilenet_v2]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import record
from peers import PEERS
from subjects import SUBJECTS

from calib.engine.bench import executed_int8_share
from calib.loading.load import load_model
from calib.runtime.paired import Timings
from calib.runtime.session import F32, core, default_precision, ov
from calib.runtime.timing import TimedModel, time_models

QUANTIZED = ("calib", "nncf")
BATCH_FEEDS = 4


def timed_models(path: Path, models: dict[str, ov.Model]) -> list[TimedModel]:
    """Every model in f32, and in the default precision where that is another one."""
    both = [("f32", F32)] + ([] if default_precision() == "f32" else [(default_precision(), {})])
    every = {"fp32": core().read_model(path), **models}
    return [TimedModel(f"{name} {title}", model, config) for name, model in every.items() for title, config in both]


def figures(times: Timings) -> dict[str, Any]:
    """Return the medians, and speed-ups over FP32 in f32 with their interval."""
    found: dict[str, Any] = {"basis": times.basis, "rounds": times.rounds, "noisy": times.noisy, "note": times.note}
    for timing in times.models:
        speedup = times.speedup(timing.name)
        found[timing.name] = {
            "wall ms": round(timing.wall_ms.value, 4),
            "cpu ms": round(timing.cpu_ms.value, 4),
            "speedup": round(speedup.value, 3),
            "interval": [round(speedup.low, 3), round(speedup.high, 3)],
        }
    return found


def against(pair: list[TimedModel], inputs: list[Any], seconds: float, compilations: int) -> list[float]:
    """Return the speed-up of the second over the first: median, lowest and highest over fresh compilations of both."""
    ratios = []
    for _ in range(compilations):
        times = time_models(pair, inputs, rounds=10_000, seconds=seconds / 2)
        ratios.append(times.speedup(pair[1].name).value)
    return [round(value, 3) for value in (median(ratios), min(ratios), max(ratios))]


def measure(subject: str, samples: int, seconds: float, compilations: int) -> dict[str, Any]:
    feeds = SUBJECTS[subject].samples(samples)
    with tempfile.TemporaryDirectory() as folder:
        path = SUBJECTS[subject].write(Path(folder))
        with contextlib.redirect_stdout(sys.stderr):  # NNCF's bars
            models = {name: PEERS[name]().quantize(path, feeds) for name in QUANTIZED}
        shares = {name: executed_int8_share(load_model(model), [feeds[0]]) for name, model in models.items()}
        every = timed_models(path, models)
        inputs = [[feed] for feed in feeds[:BATCH_FEEDS]]
        latency = time_models(every, inputs, rounds=10_000, seconds=seconds)
        cores = len(os.sched_getaffinity(0))
        throughput = time_models(every, inputs, threads=cores, streams=cores, rounds=10_000, seconds=seconds)
        named = {timed.name: timed for timed in every}
        direct = {
            title: against([named[f"nncf {title}"], named[f"calib {title}"]], inputs, seconds, compilations)
            for title in dict.fromkeys(("f32", default_precision()))
        }
    return {
        "int8 share": {name: share if share is None else round(share, 4) for name, share in shares.items()},
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
    parser.add_argument("--compilations", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="measure what is on file too")
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "int8_speed.json")
    arguments = parser.parse_args()
    settings = {
        "samples": arguments.samples,
        "seconds": arguments.seconds,
        "compilations": arguments.compilations,
    }
    results = {} if arguments.again else record.on_file(arguments.output, settings)
    for name in QUANTIZED:
        PEERS[name]().prepare()
    titles = f"{'network':<19}{'model':<12}{'INT8':>7}{'CPU ms':>10}{'× f32':>8}"
    print(f"{titles}  {'interval':<12}{'a second':>10}{'× f32':>8}")
    for subject in arguments.subjects.split(","):
        if subject not in results:
            results[subject] = measure(subject, arguments.samples, arguments.seconds, arguments.compilations)
            record.write(arguments.output, settings, results)
        show(subject, results[subject])


if __name__ == "__main__":
    main()
