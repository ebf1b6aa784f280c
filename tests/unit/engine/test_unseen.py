"""The interval of the SQNR for unseen samples: from further samples, and from enlarged ones where sizes vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from building import Net, op
from numpy.typing import NDArray

import calib
from calib.engine import unseen
from calib.engine.clipped import clipped_most
from calib.engine.job import Job
from calib.engine.prepare import prepare
from calib.engine.unseen import CAUTION, MULTIPLES, Unseen, intervals
from calib.runtime.session import ov
from calib.samples.sample import Frames
from calib.values.facts import PartSqnrFacts, Report
from calib.values.plan import ActivationQuantizer, QuantizationPlan, Range, Scheme, TensorId
from calib.values.sqnr import censused_interval, decibel, sqnr_interval
from calib.values.summary import TensorSummary


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
    monkeypatch: pytest.MonkeyPatch,
    found: Unseen,
    before: NDArray[Any],
    written: NDArray[Any],
    worst: Sequence[str] = (),
    model: ov.Model | None = None,
) -> tuple[Mapping[str, tuple[float, float]], list[str]]:
    """Return what is made of energies of the samples a, b and c, without running anything."""
    monkeypatch.setattr(unseen, "_look_further", lambda job, built, ids, worst: found)
    monkeypatch.setattr(unseen, "clipped_most", lambda plan, summaries: worst)
    job, built = _job(model or _network(), _images(15)), SimpleNamespace(plan=None)
    return intervals(job, built, "abc", {"y": before}, {"y": written}, {}, [])  # type: ignore[arg-type]


ROWS = np.array([[100.0, 1.0], [100.0, 1.2], [100.0, 0.8]])


def test_each_end_is_the_farther_of_held_out_and_further_samples(monkeypatch: pytest.MonkeyPatch):
    better, worse = ROWS * [1, 0.1], ROWS * [1, 10]
    (ends, notes) = _ends(monkeypatch, Unseen("def", 3, {"y": worse}), ROWS, better)
    before, every = sqnr_interval(ROWS), sqnr_interval(np.vstack([better, worse]))
    assert before and every and not notes
    assert ends["y"] == pytest.approx((min(before[0], every[0]), max(before[1], every[1])), abs=0.006)


def test_the_lower_end_allows_for_some_times_the_expected_noise_of_larger_samples(monkeypatch: pytest.MonkeyPatch):
    found = Unseen(beyond={"y": 0.5}, spread=0.3)
    (ends, notes) = _ends(monkeypatch, found, ROWS, ROWS)
    plain = sqnr_interval(ROWS)
    assert plain and len(notes) == 1 and "by a factor of 1.35 around the mean" in notes[0]
    assert ends["y"][0] == pytest.approx(decibel(1, 10 ** (-plain[0] / 10) + CAUTION * 0.5 / 100), abs=0.006)
    assert ends["y"][1] == pytest.approx(plain[1], abs=0.006)


def _second_stage() -> ov.Model:
    """Return a layer that reads the row with the largest value of a convolution's output."""
    net = Net(3)
    features = net.conv(net.input(1, 4, 8, 8), 4)
    best = op.topk(op.reshape(features, np.array([1, -1]), False), 1, 1, "max", "value").output(1)
    rows = op.gather(net.weights(256, 4), best, np.int64(0))
    model = net.model(net.dense(rows, 4))
    model.outputs[0].get_tensor().set_names({"y"})
    return model


def test_the_lower_end_of_a_second_stage_allows_for_a_choice_that_no_sample_shows(monkeypatch: pytest.MonkeyPatch):
    better = ROWS * [1, 1.01]
    (ends, notes) = _ends(monkeypatch, Unseen("def", 3, {"y": better}), ROWS, ROWS, model=_second_stage())
    plain = sqnr_interval(ROWS)
    assert plain and len(notes) == 1 and "y is computed from what the network chooses by its scores" in notes[0]
    # up to -log(.025) / 6 of the samples have another row, whose squared difference is twice the signal
    assert ends["y"][0] == pytest.approx(decibel(1, 2 * 3.6889 / 6 + 10 ** (-plain[0] / 10)), abs=0.02)
    assert ends["y"][1] == pytest.approx(plain[1], abs=0.006)


