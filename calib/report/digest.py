"""Sentences and figures of a report that the terminal and the page share."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from calib.report import numbers
from calib.runtime.paired import slower_layers
from calib.values.accuracy_facts import AccuracyFacts, KneeFacts, MetricFacts
from calib.values.facts import (
    LayerFacts,
    ModelFacts,
    OutputSqnrFacts,
    PartSqnrFacts,
    QuantizerFacts,
    Report,
    SpeedFacts,
    Status,
)
from calib.values.sqnr import ENOUGH_SAMPLES

Tone = Literal["good", "warning", "bad", "neutral"]

HEADLINES: dict[Status, tuple[Tone, str]] = {
    "within_budget": ("good", "INT8, within the budget"),
    "mostly_float": ("warning", "within the budget, but most layers are in floating point"),
    "slower": ("warning", "within the budget, but slower than FP32"),
    "within_budget_not_in_f32": ("warning", "INT8, within the budget in {precision}, not in f32"),
    "within_budget_in_f32_only": ("bad", "INT8, within the budget in f32 only, not in {precision}"),
    "quantized": ("neutral", "INT8, no budget asked"),
    "over_budget": ("bad", "INT8, over the budget"),
    "fp32_kept": ("warning", "FP32 kept"),
    "planned": ("neutral", "planned, nothing written"),
}

SEPARATOR = " · "

_FLOAT_EXECUTION = frozenset({"f32", "f16", "bf16", "fp32", "fp16"})


@dataclass(frozen=True)
class Fact:
    """One line of the summary.

    Attributes:
        name: Subject, such as "accuracy".
        value: Figures, before → after.
        detail: Context of the figures; may be empty.
        tone: Whether that is good or bad.
    """

    name: str
    value: str
    detail: str = ""
    tone: Tone = "neutral"


def headline(report: Report) -> tuple[Tone, str]:
    """Return the tone and the text of the headline."""
    if report.status == "over_budget" and report.accuracy and report.accuracy.undecided:
        return "warning", "INT8, no plan was judged on all samples yet"
    tone, text = HEADLINES[report.status]
    return tone, text.format(precision=_reduced(report.accuracy))


def _reduced(accuracy: AccuracyFacts | None) -> str:
    """Return the precision below f32 that accuracy is judged in."""
    if accuracy is None:
        return "the default precision"
    return accuracy.other_precision if accuracy.precision == "f32" else accuracy.precision


def facts(report: Report) -> list[Fact]:
    """Return the lines of the summary, only those that were measured."""
    found = []
    if report.accuracy:
        for one in report.accuracy.separately():
            found += [accuracy_fact(one), drop_fact(one)]
        if report.accuracy.each and report.accuracy.budget is not None:
            found.append(share_fact(report.accuracy))
    if report.speed:
        fact = speed_fact(report.speed)
        given_up = f"{fact.detail}{SEPARATOR}INT8 was given up"
        found.append(replace(fact, detail=given_up) if report.status == "fp32_kept" else fact)
    if report.model.bytes_before and report.model.bytes_after:
        found.append(size_fact(report.model))
    if report.layers:
        found.append(layers_fact(report))
    if report.output_sqnr_db:
        found.append(sqnr_fact(report))
    if report.knee and report.knee.layers:
        found.append(knee_fact(report.knee))
    return found


def knee_fact(knee: KneeFacts) -> Fact:
    """Say how many layers in floating point gain most for their work, and how much."""
    point = next(one for one in knee.points if one.layers == len(knee.layers))
    gain = numbers.decibel(point.sqnr_db - knee.points[0].sqnr_db)
    return Fact("Knee", f"+{gain}", knee.sentence.rstrip("."))


def sqnr_fact(report: Report) -> Fact:
    """Say the SQNR of the worst output: for which samples it holds, and what the default precision does to it."""
    worst = min(report.output_sqnr_db, key=lambda name: (report.output_sqnr_db[name], name))
    own = [output.name for output in report.model.outputs]
    what = "output" if not own or any(worst == name or worst.startswith(f"{name}[") for name in own) else "tensor"
    detail = [f"{what} {worst}" + (", the worst" if len(report.output_sqnr_db) > 1 else "")]
    measured = report.output_sqnr
    part = measured.parts.get(worst) if measured else None
    if measured and part:
        if part.interval:
            detail.append(f"95 %: {numbers.decibels(part.interval)} for unseen samples")
        detail.append(sqnr_samples(measured))
        if measured.refitted:
            detail.append(f"{numbers.decibel(part.written_db)} as written, with ranges of all samples")
        detail.append(sqnr_default(measured, part))
    return Fact("SQNR", numbers.decibel(report.output_sqnr_db[worst]), SEPARATOR.join(detail))


def sqnr_samples(measured: OutputSqnrFacts) -> str:
    """Say which samples the SQNR of the outputs is from, and whether they are few."""
    count = len(measured.samples)
    if not measured.held_out:
        return f"from {numbers.plural(count, 'sample')} of the calibration itself"
    few = f", fewer than {ENOUGH_SAMPLES}: roughly" if count < ENOUGH_SAMPLES else ""
    return f"from {numbers.plural(count, 'held-out sample')}{few}"


def sqnr_default(measured: OutputSqnrFacts, part: PartSqnrFacts) -> str:
    """Say the SQNR in the machine's default precision, and that of FP32 there."""
    if measured.default_precision == "f32":
        return "the default precision is f32, too"
    own = f", where FP32 itself has {numbers.decibel(part.fp32_default_db)}"
    return f"{numbers.decibel(part.default_db)} in the default {measured.default_precision}{own}"


