"""What the report says of corrections and of the outcome is true of the model that is kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from calib.corrections.recipes import Chosen
from calib.engine.report import _corrections, _status, weight_sqnr
from calib.graph.insert import Edits
from calib.values.facts import CorrectionFacts, SpeedFacts
from calib.values.plan import Port, QuantizableNode, QuantizationPlan, TensorId, WeightQuantizer


def chosen(*layers: str) -> Chosen:
    facts = [CorrectionFacts(correction="equalization", layer="x:0", kept=True)]
    for layer in layers:
        facts += [CorrectionFacts(correction=name, layer=layer, kept=True) for name in ("rounding", "bias")]
    facts += [CorrectionFacts(correction="sequential bias", layer="", kept=True)]
    return Chosen(candidate_of(*layers), corrections=tuple(facts))


def candidate_of(*layers: str, biases: tuple[str, ...] = (), refit: Any = None) -> Any:
    edits = Edits({}, {layer: np.full(2, 0.5, np.float32) for layer in biases})
    found = tuple(QuantizableNode(name, "MatMul", (0,), (1,)) for name in layers)
    return SimpleNamespace(plan=QuantizationPlan(found, (), ()), edits=edits, refit=refit)


def kept_of(candidate: Any) -> list[tuple[str, str]]:
    built: Any = candidate and SimpleNamespace(candidate=candidate, plan=candidate.plan)
    return [(fact.correction, fact.layer) for fact in _corrections(chosen("a", "b"), built) if fact.kept]


def test_corrections_of_a_layer_go_with_it_and_equalization_stays():
    found = kept_of(candidate_of("b"))
    assert found == [("equalization", "x:0"), ("rounding", "b"), ("bias", "b"), ("sequential bias", "")]


def test_nothing_is_kept_of_a_model_that_is_not():
    assert kept_of(None) == []


def test_biases_found_again_are_those_of_the_model_and_those_dropped_are_given_back():
    candidate = candidate_of("b", biases=("b",), refit="found again")
    built: Any = SimpleNamespace(candidate=candidate, plan=candidate.plan)
    (bias,) = [f for f in _corrections(chosen("a", "b"), built) if (f.correction, f.layer) == ("bias", "b")]
    assert bias.kept and bias.detail == "2 of 2 channels, the largest change is 0.5"
    assert ("bias", "b") not in kept_of(candidate_of("b", refit="dropped"))


def test_weight_sqnr_is_of_the_rounding_that_the_model_has():
    """Rounding to 255 levels leaves an error of scale²/12; a rounding of its own is held against the same weights."""
    weights = np.random.default_rng(0).uniform(-1, 1, (2, 5000)).astype(np.float32)
    port = Port("layer", 1)
    quantizer = WeightQuantizer(port, (2, 1))
    view: Any = SimpleNamespace(
        values={TensorId("w"): weights}.__getitem__, tensor=lambda port: TensorId({"layer": "w"}[port.node])
    )
    plan = SimpleNamespace(weights=[quantizer])
    plain: Any = SimpleNamespace(plan=plan, view=view, edits=Edits())
    assert abs(weight_sqnr(plain)["layer"] - 10 * np.log10((1 / 3) / (127.0**-2 / 12))) < 0.3
    coarse = np.rint(weights).astype(np.int8), np.ones((2, 1), np.float32)
    own: Any = SimpleNamespace(plan=plan, view=view, edits=Edits({port: coarse}))
    assert abs(weight_sqnr(own)["layer"] - 10 * np.log10((1 / 3) / (1 / 12))) < 0.3


def status_of(
    reverted: int,
    speed: SpeedFacts | None = None,
    status: str = "within_budget",
    effort: str = "balanced",
    min_sqnr: float | None = None,
):
    """Return status and reason of a run that reverted so many of ten layers."""
    layers = [SimpleNamespace(name=str(number)) for number in range(10)]
    reverts = frozenset(map(str, range(reverted)))
    result = SimpleNamespace(status=status, reason="As it was.", reverted=reverts, stopped="")
    facts = SimpleNamespace(
        each=[],
        budget=0.01,
        drop=0.0,
        drop_kind="absolute",
        higher_is_better=True,
        unit="",
        precision="f32",
        other_drop=None,
    )
    outcome = SimpleNamespace(
        refused=None,
        controlled=SimpleNamespace(result=result, facts=facts),
        built=SimpleNamespace(plan=SimpleNamespace(layers=layers[reverted:])),
        speed=speed and SimpleNamespace(facts=speed),
    )
    chosen = SimpleNamespace(candidate=SimpleNamespace(plan=SimpleNamespace(layers=layers)))
    job: Any = SimpleNamespace(
        settings=SimpleNamespace(has_budget=True, min_sqnr=min_sqnr, effort=effort), precision="f32"
    )
    found: Any = SimpleNamespace(outcome=outcome, chosen=chosen)
    return _status(job, found)


def speed_of(high: float, noisy: bool = False) -> SpeedFacts:
    return SpeedFacts(
        latency_f32_ms=1.0,
        latency_default_ms=1.0,
        latency_int8_ms=1.0 / high,
        speedup_f32=high - 0.1,
        speedup_default=high - 0.1,
        default_precision="bf16",
        interval_f32=(high - 0.2, high),
        interval_default=(high - 0.2, high),
        noisy=noisy,
    )


def test_what_to_change_is_the_budget_that_was_given():
    assert "a smaller --min-sqnr" in status_of(6, min_sqnr=30.0)[1]
    assert "a larger --max-drop" in status_of(6)[1]


def test_budget_kept_by_reverting_most_layers_is_called_that_with_what_to_change():
    assert status_of(5) == ("within_budget", "As it was.")
    status, reason = status_of(6)
    assert status == "mostly_float" and "4 of 10 layers" in reason
    assert all(way in reason for way in ("--max-drop", "--effort thorough", "--metric"))
    assert "--effort" not in status_of(6, effort="thorough")[1]
    assert status_of(9, status="over_budget") == ("over_budget", "As it was.")


def test_budget_kept_by_a_slower_model_is_called_that_where_the_timing_is_certain():
    assert status_of(0, speed_of(1.2))[0] == status_of(0, speed_of(1.05, noisy=True))[0] == "within_budget"
    assert status_of(0, speed_of(0.9, noisy=True))[0] == "slower"  # the interval is below 1, however noisy
    status, reason = status_of(0, speed_of(0.9))
    assert status == "slower" and "FP32 in bf16 1 ms" in reason and "--require-speedup 1" in reason
    assert "--max-drop" not in reason  # no layer was reverted
    assert "a larger --max-drop, which reverts fewer layers" in status_of(1, speed_of(0.9))[1]
