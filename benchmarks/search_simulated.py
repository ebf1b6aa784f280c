"""Count the images that the search takes, against a greedy loop, on networks with simulated errors.

    python benchmarks/search_simulated.py [--seeds 5] [--first 2000] [--json FILE]

Both see the same ranking, data and budget. The greedy loop is what accuracy control usually is: evaluate everything in
INT8, then revert one unit at a time in the order of the ranking and evaluate again on all samples, until it fits. Its
ranking is given to it for free. Images are in multiples of the validation set and hold the FP32 pass and, for both, no
final pass: the last evaluation of the plan chosen was of the bytes that are saved.

The second table is of budgets (0, as small as the noise, small, generous) and of metrics that a search sees
differently: with margins, label-free without margins, no mean over samples, a function over the whole set. "more" is
how many networks gave back more units than the loop, "used" the share of the budget, "idle" how many used less than
60 % of it while a single unit could still be quantized within it, which is tried for each, outside the account.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TextIO

import numpy as np
from simulated_errors import KINDS, SimulatedModel

from calib.accuracy.budget import Budget
from calib.accuracy.problem import Problem, bound_of
from calib.accuracy.search import search
from calib.values.version import __version__

BUDGET = 0.01
# 27 units and 1,250 samples: a wrong screening used to cost more than the allowance.
BUDGETS: dict[str, tuple[float | str, ...]] = {  # a text is a share of what everything in INT8 loses
    "top-1": (0.0, 0.002, 0.01, 0.05),
    "relative error": ("0.02", "0.1", "0.3", "0.7"),
    "recall": (0.0, 0.002, 0.01, 0.05),
    "whole set": (0.0, 0.002, 0.01, 0.05),
}
BUDGET_CASES = [(50, 40), (50, 150), (30, 600), (16, 400)]
BUDGET_KINDS = ("additive", "coherent", "non-monotone", "noisy")
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


def greedy(model: SimulatedModel, problem: Problem) -> tuple[int, frozenset[str], float]:
    """Return how many plans the loop evaluated, the last of them and its drop."""
    indices = problem.search_indices
    baseline, reverted, drop = problem.baseline(indices), frozenset[str](), float("inf")
    count = 0
    for unit in (None, *model.ranking()[:-1]):
        reverted, count = reverted | unit.layers if unit else reverted, count + 1
        drop = problem.budget.drop(baseline, problem.metric.aggregate(problem.evaluate(reverted, indices)))
        if problem.budget.fits(drop):
            break
    return count, reverted, drop


def run_greedy(model: SimulatedModel, kind: str, units: int, samples: int, seed: int) -> Row:
    problem = model.problem(BUDGET)
    count, reverted, drop = greedy(model, problem)
    kept = problem.budget.fits(drop)
    return Row("greedy", kind, units, samples, seed, 1.0 + count, count, count, len(reverted), drop, kept)


def use(metric: str, budget: float | str, model: SimulatedModel) -> dict[str, float]:
    """Return how the search uses a budget, and how the greedy loop does."""
    problem = model.problem(1.0, metric=metric)
    indices = problem.search_indices

    def drop_of(plan: frozenset[str]) -> float:
        value = problem.metric.aggregate(problem.evaluate(plan, indices))
        return problem.budget.drop(problem.baseline(indices), float(value))

    allowed = budget if isinstance(budget, float) else max(float(budget) * drop_of(frozenset()), 0.0)
    problem = replace(problem, budget=Budget(allowed))
    result, (_, loop, loop_drop) = search(problem), greedy(model, problem)
    within, drop = result.status == "within_budget", drop_of(result.reverted)
    used = drop / allowed if allowed else float("nan")
    returned = (drop_of(result.reverted - unit) for unit in problem.units if unit <= result.reverted)
    idle = within and not used >= 0.6 and any(problem.budget.fits(found) for found in returned)
    kept = problem.budget.fits(loop_drop)
    return {
        "kept": within,
        "kept_greedy": kept,
        "reverted": len(result.reverted),
        "reverted_greedy": len(loop),
        "more": kept and (not within or len(result.reverted) > len(loop)),
        "used": used,
        "idle": idle,
        "images": result.images_evaluated / len(problem.baseline_parts),
        "evaluations": result.evaluations,
    }


def budgets(seeds: range, table: TextIO) -> list[dict[str, object]]:
    """Return the rows of the second table: sums over kinds and seeds, means of reverted, used and images."""
    rows: list[dict[str, object]] = []
    print(
        f"\n{'metric':<15}{'units':>5} {'N':>4} {'budget':>7}   kept (loop)  reverted (loop)  more", end="", file=table
    )
    print("  used  idle  images  worst", file=table)
    for metric, amounts in BUDGETS.items():
        for units, samples in BUDGET_CASES:
            models = [KINDS[kind](units, samples, seed) for kind in BUDGET_KINDS for seed in seeds]
            for budget in amounts:
                found = [use(metric, budget, model) for model in models]
                used = [row["used"] for row in found if row["kept"] and np.isfinite(row["used"])]
                cell = {"metric": metric, "units": units, "samples": samples, "budget": budget, "networks": len(found)}
                cell |= {name: int(sum(row[name] for row in found)) for name in ("kept", "kept_greedy", "more", "idle")}
                names = ("reverted", "reverted_greedy", "images")
                cell |= {name: round(mean(row[name] for row in found), 2) for name in names}
                cell |= {"used": round(mean(used), 2) if used else None}
                cell |= {f"{name}_worst": max(row[name] for row in found) for name in ("images", "evaluations")}
                rows.append(cell)
                print(
                    f"{metric:<15}{units:>5} {samples:>4} {budget!s:>7} {cell['kept']:>6} ({cell['kept_greedy']:>2}) of"
                    f" {len(found)} {cell['reverted']:>6} ({cell['reverted_greedy']:>5}) {cell['more']:>8}"
                    f" {cell['used'] or '':>5} {cell['idle']:>5} {cell['images']:>7} {cell['images_worst']:>6.2f}",
                    flush=True,
                    file=table,
                )
    return rows


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
    parser.add_argument("--first", type=int, default=2000, help="first seed; nothing was chosen on 2000 and above")
    parser.add_argument("--json", type=Path, help="write the rows here; - for stdout instead of the table")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    table = sys.stderr if str(options.json) == "-" else sys.stdout
    print(f"{'units':>5} {'N':>5}  {'errors':<16}" + "".join(f"{s:>40}" for s in ("calib", "greedy")), file=table)
    print(f"{'':>29}" + f"{'images/N  worst  compil.  reverted  kept':>40}" * 2, file=table)
    for units, samples in CASES:
        for kind, make in KINDS.items():
            # A thousand layers need memory: a third of the seeds says enough there.
            count = options.seeds if units <= 50 else max(1, options.seeds // 3)
            models = [(make(units, samples, options.first + i), options.first + i) for i in range(count)]
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
    used = budgets(range(options.first, options.first + options.seeds), table)
    if options.json:
        report = {
            "question": "images evaluated by the search against a greedy loop, simulated errors",
            "machine": platform.processor() or platform.machine(),
            "versions": {"python": platform.python_version(), "numpy": np.__version__, "calib": __version__},
            "budget": BUDGET,
            "first seed": options.first,
        }
        # One row a line: readable as a table, and small as a change.
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        more = ",\n  ".join(json.dumps(row) for row in used)
        text = json.dumps({**report, "rows": [], "budgets": []}, indent=1)
        text = text.replace('"rows": []', f'"rows": [\n  {lines}\n ]').replace(
            '"budgets": []', f'"budgets": [\n  {more}\n ]'
        )
        if str(options.json) == "-":
            sys.stdout.write(text + "\n")
        else:
            options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
