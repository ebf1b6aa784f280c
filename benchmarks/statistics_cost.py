"""Measure what collecting statistics costs, next to a plain FP32 pass over the same samples.

CPU time (user and system, all threads) at one stream of one thread, in blocks of samples that alternate between the
passes; compilation apart. Peak memory of a process that runs a few samples in two streams, one process a pass. What
is on file already with as many rounds is not measured again.

    python benchmarks/statistics_cost.py [--rounds 12] [--output benchmarks/results/statistics_cost.json]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import record

from calib.graph.taps import Need, tap
from calib.runtime.session import compile_model, infer_all, ov
from calib.statistics.collect import collect
from calib.statistics.flat import InPieces
from calib.statistics.totals import Totals, counting_groups, sampled
from calib.values.plan import TensorId

SAMPLES = 300  # what the passes are set up for; a block runs a few of them
BLOCK = 8
PASSES = {
    "min-max": {},
    "all estimators": {"histogram": True},
}
COST = ("resnet18", "mobilenet_v2", "bert_base")
MEMORY = ("unet", "chain", "resnet18")


def needs_of(model: ov.Model, settings: dict[str, Any]) -> dict[TensorId, Need]:
    """Ask for every activation that a convolution or a MatMul reads."""
    needs = {}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in ("Convolution", "GroupConvolution", "MatMul"):
            continue
        for value in node.input_values():
            producer = value.get_node()
            if producer.get_type_name() != "Constant":
                axis = -1 if kind == "MatMul" else 1
                needs[TensorId(producer.get_friendly_name(), value.get_index())] = Need(channel_axis=axis, **settings)
    return needs


def plain(model: ov.Model, feeds: list[dict[int, np.ndarray]]) -> Callable[[], None]:
    compiled = compile_model(model)
    return lambda: exhaust(infer_all(compiled, feeds))


def instrumented(model: ov.Model, feeds: list[dict[int, np.ndarray]], settings: dict[str, Any]) -> Callable[[], None]:
    needs = needs_of(model, settings)
    pieces, taps = tap(model, needs, sampled(needs, SAMPLES))
    instrumented = InPieces(pieces)
    groups = counting_groups(SAMPLES)
    totals = Totals(taps, groups)

    def run() -> None:
        for index, flat in enumerate(instrumented.outputs(feeds)):
            totals.add(taps.completed(flat), index, index % groups, str(index))

    return run


def exhaust(outputs: Iterable[object]) -> None:
    """Run all samples and drop their outputs."""
    deque(outputs, maxlen=0)


def inputs(model: ov.Model, count: int) -> list[dict[int, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{0: rng.standard_normal(tuple(model.inputs[0].shape), np.float32)} for _ in range(count)]


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Return the median CPU time a sample of each pass, and the median and quartiles of its ratio to plain."""
    model = getattr(networks, name)()
    feeds = inputs(model, BLOCK)
    runs = {"plain": plain(model, feeds)}
    runs |= {title: instrumented(model, feeds, settings) for title, settings in PASSES.items()}
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {title: [] for title in runs}
    for _ in range(rounds):
        for title, run in runs.items():
            start = time.process_time()
            run()
            times[title].append((time.process_time() - start) / BLOCK)
    found: dict[str, Any] = {"tensors": len(needs_of(model, {}))}
    base = np.array(times["plain"])
    for title, taken in times.items():
        quartiles = np.percentile(np.array(taken) / base, [25, 50, 75])
        found[title] = {
            "cpu_ms": round(float(np.median(taken)) * 1e3, 3),
            "cpu_ms_best": round(min(taken) * 1e3, 3),
            "ratio_quartiles": [round(float(q), 3) for q in quartiles],
            "ratio_of_best": round(min(taken) / float(base.min()), 3),
        }
    return found


def child(name: str, title: str) -> None:
    """Run a few samples in two streams and print this process's peak memory in MiB."""
    model = getattr(networks, name)()
    shape = tuple(model.inputs[0].shape)
    image = np.random.default_rng(0).standard_normal(shape, np.float32)
    if title == "plain":
        exhaust(infer_all(compile_model(model, streams=2), [{0: image}] * 3))
    else:
        collect(model, needs_of(model, PASSES[title]), [(str(i), str(i), (image,)) for i in range(3)], streams=2)
    # not getrusage: its peak is inherited from the process that started this one
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def peak(name: str, title: str) -> float:
    command = [sys.executable, __file__, "--child", name, title]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return round(float(done.stdout), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "statistics_cost.json")
    parser.add_argument("--again", action="store_true", help="measure what is on file too")
    parser.add_argument("--child", nargs=2, metavar=("NETWORK", "PASS"))
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    settings = {"rounds": arguments.rounds, "block": BLOCK}
    results = {} if arguments.again else record.on_file(arguments.output, settings)
    cost, memory = results.setdefault("cost", {}), results.setdefault("peak_memory_mib", {})
    for name in COST:
        if name not in cost:
            cost[name] = measure(name, arguments.rounds)
            record.write(arguments.output, settings, results)
    for name in MEMORY:
        if name not in memory:
            memory[name] = {title: peak(name, title) for title in ("plain", "min-max", "all estimators")}
            record.write(arguments.output, settings, results)
    print(f"{'network':<14}{'pass':<20}{'CPU ms':>9}{'ratio':>8}{'best':>8}")
    for name, rows in cost.items():
        for title in ("plain", *PASSES):
            row = rows[title]
            print(
                f"{name:<14}{title:<20}{row['cpu_ms']:>9.1f}{row['ratio_quartiles'][1]:>8.2f}{row['ratio_of_best']:>8.2f}"
            )
    print(f"\n{'peak memory':<14}" + "".join(f"{title:>18}" for title in ("plain", "min-max", "all estimators")))
    for name, row in memory.items():
        print(f"{name:<14}" + "".join(f"{value:>14.0f} MiB" for value in row.values()))


if __name__ == "__main__":
    main()
