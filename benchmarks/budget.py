"""Measure what it takes to keep an accuracy budget: calib, NNCF's accuracy control and a plain greedy loop.

The demo's validation images are split in two: searches see the control half, and the final drop is on the other half,
that no search saw. EfficientNet-Lite0, PP-OCR and the face come without labels: their metrics hold them against FP32. A
problem is CASE:MAX_DROP, or CASE/METRIC:MAX_DROP for another metric; where everything in INT8 keeps the budget there is
no search. Of the layers that calib reverted each is tried on its own: "could" is how many could be quantized within the
budget all the same (that takes time, which is in its CPU seconds, but no image is counted). Images are
in multiples of the control half, those that only ranked calib's layers (8 calibration samples a unit) in brackets: a
small control half makes much of them. "calib minmax" starts from plain min-max, so that there is something to revert,
"calib" from what its default effort makes. Speed is CPU time of one thread, interleaved, over FP32 in f32; in brackets
that of everything in INT8 by the same tool. A row is written as it is measured, and one on file is not measured again.

    pip install -e '.[benchmark]'
    python benchmarks/budget.py [--problems mobilenet:0.01,vit:0.001] [--searches calib,nncf]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import record
from accuracy import hold_to_one_cpu, merged, on_file
from cases import CASES, Case, Reference, arrays_of, metric_named
from searches import SEARCHES, Search, counted_compilations

from calib.runtime.executed import COMPUTING, executed_nodes
from calib.runtime.session import F32, compile_model, core, ov
from calib.runtime.timing import TimedModel, time_models

PROBLEMS = (
    "mobilenet:0.01,mobilenet:0.003,resnet:0.002,resnet:0.01,vit:0.001,ppocr recognition:0.02,efficientnet-lite0:0.05,"
    "mobilenet:0,mobilenet/relative-l2:0.1,mobilenet/relative-l2:0.3,ppocr detection:0,ppocr detection:0.01,"
    "ppocr detection:0.03,ppocr detection:0.05,ppocr recognition:0,ppocr recognition:0.005,"
    "face landmarks:0.001,face landmarks:0.003"
)


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
    """Return one row."""
    everything = search.start(control)  # before the clock runs: it also loads what is imported late
    with counted_compilations() as compilations:
        wall, cpu = time.perf_counter(), time.process_time()
        found = search.run(control, references[0], max_drop)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        compiled = compilations[0]
    seen, unseen = (reference.score(found.model) for reference in references)
    quantized = int8_layers(everything)
    models = [TimedModel("f32", core().read_model(control.path), F32)]
    models += [TimedModel("everything", everything, F32), TimedModel("kept", found.model, F32)]
    times = time_models(models, [arrays_of(feed) for feed in control.calibration[:4]], seconds=4.0)
    return {
        "within": found.within,
        "images": round(found.images / len(control.validation), 2),
        "ranking": None if found.ranking is None else round(found.ranking / len(control.validation), 2),
        "compilations": compiled,
        "cpu_s": round(cpu, 2),
        "wall_s": round(wall, 2),
        "int8_layers": quantized,
        "reverted": quantized - int8_layers(found.model),
        "start_drop": round(references[0].score(everything).drop, 5),
        "drop": round(seen.drop, 5),
        "used": round(seen.drop / max_drop, 3) if max_drop and found.within else None,
        "could": found.could,
        "unseen_drop": round(unseen.drop, 5),
        "unseen_interval": [round(unseen.interval.low, 5), round(unseen.interval.high, 5)] if unseen.interval else None,
        "speedup": round(times.speedup("kept").value, 3),
        "speedup_everything": round(times.speedup("everything").value, 3),
        "noisy": times.noisy,
    }


def compare(case: Case, max_drop: float, names: list[str], keep: Callable[[str, dict[str, Any]], None]) -> None:
    """Measure one network and budget with each search, and hand over every row as it is known."""
    control, unseen = split(case)
    references = Reference(control), Reference(unseen)
    for name in names:
        try:
            row = measure(SEARCHES[name], control, references, max_drop)
        except Exception as error:  # a peer's failure is a result
            traceback.print_exc()
            row = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(case.name, max_drop, name, row, file=sys.stderr, flush=True)
        keep(name, row)


def markdown(problem: str, rows: dict[str, Any]) -> str:
    """Return one table."""
    lines = [
        f"### {problem}",
        "| | images, × set (ranking) | compilations | CPU s | wall s | reverted (could) | drop | used "
        "| unseen drop (95 %) | × f32 (all INT8) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for name, row in rows.items():
        if "error" in row:
            lines.append(f"| {name} | failed: {row['error'][:80]} | | | | | | | | |")
            continue
        between = "({:+.4f} … {:+.4f})".format(*row["unseen_interval"]) if row["unseen_interval"] else ""
        images = f"{row['images']:.2f}" + (f" ({row['ranking']:.2f})" if row.get("ranking") is not None else "")
        could = f" ({row['could']})" if row.get("could") is not None else ""
        used = f"{100 * row['used']:.0f} %" if row.get("used") is not None else ""
        kept = f"{row['drop']:+.4f}" + ("" if row["within"] else " over")
        lines.append(
            f"| {name} | {images} | {row['compilations']} | {row['cpu_s']:.1f} | {row['wall_s']:.1f} "
            f"| {row['reverted']}/{row['int8_layers']}{could} | {kept} | {used} | {row['unseen_drop']:+.4f} {between} "
            f"| {row['speedup']:.2f} ({row['speedup_everything']:.2f}) |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", default=PROBLEMS, help="CASE:MAX_DROP, with commas in between")
    parser.add_argument("--searches", default=",".join(SEARCHES))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "budget.json")
    parser.add_argument("--again", action="store_true", help="measure rows that are on file already too")
    arguments = parser.parse_args()
    hold_to_one_cpu()
    with tempfile.TemporaryDirectory() as folder:
        for problem in arguments.problems.split(","):
            known = {} if arguments.again else on_file(arguments.output).get(problem, {})
            names = [name for name in arguments.searches.split(",") if name not in known]

            def keep(name: str, row: dict[str, Any], problem: str = problem) -> None:
                results = merged(arguments.output, {problem: {name: row}})
                record.write(arguments.output, {"precision": "f32", "threads": 1}, results)

            if names:
                name, _, max_drop = problem.partition(":")
                name, _, metric = name.partition("/")
                case = CASES[name](Path(folder))
                if metric:
                    targets = case.targets if metric_named(metric).needs_target else None
                    case = replace(case, metric=metric_named(metric), targets=targets)
                compare(case, float(max_drop), names, keep)
            print(markdown(problem, on_file(arguments.output)[problem]), flush=True)


if __name__ == "__main__":
    main()