def test_samples_that_ranges_clip_most_count_once_and_lower_the_end(monkeypatch: pytest.MonkeyPatch):
    clipped = np.array([[100.0, 30.0]])
    another = ROWS[:1] * 1.01
    found = Unseen("dx", 1, {"y": np.vstack([another, clipped])})
    (ends, notes) = _ends(monkeypatch, found, ROWS, ROWS, ["x", "c"])  # c is held out too
    usual = sqnr_interval(np.vstack([ROWS, another]))
    third = censused_interval(np.vstack([ROWS[:2], another]), np.vstack([ROWS[2:], clipped]), 15)
    assert usual and third and third[0] < usual[0] - 1
    assert ends["y"] == pytest.approx((third[0], max(usual[1], third[1])), abs=0.006)
    assert len(notes) == 1 and "Ranges clip a few of the 15 calibration samples" in notes[0] and "of y on" in notes[0]


def test_samples_that_repeat_others_make_no_interval_narrower(monkeypatch: pytest.MonkeyPatch):
    drawn = np.vstack([ROWS, ROWS]) * [1, 1.01]
    (ends, notes) = _ends(monkeypatch, Unseen("defghi", 6, {"y": drawn}), ROWS, ROWS)
    first, every = sqnr_interval(ROWS), sqnr_interval(np.vstack([ROWS, ROWS * [1, 1.01]]))
    assert first and every
    assert ends["y"] == pytest.approx((min(first[0], every[0]), max(first[1], every[1])), abs=0.006)
    assert len(notes) == 1 and "Of the 9 samples that were run, 6 are different" in notes[0]


def test_held_out_samples_that_repeat_those_of_ranges_make_no_interval(monkeypatch: pytest.MonkeyPatch):
    (ends, notes) = _ends(monkeypatch, Unseen("def", 3, {"y": ROWS}), ROWS, ROWS)
    assert not ends and len(notes) == 1
    assert "y has no interval" in notes[0] and "Of the 6 samples that were run, 3 are different" in notes[0]


def test_one_sample_again_and_again_makes_no_interval(monkeypatch: pytest.MonkeyPatch):
    alike = np.repeat(ROWS[:1], 3, axis=0)
    (ends, notes) = _ends(monkeypatch, Unseen("def", 3, {"y": alike}), alike, alike)
    assert not ends and len(notes) == 1 and "y has no interval" in notes[0] and "1 is different" in notes[0]


def test_outputs_without_an_error_repeat_nothing(monkeypatch: pytest.MonkeyPatch):
    exact = np.repeat([[100.0, 0.0]], 3, axis=0)
    (ends, notes) = _ends(monkeypatch, Unseen("def", 3, {"y": exact}), ROWS, ROWS)
    assert ends and not notes


def _clipping(**farthest: Any) -> tuple[QuantizationPlan, dict[TensorId, TensorSummary]]:
    """Return a plan with the range [-1, 1] on two tensors, and statistics of them."""
    tensors = [TensorId("a"), TensorId("b")]
    quantizers = [ActivationQuantizer(t, frozenset(), Scheme.SYMMETRIC, range=Range(-1.0, 1.0)) for t in tensors]
    summary = TensorSummary(tensors[0], 100, -4.0, 4.0, -1.0, 1.0, **farthest)
    return QuantizationPlan((), tuple(quantizers), ()), {t: replace(summary, tensor=t) for t in tensors}


def test_samples_are_ordered_by_how_far_they_reach_beyond_ranges():
    plan, summaries = _clipping(
        farthest_high=(("one", 3.0), ("two", 1.5), ("inside", 0.9)), farthest_low=(("three", -4.0), ("two", -1.2))
    )
    assert clipped_most(plan, summaries) == ["three", "one", "two"]
    assert clipped_most(replace(plan, activations=()), summaries) == [] and clipped_most(plan, {}) == []


