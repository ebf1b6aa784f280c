"""What a report promises of its model, and the sentences on what does not hold; nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from calib.engine.budgets import budget_in
from calib.report.numbers import plural
from calib.values.accuracy_facts import AccuracyFacts
from calib.values.drops import drop_text
from calib.values.facts import LayerFacts, Report, SpeedFacts
from calib.values.verification import AccuracyVerification, FileVerification, LayerVerification

NAMED = 5  # layers that a sentence names


def promises_budget(report: Report, accuracy: AccuracyFacts | None = None, *, deployed: bool) -> bool:
    """Say whether a report promises its budget where the model runs (``deployed``), or in f32.

    A run over its budget promised nothing, and neither did one that kept FP32.

    Args:
        report: Report of the run.
        accuracy: Accuracy by one of its metrics; that of all by default.
        deployed: Whether it is that where the model runs.
    """
    accuracy = accuracy or report.accuracy
    budget = budget_in(accuracy) if accuracy else None
    if accuracy is None or budget is None or report.status == "fp32_kept":
        return False
    if deployed and report.status == "within_budget_in_f32_only":
        return False  # it was missed there, or not measured
    drop = promised_drop(accuracy, deployed=deployed)
    return drop is not None and budget.fits(drop)


def promised_drop(accuracy: AccuracyFacts, *, deployed: bool) -> float | None:
    """Return the drop that a report has where the model runs (``deployed``), or in f32; None if it was not measured."""
    return accuracy.drop if deployed or accuracy.precision == "f32" else accuracy.other_drop


def promised_precision(layer: LayerFacts) -> str:
    """Return the precision that a report promises of a layer; i8 where it was planned and not looked up."""
    return executed_precision(layer) or ("i8" if layer.planned == "int8" else "")


def executed_precision(layer: LayerFacts) -> str:
    """Return the precision that a layer executes in: i8 if it is with one thread or with two, which counts as INT8."""
    return "i8" if layer.executed_one_thread == "i8" else layer.executed


def broken_files(files: Iterable[FileVerification]) -> list[str]:
    """Return a sentence for each file that is not the one that was written."""
    sentences: list[str] = []
    for file in files:
        if file.promised and not file.found:
            sentences.append(f"{file.name} is not there. Copy it from where the model was quantized.")
        elif file.promised and file.promised != file.found:
            sentences.append(
                f"{file.name} is not the file that was written: its SHA-256 is {file.found[:12]}…, and the report has "
                f"{file.promised[:12]}…. Copy it again, or quantize again."
            )
    return sentences


def broken_layers(layers: Sequence[LayerVerification]) -> list[str]:
    """Return a sentence on the layers that were promised in INT8 and are not executed in it."""
    late = [layer for layer in layers if not layer.kept]
    if not late:
        return []
    ran = [f"{one.name!r} ({one.primitive or 'not found'})" for one in late[:NAMED]]
    more = f" and {len(late) - NAMED} more" if len(late) > NAMED else ""
    one, they = len(late) == 1, ", ".join(ran) + more
    return [
        f"{plural(len(late), 'layer')} that {'was' if one else 'were'} promised in INT8 {'runs' if one else 'run'} in "
        f"floating point here: {they}. Quantize again on this machine, where such layers stay in floating point."
    ]


def broken_accuracy(accuracy: Iterable[AccuracyVerification]) -> list[str]:
    """Return a sentence for each precision in which the budget was promised and is not kept."""
    sentences: list[str] = []
    for found in accuracy:
        if found.kept or not found.promised:
            continue
        text = partial(drop_text, found.drop_kind, found.unit)
        own = f", and FP32 itself loses {text(found.fp32_drop)}" if found.fp32_drop else ""
        promised = f" against {text(found.promised_drop)} in the report" if found.promised_drop is not None else ""
        where = "where the model will run here" if found.deployed else "which was promised too"
        sentences.append(
            f"The budget of {text(found.budget or 0.0)} is not kept in {found.precision}, {where}: the drop is "
            f"{text(found.drop)}{promised}{own}. Quantize again on this machine, or allow a larger drop."
        )
    return sentences


def broken_speed(promised: SpeedFacts | None, here: SpeedFacts | None, wanted: float | None) -> list[str]:
    """Return a sentence if the model is slower than FP32 and was promised not to be, or misses the required speed-up.

    Nothing is claimed on a noisy machine, or where 1 is inside the 95 % interval.

    Args:
        promised: Speed in the report; None promises nothing.
        here: Speed on this machine; None if it could not be measured.
        wanted: Speed-up that the run required; None if it required none.
    """
    if promised is None or here is None or here.noisy:
        return []
    before, now = (min(one.speedup_f32, one.speedup_default) for one in (promised, here))
    if wanted is not None and before >= wanted and _ends(here) < wanted:
        return [
            f"The model is {now:.2f} times as fast as FP32 here, and at least {wanted:g} times was required; the "
            f"report has {before:.2f} times. Stay with FP32 on this machine, or quantize again on it."
        ]
    if before >= 1 > _ends(here):
        return [
            f"The model is slower than FP32 here, {now:.2f} times as fast; the report has {before:.2f} times. Stay "
            "with FP32 on this machine, or quantize again on it with --require-speedup 1."
        ]
    return []


def _ends(speed: SpeedFacts) -> float:
    """Return the upper end of the interval of the smaller speed-up."""
    pairs = ((speed.speedup_f32, speed.interval_f32), (speed.speedup_default, speed.interval_default))
    return min(interval[1] if interval else speedup for speedup, interval in pairs)
