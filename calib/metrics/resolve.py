"""Resolve a metric from a name, a function or an object."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from calib.errors import MetricError, UsageError
from calib.metrics import METRICS
from calib.metrics.label_free import is_class_scores
from calib.metrics.metric import Metric
from calib.metrics.several import Several
from calib.metrics.whole_set import WholeSetMetric
from calib.python_object import PREFIX, load_object, names_code, refusal
from calib.values.options import options_in

Outputs = Sequence[tuple[Sequence[int | None], np.dtype[Any]]]


def resolve_metrics(
    metric: Any = None,
    *,
    higher_is_better: bool | None = None,
    outputs: Outputs | None = None,
    allow_python: bool = True,
    place: str = "",
) -> Metric | WholeSetMetric | Several:
    """Return the metric, or several where a list is given; for the arguments see `resolve_metric`.

    ``higher_is_better`` is that of metrics of one's own where there are several.

    Raises:
        UsageError: One of several is a function over the whole set, which runs the model itself, or what
            `resolve_metric` and `Several` refuse.
    """
    rest: dict[str, Any] = {"outputs": outputs, "allow_python": allow_python, "place": place}
    if not isinstance(metric, list | tuple):
        return resolve_metric(metric, higher_is_better=higher_is_better, **rest)
    given = cast(Sequence[Any], metric)
    if len(given) == 1:
        return resolve_metric(given[0], higher_is_better=higher_is_better, **rest)
    found: list[Metric] = []
    for one in given:
        own = not isinstance(one, str) or names_code(one)
        made = resolve_metric(one, higher_is_better=higher_is_better if own else None, **rest)
        if isinstance(made, WholeSetMetric):
            raise UsageError(
                f"the metric {made.name} is a function that runs the model over samples of its own, and can't be "
                "measured together with others: give it alone, or an object with measure and aggregate"
            )
        found.append(made)
    return Several(found)


def resolve_metric(
    metric: Any = None,
    *,
    higher_is_better: bool | None = None,
    outputs: Outputs | None = None,
    allow_python: bool = True,
    place: str = "",
) -> Metric | WholeSetMetric:
    """Return the metric given by a name, an object or a function.

    Args:
        metric: Name in the table, with options as ``?key=value``; ``python:module:function``; a Metric; a function
            ``evaluate(predict)``; or None for a label-free metric. Modules, and files in options, are looked for in the
            working folder.
        higher_is_better: Direction of a metric that does not declare one. By contract a function object is a score
            (higher is better) unless this, or its own attribute ``higher_is_better``, says otherwise.
        outputs: Shape and dtype of each output of the model. They decide what None stands for: ``agreement`` if the
            only output holds class scores, else ``relative-l2``.
        allow_python: Whether ``python:module:function`` may run.
        place: File and key that name the metric, for messages; "" if it is an argument.

    Raises:
        MetricError: The name is unknown.
        UsageError: The direction is missing or contradicts the metric's own, the object is not a metric, or it would
            run code and may not.
        MissingExtraError: The metric needs a package that is not installed.
    """
    if metric is None:
        return _built_in(_label_free(outputs))
    if isinstance(metric, str):
        if not names_code(metric):
            return _agreeing(_built_in(metric), higher_is_better)
        if not allow_python:
            raise UsageError(f"{place}: {refusal(metric)}" if place else refusal(metric))
        loaded = load_object(metric.removeprefix(PREFIX), metric, Path())
        return _from_object(loaded, higher_is_better, metric)
    if higher_is_better is None and not hasattr(metric, "measure"):
        higher_is_better = getattr(metric, "higher_is_better", True)
    return _from_object(metric, higher_is_better, getattr(metric, "name", ""))


def _label_free(outputs: Outputs | None) -> str:
    return "agreement" if outputs and len(outputs) == 1 and is_class_scores(*outputs[0]) else "relative-l2"


def _built_in(text: str) -> Metric:
    name, _, query = text.partition("?")
    row = METRICS.get(name)
    if row is None:
        close = difflib.get_close_matches(name.lower().replace("_", "-"), METRICS, 3, 0.5)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise MetricError(
            f"there is no metric {name!r}. {hint}Metrics: {', '.join(METRICS)}; or python:module:function"
        )
    pairs = options_in(query) if query else []
    options = dict(pairs)
    if len(pairs) > len(options):
        raise UsageError(f"metric {text}: an option is given twice. Give each of {', '.join(options)} once")
    if unknown := sorted(set(options) - set(row.options)):
        allowed = ", ".join(f"?{key}=" for key in row.options) or "none"
        near = difflib.get_close_matches(unknown[0], row.options, 1)
        hint = f" (did you mean ?{near[0]}=?)" if near else ""
        raise UsageError(f"metric {text}: {name} has no option {unknown[0]!r}{hint}; its options: {allowed}")
    module, _, maker = row.maker.partition(":")
    return getattr(importlib.import_module(module), maker)(**row.arguments, **options)


def _from_object(found: Any, higher_is_better: bool | None, name: str) -> Metric | WholeSetMetric:
    if isinstance(found, WholeSetMetric):
        return _agreeing(found, higher_is_better)
    made = found() if isinstance(found, type) and hasattr(found, "measure") else found
    if hasattr(made, "measure") and hasattr(made, "aggregate"):
        _check_declared(made, name)
        return _agreeing(made, higher_is_better)
    if not callable(made):
        raise UsageError(
            f"metric {name or made!r}: neither a name, nor a function evaluate(predict), nor an object with "
            "measure and aggregate"
        )
    direction = getattr(made, "higher_is_better", None) if higher_is_better is None else higher_is_better
    if direction is None:
        raise UsageError(
            f"metric {name}: say which way is better, --higher-is-better or --lower-is-better (in Python: "
            "higher_is_better=True or False, or set it as an attribute of the function)"
        )
    return WholeSetMetric(made, bool(direction), name)


def _check_declared(metric: Any, name: str) -> None:
    needed = ("name", "higher_is_better", "unit", "reads", "needs_target", "needs_reference", "per_sample")
    if missing := [key for key in needed if not hasattr(metric, key)]:
        raise UsageError(
            f"metric {name or type(metric).__name__}: has no {', '.join(missing)}; see calib.metrics.metric"
        )


def _agreeing(metric: Any, higher_is_better: bool | None) -> Any:
    if higher_is_better is not None and bool(metric.higher_is_better) != higher_is_better:
        right = "higher" if metric.higher_is_better else "lower"
        raise UsageError(f"metric {metric.name}: {right} is better for it; leave the direction out")
    return metric