def accuracy_fact(accuracy: AccuracyFacts) -> Fact:
    """Say the metric before and after."""
    direction = "higher is better" if accuracy.higher_is_better else "lower is better"
    samples = f"{SEPARATOR}{numbers.plural(accuracy.samples, 'sample')}" if accuracy.samples else ""
    where = f"{SEPARATOR}INT8 in {accuracy.precision}" if accuracy.precision != "f32" else ""
    return Fact(
        accuracy.metric, numbers.change(accuracy, accuracy.baseline, accuracy.quantized), direction + samples + where
    )


def drop_fact(accuracy: AccuracyFacts) -> Fact:
    """Say the drop with its interval and the budget."""
    detail = [f"95 %: {numbers.interval(accuracy)}"] if accuracy.interval else []
    if accuracy.interval_note:
        detail.append(accuracy.interval_note)
    tone: Tone = "neutral"
    if accuracy.budget is not None:
        tone = "good" if accuracy.drop <= accuracy.budget else "bad"
        detail.append(f"budget {numbers.drop(accuracy, accuracy.budget)}")
    if accuracy.other_drop is not None:
        detail.append(f"{numbers.drop(accuracy, accuracy.other_drop)} in {accuracy.other_precision}")
    if accuracy.fp32_drop is not None and accuracy.precision != "f32":
        detail.append(f"FP32 itself loses {numbers.drop(accuracy, accuracy.fp32_drop)} in {accuracy.precision}")
    elif accuracy.fp32_drop is not None:
        detail.append(f"FP32 itself loses {numbers.drop(accuracy, accuracy.fp32_drop)} there")
    if accuracy.given_up_drop is not None:
        detail.append(f"INT8, which was given up, lost {numbers.drop(accuracy, accuracy.given_up_drop)}")
    elif accuracy.confirmed_samples:
        detail.append(f"confirmed on {numbers.plural(accuracy.confirmed_samples, 'unseen sample')}")
    return Fact("drop", numbers.drop(accuracy, accuracy.drop), SEPARATOR.join(detail), tone)


def share_fact(accuracy: AccuracyFacts) -> Fact:
    """Say the largest share of its budget that one of several metrics lost, and which one it was."""

    def share(one: MetricFacts) -> float:
        return one.drop / one.budget if one.budget else one.drop * math.inf if one.drop else 0.0

    tone: Tone = "good" if accuracy.drop <= (accuracy.budget or 0.0) else "bad"
    detail = f"the largest share, that of {max(accuracy.each, key=share).metric}"
    return Fact("budgets", numbers.drop(accuracy, accuracy.drop), detail, tone)


def speed_fact(speed: SpeedFacts) -> Fact:
    """Say the latency and how much faster, against f32 and against what the machine would run anyway."""
    default = f" {speed.default_precision}" if speed.default_precision else ""
    detail = (
        f"{_speedup(speed.speedup_f32, speed.interval_f32)} against f32 · "
        f"{_speedup(speed.speedup_default, speed.interval_default)} against the "
        f"default{default}, {numbers.milliseconds(speed.latency_default_ms)}"
    )
    worst = min(speed.speedup_f32, speed.speedup_default)
    tone: Tone = "warning" if speed.noisy or worst < 1 else "good"
    before, after = numbers.milliseconds(speed.latency_f32_ms), numbers.milliseconds(speed.latency_int8_ms)
    return Fact("latency", f"{before} → {after}", detail + (" · noisy machine" if speed.noisy else ""), tone)


