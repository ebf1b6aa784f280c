"""A network is judged by what carries its result: the same whether its outputs are joined, selected, rounded or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import Net, ints

import calib
from calib.runtime.session import ov

op = ov.opset13
SIZE = 8


def samples(count: int = 24) -> list[np.ndarray]:
    return list(np.random.default_rng(7).random((count, 1, 3, SIZE, SIZE), np.float32))


def network(end: str) -> ov.Model:
    """Return the same two heads, ending in outputs of several kinds."""
    net = Net(seed=3)
    x = net.input(1, 3, SIZE, SIZE)
    trunk = op.relu(net.conv(x, 16))
    boxes = op.exp(op.tanh(op.reshape(net.conv(trunk, 4, 1), ints(1, 4, -1), False)))
    scores = op.sigmoid(op.reshape(net.conv(trunk, 5, 1), ints(1, 5, -1), False))
    boxes.set_friendly_name("boxes")
    scores.set_friendly_name("scores")
    if end == "apart":
        outputs: list[Any] = [boxes, scores]
    elif end == "joined":
        outputs = [op.concat([op.multiply(boxes, np.float32(400)), scores], 1)]
    elif end == "nms":
        corners = op.transpose(boxes, ints(0, 2, 1))
        corners.set_friendly_name("corners")
        kept = op.non_max_suppression(corners, scores, np.int64(9), np.float32(0.5), np.float32(0.4))
        outputs = [op.gather(corners, op.gather(kept.output(0), ints(2), ints(1)), ints(1))]
    elif end == "scores":
        outputs = [scores]
    elif end == "labels":
        outputs = [op.topk(scores, 1, 1, "max", "value", index_element_type="i64").output(1)]
    else:
        assert end == "pixels"
        outputs = [op.convert(op.round(op.multiply(scores, np.float32(255)), "half_to_even"), np.uint8)]
    return net.model(*outputs)


def quantized(end: str, **settings: Any) -> calib.Result:
    # Weights in half range, so that sums are exact and figures the same on every CPU.
    flags = {"speed": False, "target": "cpu-no-vnni", **settings}
    return calib.quantize(network(end), samples(), **flags)


def candidates(result: calib.Result) -> dict[str, float]:
    return {one.name: one.sqnr_db for one in result.report.candidates}


@pytest.mark.parametrize("end", ["joined", "nms"])
def test_boxes_and_scores_are_judged_the_same_however_they_leave_the_network(end: str):
    apart, found = quantized("apart", max_drop=0.05), quantized(end, max_drop=0.05)
    assert candidates(found) == pytest.approx(candidates(apart), abs=0.05)
    assert len(candidates(found)) >= 2
    for one in (apart, found):
        assert one.report.accuracy is not None and one.report.accuracy.metric == "relative-l2"
    assert found.report.accuracy.drop == pytest.approx(apart.report.accuracy.drop, rel=0.02)
    assert list(found.report.output_sqnr_db.values()) == pytest.approx(
        list(apart.report.output_sqnr_db.values()), abs=0.1
    )


@pytest.mark.parametrize(("end", "tensor"), [("labels", "scores"), ("pixels", "scores")])
def test_integers_are_judged_by_what_they_are_made_of_and_corrected_like_it(end: str, tensor: str):
    plain, found = quantized("scores"), quantized(end)
    assert len(candidates(found)) >= 2 and candidates(found).keys() == candidates(plain).keys()
    if end == "labels":
        assert candidates(found) == candidates(plain)
        assert found.report.corrections == plain.report.corrections
    ((name, value),) = found.report.output_sqnr_db.items()
    assert value == pytest.approx(next(iter(plain.report.output_sqnr_db.values())), abs=0.01)
    assert (name == tensor) == (end == "labels")
    (note,) = [warning for warning in found.report.warnings if "selects or rounds" in warning]
    assert repr(name) in note


def test_a_budget_that_one_part_breaks_is_not_said_to_be_kept():
    loose = quantized("joined", max_drop=0.05)
    worst = min(loose.report.output_sqnr_db.values())
    tight = quantized("joined", max_drop=10 ** (-worst / 20) / 4, effort="fast")  # half of the worst part's share
    assert tight.report.accuracy is not None
    reverted = [layer for layer in tight.report.layers if layer.planned != "int8"]
    assert reverted or tight.report.status == "fp32_kept"


def test_a_detector_behind_nms_is_written_and_checked(tmp_path: Path):
    result = quantized("nms")
    name = result.save(tmp_path).model.name
    assert sorted(result.report.output_sqnr_db) == ["corners", "scores"]
    compared = calib.compare(network("nms"), tmp_path / f"{name}.xml", samples(4), samples=4)
    assert compared.output_sqnr_db.keys() == result.report.output_sqnr_db.keys()
    assert min(compared.output_sqnr_db.values()) > 20


def test_an_output_that_is_zero_on_every_sample_is_named_as_not_scored():
    net = Net(seed=3)
    x = net.input(1, 3, SIZE, SIZE)
    trunk = op.relu(net.conv(x, 16))
    dead = op.relu(op.subtract(net.conv(trunk, 4), np.float32(1e4)))
    outputs = [net.conv(trunk, 4), dead]
    for name, output in zip(("alive", "dead"), outputs, strict=True):
        output.output(0).get_tensor().set_names({name})
    result = calib.quantize(net.model(*outputs), samples(), speed=False, target="cpu-no-vnni")
    assert list(result.report.output_sqnr_db) == ["alive"]
    (warning,) = [one for one in result.report.warnings if "no SQNR" in one]
    assert "'dead'" in warning
