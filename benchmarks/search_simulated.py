"""Count the images that the search takes, against a greedy loop, on networks with simulated errors.

    python benchmarks/search_simulated.py [--seeds 5] [--json FILE]

Both see the same ranking, data and budget. The greedy loop is what accuracy control usually is: evaluate everything in
INT8, then revert one unit at a time in the order of the ranking and evaluate again on all samples, until it fits. Its
ranking is given to it for free. Images are in multiples of the validation set and hold the FP32 pass and, for both, no
final pass: the last evaluation of the plan chosen was of the bytes that are saved.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from simulated_errors import KINDS, Fraction, SimulatedModel

from calib.accuracy.problem import bound_of
from calib.accuracy.search import search
from calib.values.version import __version__

BUDGET = 0.01
# 27 units and 1,250 samples: a wrong screening used to cost more than the allowance.
CASES = [(units, samples) for units in (16, 50) for samples in (400, 2000)] + [(27, 1250), (300, 600), (1000, 600)]


@dataclass(frozen=True)
class Row:
    """One strategy on one simulated network."""

    strategy: str
    kind: str
    units: int
    samples: int
    seed: int
    images: float
    evaluations: int
    compilations: int
    reverted: int
    drop: float
    within: bool
    bound: int | None = None


def run_search(model: SimulatedModel, kind: str, units: int, samples: int, seed: int) -> Row:
    result = search(model.problem(BUDGET))
    return Row(
        "calib",
        kind,
        units,
        samples,
        seed,
        result.images_evaluated / samples,
        result.evaluations,
        result.compilations,
        len(result.reverted),  # each unit is one layer
        result.figure.drop if result.figure else float("nan"),
        result.status == "within_budget",
        bound_of(model.problem(BUDGET)),
    )


def run_greedy(model: SimulatedModel, kind: str, units: int, samples: int, seed: int) -> Row:
    everything = np.arange(samples)
    baseline = Fraction().aggregate(model.baseline_parts())
    reverted: frozenset[str] = frozenset()
    drops: list[float] = []
    for unit in (None, *model.ranking()[:-1]):
        reverted = reverted | unit.layers if unit else reverted
        drops.append(baseline - Fraction().aggregate(model.evaluate(reverted, everything)))
        if drops[-1] <= BUDGET:
            break
    count = len(drops)
    return Row(
        "greedy", kind, units, samples, seed, 1.0 + count, count, count, len(reverted), drops[-1], drops[-1] <= BUDGET
    )


STRATEGIES: tuple[Callable[[SimulatedModel, str, int, int, int], Row], ...] = (run_search, run_greedy)


def summary(rows: list[Row]) -> dict[str, object]:
    """Return one cell of the table: means over the seeds, and the worst number of images."""
    first = rows[0]
    return {
        "strategy": first.strategy,
        "errors": first.kind,
        "units": first.units,
        "samples": first.samples,
        "seeds": len(rows),
        "images": round(mean(r.images for r in rows), 3),
        "images_worst": max(r.images for r in rows),
        "evaluations": round(mean(r.evaluations for r in rows), 2),
        "evaluations_worst": max(r.evaluations for r in rows),
        "bound": first.bound,
        "compilations": round(mean(r.compilations for r in rows), 2),
        "reverted": round(mean(r.reverted for r in rows), 2),
        "drop": round(mean(r.drop for r in rows), 5),
        "kept": sum(r.within for r in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows here; - for stdout instead of the table")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    table = sys.stderr if str(options.json) == "-" else sys.stdout
    print(f"{'units':>5} {'N':>5}  {'errors':<16}" + "".join(f"{s:>40}" for s in ("calib", "greedy")), file=table)
    print(f"{'':>29}" + f"{'images/N  worst  compil.  reverted  kept':>40}" * 2, file=table)
    for units, samples in CASES:
        for kind, make in KINDS.items():
            # A thousand layers need memory: a third of the seeds says enough there.
            seeds = range(options.seeds if units <= 50 else max(1, options.seeds // 3))
            models = [(make(units, samples, seed), seed) for seed in seeds]
            cells = ""
            for strategy in STRATEGIES:
                if strategy is run_greedy and units > 50 and kind in ("nothing fits", "non-monotone", "coherent"):
                    cells += f"{'(hundreds of evaluations, left out)':>40}"
                    continue
                cell = summary([strategy(model, kind, units, samples, seed) for model, seed in models])
                rows.append(cell)
                cells += (
                    f"{cell['images']:>10.2f} {cell['images_worst']:>6.2f} {cell['compilations']:>8.1f} "
                    f"{cell['reverted']:>9.1f} {cell['kept']:>2}/{cell['seeds']}"
                )
            print(f"{units:>5} {samples:>5}  {kind:<16}{cells}", flush=True, file=table)
    if options.json:
        report = {
            "question": "images evaluated by the search against a greedy loop, simulated errors",
            "machine": platform.processor() or platform.machine(),
            "versions": {"python": platform.python_version(), "numpy": np.__version__, "calib": __version__},
            "budget": BUDGET,
        }
        # One row a line: readable as a table, and small as a change.
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        text = json.dumps({**report, "rows": []}, indent=1).replace('"rows": []', f'"rows": [\n  {lines}\n ]')
        if str(options.json) == "-":
            sys.stdout.write(text + "\n")
        else:
            options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
