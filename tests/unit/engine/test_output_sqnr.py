"""The SQNR of the outputs in a report: its samples, its interval, and the machine's default precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from building import Net, op

import calib
from calib.engine import output_sqnr
from calib.engine.output_sqnr import doubts
from calib.values.facts import OutputSqnrFacts, Report


def _report(samples: int) -> Report:
    net = Net(3)
    x = op.relu(net.conv(net.input(1, 4, 8, 8), 8))
    model = net.model(net.conv(x, 4))
    model.outputs[0].get_tensor().set_names({"y"})
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (samples, 4, 8, 8)).astype(np.float32)
    return calib.quantize(model, images, speed=False, target="cpu-no-vnni").report


def _measured(report: Report) -> OutputSqnrFacts:
    assert report.output_sqnr is not None
    return report.output_sqnr


def test_held_out_samples_are_named_and_make_an_interval_around_the_figure():
    report = _report(40)
    found = _measured(report)
    assert found.held_out and len(set(found.samples)) == 8 and not found.notes
    part = found.parts["y"]
    assert report.output_sqnr_db == {"y": part.held_out_db}
    assert part.interval is not None and part.held_out_db is not None
    assert part.interval[0] < part.held_out_db < part.interval[1]


def test_in_f32_by_default_the_default_precision_is_said_to_be_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(output_sqnr, "default_precision", lambda: "f32")
    found = _measured(_report(40))
    part = found.parts["y"]
    assert (found.default_precision, part.fp32_default_db) == ("f32", math.inf)
    assert part.default_db == part.written_db


def test_another_default_precision_is_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(output_sqnr, "default_precision", lambda: "bf16")
    found = _measured(_report(40))
    part = found.parts["y"]
    assert found.default_precision == "bf16"
    # Run as this machine runs it by default, which may be in f32.
    assert part.default_db == pytest.approx(part.written_db, abs=1.0)
    assert part.fp32_default_db is not None and part.fp32_default_db > 30


def test_without_held_out_samples_there_is_no_interval_and_a_reason():
    report = _report(4)
    found = _measured(report)
    part = found.parts["y"]
    assert not found.held_out and len(found.samples) == 4
    assert part.held_out_db is None and part.interval is None
    assert report.output_sqnr_db == {"y": part.written_db}
    assert "from 4 samples that ranges and corrections were made from" in found.notes[0]


def test_two_held_out_samples_are_too_few_for_an_interval():
    found = _measured(_report(10))
    assert found.held_out and len(found.samples) == 2 and found.parts["y"].interval is None
    assert "from 2 samples held out, too few for an interval" in found.notes[0]


def test_fifteen_calibration_samples_make_an_interval():
    found = _measured(_report(output_sqnr.LEAST_CALIBRATION))
    assert found.parts["y"].interval is not None and len(found.samples) == 3


def test_one_sample_that_makes_most_of_the_error_is_told():
    rows = np.array([[1.0, 0.01]] * 7 + [[1.0, 0.93]])
    assert doubts({"y": rows}, held_out=True) == [
        "One of 8 samples makes 93% of the signal or of the error of y: its SQNR is that of one sample. Give samples "
        "of a more even size, or more of them."
    ]
    assert not doubts({"y": rows[:7]}, held_out=True)
