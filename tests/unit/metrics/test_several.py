"""Several metrics at once: each sees the same outputs, and what can't be measured together is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from calib.errors import UsageError
from calib.metrics.resolve import resolve_metric, resolve_metrics
from calib.metrics.several import Several, each_of
from calib.metrics.whole_set import WholeSetMetric

RANDOM = np.random.default_rng(0)
SAMPLES = [(RANDOM.normal(size=(1, 4)).astype(np.float32), int(label)) for label in RANDOM.integers(4, size=20)]


def value(metric: Any) -> float:
    return float(metric.aggregate([metric.measure([scores], label) for scores, label in SAMPLES]))


def test_each_metric_is_what_it_is_alone_and_the_first_one_stands_for_all():
    several = resolve_metrics(["top-1", "f1"])
    assert isinstance(several, Several) and several.name == "top-1, f1"
    parts = [several.measure([scores], label) for scores, label in SAMPLES]
    found = {metric.name: metric.aggregate(own) for metric, own in each_of(several, parts)}
    assert found == {name: value(resolve_metric(name)) for name in ("top-1", "f1")}
    assert several.aggregate(parts) == found["top-1"] and found["top-1"] != found["f1"]
    assert several.per_sample(parts).mean() == pytest.approx(found["top-1"])


def test_a_metric_alone_stays_itself():
    assert not isinstance(resolve_metrics(["top-1"]), Several)
    (only,) = each_of(resolve_metric("f1"), [1, 2])
    assert only[1] == [1, 2]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["top-1", "f1", "top-1"], "the metric top-1 is given twice"),
        (["agreement", "top-1"], "the metric agreement compares outputs .* top-1 .* can't be measured together"),
    ],
)
def test_metrics_that_do_not_go_together_are_refused(names: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        resolve_metrics(names)


def test_a_function_over_the_whole_set_is_measured_alone():
    def own(predict: Callable[..., Any]) -> float:
        return 0.0

    assert isinstance(resolve_metrics([own]), WholeSetMetric)
    with pytest.raises(UsageError, match="runs the model over samples of its own"):
        resolve_metrics(["top-1", own])


def test_the_direction_is_that_of_ones_own_metric_and_not_of_those_in_the_table():
    own = resolve_metric("mse")
    found = resolve_metrics(["top-1", own], higher_is_better=False)
    assert isinstance(found, Several) and [one.higher_is_better for one in found.metrics] == [True, False]


def test_what_outputs_are_decoded_to_is_one_thing_for_all():
    several = resolve_metrics(["top-1", "f1"])
    assert several.takes == "scores" and not hasattr(resolve_metrics(["mae", "mse"]), "takes")
    with pytest.raises(UsageError, match=r"top-1 takes scores and mean-iou takes class map.*in two runs"):
        resolve_metrics(["top-1", "mean-iou"])
