"""What can be left in floating point, and by which names."""

from __future__ import annotations

from typing import Any

import pytest
from building import Net, max_pool, op

from calib.errors import UsageError
from calib.graph.placement import planned
from calib.graph.view import GraphView
from calib.values.plan import QuantizationPlan


def named(node: Any, name: str) -> Any:
    node.set_friendly_name(name)
    return node


def residual() -> GraphView:
    """Return stem → relu → first → second, plus the skip → add → relu2 → pool → head, and a second reader of relu2."""
    net = Net()
    skip = named(op.relu(named(net.conv(named(net.input(1, 8, 8, 8), "image"), 8), "stem")), "relu")
    branch = named(net.conv(named(net.conv(skip, 8), "first"), 8, kernel=1), "second")
    joined = named(op.relu(named(op.add(branch, skip), "add")), "relu2")
    pooled = max_pool(joined)
    named(pooled.get_node(), "pool")
    return GraphView(net.model(named(net.conv(pooled, 8), "head"), named(net.conv(joined, 8), "side")))


def left(*patterns: str) -> tuple[list[str], QuantizationPlan]:
    """Return the layers that stay in floating point, and the plan."""
    plan = planned(residual(), patterns)
    assert all("ignored by" in one.reason for one in plan.skipped)
    return [one.name for one in plan.skipped], plan


def readers(plan: QuantizationPlan) -> dict[str, set[str]]:
    """Return tensor → the nodes that read it quantized."""
    return {str(q.tensor): {port.node for port in q.consumers} for q in plan.activations}


def test_without_patterns_the_add_is_fused_and_the_pool_carries_int8():
    skipped, plan = left()
    assert not skipped
    usual = {"image:0": {"stem"}, "relu:0": {"first", "add"}, "first:0": {"second"}, "second:0": {"add"}}
    assert readers(plan) == {**usual, "relu2:0": {"pool", "side"}}


@pytest.mark.parametrize("pattern", ["add", "type:Add", "re:^add$", "subgraph:add...relu2"])
def test_a_fused_add_reads_floating_point_and_the_layers_stay(pattern: str):
    skipped, plan = left(pattern)
    assert not skipped
    assert readers(plan)["relu:0"] == {"first"} and "second:0" not in readers(plan)


def test_int8_is_not_carried_through_a_selection_that_is_ignored():
    skipped, plan = left("pool")
    assert not skipped
    assert readers(plan)["pool:0"] == {"head"} and readers(plan)["relu2:0"] == {"side"}


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [
        ("relu:0", ["first"]),  # and the Add reads the skip bare
        ("relu", ["first"]),
        ("relu2:0", ["head", "side"]),
        ("first:0", ["second"]),
    ],
)
def test_a_tensor_that_a_quantizer_sits_on_is_left_bare(pattern: str, layers: list[str]):
    skipped, plan = left(pattern)
    assert sorted(skipped) == layers
    assert f"{pattern.removesuffix(':0')}:0" not in readers(plan)


def test_everything_that_a_plan_names_can_be_named():
    _, plan = left()
    names = {str(q.tensor) for q in plan.activations} | {port.node for q in plan.activations for port in q.consumers}
    names |= {layer.name for layer in plan.layers}
    for name in sorted(names):
        assert left(name)[1] != plan, name


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [
        ("subgraph:first...second", ["first", "second"]),
        ("subgraph:relu...add", ["first", "second"]),
        ("subgraph:stem, first ... side,head", ["stem", "first", "second", "head", "side"]),
    ],
)
def test_a_subgraph_is_what_lies_between_its_ends(pattern: str, layers: list[str]):
    assert sorted(left(pattern)[0]) == sorted(layers)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("type:convolution", "matches none of the model's .*did you mean 'type:Convolution'"),
        ("type:Conv", "did you mean 'type:Convolution'"),
        ("secnd", "did you mean 'second'"),
        ("RELU2", "did you mean 'relu2'"),
        ("rleu2:0", "did you mean 'relu2'"),
        ("relu2:7", "did you mean 'relu2'"),
        ("re:nowhere", "`calib inspect MODEL` lists the layers"),
        ("subgraph:stm...head", "no operation 'stm'; did you mean 'stem'"),
        ("subgraph:head...stem", "no way between the two ends leads through 'head'"),
        ("type:Constant", "there is no quantizer"),
    ],
)
def test_a_pattern_that_leaves_nothing_out_is_refused_with_the_nearest_right_one(pattern: str, words: str):
    with pytest.raises(UsageError, match=words):
        left(pattern)
