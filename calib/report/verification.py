"""What ``calib verify`` found, as text for a terminal."""

from __future__ import annotations

from collections import Counter

from calib.report import numbers
from calib.report.console import pad, paint, rule, wrap
from calib.report.escape import printable
from calib.values.verification import AccuracyVerification, Verification

_NAME_WIDTH = 12


def render_verification_text(found: Verification, width: int = 100, color: bool = False) -> str:
    """Return the findings for a terminal: what does not hold first, then every figure with the promised one."""
    width = min(max(width, 40), 120)
    tone = "good" if found.holds else "bad"
    headline = "✔ everything promised holds here" if found.holds else "✘ not everything promised holds here"
    lines = [f"{paint(headline, tone, color)}  {paint(printable(found.model), 'bold', color)}", ""]
    for name, value, kept in _rows(found):
        first, *rest = wrap(value, width - _NAME_WIDTH - 4)
        start = f"  {paint(pad(name, _NAME_WIDTH), 'dim', color)}  "
        lines += [start + paint(first, "neutral" if kept else "bad", color)]
        lines += [" " * (_NAME_WIDTH + 4) + line for line in rest]
    for title, sentences in (("does not hold", found.broken), ("to know", found.notes)):
        if sentences:
            lines += ["", rule(title, width, color)]
        for sentence in sentences:
            first, *rest = wrap(sentence, width - 4)
            lines += [f"  ▪ {first}", *("    " + line for line in rest)]
    return "\n".join(lines) + "\n"


def _rows(found: Verification) -> list[tuple[str, str, bool]]:
    """Return name, figures and whether they are as promised."""
    same = all(file.promised == file.found for file in found.files if file.promised)
    known = any(file.promised for file in found.files)
    what = "those that were written" if same else "not those that were written"
    machine = f"{found.environment.get('cpu', '?')}; quantized on: {found.promised_environment.get('cpu', '?')}"
    rows = [("machine", machine, True), ("files", what if known else "not compared: the report holds no SHA-256", same)]
    if found.layers:
        ran = Counter(layer.executed or "?" for layer in found.layers)
        promised = Counter(layer.promised or "?" for layer in found.layers)
        kept = all(layer.kept for layer in found.layers)
        rows.append(("layers", f"{_counts(ran)}; promised: {_counts(promised)}", kept))
    rows += [(f"drop in {one.precision}", _drop(one), one.kept or not one.promised) for one in found.accuracy]
    if found.latency_ms is not None:
        rows.append(("latency", _latency(found), True))
    if found.speed:
        here, report = found.speed, found.promised_speed
        promised = f"; promised: {_speedups(report.speedup_f32, report.speedup_default)}" if report else ""
        noise = ", on a noisy machine" if here.noisy else ""
        rows.append(("speed-up", f"{_speedups(here.speedup_f32, here.speedup_default)}{noise}{promised}", True))
    return rows


def _counts(executed: Counter[str]) -> str:
    return ", ".join(f"{count} in {precision}" for precision, count in sorted(executed.items()))


def _drop(one: AccuracyVerification) -> str:
    parts = [numbers.drop(one, one.drop)]
    if one.interval:
        parts.append(f"95 %: {numbers.interval(one)}")
    if one.budget is not None:
        parts.append(f"budget {numbers.drop(one, one.budget)}")
    if one.promised_drop is not None:
        parts.append(f"promised: {numbers.drop(one, one.promised_drop)}")
    if one.fp32_drop is not None:
        parts.append(f"FP32 itself loses {numbers.drop(one, one.fp32_drop)}")
    parts.append(
        f"{one.metric} {numbers.change(one, one.baseline, one.quantized)} on {numbers.plural(one.samples, 'sample')}"
    )
    return " · ".join(parts)


def _latency(found: Verification) -> str:
    there = found.promised_speed
    report = f"; in the report {numbers.milliseconds(there.latency_int8_ms)}" if there else ""
    return f"{numbers.milliseconds(found.latency_ms)}{report}"


def _speedups(f32: float, default: float) -> str:
    return f"{numbers.ratio(f32)} against f32, {numbers.ratio(default)} against the default precision"
