"""The error over whole held-out sequences decides which recurrent layers run in INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from building import Net, op
from cpu_features import TARGET
from proof import error
from recurrent_layers import recurrent

from calib import inspect, quantize
from calib.engine import recurrent as deciding
from calib.errors import ModelError
from calib.runtime.session import Session, ov, read_model


def network() -> ov.Model:
    """Return a network of two dense layers with an LSTM, a GRU and a plain recurrent layer between them."""
    net = Net()
    x = op.tanh(net.dense(net.input(1, 10, 8), 16))
    joined = op.concat([recurrent(net, x, kind) for kind in ("lstm", "gru", "rnn")], 2)
    return net.model(net.dense(joined, 8))


def sequences(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).standard_normal((count, 1, 10, 8)).astype(np.float32))


ASKED = {"effort": "fast", "target": TARGET, "speed": False}


def test_a_layer_below_the_floor_stays_in_floating_point_with_its_figure_and_counts_in_the_coverage(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(deciding, "FLOOR_DB", 1000.0)
    result = quantize(network(), sequences(8), **ASKED)
    facts = {layer.name: layer for layer in result.report.layers}
    for name in ("lstm", "gru"):
        assert (facts[name].planned, facts[name].executed[-2:]) == ("float", "32")
        assert "dB on held-out sequences, and at least" in facts[name].reason and facts[name].macs > 0
    assert "floating point, whatever its inputs are" in facts["rnn"].reason
    assert {layer.executed for name, layer in facts.items() if name.startswith("MatMul")} == {"i8"}
    assert not result.plan.recurrent
    assert any("3 recurrent layers, lstm, gru, rnn in floating point: " in said for said in result.report.warnings)


def test_a_layer_above_it_runs_in_int8_and_is_written_read_and_replayed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(deciding, "FLOOR_DB", 5.0)
    model = network()
    result = quantize(model, sequences(8), **ASKED)
    facts = {layer.name: (layer.planned, layer.executed) for layer in result.report.layers}
    assert facts["lstm"] == facts["gru"] == ("int8", "i8") and facts["rnn"] == ("float", "f32")
    assert [one.name for one in result.plan.recurrent] == ["lstm", "gru"]
    result.save(tmp_path)
    (path,) = tmp_path.glob("*.xml")
    unseen = sequences(6, seed=1)
    expected = list(Session(result.model).each([x] for x in unseen))
    assert error(list(Session(read_model(path)).each([x] for x in unseen)), expected) < 1e-6
    assert error(expected, list(Session(model).each([x] for x in unseen))) < 0.5
    seen = {layer.name: (layer.planned, layer.executed) for layer in inspect(path).layers}
    assert seen["lstm"] == seen["gru"] == ("int8", "i8")
    again = quantize(model, plan=tmp_path / "plan.json", target=TARGET)
    assert error(list(Session(again.model).each([x] for x in unseen)), expected) == 0


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_network_of_a_recurrent_layer_alone_is_quantized(kind: str):
    net = Net()
    model = net.model(recurrent(net, net.input(1, 10, 8), kind))
    result = quantize(model, sequences(8), **ASKED)
    assert [(layer.name, layer.executed) for layer in result.report.layers] == [(kind, "i8")]
    assert "dB on held-out sequences" in result.report.layers[0].reason
    unseen = sequences(6, seed=1)
    outputs = [list(Session(one).each([x] for x in unseen)) for one in (result.model, model)]
    assert error(*outputs) < 0.05  # -26 dB, where it is 31 and 36 dB; with a scale for each matrix 0.2


def test_ranges_are_those_with_the_least_error_over_time(monkeypatch: pytest.MonkeyPatch):
    """Of data with one value 40 times as large as the others, the extremes alone leave 2 dB less on unseen samples."""
    net = Net()
    model = net.model(recurrent(net, net.input(1, 10, 8), "lstm"))
    sizes = np.array([20, *[0.5] * 7], np.float32)
    seen, unseen = ([sizes * x for x in sequences(count, seed)] for seed, count in enumerate((16, 24)))
    expected = list(Session(model).each([x] for x in unseen))
    monkeypatch.setattr(deciding, "FLOOR_DB", 0.0)
    found: list[float] = []
    for kept in (4, 1):
        monkeypatch.setattr(deciding, "POWERS", deciding.POWERS[:kept])
        monkeypatch.setattr(deciding, "SHARES", deciding.SHARES[:kept])
        result = quantize(model, seen, effort="fast", target="cpu-no-vnni", speed=False)
        found.append(error(list(Session(result.model).each([x] for x in unseen)), expected))
    assert found[0] < 0.9 * found[1], found


def test_a_network_whose_recurrent_layers_stay_in_floating_point_is_refused_with_their_figures(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(deciding, "FLOOR_DB", 1000.0)
    net = Net()
    model = net.model(recurrent(net, net.input(1, 10, 8), "lstm"))
    with pytest.raises(ModelError, match=r"nothing to quantize.*lstm.*dB on held-out sequences, and at least 1000"):
        quantize(model, sequences(8), **ASKED)


def test_with_a_budget_recurrent_layers_are_given_back_like_others():
    samples = sequences(40)
    asked = {**ASKED, "validation": samples, "metric": "relative-l2"}
    free = quantize(network(), samples, **asked, max_drop=0.5).report
    assert {one.name for one in free.layers if one.executed == "i8"} == {"MatMul_0", "lstm", "gru", "MatMul_1"}
    assert free.status == "within_budget" and not any(one.reverted for one in free.layers)
    ranked = quantize(network(), samples, **asked, max_drop=0.4 * free.accuracy.drop).report
    assert ranked.status == "within_budget"
    assert {"lstm", "gru"} <= {name for one in ranked.ranking for name in one.layers}
    gone = {one.name for one in ranked.layers if one.reverted}
    assert gone and {one.executed for one in ranked.layers if one.name in gone} == {"f32"}


def test_levels_of_weights_are_chosen_beside_a_recurrent_layer_and_a_table_on_a_cpu_whose_sums_saturate():
    net = Net()
    ids = net.input(1, 10, dtype=np.int64)
    x = net.dense(op.gather(net.weights(2000, 16, fan_in=4), ids, op.constant(np.int64(0))), 16)
    model = net.model(net.dense(recurrent(net, x, "lstm"), 8))
    rng = np.random.default_rng(0)
    result = quantize(model, [rng.integers(0, 2000, (1, 10)) for _ in range(8)], target="cpu", speed=False)
    executed = {layer.type: layer.planned for layer in result.report.layers}
    assert executed["LSTMSequence"] == executed["MatMul"] == "int8" and executed["Gather"] == "int8-weights"
