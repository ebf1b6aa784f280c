"""From what a user calls a metric to a metric.

covers: calib.metrics.whole_set
"""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError, UsageError
from calib.metrics.classification import TopK
from calib.metrics.resolve import resolve_metric
from calib.metrics.whole_set import WholeSetMetric

F32 = np.dtype(np.float32)


def test_names_options_and_close_ones():
    assert resolve_metric("top-5").name == "top-5"
    with pytest.raises(MetricError, match="Did you mean top-1"):
        resolve_metric("top1")
    with pytest.raises(MetricError, match=r"no metric 'zzz'\. Metrics: top-1"):
        resolve_metric("zzz")
    with pytest.raises(UsageError, match=r"an option is given twice\. Give each of overlap once"):
        resolve_metric("voc-map?overlap=.5&overlap=.75")
    with pytest.raises(UsageError, match=r"no option 'overlaps' \(did you mean \?overlap=\?\)"):
        resolve_metric("voc-map?overlaps=.5")


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        ([((1, 10), F32)], "agreement"),
        ([((1, 10), F32), ((1, 10), F32)], "relative-l2"),
        ([((1, 3, 8, 8), F32)], "relative-l2"),
        (None, "relative-l2"),
    ],
)
def test_without_a_metric_the_outputs_decide(outputs, name):
    assert resolve_metric(None, outputs=outputs).name == name


def test_a_built_in_metric_keeps_its_direction():
    assert resolve_metric("mae", higher_is_better=False).higher_is_better is False
    with pytest.raises(UsageError, match="lower is better for it"):
        resolve_metric("mae", higher_is_better=True)


CODE = """
class Mine:
    name, higher_is_better, unit, reads = "mine", False, "x", "y"
    needs_target = needs_reference = False
    def measure(self, outputs, target, reference=None): return 1.0
    def aggregate(self, parts): return 1.0
    def per_sample(self, parts): return None
def plain(predict): return 0.5
def declared(predict): return 0.5
declared.higher_is_better = False
OBJECT = Mine()
HALF = type("Half", (), {"measure": 1, "aggregate": 1})()
NUMBER = 5
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "metrics_for_test.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)


def test_python_functions_have_to_declare_a_direction(folder):
    with pytest.raises(UsageError, match="--higher-is-better or --lower-is-better"):
        resolve_metric("python:metrics_for_test:plain")
    metric = resolve_metric("python:metrics_for_test:plain", higher_is_better=False)
    assert isinstance(metric, WholeSetMetric) and not metric.higher_is_better
    assert metric.name == "python:metrics_for_test:plain"
    assert not resolve_metric("python:metrics_for_test:declared").higher_is_better


@pytest.mark.parametrize("name", ["Mine", "OBJECT"])
def test_python_metrics_may_be_classes_or_objects(folder, name):
    assert resolve_metric(f"python:metrics_for_test:{name}").name == "mine"


def test_what_is_no_metric_is_refused(folder):
    with pytest.raises(UsageError, match="neither a name"):
        resolve_metric("python:metrics_for_test:NUMBER", higher_is_better=True)
    with pytest.raises(UsageError, match="has no name, higher_is_better"):
        resolve_metric("python:metrics_for_test:HALF")
    with pytest.raises(UsageError, match="has no 'nothing'"):
        resolve_metric("python:metrics_for_test:nothing")
    with pytest.raises(UsageError, match="neither a name"):
        resolve_metric(5)


def test_python_text_from_elsewhere_runs_nothing(folder):
    with pytest.raises(UsageError, match=r"^c\.yaml: line 3: metric: python:metrics_for_test:plain runs code"):
        resolve_metric("python:metrics_for_test:plain", allow_python=False, place="c.yaml: line 3: metric")


def test_objects_given_in_python():
    top = TopK(1)
    assert resolve_metric(top) is top
    assert resolve_metric(lambda predict: 1.0).higher_is_better is True
    assert resolve_metric(lambda predict: 1.0, higher_is_better=False).higher_is_better is False


def test_a_function_over_the_whole_set_gives_a_value_and_maybe_scores():
    def scored(predict):
        return 0.5, [predict(np.ones(2))[0].sum(), 0.0]

    value, scores = WholeSetMetric(scored, True).evaluate(lambda feed: [feed])
    assert value == 0.5 and scores.tolist() == [2.0, 0.0]
    assert WholeSetMetric(lambda predict: np.float32(0.25), True).evaluate(lambda feed: [feed]) == (0.25, None)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("text", "return a float"),
        (None, "return a float"),
        (np.nan, "finite"),
        ((1.0, [np.nan]), "finite"),
        ((1.0, ["a"]), "no numbers"),
    ],
)
def test_a_function_that_returns_something_else_is_refused(result, message):
    with pytest.raises(MetricError, match=message):
        WholeSetMetric(lambda predict: result, True, "mine").evaluate(lambda feed: [feed])


def test_a_function_that_raises_is_told_with_the_number_of_calls():
    def broken(predict):
        for i in range(10):
            predict(np.ones(1))
            if i == 6:
                raise KeyError("gone")

    with pytest.raises(MetricError, match="broken raised after 7 calls of predict: KeyError"):
        WholeSetMetric(broken, True).evaluate(lambda feed: [feed])
