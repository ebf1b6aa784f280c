"""What is not right on every x86 CPU is taken into INT8 for this one only where it was tried and is right."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op
from cpu_features import EXACT_INT8, FEATURES

from calib import quantize
from calib.engine import proving
from calib.graph.operations import MATMULS, NOT_EVERYWHERE
from calib.graph.placement import planned
from calib.graph.view import GraphView
from calib.runtime.session import Session, ov
from calib.values.plan import FULL_RANGE, HALF_RANGE


def deconvolution(kernel: int = 4, stride: int = 2, pad: int = 1) -> ov.Model:
    """Return a deconvolution of signed data, with a bias and an activation behind it, between two convolutions."""
    net = Net()
    x = op.swish(net.conv(net.input(1, 16, 8, 8), 16))
    up = net.deconv(x, 16, kernel, stride, pad)
    up.set_friendly_name("up")
    return net.model(net.conv(op.relu(net.bias(up)), 8))


def tried(model: ov.Model, levels: int) -> tuple[list[str], dict[str, str]]:
    """Return the layers that this CPU computes rightly in INT8, and the reasons of the others."""
    view = GraphView(model)
    plan = planned(view, everywhere=False, weight_levels=levels)
    plan = proving.without_wrong(model, view, plan)
    return [layer.name for layer in plan.layers], {one.name: one.reason for one in plan.skipped}


EXACT = FULL_RANGE if EXACT_INT8 else HALF_RANGE


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (4, 2, 1), (3, 1, 1), (3, 2, 1)])
def test_a_deconvolution_of_signed_data_is_kept_where_it_computes_what_its_simulation_does(kernel, stride, pad):
    layers, reasons = tried(deconvolution(kernel, stride, pad), EXACT)
    assert len(layers) + len(reasons) == 3
    if "avx512" not in FEATURES:  # with it some kernels are computed wrongly, and with AMX all
        assert not reasons
    assert all(name == "up" and "other numbers than its simulation" in why for name, why in reasons.items())


@pytest.mark.skipif(EXACT_INT8, reason="sums of INT8 products are exact on this CPU, so weights keep all levels")
def test_a_layer_is_tried_with_weights_whose_sums_do_not_saturate_and_the_outputs_decide_on_its_levels():
    layers, reasons = tried(deconvolution(), FULL_RANGE)
    assert "up" in layers and not reasons
    samples = list(np.random.default_rng(0).standard_normal((20, 1, 16, 8, 8)).astype(np.float32))
    found = quantize(deconvolution(), samples, effort="fast", speed=False, target="this-cpu")
    assert "up" in [layer.name for layer in found.report.layers if layer.planned == "int8"]
    assert len([sentence for sentence in found.report.warnings if sentence.startswith("INT8 sums")]) == 1


def test_a_layer_that_this_cpu_can_not_compile_is_not_kept(monkeypatch):
    def fail(*_: object) -> float:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(proving, "_agreement", fail)
    layers, reasons = tried(deconvolution(), EXACT)
    assert len(layers) == 2 and "could not compile it in INT8: no such kernel" in reasons["up"]


def test_layers_that_are_right_everywhere_are_not_tried(monkeypatch):
    monkeypatch.setattr(proving, "_agreement", lambda *_: pytest.fail("nothing has to be tried"))
    net = Net()
    model = net.model(net.conv(op.relu(net.deconv(op.relu(net.input(1, 8, 8, 8)), 8)), 4))
    assert len(tried(model, EXACT)[0]) == 2


def test_only_for_this_cpu_and_the_report_names_what_other_cpus_stand_against():
    samples = list(np.random.default_rng(0).standard_normal((8, 1, 16, 8, 8)).astype(np.float32))
    usual, here = (
        quantize(deconvolution(), samples, effort="fast", speed=False, target=target).report
        for target in ("cpu", "this-cpu")
    )
    layer = next(one for one in usual.layers if one.name == "up")
    assert layer.planned == "float" and "CPUs with AMX" in layer.reason and layer.reason.endswith(NOT_EVERYWHERE)
    assert any("1 layer stays in floating point: up" in sentence for sentence in usual.warnings)
    taken = next(one for one in here.layers if one.name == "up")
    if "avx512" not in FEATURES:
        assert taken.executed == "i8"
    assert any("tried on this CPU" in sentence and "up" in sentence for sentence in here.warnings) == taken.in_int8


def left(bias: bool) -> ov.Model:
    net = Net()
    x = op.matmul(net.weights(16, 16), net.input(1, 16, 8), False, False)
    return net.model(net.dense(op.relu(op.add(x, net.weights(16, 1)) if bias else x), 4))


@pytest.mark.parametrize("bias", [True, False])
def test_weights_on_the_left_are_tried_and_the_model_computes_what_it_says(bias):
    model = left(bias)
    samples = list(np.random.default_rng(0).standard_normal((8, 1, 16, 8)).astype(np.float32))
    assert any(str(MATMULS["left"]) in one.reason for one in planned(GraphView(model)).skipped)
    found = quantize(model, samples, effort="fast", speed=False, target="this-cpu")
    exact, ours = (Session(one)([samples[0]])[0].astype(np.float64) for one in (model, found.model))
    assert np.linalg.norm(ours - exact) < 0.05 * np.linalg.norm(exact)
    assert [layer.planned for layer in found.report.layers][1] == "int8"


@pytest.mark.parametrize(
    ("rows", "biases", "doubted"), [(4, False, 3), (4, True, 0), ((2, 4), False, 0)], ids=["plain", "biases", "rank 3"]
)
def test_chains_of_matmuls_over_rows_without_biases_are_for_this_cpu_alone(rows, biases, doubted):
    net = Net()
    y = net.input(*(rows if isinstance(rows, tuple) else (rows,)), 16)
    for number in range(3):
        y = op.matmul(y if number == 0 else op.relu(y), net.weights(16, 16), False, True)
        y = op.add(y, net.weights(16, fan_in=9)) if biases else y
    view = GraphView(net.model(y))
    plan = planned(view)
    assert len([one for one in plan.skipped if "zeros on CPUs with AVX-512" in one.reason]) == doubted
    assert len(planned(view, everywhere=False).layers) == 3
