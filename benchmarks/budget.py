"""Measure what it takes to keep an accuracy budget: calib, NNCF's accuracy control and a plain greedy loop.

The demo's validation images are split in two: searches see the control half, and the final drop is on the other half,
that no search saw. Images are in multiples of the control half. "calib minmax" starts from plain min-max, so that there
is something to revert, "calib" from what its default effort makes. Speed is CPU time of one thread, interleaved, over
FP32 in f32; "kept" is the share of the speed-up of everything in INT8 by the same tool.

    pip install -e '.[benchmark]'
    python benchmarks/budget.py [--problems mobilenet:0.01,vit:0.001] [--searches calib,nncf]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import record
from accuracy import hold_to_one_cpu, merged
from cases import CASES, Case, Reference
from searches import SEARCHES, Search, counted_compilations

from calib.runtime.executed import COMPUTING, executed_nodes
from calib.runtime.session import F32, compile_model, core, ov
from calib.runtime.timing import Candidate, time_models

PROBLEMS = "mobilenet:0.01,mobilenet:0.003,resnet:0.002,resnet:0.01,vit:0.001,vit:0.01,ppocr recognition:0.01"


def split(case: Case) -> tuple[Case, Case]:
    """Return the case with one random half of its validation samples, and with the other."""
    order = np.random.default_rng(0).permutation(len(case.validation))
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    first, second = (
        replace(
            case,
            validation=[case.validation[i] for i in half],
            targets=[case.targets[i] for i in half] if case.targets else None,
        )
        for half in halves
    )
    return first, second


def int8_layers(model: ov.Model) -> int:
    """Return how many computing nodes of the compiled model run in INT8."""
    kinds = COMPUTING - {"Subgraph"}  # of element-wise operations; NNCF quantizes some
    return sum(node.int8 for node in executed_nodes(compile_model(model)) if node.kind in kinds)


def measure(search: Search, control: Case, references: tuple[Reference, Reference], max_drop: float) -> dict[str, Any]:
    """Return one row and leave the timing to later."""
    everything = search.start(control)  # before the clock runs: it also loads what is imported late
    with counted_compilations() as compilations:
        wall, cpu = time.perf_counter(), time.process_time()
        found = search.run(control, references[0], max_drop)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        compiled = compilations[0]
    seen, unseen = (reference.score(found.model) for reference in references)
    return {
        "models": (everything, found.model),
        "row": {
            "within": found.within,
            "images": round(found.images / len(control.validation), 2),
            "compilations": compiled,
            "cpu_s": round(cpu, 2),
            "wall_s": round(wall, 2),
            "int8_layers": int8_layers(everything),
            "reverted": int8_layers(everything) - int8_layers(found.model),
            "start_drop": round(references[0].score(everything).drop, 5),
            "drop": round(seen.drop, 5),
            "unseen_drop": round(unseen.drop, 5),
            "unseen_interval": [round(unseen.interval.low, 5), round(unseen.interval.high, 5)]
            if unseen.interval
            else None,
        },
    }


def compare(case: Case, max_drop: float, names: list[str]) -> dict[str, Any]:
    """Return the rows of one network and budget by search."""
    control, unseen = split(case)
    references = Reference(control), Reference(unseen)
    rows: dict[str, Any] = {}
    models = [Candidate("f32", core().read_model(case.path), F32)]
    for name in names:
        try:
            found = measure(SEARCHES[name], control, references, max_drop)
        except Exception as error:  # a peer's failure is a result
            traceback.print_exc()
            rows[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
            continue
        rows[name] = found["row"]
        everything, kept = found["models"]
        models += [Candidate(f"{name} everything", everything, F32), Candidate(name, kept, F32)]
        print(case.name, max_drop, name, rows[name], file=sys.stderr, flush=True)
    times = time_models(models, [[feed] for feed in case.calibration[:4]], seconds=4.0)
    for name, row in rows.items():
        if "error" not in row:
            final, full = times.speedup(name), times.speedup(f"{name} everything")
            row |= {"speedup": round(final.value, 3), "speedup_everything": round(full.value, 3), "noisy": times.noisy}
    return rows


def markdown(problem: str, rows: dict[str, Any]) -> str:
    """Return one table."""
    lines = [
        f"### {problem}",
        "| | images, × set | compilations | CPU s | wall s | reverted | drop | unseen drop (95 %) | × f32 (all INT8) |",
        "|---|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for name, row in rows.items():
        if "error" in row:
            lines.append(f"| {name} | failed: {row['error'][:80]} | | | | | | | |")
            continue
        between = "({:+.4f} … {:+.4f})".format(*row["unseen_interval"]) if row["unseen_interval"] else ""
        kept = f"{row['drop']:+.4f}" + ("" if row["within"] else " over")
        lines.append(
            f"| {name} | {row['images']:.2f} | {row['compilations']} | {row['cpu_s']:.1f} | {row['wall_s']:.1f} "
            f"| {row['reverted']}/{row['int8_layers']} | {kept} | {row['unseen_drop']:+.4f} {between} "
            f"| {row['speedup']:.2f} ({row['speedup_everything']:.2f}) |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", default=PROBLEMS, help="CASE:MAX_DROP, with commas in between")
    parser.add_argument("--searches", default=",".join(SEARCHES))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "budget.json")
    arguments = parser.parse_args()
    hold_to_one_cpu()
    with tempfile.TemporaryDirectory() as folder:
        for problem in arguments.problems.split(","):
            name, _, max_drop = problem.partition(":")
            case = CASES[name](Path(folder))
            rows = compare(case, float(max_drop), arguments.searches.split(","))
            results = merged(arguments.output, {problem: rows})
            record.write(arguments.output, {"precision": "f32", "threads": 1}, results)
            print(markdown(problem, results[problem]), flush=True)


if __name__ == "__main__":
    main()