def _speedup(value: float, interval: tuple[float, float] | None) -> str:
    """Return a speed-up with its interval, which says what can be claimed."""
    return numbers.ratio(value) + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def size_fact(model: ModelFacts) -> Fact:
    """Say the size of the weights before and after."""
    times = model.bytes_before / model.bytes_after
    detail = f"{times:.2f}× smaller" if times >= 1 else f"{1 / times:.2f}× larger"
    if detail.startswith("1.00×"):
        detail = "unchanged"
    return Fact("weights", f"{numbers.size(model.bytes_before)} → {numbers.size(model.bytes_after)}", detail)


def layers_fact(report: Report) -> Fact:
    """Say how many layers are in INT8, in what share of the work, and what became of the rest."""
    planned = [layer for layer in report.layers if layer.planned == "int8" and not ran_otherwise(layer)]
    tables = [layer for layer in report.layers if layer.planned == "int8-weights"]
    detail = (
        [f"{numbers.share(_work(planned) / _work(report.layers))} of the multiply-adds"] if _countable(report) else []
    )
    if tables:
        detail.append(f"and {numbers.plural(len(tables), 'embedding table')} in 8 bit")
    if reverted := sum(layer.reverted for layer in report.layers):
        detail.append(f"{reverted} reverted")
    odd = unexpected(report)
    if odd:
        detail.append(f"{len(odd)} did not run as planned")
    tone: Tone = "warning" if odd else "neutral"
    computing = len(report.layers) - len(tables)
    return Fact("layers", f"{len(planned)} of {computing} in INT8", SEPARATOR.join(detail), tone)


def _work(layers: list[LayerFacts]) -> int:
    return sum(layer.macs for layer in layers)


def _countable(report: Report) -> bool:
    """Say whether the work of every layer is known; an Add and a table multiply nothing."""
    return _work(report.layers) > 0 and all(layer.macs or layer.type in ("Add", "Gather") for layer in report.layers)


def unexpected(report: Report) -> list[LayerFacts]:
    """Return the layers planned in INT8 that were executed in floating point."""
    return [layer for layer in report.layers if ran_otherwise(layer)]


def ran_otherwise(layer: LayerFacts) -> bool:
    """Say whether a layer planned in INT8 was executed in floating point."""
    return layer.planned == "int8" and layer.executed.lower() in _FLOAT_EXECUTION and not layer.in_int8


def executed_in(layer: LayerFacts) -> str:
    """Say what a layer executed in, with both precisions where one thread and two differ."""
    mark = " !" if ran_otherwise(layer) else ""
    alone = f", {layer.executed_one_thread} with one thread" if layer.executed_one_thread else ""
    return f"{layer.executed}{alone}{mark}"


def primitive_of(layer: LayerFacts) -> str:
    """Say which primitive a layer executed as, with both where the precision of one thread and two differs."""
    alone = f", {layer.primitive_one_thread} with one thread" if layer.primitive_one_thread else ""
    return f"{layer.primitive}{alone}"


def float_ms(layer: LayerFacts) -> float | None:
    """Return the time of a layer in the faster of f32 and the default precision; None where it was not timed."""
    return min((time for time in (layer.time_fp32_ms, layer.time_default_ms) if time is not None), default=None)


def slower(report: Report) -> list[LayerFacts]:
    """Return the INT8 layers that took longer than in floating point, the costliest first.

    If the FP32 model is kept, they are those of the rejected INT8 model.
    """
    int8 = report.status == "fp32_kept"
    timed = {i: layer for i, layer in enumerate(report.layers) if layer.time_int8_ms and float_ms(layer)}
    times = {i: layer.time_int8_ms or 0.0 for i, layer in timed.items() if int8 or layer.planned == "int8"}
    best = {i: float_ms(layer) or 0.0 for i, layer in timed.items()}
    late = slower_layers(times, [best])
    return [timed[i] for i in sorted(late, key=lambda i: (best[i] - times[i], timed[i].name))]


def float_reasons(report: Report) -> list[tuple[str, int]]:
    """Return why layers stay in floating point and how many for that reason, the most frequent first.

    Reasons that differ only in the figures behind their first colon are one.
    """
    full = [layer.reason or "no reason recorded" for layer in report.layers if layer.planned == "float"]
    variants = Counter(reason.partition(": ")[0] for reason in set(full))
    heads = (reason.partition(": ")[0] for reason in full)
    reasons = Counter(head if variants[head] > 1 else reason for head, reason in zip(heads, full, strict=True))
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def corrections(report: Report) -> list[tuple[str, int, int]]:
    """Return ``(correction, layers where it was kept, layers where it was tried)`` in the order of application."""
    facts = [fact for fact in report.corrections if fact.layer]
    tried = Counter(fact.correction for fact in facts)
    kept = Counter(fact.correction for fact in facts if fact.kept)
    return [(name, kept[name], count) for name, count in tried.items()]


