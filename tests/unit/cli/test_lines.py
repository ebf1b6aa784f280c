"""What the commands print, from values made by hand.

covers: calib.cli.evaluate, calib.cli.inspect, calib.cli.plan_table
"""

from __future__ import annotations

import pytest

from calib.cli.evaluate import evaluation_lines
from calib.cli.inspect import inspection_lines
from calib.cli.plan_table import plan_lines
from calib.report.escape import columns_of
from calib.values.evaluation import Evaluation
from calib.values.facts import LayerFacts, ModelFacts, TensorFacts
from calib.values.inspection import Inspection
from calib.values.plan import (
    ActivationQuantizer,
    Port,
    QuantizableNode,
    QuantizationPlan,
    Route,
    Scheme,
    Skipped,
    TensorId,
)

EVIL = "\x1b[2J\u202e\nname"


def model() -> ModelFacts:
    image = TensorFacts(name=EVIL, shape="[1,3,8,8]", type="f32")
    return ModelFacts(name=EVIL, inputs=[image], outputs=[image], operations=9, bytes_before=528)


def layers() -> list[LayerFacts]:
    return [
        LayerFacts(name=EVIL, type="Convolution", macs=3000, planned="int8", executed="i8"),
        LayerFacts(name="head", type="MatMul", macs=1000, planned="float", executed="f32", reason=EVIL),
    ]


def plan() -> QuantizationPlan:
    route = Route(Port(EVIL, 0), Port(EVIL, 0))
    return QuantizationPlan(
        layers=(QuantizableNode(EVIL, "Convolution", (0,), (1,)), QuantizableNode("b", "Convolution", (0,), (1,))),
        activations=(ActivationQuantizer(TensorId(EVIL), frozenset({route}), Scheme.UNSIGNED),),
        weights=(),
        skipped=(Skipped("head", "MatMul", EVIL),),
        groups=(frozenset({EVIL, "b"}),),
    )


def evaluation() -> Evaluation:
    return Evaluation(
        calib_version="0",
        model=model(),
        validation=EVIL,
        metric="top-1",
        higher_is_better=True,
        unit="fraction",
        value=0.8415,
        interval=(0.83, 0.853),
        samples=2000,
        precision="f32",
        isa="avx2",
        reference=0.84,
        notes=[EVIL],
    )


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_fit_and_hold_nothing_that_a_terminal_obeys(width: int):
    inspection = Inspection(calib_version="0", model=model(), quantized=False, layers=layers(), notes=[EVIL])
    for line in [*inspection_lines(inspection, width, False), *plan_lines(plan(), width, False)]:
        assert line.isprintable()
    assert all(line.isprintable() for line in evaluation_lines(evaluation()))
    assert all(columns_of(line) <= 200 for line in plan_lines(plan(), 200, False))


def test_an_inspection_counts_layers_and_multiply_accumulates():
    float_model = Inspection(calib_version="0", model=model(), quantized=False, layers=layers())
    assert any("1 of 2 layers would run in INT8, 75" in line for line in inspection_lines(float_model, 100, False))
    int8_model = float_model.model_copy(update={"quantized": True})
    assert any("executed: 1 in i8, 1 in f32" in line for line in inspection_lines(int8_model, 100, False))
    nothing = float_model.model_copy(update={"layers": []})
    assert any("no layers that could run in INT8" in line for line in inspection_lines(nothing, 100, False))


def test_a_plan_shows_quantizers_groups_and_reasons():
    text = "\n".join(plan_lines(plan(), 100, False))
    assert "2 layers in INT8: 2 Convolution" in text and "unsigned" in text
    assert "can only change together" in text and "1 layer in floating point" in text


def test_an_evaluation_shows_value_interval_and_how_it_ran():
    text = "\n".join(evaluation_lines(evaluation()))
    assert "0.8415 fraction" in text and "0.83 … 0.853" in text and "avx2" in text and "higher is better" in text


def test_samples_of_a_function_over_the_whole_set_are_its_own():
    found = evaluation().model_copy(update={"validation": "", "samples": 1})
    (row,) = (line for line in evaluation_lines(found) if line.startswith("samples"))
    assert row == "samples    those that the metric's function reads"
