"""The end of a layer's chain is the same tensor in both forms of a network."""

from __future__ import annotations

import numpy as np
from building import Net, ints, op

from calib.graph.layer_taps import LENGTH, behind_quantizers, cut_out
from calib.runtime.session import ov
from calib.values.plan import QuantizableNode

LIMITS = [np.float32(end) for end in (-4, 4, -4, 4)]


def network(after: str, quantized: bool) -> ov.Model:
    """Return conv → what ``after`` says → conv, with a FakeQuantize in front of the second where it is quantized."""
    net = Net()
    x = net.input(1, 4, 8, 8)
    first = net.conv(x, 4)
    first.set_friendly_name("first")
    y = first
    for step in after.split():
        match step:
            case "bias":
                y = net.bias(y)
            case "relu":
                y = op.relu(y)
            case "skip":
                y = op.add(y, x)
            case "pool":
                y = op.avg_pool(y, [1, 1], [0, 0], [0, 0], [1, 1], False)
            case "quantize" if not quantized:
                continue
            case _:
                y = op.fake_quantize(y, *LIMITS, 256)
        y.set_friendly_name(step)
    return net.model(net.conv(op.fake_quantize(y, *LIMITS, 256) if quantized and "quantize" not in after else y, 4))


def ends(after: str) -> tuple[str, str]:
    fp32, int8 = network(after, False), network(after, True)
    (before,), (behind,) = behind_quantizers((fp32, int8), (["first"], ["first"]))
    return before, behind


def test_the_chain_of_a_layer_ends_behind_its_quantizer():
    assert ends("bias relu quantize") == ("relu", "quantize")
    assert ends("quantize") == ("first", "quantize")


def test_a_quantizer_in_the_chain_of_one_form_ends_that_of_both():
    assert ends("bias quantize relu") == ("bias", "quantize")


def test_a_chain_ends_at_a_second_tensor_and_at_another_operation():
    assert ends("bias skip relu quantize") == ("bias", "bias")
    assert ends("bias pool relu quantize") == ("bias", "bias")


def test_layers_of_two_quantized_models_are_both_taken_behind_their_quantizers():
    int8 = network("relu quantize", True)
    assert behind_quantizers((int8, int8), (["first"], ["first"])) == (["quantize"], ["quantize"])


def test_a_layer_is_cut_out_with_what_runs_in_its_kernel():
    net = Net()
    x = op.relu(net.conv(net.input(-1, 3, -1, 8), 4))
    layer = net.conv(x, 6)
    layer.set_friendly_name("layer")
    model = net.model(op.reduce_mean(op.relu(net.bias(layer)), ints(2, 3)))
    alone = cut_out(model, QuantizableNode("layer", "Convolution", (0,), (1,)))
    kinds = [node.get_type_name() for node in alone.get_ordered_ops() if node.get_type_name() != "Constant"]
    assert kinds == ["Parameter", "Convolution", "Add", "Relu", "Result"]
    assert alone.input(0).get_partial_shape() == ov.PartialShape([1, 4, LENGTH, 8])