def quantizers_of_layers(report: Report) -> dict[str, list[QuantizerFacts]]:
    """Return the activation quantizers that serve each layer."""
    found: dict[str, list[QuantizerFacts]] = {}
    for quantizer in report.quantizers:
        for layer in quantizer.layers:
            found.setdefault(layer, []).append(quantizer)
    return found


# Share of the time of INT8 from which on what layers lose in it is worth a way out: as far as timings tell.
MUCH = 0.05
_TO_KNOW = 3  # sentences that are shown; the others are folded away
_EXPLAINS = 4  # rank of sentences that only explain

# Words of sentences that ask for something first, and of those that ask for nothing: they are read last.
_FIRST = (
    *("NaN or infinity", "much of it is noise", "no better than guessing", "is all zero", "off by one"),
    *("trained on normalized images", "alone sets the extremes", "holds only zeros", "are also calibration samples"),
)
_LAST = (
    *("Other work shared the CPU", "is kept.", "INT8 sums saturate on this CPU", "INT8 sums can saturate"),
    *("took longer in INT8", "OpenVINO can't compile", "keep all", ", as asked.", "numbered in the order of their ids"),
)
_WAY_OUT = re.compile(r"--[a-z]|\b(Give|give|Try|try|Calibrate|Look|Run|Measure|Leave|Lower|Raise|Repair)\b")


def to_know(report: Report) -> tuple[list[str], list[str]]:
    """Return the sentences to read beside the figures, at most three, and those that are folded away.

    First is what says why the result is not what was asked for, then what makes it doubtful, then what else can be done
    something about. What only explains is always folded away.
    """
    reason = report.status_reason if report.status not in ("within_budget", "quantized") else ""

    def rank(note: str) -> int:
        if reason and note == reason:
            return 0
        if any(words in note for words in _FIRST):
            return 1
        return _EXPLAINS if any(words in note for words in _LAST) else 2 if _WAY_OUT.search(note) else 3

    ordered = sorted(dict.fromkeys(notes(report)), key=rank)
    shown = [note for note in ordered if rank(note) < _EXPLAINS][:_TO_KNOW]
    return shown, ordered[len(shown) :]


def summary(report: Report) -> str:
    """Return the result in one line: headline, model, and the figures that were measured."""
    said = [f"{fact.name} {fact.value}" for fact in facts(report) if fact.name not in ("latency",)]
    if report.speed:
        said.append(f"{numbers.ratio(report.speed.speedup_f32)} as fast as f32")
    return f"{report.model.name}: {headline(report)[1]}" + "".join(f"; {one}" for one in said)


def notes(report: Report) -> list[str]:
    """Return the sentences that a reader has to see beside the figures."""
    found = [report.status_reason] if report.status_reason else []
    if report.output_sqnr:
        found += report.output_sqnr.notes
    if report.accuracy and report.accuracy.note:
        found.append(report.accuracy.note)
    if report.speed:
        if report.speed.note:
            found.append(report.speed.note)
        rival = min(report.speed.latency_f32_ms, report.speed.latency_default_ms)
        if report.speed.latency_int8_ms > rival and report.status not in ("fp32_kept", "slower"):  # the reason says so
            noise = ", as far as a noisy machine tells" if report.speed.noisy else ""
            found.append(
                f"INT8 does not pay here{noise}: {numbers.milliseconds(report.speed.latency_int8_ms)} against "
                f"{numbers.milliseconds(rival)} for the faster of f32 and the default precision."
            )
    found += _of_slower(report)
    return found + report.warnings


def _of_slower(report: Report) -> list[str]:
    """Return a sentence on the layers that took longer in INT8, if any: with a way out where they cost much."""
    late, speed = slower(report), report.speed
    if not late:
        return []
    default = speed.default_precision if speed else "f32"
    noise = ", timed on a noisy machine" if speed and speed.noisy else ""
    rival = "f32" if default in ("", "f32") else f"the faster of f32 and {default}"
    which = numbers.plural(len(late), "layer")
    lost = sum((layer.time_int8_ms or 0.0) - (float_ms(layer) or 0.0) for layer in late)
    asked = any(fact.key == "optimize_speed" and fact.value for fact in report.settings)
    other = report.status in ("fp32_kept", "slower")  # where the reason names a way out
    if speed is None or asked or other or lost < MUCH * speed.latency_int8_ms:
        return [f"{which} took longer in INT8 than in {rival}{noise}."]
    return [
        f"{which} lost {numbers.milliseconds(lost)} of {numbers.milliseconds(speed.latency_int8_ms)} in INT8 against "
        f"{rival}{noise}. Try --optimize-speed, which times the network with such layers in floating point; no effort "
        "does by itself, so that two runs give the same model."
    ]
