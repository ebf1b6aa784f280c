"""What follows from a plan: which quantizer a layer's port reads."""

from __future__ import annotations

from calib.values.plan import ActivationQuantizer, Fused, Port, QuantizationPlan, Route, Scheme, TensorId


def quantizer(tensor: str, *routes: tuple[Port, Port], **options) -> ActivationQuantizer:
    return ActivationQuantizer(TensorId(tensor), frozenset(Route(*r) for r in routes), Scheme.ASYMMETRIC, **options)


def test_a_port_of_a_layer_finds_its_quantizer_wherever_that_sits():
    direct, layer, joined = Port("a", 0), Port("b", 0), Port("c", 1)
    one = quantizer("x", (direct, direct), (Port("pool", 0), layer))
    parts = [quantizer(name, (Port("concat", i), joined), unify="concat") for i, name in enumerate("yz")]
    fused = quantizer("w", fused=frozenset({Fused(Port("add", 0), ("a",))}))
    plan = QuantizationPlan((), (one, *parts, fused), ())
    assert plan.input_quantizers() == {direct: one, layer: one, joined: parts[0]}
