from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import StatisticsError
from calib.values.plan import (
    ActivationQuantizer,
    Port,
    QuantizableNode,
    QuantizationPlan,
    Range,
    Route,
    Scheme,
    Skipped,
    TensorId,
    WeightQuantizer,
)
from calib.values.plan_file import plan_from_json, plan_to_json, read_plan

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
numbers = st.floats(allow_nan=False, allow_infinity=False)
ends = st.tuples(numbers, numbers).map(sorted).map(tuple)
ports = st.builds(Port, names, st.integers(0, 3))
activations = st.builds(
    ActivationQuantizer,
    tensor=st.builds(TensorId, names, st.integers(0, 2)),
    routes=st.frozensets(st.builds(Route, ports, ports), min_size=1, max_size=4),
    scheme=st.sampled_from(Scheme),
    range=st.none() | st.builds(lambda pair, *words: Range(*pair, *words), ends, names, names),
    channel_ranges=st.lists(ends, max_size=2).map(tuple),
)
plans = st.builds(
    QuantizationPlan,
    layers=st.lists(st.builds(QuantizableNode, names, names, st.just((0,)), st.just((1,))), max_size=3).map(tuple),
    activations=st.lists(activations, max_size=3).map(tuple),
    weights=st.lists(st.builds(WeightQuantizer, ports, st.just((4, 1))), max_size=3).map(tuple),
    skipped=st.lists(st.builds(Skipped, names, names, names), max_size=2).map(tuple),
    groups=st.lists(st.frozensets(names, min_size=2, max_size=3), max_size=2).map(tuple),
)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(plans)
def test_a_plan_comes_back_from_its_file_as_it_was(plan: QuantizationPlan):
    assert plan_from_json(plan_to_json(plan), "f") == plan


@settings(derandomize=True, deadline=None, max_examples=20)
@given(plans)
def test_the_text_does_not_depend_on_the_order_of_sets(plan: QuantizationPlan):
    content = json.loads(plan_to_json(plan))
    for quantizer in content["plan"]["activations"]:
        quantizer["routes"].reverse()
    assert plan_to_json(plan_from_json(json.dumps(content), "f")) == plan_to_json(plan)


@pytest.mark.parametrize(
    "text, rule",
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "is no plan: it has no plan_version"),
        ('{"plan_version": 99}', "plan_version 99"),
        ('{"plan_version": 1, "plan": {"layers": 3}}', "damaged: layers"),
        ('{"plan_version": 1}', "damaged"),
    ],
)
def test_what_is_no_plan_is_refused_by_name(text: str, rule: str):
    with pytest.raises(StatisticsError, match=rule) as caught:
        plan_from_json(text, "my.plan")
    assert "my.plan" in str(caught.value)


def test_a_plan_that_can_not_be_read_is_refused(tmp_path: Path):
    with pytest.raises(StatisticsError, match="can't be read"):
        read_plan(tmp_path / "missing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(StatisticsError, match="can't be read"):
        read_plan(tmp_path / "binary.json")
