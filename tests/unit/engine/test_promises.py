"""What a report promises, and when a sentence says that it does not hold."""

from __future__ import annotations

from typing import Any

import pytest
from report_fixtures.made_up import made_up_report

from calib.engine.promises import (
    broken_accuracy,
    broken_files,
    broken_layers,
    broken_speed,
    promised_precision,
    promises_budget,
)
from calib.values.facts import Report, SpeedFacts
from calib.values.verification import AccuracyVerification, FileVerification, LayerVerification


def report(status: str = "within_budget", **accuracy: Any) -> Report:
    """Return a report whose budget is .01; by default kept in bf16 (.0041) and in f32 (.0044)."""
    made = made_up_report()
    assert made.accuracy is not None
    return made_up_report(status=status, accuracy=made.accuracy.model_copy(update=accuracy))


@pytest.mark.parametrize(
    ("made", "deployed", "f32"),
    [
        (report(), True, True),
        (report("within_budget_in_f32_only", drop=0.02), False, True),
        (report("within_budget_not_in_f32", other_drop=0.02), True, False),
        (report("over_budget", drop=0.02, other_drop=0.02), False, False),
        (report("fp32_kept", drop=0.0), False, False),
        (report("quantized", budget=None), False, False),
        (report(precision="f32", other_precision="", other_drop=None), True, True),
        (made_up_report(accuracy=None), False, False),
    ],
)
def test_a_budget_is_promised_where_the_report_kept_it(made: Report, deployed: bool, f32: bool):
    assert promises_budget(made, deployed=True) == deployed
    assert promises_budget(made, deployed=False) == f32


def test_a_layer_that_ran_in_float_where_it_was_quantized_promises_nothing():
    layer = made_up_report().layers[0].model_copy(update={"planned": "int8"})
    executed = [promised_precision(layer.model_copy(update={"executed": one})) for one in ("i8", "f32", "")]
    assert executed == ["i8", "f32", "i8"]


def test_files_are_compared_only_where_the_report_knows_them():
    pairs = {"same": ("ab", "ab"), "other": ("ab", "cd"), "gone": ("ab", ""), "unknown": ("", "cd")}
    files = [FileVerification(name=name, promised=one, found=two) for name, (one, two) in pairs.items()]
    assert [sentence.split()[0] for sentence in broken_files(files)] == ["other", "gone"]


def layers(count: int, kept: bool = False) -> list[LayerVerification]:
    fields = {"type": "MatMul", "promised": "i8", "executed": "f32", "primitive": "gemm_f32"}
    return [LayerVerification(name=f"layer{number}", kept=kept, **fields) for number in range(count)]


def test_layers_in_float_are_counted_and_the_first_named():
    assert broken_layers(layers(3, kept=True)) == []
    assert "1 layer that was promised in INT8 runs in" in broken_layers(layers(1))[0]
    (many,) = broken_layers([*layers(7), *layers(2, kept=True)])
    assert many.startswith("7 layers that were promised") and "'layer4' (gemm_f32) and 2 more" in many


def measured(**changes: Any) -> AccuracyVerification:
    fields: dict[str, Any] = {
        "precision": "bf16",
        "deployed": True,
        "metric": "top-1",
        "higher_is_better": True,
        "unit": "fraction",
        "samples": 100,
        "baseline": 0.9,
        "quantized": 0.87,
        "drop": 0.03,
        "fp32_drop": 0.02,
        "promised_drop": 0.004,
        "budget": 0.01,
        "promised": True,
        "kept": False,
    }
    return AccuracyVerification(**{**fields, **changes})


def test_a_missed_budget_says_both_drops_and_that_of_fp32_and_only_where_it_was_promised():
    (sentence,) = broken_accuracy([measured(), measured(promised=False), measured(kept=True, drop=0.001)])
    assert (
        "not kept in bf16, where the model will run here: the drop is 3.00 points against 0.40 points in the report"
        in sentence
    )
    assert "FP32 itself loses 2.00 points" in sentence


def speed(f32: float, default: float, *, noisy: bool = False, spread: float = 0.02) -> SpeedFacts:
    return SpeedFacts(
        latency_f32_ms=f32,
        latency_default_ms=default,
        latency_int8_ms=1.0,
        speedup_f32=f32,
        speedup_default=default,
        interval_f32=(f32 - spread, f32 + spread),
        interval_default=(default - spread, default + spread),
        noisy=noisy,
    )


@pytest.mark.parametrize(
    ("promised", "here", "wanted", "says"),
    [
        (speed(2.5, 1.8), speed(1.5, 0.8), None, "slower than FP32 here, 0.80 times as fast; the report has 1.80"),
        (speed(2.5, 1.8), speed(1.5, 0.8, noisy=True), None, ""),
        (speed(2.5, 1.8), speed(1.5, 0.99), None, ""),  # 1 is inside the interval
        (speed(2.5, 0.9), speed(1.5, 0.8), None, ""),  # the report said so
        (None, speed(0.5, 0.5), None, ""),
        (speed(2.5, 1.8), None, None, ""),
        (speed(2.5, 1.8), speed(1.5, 1.2), 1.5, "1.20 times as fast as FP32 here, and at least 1.5 times was required"),
        (speed(2.5, 1.8), speed(2.0, 1.6), 1.5, ""),
    ],
)
def test_slower_is_said_where_it_was_not_promised_and_is_certain(
    promised: SpeedFacts | None, here: SpeedFacts | None, wanted: float | None, says: str
):
    found = broken_speed(promised, here, wanted)
    assert len(found) == bool(says) and says in "".join(found)
