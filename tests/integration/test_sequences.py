"""Models that keep state, and a dynamic first axis, from samples to figures in all that runs a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import calib
from calib.errors import DataError
from calib.runtime.session import Session, ov
from calib.samples.sample import Frames
from calib.values.sqnr import decibel

op = ov.opset13
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


WEIGHTS = normal(12, 24), normal(24, 4)


def leaky() -> ov.Model:
    """A leaky integrator and two layers that read it: after a while its values are ten times those of a frame."""
    x = op.parameter([1, 8, 12], np.float32, name="x")
    x.output(0).set_names({"x"})
    state = op.read_value(op.constant(np.zeros((1, 8, 12), np.float32)), "memory", np.float32, [1, 8, 12])
    total = op.add(op.multiply(state, np.float32(0.9)), x)
    hidden = op.relu(op.matmul(total, WEIGHTS[0], False, False))
    scores = op.reduce_mean(op.matmul(hidden, WEIGHTS[1], False, False), np.array([1]))
    scores.output(0).set_names({"scores"})
    return ov.Model([op.result(scores)], [op.assign(total, "memory")], [x], "leaky")


def frames(count: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((count, 1, 8, 12)) + 1).astype(np.float32)


def run(model: ov.Model, *sequences: np.ndarray) -> list[np.ndarray]:
    """Outputs of each frame of each sequence."""
    return [y for (y,) in Session(model).each(Frames((frame,) for frame in sequence) for sequence in sequences)]


def sqnr(model: ov.Model, *sequences: np.ndarray) -> float:
    y, y_q = (np.stack(run(one, *sequences)).astype(np.float64) for one in (leaky(), model))
    return decibel(float((y**2).sum()), float(((y - y_q) ** 2).sum()))


SEQUENCES = [frames(25 + seed, seed) for seed in range(3)]


def quantized(data: Any, **settings: Any) -> calib.Result:
    return calib.quantize(leaky(), data, speed=False, target="cpu-no-vnni", **settings)


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_ranges_and_figures_are_those_of_sequences(effort: str):
    result = quantized([calib.Sequence(one) for one in SEQUENCES], effort=effort)
    assert sqnr(result.model, *SEQUENCES) > 15  # 18.2 and 18.4 on a CPU where INT8 sums may saturate
    assert not [warning for warning in result.report.warnings if "state" in warning]
    assert result.report.calibration_samples == 3
    if effort == "balanced":
        stated = result.report.output_sqnr_db["scores"]
        assert stated == pytest.approx(sqnr(result.model, *SEQUENCES), abs=0.05)


def test_single_frames_are_warned_of_with_the_way_out():
    result = quantized(list(np.concatenate(SEQUENCES)), effort="fast")
    (warning,) = [warning for warning in result.report.warnings if "state" in warning]
    assert "'memory'" in warning and "calib.Sequence([frame, frame, …])" in warning and "?sequence=" in warning
    assert sqnr(result.model, *SEQUENCES) < 10  # which is what it warns of


def test_one_sequence_is_enough_for_corrections():
    result = quantized([calib.Sequence(SEQUENCES[0])])
    assert sqnr(result.model, SEQUENCES[0]) == pytest.approx(result.report.output_sqnr_db["scores"], abs=0.05)
    assert result.report.output_sqnr_db["scores"] > 15


def test_a_correction_that_a_network_with_state_can_not_have_is_named_once():
    report = quantized([calib.Sequence(list(frames(20, seed))) for seed in range(8)], effort="thorough").report
    said = [text for text in report.warnings if "'sequential bias' was left out" in text]
    assert len(said) == 1 and "networks without state" in said[0]
    assert not any("sequential bias" in candidate.name for candidate in report.candidates)


def test_the_model_does_not_depend_on_streams_or_the_order_of_sequences(tmp_path):
    made = [calib.Sequence(one) for one in SEQUENCES]
    for number, (data, threads) in enumerate([(made, 1), (made, 2), (made[::-1], 2)]):
        quantized(data, threads=threads).save(tmp_path / str(number))
    written = [(tmp_path / str(n) / "leaky.bin").read_bytes() for n in range(3)]
    plans = [(tmp_path / str(n) / "plan.json").read_bytes() for n in range(3)]
    assert len(set(written)) == len(set(plans)) == 1


def test_a_sequence_for_a_model_without_state_is_refused():
    x = op.parameter([1, 12], np.float32, name="x")
    plain = ov.Model([op.result(op.matmul(x, WEIGHTS[0], False, False))], [x], "plain")
    with pytest.raises(DataError, match=r"item 0 .* is a sequence, and the model keeps no state.*without \?sequence="):
        calib.quantize(plain, [calib.Sequence(normal(4, 12))])


def labelled(each: bool) -> list[Any]:
    """Sequences with the classes of FP32 as targets, of each frame or of the last one."""
    labels = [[int(y.argmax()) for y in run(leaky(), one)] for one in SEQUENCES]
    if each:
        return [calib.Sequence(one, known) for one, known in zip(SEQUENCES, labels, strict=True)]
    return [(calib.Sequence(one), known[-1]) for one, known in zip(SEQUENCES, labels, strict=True)]


@pytest.mark.parametrize("each", [True, False])
def test_evaluate_measures_every_frame_or_the_last_one(each: bool):
    found = calib.evaluate(leaky(), labelled(each), "top-1")
    assert (found.value, found.samples, found.notes) == (1.0, 3, [])
    single = [(one[-1], run(leaky(), one)[-1].argmax()) for one in SEQUENCES]
    assert "the model keeps state" in calib.evaluate(leaky(), single, "top-1").notes[0]


def test_evaluate_reads_sequences_of_a_file(tmp_path):
    labels = [int(y.argmax()) for one in SEQUENCES for y in run(leaky(), one)]
    drive = np.repeat([5, 3, 8], [len(one) for one in SEQUENCES])
    np.savez(tmp_path / "drives.npz", x=np.concatenate(SEQUENCES), labels=labels, drive=drive)
    assert calib.evaluate(leaky(), f"{tmp_path}/drives.npz?sequence=drive", "top-1").value == 1.0
    cut = calib.evaluate(leaky(), f"{tmp_path}/drives.npz", "top-1")
    assert cut.samples == len(labels) and cut.notes


def test_a_budget_is_kept_on_sequences():
    result = quantized(
        [calib.Sequence(one) for one in SEQUENCES],
        validation=[calib.Sequence(one) for one in SEQUENCES],
        metric="relative-l2",
        max_drop=0.2,
    )
    accuracy = result.report.accuracy
    assert accuracy is not None and result.report.status == "within_budget"
    assert accuracy.samples == 3 and accuracy.baseline == 1.0 and 0 < accuracy.drop < 0.2


def test_validation_on_single_frames_is_warned_of_too():
    data = [calib.Sequence(one) for one in SEQUENCES]
    result = quantized(data, effort="fast", validation=list(SEQUENCES[0]), metric="relative-l2")
    assert sum("the model keeps state" in warning for warning in result.report.warnings) == 1


def test_a_search_ranks_and_reverts_on_sequences():
    data = [calib.Sequence(one) for one in SEQUENCES]
    result = quantized(data, validation=data, metric="relative-l2", max_drop=1e-9)
    assert result.report.ranking and all(np.isfinite(fact.sensitivity) for fact in result.report.ranking)


def test_a_users_function_gets_the_outputs_of_all_frames():
    def last_sum(predict: Any) -> float:
        (scores,) = predict(calib.Sequence(SEQUENCES[0]))
        assert scores.shape == (25, 4)
        return float(scores[-1].sum())

    found = calib.evaluate(leaky(), None, last_sum, higher_is_better=True)
    assert found.value == pytest.approx(float(run(leaky(), SEQUENCES[0])[-1].sum()), rel=1e-4)


def test_compare_runs_sequences():
    data = [calib.Sequence(one) for one in SEQUENCES]
    made = quantized(data, effort="fast").model
    found = calib.compare(leaky(), made, data)
    assert found.output_sqnr_db["scores"] == pytest.approx(sqnr(made, *SEQUENCES), abs=0.05)
    assert (found.samples, found.notes) == (3, [])
    assert any("keeps state" in note for note in calib.compare(leaky(), made, list(SEQUENCES[0])).notes)


def test_bench_times_frames_in_order():
    found = calib.bench([leaky()], [calib.Sequence(SEQUENCES[0])], streams=2, seconds=0.2)
    assert found.entries[0].latency_ms > 0 and not any("state" in note for note in found.notes)


def test_a_dynamic_first_axis_is_said_everywhere():
    points = op.parameter([-1, 12], np.float32, name="points")
    points.output(0).set_names({"points"})
    hidden = op.relu(op.matmul(points, WEIGHTS[0], False, False))
    scores = op.matmul(op.reduce_sum(hidden, np.array([0]), keep_dims=True), WEIGHTS[1], False, False)
    scores.output(0).set_names({"scores"})
    cloud = ov.Model([op.result(scores)], [points], "cloud")
    data = [normal(40, 12) for _ in range(10)]
    result = calib.quantize(cloud, data, speed=False)
    assert result.report.calibration_samples == 10
    sentence = "the dynamic first axis of input 'points' was taken for part of a sample"
    assert any(sentence in warning for warning in result.report.warnings)
    with_targets = [(one, np.zeros((1, 4), np.float32)) for one in data]
    assert any(sentence in note for note in calib.evaluate(result.model, with_targets, "mae").notes)
    assert any(sentence in note for note in calib.compare(cloud, result.model, data).notes)
    split = calib.quantize(cloud, data, speed=False, effort="fast", first_axis="batch")
    assert split.report.calibration_samples == 300
    seen: list[tuple[int, ...]] = []

    def shape_of(predict: Any) -> float:
        seen.append(predict(data[0])[0].shape)
        return 1.0

    calib.evaluate(cloud, None, shape_of, higher_is_better=True)
    assert seen == [(1, 4)]
