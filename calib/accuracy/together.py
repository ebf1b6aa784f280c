"""Several budgets in one number: the largest share of its budget that a metric has lost, which may be 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calib.accuracy.budget import Budget
from calib.metrics.several import Several

# Unit of shares of budgets.
OF_THE_BUDGET = "× the budget"


@dataclass(frozen=True)
class SharedBudget(Budget):
    """The budgets of several metrics as one, which is kept where no share is over 1.

    Attributes:
        allowed: Budgets of all metrics, for sentences.
    """

    allowed: str = ""

    def text(self, drop: float) -> str:
        """Return a share in words; the whole of it are the budgets themselves."""
        return self.allowed if drop == self.max_drop else super().text(drop)


class Together:
    """Several metrics against FP32 as one, of which less is better.

    A part holds the part of each metric and those of FP32 for the same sample, so that the share over any samples is
    that against FP32 on the same ones: that of FP32 itself is 0.

    Args:
        metrics: Metrics, each with a part in that of a sample.
        budgets: Budget of each.
    """

    higher_is_better = False
    unit = OF_THE_BUDGET

    def __init__(self, metrics: Several, budgets: Sequence[Budget]):
        self.several, self.budgets = metrics, tuple(budgets)
        self.name, self.reads = metrics.name, metrics.reads
        self.needs_target, self.needs_reference = metrics.needs_target, metrics.needs_reference

    @property
    def budget(self) -> SharedBudget:
        """All budgets as one."""
        named = zip(self.several.metrics, self.budgets, strict=True)
        return shared_budget([f"{budget.text(budget.max_drop)} of {metric.name}" for metric, budget in named])

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> list[Any]:
        """Return the part of each metric, which `paired` joins with those of FP32."""
        return self.several.measure(outputs, target, reference)

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the largest share over these samples."""
        return max(
            share_of(budget, budget.drop(float(metric.aggregate(before)), float(metric.aggregate(after))))
            for (metric, before, after), budget in zip(self.apart(parts), self.budgets, strict=True)
        )

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None: a largest share is no mean over samples."""
        return None

    def apart(self, parts: Sequence[Any]) -> list[tuple[Any, list[Any], list[Any]]]:
        """Return each metric with the parts of FP32 and of the model."""
        return [
            (metric, [before[number] for _, before in parts], [after[number] for after, _ in parts])
            for number, metric in enumerate(self.several.metrics)
        ]


def paired(parts: Sequence[Any], baseline: Sequence[Any]) -> list[list[Any]]:
    """Return the parts of `Together` from those of a model and of FP32 for the same samples."""
    return [[after, before] for after, before in zip(parts, baseline, strict=True)]


def shared_budget(allowed: Sequence[str]) -> SharedBudget:
    """Return the budget of shares; ``allowed`` says that of each metric."""
    return SharedBudget(1.0, "absolute", higher_is_better=False, unit=OF_THE_BUDGET, allowed=" and ".join(allowed))


def share_of(budget: Budget, drop: float) -> float:
    """Return which share of a budget a drop is: at most 1 exactly where it fits, also where nothing may be lost."""
    if budget.max_drop == 0:
        return min(drop, 0.0) if budget.fits(drop) else 1 + drop
    share = drop / budget.max_drop
    return min(share, 1.0) if budget.fits(drop) else share
