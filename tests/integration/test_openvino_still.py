"""What OpenVINO can't do yet, each on the smallest graph: these tests fail once it can.

Every exception that calib makes from its rules is here without its guard. A failure is good news: the guard that the
test takes away can go from the code, and the test with it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from building import Net, ints, op
from proof import needs_vnni, prove

from calib.errors import CalibError
from calib.graph.operations import LAYERS, SELECTING
from calib.plan import Port, QuantizableNode, Scheme
from calib.runtime.isa import cpu
from calib.runtime.session import ov

pytestmark = needs_vnni

WRONG, FLOAT, REFUSED = "computes wrongly", "runs in floating point", "does not compile"


def symptom(model: ov.Model) -> str:
    """Quantize without asking whether that is wise, and name what OpenVINO makes of it; empty if all is well."""
    try:
        proof = prove(model)
    except (CalibError, RuntimeError):
        return REFUSED
    assert proof.planned
    if proof.broken:
        return FLOAT
    return "" if proof.computes_what_it_says() else WRONG


def grouped_deconvolution():
    net = Net()
    return net.model(net.deconv(op.relu(net.input(1, 8, 8, 8)), 8, groups=2))


def signed_deconvolution():
    net = Net()
    return net.model(net.deconv(net.input(1, 16, 8, 8), 16))


def subtrahend():
    net = Net()
    return net.model(op.subtract(net.input(1, 4, 8, 8), op.relu(net.conv(net.inputs[0], 4))))


def negated_behind_a_relu():
    net = Net()
    return net.model(op.negative(op.relu(net.conv(net.input(1, 4, 8, 8), 4))))


def joined_with_a_constant():
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, 8, 8), 8))
    return net.model(net.conv(op.concat([x, net.weights(1, 4, 8, 8)], 1), 4))


def dynamic_with_several_readers():
    net = Net()
    x = net.conv(net.input(-1, 8, -1, -1), 8)
    return net.model(op.add(op.relu(x), op.sigmoid(x)), op.tanh(x))


def weights_on_the_left():
    net = Net()
    return net.model(net.dense(op.relu(op.matmul(net.weights(16, 16), net.input(1, 16, 8), False, False)), 4))


def unsqueezed():
    net = Net()
    y = op.matmul(net.input(2, 8, 16), net.weights(16, 12), False, False)
    return net.model(op.unsqueeze(y, op.constant(np.int64(3))))


def padded_with_zeros():
    net = Net()
    x = op.subtract(op.softplus(net.input(1, 8, 8, 8)), op.constant(np.float32(0.4)))
    return net.model(net.conv(op.space_to_batch(x, ints(1, 1, 2, 2), ints(0, 0, 1, 1), ints(0, 0, 1, 1)), 8))


def depthwise_behind_two_groups():
    net = Net()
    return net.model(net.depthwise(net.conv(net.input(1, 4, 8, 8), 4, groups=2)))


def wide_row():
    net = Net()
    return net.model(net.conv(net.input(1, 16, 64), 16, kernel=8))


GUARDED = {
    "calib.graph.finder._negated": {subtrahend: WRONG, negated_behind_a_relu: WRONG},
    "calib.graph.finder._miscompiled": {
        joined_with_a_constant: FLOAT,
        dynamic_with_several_readers: WRONG,
        weights_on_the_left: REFUSED,
        unsqueezed: REFUSED,
    },
}


@pytest.mark.parametrize(
    ("guard", "make", "expected"),
    [(guard, make, expected) for guard, cases in GUARDED.items() for make, expected in cases.items()],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_layer_that_the_finder_leaves_out_is_still_a_fault(monkeypatch, guard, make, expected):
    monkeypatch.setattr(guard, lambda *_: "")
    assert symptom(make()) == expected


@pytest.mark.skipif("amx" not in cpu().features, reason="only kernels for AMX compute wide rows wrongly")
def test_a_wide_row_of_few_channels_is_still_a_fault(monkeypatch):
    monkeypatch.setattr("calib.graph.finder._wide_row", lambda *_: "")
    assert symptom(wide_row()) == WRONG


@pytest.mark.parametrize(
    ("make", "kind", "changes", "expected"),
    [
        (grouped_deconvolution, "GroupConvolutionBackpropData", {"never": ""}, FLOAT),
        (signed_deconvolution, "ConvolutionBackpropData", {"unless_positive": ""}, WRONG),
        (
            signed_deconvolution,
            "ConvolutionBackpropData",
            {"unless_positive": "", "signed": Scheme.ASYMMETRIC},
            FLOAT,
        ),
    ],
    ids=["grouped deconvolution", "signed deconvolution", "deconvolution with a zero point"],
)
def test_an_operation_that_the_table_restricts_is_still_a_fault(monkeypatch, make, kind, changes, expected):
    monkeypatch.setitem(LAYERS, kind, replace(LAYERS[kind], **changes))
    assert symptom(make()) == expected


def test_zeros_that_space_to_batch_pads_with_are_still_the_lowest_level(monkeypatch):
    monkeypatch.setattr("calib.graph.placement.SELECTING", SELECTING | {"SpaceToBatch"})
    assert symptom(padded_with_zeros()) == WRONG


def test_signed_ranges_for_each_of_a_few_channels_are_still_wrong(monkeypatch):
    monkeypatch.setattr("calib.graph.placement._FEW_CHANNELS", 0)
    assert symptom(depthwise_behind_two_groups()) == WRONG


def test_one_scale_a_group_of_several_outputs_still_does_not_compile(monkeypatch):
    net = Net()
    model = net.model(net.conv(net.input(1, 8, 8, 8), 16, groups=4))
    monkeypatch.setattr("calib.graph.placement.scale_shape", lambda view, layer, index: (4, 1, 1, 1, 1))
    assert symptom(model) == REFUSED


def test_a_product_of_two_activations_with_a_zero_point_on_the_second_still_runs_in_floating_point(monkeypatch):
    net = Net()
    model = net.model(op.matmul(net.input(1, 4, 8, 16), op.relu(net.input(1, 4, 16, 8)), False, False))
    monkeypatch.setattr(
        "calib.graph.placement._wanted",
        lambda layer: [(port, Scheme.SYMMETRIC, False) for port in ports(layer)],
    )
    assert symptom(model) == FLOAT


def ports(layer: QuantizableNode):
    return [Port(layer.name, index) for index in layer.activations]
