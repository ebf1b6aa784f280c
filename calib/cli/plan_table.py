"""A plan as text, for ``calib quantize --dry-run``."""

from __future__ import annotations

from collections import Counter

from calib.report.console import rule, table
from calib.report.numbers import plural
from calib.values.plan import QuantizationPlan


def plan_lines(plan: QuantizationPlan, width: int, color: bool) -> list[str]:
    """Return what would be quantized, where the quantizers sit, and why the rest stays in floating point."""
    counts = Counter(layer.type for layer in plan.layers)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    lines = [rule(f"{plural(len(plan.layers), 'layer')} in INT8{f': {kinds}' if kinds else ''}", width, color)]
    if plan.layers:
        inputs = {name: q for q in plan.activations for name in sorted(q.layers)}
        rows = []
        for layer in plan.layers:
            reads = inputs.get(layer.name)
            rows.append(
                (layer.name, layer.type, reads.scheme.value if reads else "", str(reads.tensor) if reads else "")
            )
        lines += table(("layer", "type", "scheme", "quantizer on"), rows, width, color=color)
    if plan.groups:
        lines += ["", rule("can only change together", width, color)]
        lines += table(("layers",), [(" + ".join(sorted(group)),) for group in plan.groups], width, color=color)
    if plan.skipped:
        lines += ["", rule(f"{plural(len(plan.skipped), 'layer')} in floating point", width, color)]
        skipped = [(layer.name, layer.type, layer.reason) for layer in plan.skipped]
        lines += table(("layer", "type", "reason"), skipped, width, color=color)
    return lines
