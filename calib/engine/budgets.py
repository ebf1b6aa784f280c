"""The budget of each metric, from the settings or from a report."""

from __future__ import annotations

import sys
from typing import Any

from calib.accuracy.budget import Budget
from calib.accuracy.together import shared_budget
from calib.config.settings import Settings
from calib.config.types import AllowedDrop
from calib.errors import UsageError
from calib.metrics.several import Several
from calib.values.accuracy_facts import AccuracyFacts
from calib.values.drops import drop_text


def budgets_of(settings: Settings, metric: Any) -> tuple[Budget, ...]:
    """Return the budget of each metric; without any everything is allowed: drops are measured, nothing is reverted.

    Args:
        settings: Settings of the run.
        metric: Metric, or several.

    Raises:
        UsageError: A metric has no budget while another has one, a budget is of no metric, or it is in percentage
            points and the metric is no fraction.
    """
    metrics = metric.metrics if isinstance(metric, Several) else (metric,)
    allowed = dict(settings.allowed_drops)
    if not allowed:
        everything = AllowedDrop(sys.float_info.max, "absolute")
        return tuple(_budget(settings, one, everything) for one in metrics)
    if "" in allowed and len(metrics) == 1:
        return (_budget(settings, metrics[0], allowed[""]),)
    _check_names(settings, [one.name for one in metrics], list(allowed))
    return tuple(_budget(settings, one, allowed[one.name]) for one in metrics)


def references_of(settings: Settings, metric: Any) -> dict[str, float]:
    """Return the published value by name of those metrics that have one.

    Raises:
        UsageError: One is of no metric that is measured, or does not say of which of several.
    """
    names = [one.name for one in (metric.metrics if isinstance(metric, Several) else (metric,))]
    given = settings.references
    if list(given) == [""]:
        if len(names) > 1:
            example = f"--reference {names[0]}={settings.reference}"
            raise UsageError(
                f"reference {settings.reference} does not say which of {', '.join(names)} it is of: {example}"
            )
        return {names[0]: given[""]}
    if unknown := [name for name in given if name not in names]:
        listed = f"the metric{'s' * (len(names) > 1)} measured: {', '.join(names)}"
        raise UsageError(f"reference has a value of {unknown[0]!r}, which is not measured; {listed}")
    return given


def _check_names(settings: Settings, names: list[str], allowed: list[str]) -> None:
    """Refuse budgets that are not one for each metric."""
    example = ",".join(f"{name}={settings.max_drop if allowed == [''] else '0.01'}" for name in names)
    way_out = f"give one for each: --max-drop {example} (in Python a dict)"
    if allowed == [""]:
        raise UsageError(f"max_drop {settings.max_drop} does not say which of {', '.join(names)} it is for: {way_out}")
    if unknown := [name for name in allowed if name not in names]:
        listed = f"the metric{'s' * (len(names) > 1)} measured: {', '.join(names)}"
        raise UsageError(f"max_drop has a budget for {unknown[0]!r}, which is not measured; {listed}")
    if missing := [name for name in names if name not in allowed]:
        raise UsageError(f"max_drop has no budget for the metric {missing[0]}: {way_out}")


def _budget(settings: Settings, metric: Any, allowed: AllowedDrop) -> Budget:
    if allowed.points and metric.unit != "fraction":
        raise UsageError(
            f"max_drop {settings.max_drop} is in percentage points, and the metric {metric.name} is no fraction but in "
            f"{metric.unit!r}: give a number in that unit, or a share of the FP32 baseline such as 1%rel"
        )
    return Budget(allowed.value, allowed.kind, metric.higher_is_better, metric.unit)


def budget_in(accuracy: AccuracyFacts) -> Budget | None:
    """Return the budget of a report; None without one."""
    if accuracy.budget is None:
        return None
    if accuracy.each:
        return shared_budget(
            [f"{drop_text(one.drop_kind, one.unit, one.budget or 0.0)} of {one.metric}" for one in accuracy.each]
        )
    return Budget(accuracy.budget, accuracy.drop_kind, accuracy.higher_is_better, accuracy.unit)
