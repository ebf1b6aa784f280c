from __future__ import annotations

import math

import pytest

from calib.metrics import METRICS
from calib.studio.fits import default_budget, fitting, resolution
from calib.values.facts import ModelFacts, TensorFacts
from calib.values.inspection import Inspection


def inspected(*outputs: tuple[str, str]) -> Inspection:
    facts = [TensorFacts(name=f"out{i}", shape=shape, type=kind) for i, (shape, kind) in enumerate(outputs)]
    return Inspection(calib_version="", model=ModelFacts(name="m", format="ir", outputs=facts), quantized=False)


@pytest.mark.parametrize(
    ("outputs", "first"),
    [
        ([("[1,10]", "f32")], "top-1"),
        ([("[?,1000]", "f16")], "top-1"),
        ([("[1,1,200,7]", "f32")], "coco-map"),
        ([("[1,84,8400]", "f32")], "coco-map"),
        ([("[1,21,64,64]", "f32")], "mean-iou"),
        ([("[1,64,64]", "i64")], "mean-iou"),
        ([("[1,3,64,64]", "f32")], "psnr"),
        ([("[30,1,37]", "f32")], "word-accuracy"),
        ([("[1,1]", "f32")], "spearman"),
    ],
)
def test_the_likeliest_metric_of_an_output_comes_first(outputs: list[tuple[str, str]], first: str):
    found = fitting(inspected(*outputs))
    assert found[0] == first and set(found) <= set(METRICS)


def test_a_network_without_outputs_or_with_several_of_no_family_gets_no_metric_that_would_not_run():
    assert fitting(inspected()) == []
    assert fitting(inspected(("[1,5]", "f32"), ("[1,6]", "f32"))) == []


def test_the_half_widths_are_those_of_the_score_interval_and_shrink_with_the_samples():
    least, usual = resolution(1000)
    z = 1.959963984540054**2
    assert math.isclose(least, z / (1000 + z), rel_tol=1e-6)
    assert usual > least and resolution(4000)[1] < usual < 2.3 * resolution(4000)[1]


def test_fractions_get_points_and_other_units_a_share():
    assert (default_budget("top-1"), default_budget("psnr")) == ("0.5pt", "1%rel")