def test_an_outlier_in_most_tensors_is_not_taken_for_one_of_the_data():
    plan, summaries = _clipping(farthest_high=(("broken", 3.0), ("one", 1.5)), trimmed_high=2.0)
    assert clipped_most(plan, summaries) == ["one"]
    half = {**summaries, TensorId("b"): replace(summaries[TensorId("b")], trimmed_high=np.inf)}
    half |= {TensorId(name): replace(summaries[TensorId("a")], trimmed_high=np.inf) for name in "c"}
    quantizers = (*plan.activations, replace(plan.activations[0], tensor=TensorId("c")))
    assert clipped_most(replace(plan, activations=quantizers), half) == ["broken", "one"]


def _rarely_large(count: int) -> NDArray[np.float32]:
    """Return images of which two have a few pixels three times as far as the others reach."""
    images = np.random.default_rng(5).normal(0, 0.2, (count, 4, 8, 8)).clip(-0.8, 0.8)
    images[:, 0, 0, 0] = 0.8
    images[[20, 90], 1:, 4, 4] = 2.4
    images[[21, 91], 0, 1, 1] = 2.4  # the largest size is that of several: none is taken to be larger
    return images.astype(np.float32)


def test_what_ranges_clip_in_a_few_samples_is_run_and_said():
    asked = {"speed": False, "target": "cpu-no-vnni"}
    clips, whole = (
        calib.quantize(_network(), _rarely_large(160), estimator=name, **asked).report
        for name in ("percentile", "minmax")
    )
    said = [
        [note for note in one.output_sqnr.notes if "Ranges clip a few of the 160" in note] for one in (clips, whole)
    ]  # type: ignore[union-attr]
    assert [len(notes) for notes in said] == [1, 0]
    # Two of 160 samples make as much noise as all others together, or more.
    assert _low(clips) < _part(clips).written_db - 3 and _low(whole) > _part(whole).written_db - 1


def test_further_samples_are_those_that_corrections_did_not_learn_from(monkeypatch: pytest.MonkeyPatch):
    job, ran = _job(_network(), _images(40)), list[Any]()

    def energies(feeds: Any, *_: Any) -> dict[str, NDArray[Any]]:
        ran.extend(feeds())
        return {"y": np.ones((len(ran), 2))}

    monkeypatch.setattr(unseen, "energies_on", energies)
    built = SimpleNamespace(model=None, compiled=None)
    found = unseen._look_further(job, built, job.held, job.ids[:2])  # type: ignore[arg-type]
    learned = job.effort.samples
    assert len(job.held) == 8 and len(job.ids) == 32 and learned == 16
    assert found.names == (*job.ids[learned:], *job.ids[:2]) and found.drawn == 16 and len(ran) == 18


def test_an_output_without_an_interval_is_named(monkeypatch: pytest.MonkeyPatch):
    alone = np.array([[100.0, 1.0], [100.0, 0.0], [100.0, 0.0]])
    ends, notes = _ends(monkeypatch, Unseen(), alone, alone)
    assert not ends and "y has no interval for unseen samples: one sample alone makes" in notes[0]
    ends, notes = _ends(monkeypatch, Unseen("d", 1, {}), ROWS, ROWS)
    assert not ends and "its shape in INT8 is another" in notes[0]


def test_an_output_without_any_error_is_said_to_tell_nothing_of_others(monkeypatch: pytest.MonkeyPatch):
    exact = ROWS * [1, 0]
    ends, notes = _ends(monkeypatch, Unseen("de", 2, {"y": exact[:2]}), exact, exact)
    assert (
        not ends
        and len(notes) == 1
        and "y has no interval" in notes[0]
        and "on all 5 samples that were run" in notes[0]
    )
    # Further samples with an error show that the held-out ones are not all there is.
    ends, notes = _ends(monkeypatch, Unseen("de", 2, {"y": ROWS[:2]}), exact, exact)
    assert not ends and len(notes) == 1 and "one sample alone makes" in notes[0]
    assert _ends(monkeypatch, Unseen(), exact * [0, 1], exact * [0, 1]) == ({}, [])  # all zero: said elsewhere


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
