"""A plan is a value: taking layers out leaves what serves the others, and says why the rest went."""

from __future__ import annotations

from dataclasses import replace

from calib.values.plan import (
    ActivationQuantizer,
    Fused,
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


def quantizer(tensor: str, *layers: str, **more) -> ActivationQuantizer:
    routes = frozenset(Route(Port(layer, 0), Port(layer, 0)) for layer in layers)
    return ActivationQuantizer(TensorId(tensor), routes, Scheme.ASYMMETRIC, **more)


def plan() -> QuantizationPlan:
    fused = frozenset({Fused(Port("add", 1), ("b", "c"))})
    return QuantizationPlan(
        layers=tuple(QuantizableNode(name, "Convolution", (0,), (1,)) for name in "abc"),
        activations=(quantizer("x", "a", "b"), quantizer("y", "c"), quantizer("z", fused=fused)),
        weights=tuple(WeightQuantizer(Port(name, 1), (8, 1, 1, 1)) for name in "abc"),
        skipped=(Skipped("d", "MatMul", "no INT8 kernel"),),
        groups=(frozenset("bc"),),
    )


def test_a_tensor_is_read_back_from_its_text():
    for tensor in (TensorId("a"), TensorId("a:b", 3)):
        assert TensorId.parse(str(tensor)) == tensor


def test_units_are_groups_and_single_layers_in_layer_order():
    assert plan().units() == (frozenset("a"), frozenset("bc"))


def test_quantizers_know_who_reads_them():
    shared, _, joined = plan().activations
    assert shared.consumers == {Port("a", 0), Port("b", 0)} and shared.layers == {"a", "b"}
    assert joined.consumers == {Port("add", 1)} and joined.layers == frozenset()


def test_taking_layers_out_leaves_what_serves_the_others():
    left = plan().without({"b"}, "reverted because")
    assert [layer.name for layer in left.layers] == ["a", "c"]
    assert [(str(q.tensor), q.layers) for q in left.activations] == [("x:0", {"a"}), ("y:0", {"c"})]
    assert [weight.port.node for weight in left.weights] == ["a", "c"]
    assert left.skipped[-1] == Skipped("b", "Convolution", "reverted because") and left.groups == ()
    nothing = plan().without("abc")
    assert not nothing.layers and not nothing.activations and not nothing.weights and len(nothing.skipped) == 4


def test_a_plan_has_ranges_once_every_quantizer_has_one():
    bare = plan()
    ranged = replace(bare, activations=tuple(replace(q, range=Range(0, 1)) for q in bare.activations))
    assert not bare.has_ranges and ranged.has_ranges
    assert not replace(ranged, activations=(*ranged.activations[1:], bare.activations[0])).has_ranges


def served(tensor: str, *routes: tuple[Port, Port], **options) -> ActivationQuantizer:
    return ActivationQuantizer(TensorId(tensor), frozenset(Route(*r) for r in routes), Scheme.ASYMMETRIC, **options)


def test_a_port_of_a_layer_finds_its_quantizer_wherever_that_sits():
    direct, layer, joined = Port("a", 0), Port("b", 0), Port("c", 1)
    one = served("x", (direct, direct), (Port("pool", 0), layer))
    parts = [served(name, (Port("concat", i), joined), unify="concat") for i, name in enumerate("yz")]
    fused = served("w", fused=frozenset({Fused(Port("add", 0), ("a",))}))
    plan = QuantizationPlan((), (one, *parts, fused), ())
    assert plan.input_quantizers() == {direct: one, layer: one, joined: parts[0]}
