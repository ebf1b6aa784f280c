"""Try layers on this CPU whose INT8 form is not right on every one, each by itself, against its own simulation.

Each is cut out of the network with what runs in its kernel, and gets random numbers::

    Parameter ──▶ FakeQuantize ──▶ layer, i8 weights ──▶ bias, activation ──▶ Result

It runs in INT8, with one thread for an inference and with two, and with the FakeQuantize computed in f32. Chains of
MatMuls over rows are not tried here: building the model compares what one thread gives with what two give.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calib.engine.building import for_two_threads, median_db
from calib.graph.finder import Found, inexact, right_on_some
from calib.graph.insert import insert
from calib.graph.layer_taps import DATA, cut_out
from calib.graph.operations import MATMULS
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.runtime.failures import FAILURES, said
from calib.runtime.isa import exact_here
from calib.runtime.session import SIMULATED, Session, compile_model, ov
from calib.values.plan import FULL_RANGE, HALF_RANGE, Port, QuantizableNode, QuantizationPlan, Range, TensorId

# Sums of integers are exact, and scaling them in f32 left 80 dB and more on AVX2 (signed deconvolutions of kernels 2 to
# 6, weights of half range); weights that saturate, or that a kernel rounds again, left 35 to 46 dB.
FLOOR_DB = 60.0
SAMPLES = 4
INSIDE = "not every x86 CPU computes its INT8 form rightly, and inside a body it can't be tried by itself"


def without_wrong(model: ov.Model, view: GraphView, plan: QuantizationPlan) -> QuantizationPlan:
    """Return the plan without the layers that this CPU can't compile in INT8, or computes otherwise than in f32.

    Args:
        model: Floating-point model with unique friendly names.
        view: View of it.
        plan: Plan that may hold layers which are not right on every x86 CPU; the others are not tried.
    """
    most = FULL_RANGE if exact_here() else HALF_RANGE  # sums that saturate are no fault of a kernel
    levels = {weight.port: min(weight.levels, most) for weight in plan.weights}
    for layer in plan.layers:
        if right_on_some(view, layer.name) in ("", str(MATMULS["rows"])):
            continue
        if why := INSIDE if layer.name in view.inside else "" if exact_here() else inexact(view, layer):
            plan = plan.without([layer.name], why)
            continue
        try:
            agreement = _agreement(model, layer, levels[Port(layer.name, layer.weights[0])])
        except FAILURES as error:
            plan = plan.without([layer.name], f"OpenVINO could not compile it in INT8: {said(error)}")
            continue
        if agreement < FLOOR_DB:
            reason = f"tried on this CPU, its INT8 form gives other numbers than its simulation ({agreement:.1f} dB)"
            plan = plan.without([layer.name], reason)
    return plan


def _agreement(model: ov.Model, layer: QuantizableNode, levels: int) -> float:
    """Return the SQNR in dB of a layer's INT8 execution against its simulation, with one thread or two."""
    alone = cut_out(model, layer)
    view = GraphView(alone)
    plan = place(view, Found((layer,), ()), weight_levels=levels)
    ranged = tuple(replace(quantizer, range=Range(-4.0, 4.0)) for quantizer in plan.activations)
    int8 = insert(alone, replace(plan, activations=ranged), fold=True)
    rng = np.random.default_rng(0)
    shape = view.shape(TensorId(DATA)) or ()
    samples = [[rng.standard_normal([size or 1 for size in shape]).astype(np.float32)] for _ in range(SAMPLES)]
    expected = list(Session(int8, SIMULATED).each(samples))
    compiled = [compile_model(int8), for_two_threads(int8)]
    found = [list(Session.of(one).each(samples)) for one in compiled if one is not None]
    return min(median_db(expected, outputs) for outputs in found)
