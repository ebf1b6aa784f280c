"""Time INT8 next to f32, the machine's default precision and NNCF's INT8, and ask how much of it ran in INT8.

calib's INT8 is there twice: with everything in INT8 that may be, and as ``--optimize-speed`` leaves it, made from the
same plan. All models of a network are timed interleaved at one thread (see ``calib/runtime/timing.py``); CPU time is
compared where other work shared the machine. The share is that of the multiply-accumulates whose executed primitive is
an INT8 one, asked of the compiled model.

One model compiled six times was up to 18 % faster one time than another, beyond the interval of each, and beside other
work up to 1.8 times for networks below half a millisecond: where its memory comes to lie decides. So all models are
compiled anew several times, and a ratio is the median of those of the compilations with the lowest and the highest.
"calib again" is calib's model compiled a second time beside the first: how far its ratio is from 1 is the noise.

What is on file already with the same settings is not measured again: a run that was interrupted goes on.

    pip install -e '.[benchmark]'
    python benchmarks/int8_speed.py [--seconds 4] [--samples 30] [--compilations 5] [--subjects resnet18,mobilenet_v2]

A subject that holds a ``/`` is a folder with a network and its samples (``subjects.in_folder``), or ``package/NAME``
for one of those that ``truth_subjects.py`` takes from installed packages.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import record
from peers import PEERS, Samples
from subjects import SUBJECTS, Subject, subject_of

import calib
from calib.engine.bench import executed_int8_share
from calib.loading.load import load_model
from calib.runtime.paired import Timings
from calib.runtime.session import F32, core, default_precision, ov
from calib.runtime.timing import TimedModel, time_models

FP32, CALIB, AGAIN, FASTEST, NNCF = "fp32", "calib", "calib again", "calib fastest", "nncf"
COMPARED = ((AGAIN, CALIB), (CALIB, NNCF), (CALIB, FP32), (FASTEST, CALIB), (FASTEST, NNCF), (FASTEST, FP32))
BATCH_FEEDS = 4


def quantized(path: Path, feeds: Samples, folder: Path) -> tuple[dict[str, ov.Model], dict[str, str]]:
    """Return name → INT8 model, and name → what was said of it: why there is none, or what was left in float."""
    whole = calib.quantize(path, list(feeds), samples=len(feeds))
    whole.save(folder / "int8")
    plan = folder / "int8" / "plan.json"
    again = calib.quantize(path, list(feeds), plan=plan, optimize_speed=True)
    models, said = {CALIB: whole.model, AGAIN: whole.model, FASTEST: again.model}, {}
    said[FASTEST] = next((text for text in again.report.warnings if "in floating point" in text), "")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # its bars
            models[NNCF] = PEERS[NNCF]().quantize(path, feeds)
    except Exception as error:  # whatever it raises, the row says that there is no model of it
        said[NNCF] = f"{type(error).__name__}: {error}".splitlines()[0]
    return models, said


def timed_models(path: Path, models: Mapping[str, ov.Model]) -> list[TimedModel]:
    """Every model in f32, and in the default precision where that is another one."""
    both = [("f32", F32)] + ([] if default_precision() == "f32" else [(default_precision(), {})])
    every = {FP32: core().read_model(path), **models}
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


def ratios(compilations: Sequence[Timings]) -> dict[str, list[float]]:
    """Return "one over another in precision" → median, lowest and highest ratio of times over the compilations.

    Each is a ratio of speeds: above 1 the first is the faster one.
    """
    names = {timing.name for timing in compilations[0].models}
    found: dict[str, list[float]] = {}
    for title in dict.fromkeys(("f32", default_precision())):
        for one, other in COMPARED:
            if {f"{one} {title}", f"{other} {title}"} <= names:
                each = [_faster(times, f"{one} {title}", f"{other} {title}") for times in compilations]
                found[f"{one} over {other} in {title}"] = [round(f(each), 3) for f in (median, min, max)]
    return found


def least(compilations: Sequence[Timings]) -> dict[str, float]:
    """Return model → milliseconds of the fastest of its compilations: other work only adds to it."""
    names = [timing.name for timing in compilations[0].models]
    return {name: round(min(times.time_ms(name) for times in compilations), 4) for name in names}


def _faster(times: Timings, one: str, other: str) -> float:
    """Return how many times as fast the one is as the other, by their speed-ups over FP32 round by round."""
    return times.speedup(one).value / times.speedup(other).value


def measure(subject: Subject, samples: int, seconds: float, compilations: int, throughput: bool) -> dict[str, Any]:
    feeds = subject.samples(samples)
    with tempfile.TemporaryDirectory() as name:
        path = subject.write(Path(name))
        models, said = quantized(path, feeds, Path(name))
        shares = {
            name: executed_int8_share(load_model(model), [feeds[0]]) for name, model in models.items() if name != AGAIN
        }
        every = timed_models(path, models)
        inputs = [list(feed) if isinstance(feed, tuple) else [feed] for feed in feeds[:BATCH_FEEDS]]
        latency = [
            time_models(every, inputs, rounds=10_000, seconds=seconds / compilations) for _ in range(compilations)
        ]
        found = {
            "samples": len(feeds),
            "int8 share": {name: share if share is None else round(share, 4) for name, share in shares.items()},
            "said": said,
            "latency": figures(latency[0]),
            "ratios": ratios(latency),
            "least ms": least(latency),
        }
        if throughput:
            cores = len(os.sched_getaffinity(0))
            busy = time_models(every, inputs, threads=cores, streams=cores, rounds=10_000, seconds=seconds)
            found["throughput"] = figures(busy)
    return found


def show(subject: str, found: dict[str, Any]) -> None:
    shares = found["int8 share"]
    for name, row in found["latency"].items():
        if isinstance(row, dict):
            share = shares.get(name.rpartition(" ")[0])
            low, high = row["interval"]
            busy = found.get("throughput", {}).get(name)
            many = f"{1000 / busy['wall ms']:>10.0f}{busy['speedup']:>8.2f}" if busy else ""
            print(
                f"{subject:<19}{name:<18}{'' if share is None else f'{share:.1%}':>7}{row['cpu ms']:>10.3f}"
                f"{row['speedup']:>8.2f}  [{low:.2f}, {high:.2f}]{many}"
            )
    for name, (middle, low, high) in found["ratios"].items():
        print(f"{subject:<19}{name:<30}{middle:>8.2f}  [{low:.2f}, {high:.2f}]")
    print(f"{subject:<19}least ms: {', '.join(f'{name} {ms:.3f}' for name, ms in found['least ms'].items())}")
    for name, text in found["said"].items():
        print(f"{subject:<19}{name}: {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--compilations", type=int, default=5)
    parser.add_argument("--throughput", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--again", action="store_true", help="measure what is on file too")
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "int8_speed.json")
    arguments = parser.parse_args()
    settings = {"seconds": arguments.seconds, "compilations": arguments.compilations}
    results = record.on_file(arguments.output, settings)
    for name in (CALIB, NNCF):
        PEERS[name]().prepare()
    titles = f"{'network':<19}{'model':<18}{'INT8':>7}{'CPU ms':>10}{'× f32':>8}"
    print(f"{titles}  {'interval':<12}{'a second':>10}{'× f32':>8}")
    for name in arguments.subjects.split(","):
        shown = name.rstrip("/").rpartition("/")[2]
        if arguments.again or shown not in results:
            one = subject_of(name)
            rest = (arguments.samples, arguments.seconds, arguments.compilations, arguments.throughput)
            results[shown] = measure(one, *rest)
            record.write(arguments.output, settings, results)
        show(shown, results[shown])


if __name__ == "__main__":
    main()
