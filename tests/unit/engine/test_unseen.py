"""The interval of the SQNR for unseen samples: from further samples, and from enlarged ones where sizes vary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from building import Net, op
from numpy.typing import NDArray

import calib
from calib.engine import unseen
from calib.engine.job import Job, prepare
from calib.engine.unseen import CAUTION, MULTIPLES, Unseen, intervals
from calib.runtime.session import ov
from calib.samples.sample import Frames
from calib.values.facts import PartSqnrFacts, Report
from calib.values.sqnr import decibel, sqnr_interval


def _network(*, normalized: bool = False) -> ov.Model:
    """Return two convolutions, if asked for behind a normalization that takes the size of a sample away."""
    net = Net(3)
    x = net.input(1, 4, 8, 8)
    if normalized:
        x = op.mvn(x, np.array([1, 2, 3]), True, 1e-9, "inside_sqrt")
    model = net.model(net.conv(op.relu(net.conv(x, 8)), 4))
    model.outputs[0].get_tensor().set_names({"y"})
    return model


def _images(count: int, spread: float = 0.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    sizes = np.exp(spread * rng.standard_normal((count, 1, 1, 1)))
    return (sizes * rng.uniform(-1, 1, (count, 4, 8, 8))).astype(np.float32)


def _report(model: ov.Model, images: Any) -> Report:
    return calib.quantize(model, images, speed=False, target="cpu-no-vnni").report


def _part(report: Report) -> PartSqnrFacts:
    assert report.output_sqnr is not None
    return report.output_sqnr.parts["y"]


def _low(report: Report) -> float:
    ends = _part(report).interval
    assert ends is not None
    return ends[0]


def _larger_ones(report: Report) -> bool:
    return any("some are larger than all 40 that ranges are from" in note for note in report.output_sqnr.notes)  # type: ignore[union-attr]


def test_samples_larger_than_all_lower_the_interval_by_what_clipping_them_costs():
    even, uneven = _report(_network(), _images(40)), _report(_network(), _images(40, spread=0.6))
    assert not _larger_ones(even) and _larger_ones(uneven)
    # Sizes that vary by e^.6 leave some 22 dB beyond the largest of 40 on average, and the interval is cautious.
    assert _low(even) > 30 and 5 < _low(uneven) < 22


def test_larger_samples_that_a_normalization_makes_alike_lower_nothing():
    report = _report(_network(normalized=True), _images(40, spread=0.6))
    assert not _larger_ones(report) and _low(report) > 30


def test_of_inputs_that_are_bounded_no_sample_is_larger():
    images = _images(40, spread=0.6)
    images = images / np.abs(images).max()
    images[:3, 0, 0, 0] = 1.0  # as the white of images
    report = _report(_network(), images)
    assert not _larger_ones(report) and _low(report) > 25


def _job(model: ov.Model, samples: Any) -> Job:
    return prepare(model, samples, flags={"speed": False, "target": "cpu-no-vnni"})


def _ends(
    monkeypatch: pytest.MonkeyPatch, found: Unseen, before: NDArray[Any], written: NDArray[Any]
) -> tuple[Mapping[str, tuple[float, float]], list[str]]:
    """Return what is made of energies, without running anything."""
    monkeypatch.setattr(unseen, "_look_further", lambda job, built, ids: found)
    job, nothing = _job(_network(), _images(15)), None
    return intervals(job, nothing, "abc", {"y": before}, {"y": written}, [])  # type: ignore[arg-type]


ROWS = np.array([[100.0, 1.0], [100.0, 1.2], [100.0, 0.8]])


def test_each_end_is_the_farther_of_held_out_and_further_samples(monkeypatch: pytest.MonkeyPatch):
    better, worse = ROWS * [1, 0.1], ROWS * [1, 10]
    (ends, notes) = _ends(monkeypatch, Unseen(True, {"y": worse}), ROWS, better)
    before, every = sqnr_interval(ROWS), sqnr_interval(np.vstack([better, worse]))
    assert before and every and not notes
    assert ends["y"] == pytest.approx((min(before[0], every[0]), max(before[1], every[1])), abs=0.006)


def test_the_lower_end_allows_for_some_times_the_expected_noise_of_larger_samples(monkeypatch: pytest.MonkeyPatch):
    found = Unseen(True, {"y": np.zeros((0, 2))}, {"y": 0.5}, 0.3)
    (ends, notes) = _ends(monkeypatch, found, ROWS, ROWS)
    plain = sqnr_interval(ROWS)
    assert plain and len(notes) == 1 and "by a factor of 1.35 around the mean" in notes[0]
    assert ends["y"][0] == pytest.approx(decibel(1, 10 ** (-plain[0] / 10) + CAUTION * 0.5 / 100), abs=0.006)
    assert ends["y"][1] == pytest.approx(plain[1], abs=0.006)


def test_an_output_without_an_interval_is_named(monkeypatch: pytest.MonkeyPatch):
    alone = np.array([[100.0, 1.0], [100.0, 0.0], [100.0, 0.0]])
    ends, notes = _ends(monkeypatch, Unseen(), alone, alone)
    assert not ends and "y has no interval for unseen samples: one sample alone makes" in notes[0]
    ends, notes = _ends(monkeypatch, Unseen(True, {}), ROWS, ROWS)
    assert not ends and "its shape in INT8 is another" in notes[0]


def test_without_any_error_nothing_is_missing(monkeypatch: pytest.MonkeyPatch):
    exact = ROWS * [1, 0]
    assert _ends(monkeypatch, Unseen(), exact, exact) == ({}, [])


def test_enlarged_samples_are_multiples_of_the_largest_where_sizes_vary():
    net = Net(0)
    image, tokens, mask = net.input(1, 4), net.input(1, 4, dtype=np.int64), net.input(1, 4)
    y = op.add(net.dense(image, 4), op.multiply(op.convert(tokens, np.float32), mask))
    rng = np.random.default_rng(1)
    samples = [
        (rng.normal(size=(1, 4)).astype(np.float32), rng.integers(0, 9, (1, 4)), np.ones((1, 4), np.float32))
        for _ in range(15)
    ]
    job = _job(net.model(y), samples)
    sizes = unseen._Sizes(job)
    largest = max(np.abs(sample[0]).max() for sample in samples)
    feed = job.feeds(job.all_ids[:1])[0]
    grown = sizes.enlarged(feed, MULTIPLES[-1])
    assert np.abs(grown[0]).max() == pytest.approx(MULTIPLES[-1] * largest, rel=1e-6)
    assert np.array_equal(grown[1], feed[1]) and np.array_equal(grown[2], feed[2])
    assert [array.dtype for array in grown] == [array.dtype for array in feed]


def test_a_sequence_is_enlarged_as_a_whole():
    job = _job(_network(), _images(15, spread=0.3))
    feeds = job.feeds(job.all_ids[:2])
    grown = unseen._Sizes(job).enlarged(Frames(tuple(feed) for feed in feeds), 1.0)
    assert isinstance(grown, Frames) and len(grown) == 2
    factors = [
        float(np.abs(after[0]).max() / np.abs(before[0]).max()) for before, after in zip(feeds, grown, strict=True)
    ]
    assert factors[0] == pytest.approx(factors[1], rel=1e-5)
