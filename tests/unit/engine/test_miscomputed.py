"""Layers that this CPU executes otherwise than simulated are left out by name, and the rest stays in INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from building import Net, op
from cpu_features import TARGET

import calib
from calib.engine import miscomputed, verify
from calib.engine.building import median_db
from calib.runtime.session import ov

TAKING_OTHER_AXES = "calib.graph.insert.REDUCING"


def scaled(tail: int = 0) -> ov.Model:
    """Return a network with a layer that OpenVINO computes wrongly without a Squeeze behind the mean."""
    net = Net()
    words = net.input(1, 10, dtype=np.int64)
    x = op.gather(net.weights(50, 32, fan_in=4), words, op.constant(np.int64(0)))
    right = net.dense(x, 8)
    x = op.reduce_mean(op.multiply(x, np.logspace(-1, 0, 32, dtype=np.float32)), np.array([1]), False)
    x = op.matmul(x, net.weights(32, 16), False, False)
    x.set_friendly_name("wrong")
    for _ in range(tail):
        x = op.matmul(op.relu(op.add(x, np.full((1, 16), 0.01, np.float32))), net.weights(16, 16), False, False)
    return net.model(x, right)


def words() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 50, (1, 10)) for _ in range(20)]


@pytest.mark.parametrize("target", ["auto", TARGET])
@pytest.mark.parametrize("effort", ["fast", "balanced"])
@pytest.mark.parametrize("tail", [0, 2])
def test_a_layer_that_is_executed_otherwise_than_simulated_is_left_out_with_the_figure(
    target: str, effort: str, tail: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(TAKING_OTHER_AXES, frozenset())
    report = calib.quantize(scaled(tail), words(), effort=effort, target=target, speed=False).save(tmp_path)
    left = {layer.name: layer.reason for layer in report.layers if layer.planned == "float"}
    assert list(left) == ["wrong"]
    assert "otherwise than its simulation in f32 (" in left["wrong"] and "at least 15 dB" in left["wrong"]
    assert min(report.output_sqnr_db.values()) > 20


def test_a_network_that_is_executed_as_simulated_is_not_looked_at(monkeypatch: pytest.MonkeyPatch):
    def never(*_: object) -> miscomputed.Closeness:
        raise AssertionError("it was compiled for nothing")

    monkeypatch.setattr(miscomputed, "_agreement", never)
    report = calib.quantize(scaled(), words(), effort="fast", target=TARGET, speed=False).report
    assert all(layer.planned == "int8" for layer in report.layers if layer.type == "MatMul")


def outputs(seed: int, of: np.ndarray, db: float) -> list[list[np.ndarray]]:
    """Return arrays that are so many dB from others, a list of one for each row."""
    noise = np.random.default_rng(seed).standard_normal(of.shape)
    return [[row] for row in of + noise * np.sqrt(10 ** (-db / 10))]


@pytest.mark.parametrize(
    ("simulated_db", "executed_db", "holds"),
    [(8, 8, True), (8, -3, False), (30, 30, True), (30, 12, False), (16, 12, False)],
)
def test_execution_may_differ_from_its_simulation_as_much_as_that_does_from_fp32(
    simulated_db: float, executed_db: float, holds: bool
):
    fp32 = np.random.default_rng(0).standard_normal((9, 4000))
    simulated, executed = outputs(1, fp32, simulated_db), outputs(2, fp32, executed_db)
    reference = [[row] for row in fp32]
    assert median_db(reference, simulated) == pytest.approx(simulated_db, abs=0.3)
    seen = verify._agreement(simulated, executed, lambda: reference)
    assert seen.holds == holds
    assert seen.least == pytest.approx(min(simulated_db - 5, 15), abs=0.3)
    assert verify._agreement(simulated, executed, None).holds == (seen.found >= 15)


def test_no_layer_is_left_out_where_the_whole_agrees_as_well_as_it_can(monkeypatch: pytest.MonkeyPatch):
    asked: list[ov.Model] = []

    def as_well_as_it_can(model: ov.Model, *_: object) -> miscomputed.Closeness:
        asked.append(model)
        return miscomputed.Closeness(8.3, 3.3)

    monkeypatch.setattr(verify, "PROVEN_DB", 1e6)
    monkeypatch.setattr(miscomputed, "_agreement", as_well_as_it_can)
    report = calib.quantize(scaled(), words(), effort="fast", target=TARGET, speed=False).report
    assert len(asked) == 1
    assert all(layer.planned == "int8" for layer in report.layers if layer.type == "MatMul")
