"""What is suspicious about the outcome of a run: one check each, and the sentences that it warns with.

What is suspicious about its samples alone is known earlier, see `calib.engine.data_checks`.

Nothing here is an error: the run goes through, and the reader decides. What can't be right, such as a label that is no
class, is refused where it is read. Each sentence names what was found, the value and the way out; one that rests on a
guess says so. To add a check, write a function and add its line to ``CHECKS``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib.corrections.candidate import Candidate
from calib.engine.data_checks import data_of, only_zeros
from calib.engine.job import Job
from calib.graph.layers import weights_of
from calib.ranges.affine import SCALE_FLOOR
from calib.report.numbers import decibel, plural
from calib.runtime.isa import saturates
from calib.values.summary import Summaries, TensorSummary

FLOOR_DB = 10.0  # noise of a tenth of the signal's power: errors of a third of it
_ENOUGH_TO_COMPARE = 8  # samples: of fewer, each may be the only one of its kind
_SATURATED = "INT8 sums saturate on this CPU, so try --target cpu-no-vnni first. "
_WIDER = 2.0  # times as wide as without one sample: a bit less for all the others


@dataclass(frozen=True)
class Evidence:
    """What the checks look at.

    Attributes:
        candidate: Network in floating point, with the plan of everything that was to be INT8.
        summaries: Statistics of the quantized tensors; empty where a plan with ranges was replayed.
        output_sqnr_db: SQNR in dB of each output of the INT8 model that is kept; empty without one.
    """

    job: Job
    candidate: Candidate
    summaries: Summaries = field(default_factory=dict[Any, TensorSummary])
    output_sqnr_db: Mapping[str, float] = field(default_factory=dict[str, float])


def low_sqnr(seen: Evidence) -> Iterator[str]:
    """Warn of outputs of the INT8 model that are mostly noise."""
    low = {name: error for name, error in seen.output_sqnr_db.items() if not error >= FLOOR_DB}
    if low:
        worst = min(low, key=lambda name: low[name])
        others = f" ({plural(len(low), 'output')} of {len(seen.output_sqnr_db)} are under it)" if len(low) > 1 else ""
        has_budget, floor = seen.job.settings.has_budget, f"--min-sqnr {FLOOR_DB:g}"
        budget = f"Lower --max-drop, or give {floor}" if has_budget else f"Give {floor}, or a metric and --max-drop"
        yield (
            f"Output {worst!r} of the INT8 model has an SQNR of {decibel(low[worst])} against FP32, under "
            f"{FLOOR_DB:g} dB{others}: much of it is noise. {_SATURATED if _advised(seen) else ''}"
            f"{budget}, so that layers return to floating point; try --effort thorough; or leave out with --ignore the "
            "layers where `calib compare` sees the error jump."
        )


def _advised(seen: Evidence) -> bool:
    """Say whether sums saturate here and the user chose the target; the default one tries both forms."""
    return saturates(seen.candidate.plan) and not seen.job.chooses_levels


def one_sample_sets_ranges(seen: Evidence) -> Iterator[str]:
    """Warn of one sample that alone makes the extremes of most tensors at least twice as wide as all others do."""
    rows = [row for row in seen.summaries.values() if row.low < row.high]
    if len(seen.job.ids) < _ENOUGH_TO_COMPARE or not rows:
        return
    setters = Counter(name for row in rows if (name := _setter(row)))
    for name, count in setters.most_common(1):
        if 2 * count > len(rows):
            row = max((row for row in rows if _setter(row) == name), key=lambda row: _width(row) / _width(row, name))
            low, high = _without(row, name)
            yield (
                f"Of the calibration samples, {_where(seen, name)} alone sets the extremes of {count} of {len(rows)} "
                f"quantized tensors: without it they are at most half as wide, those of {row.tensor} for instance "
                f"{low:.3g} to {high:.3g} in place of {row.low:.3g} to {row.high:.3g}. Look at it: leave it out if it "
                "is damaged; if it is not, an --estimator that clips (percentile, mean-minmax) may serve the others "
                "better."
            )


def _where(seen: Evidence, name: str) -> str:
    return next(iter(seen.job.samples([name]))).where or name


def _without(row: TensorSummary, name: str) -> tuple[float, float]:
    """Return the extremes over all samples but one."""
    low = row.next_low if row.low_sample == name else row.low
    high = row.next_high if row.high_sample == name else row.high
    return low, high


def _width(row: TensorSummary, without: str = "") -> float:
    """Return the width of a range that holds the extremes and zero, perhaps without one sample's."""
    low, high = _without(row, without) if without else (row.low, row.high)
    return max(high, 0.0) - min(low, 0.0)


def _setter(row: TensorSummary) -> str:
    """Return the id of the sample without which the range is at most half as wide; "" if there is none."""
    for name in (row.high_sample, row.low_sample):
        if name and 0 < _WIDER * _width(row, name) <= _width(row):
            return name
    return ""


def dead_layers(seen: Evidence) -> Iterator[str]:
    """Warn of layers that get nothing but zeros: a ReLU before them never lets anything through."""
    plan, rows = seen.candidate.plan, seen.summaries
    dead = [q for q in plan.activations if q.tensor in rows and rows[q.tensor].low == rows[q.tensor].high == 0]
    source = {layer: str(quantizer.tensor) for quantizer in dead for layer in quantizer.layers}
    layers = [layer.name for layer in plan.layers if layer.name in source]
    if layers and not only_zeros(data_of(seen.job, None)):  # that is said of the samples already, and is the reason
        yield (
            f"{plural(len(layers), 'layer')} got nothing but zeros from the calibration samples, {layers[0]!r} first "
            f"(tensor {source[layers[0]]}): no range is right for what other samples may bring. Use samples that reach "
            "it, or leave it in floating point with --ignore."
        )


@dataclass(frozen=True)
class _Floored:
    """Weights or values that the smallest scale is too large for, and a layer that reads them."""

    what: str
    largest: float
    least: float
    layer: str


def floored_scales(seen: Evidence) -> Iterator[str]:
    """Warn of layers whose weights or values are mostly smaller than the smallest scale.

    Single channels of such weights are usual in trained networks, and add nothing to the result.
    """
    candidate, found = seen.candidate, list[_Floored]()
    for weight in candidate.plan.weights:
        axes = tuple(axis for axis, size in enumerate(weight.scale_shape) if size == 1)
        largest = np.abs(weights_of(candidate.view, weight.port)).max(axis=axes, initial=0.0)
        largest, least = largest[largest > 0], SCALE_FLOOR * (weight.levels // 2)
        if 2 * int((largest < least).sum()) > largest.size:
            layer = weight.port.node
            found.append(_Floored(f"The weights of layer {layer!r}", float(largest.max()), least, layer))
    yield from _floored(found, "layers")
    found.clear()
    for quantizer in candidate.plan.activations:
        row, least = seen.summaries.get(quantizer.tensor), SCALE_FLOOR * (quantizer.levels - 1)
        if row and 0 < _width(row) < least:
            layer = min(quantizer.layers, default="")
            found.append(_Floored(f"The values of tensor {quantizer.tensor}", _width(row), least, layer))
    yield from _floored(found, "tensors")


def _floored(found: Sequence[_Floored], several: str) -> Iterator[str]:
    """Yield one sentence on the first of these, which counts them; none if there are none."""
    for first in found[:1]:
        more = f" ({len(found)} {several} are like this)" if len(found) > 1 else ""
        yield (
            f"{first.what} are at most {first.largest:.2g}{more}. The smallest scale there is reaches to "
            f"{first.least:.2g}, so few of its levels or none are used. Leave the layer in floating point with "
            f"--ignore {first.layer!r}, or export the network with larger numbers."
        )


CHECKS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "output SQNR under a floor": low_sqnr,
    "one sample that sets most extremes": one_sample_sets_ranges,
    "layers that get only zeros": dead_layers,
    "scales that can't be smaller": floored_scales,
}


def suspicions(seen: Evidence) -> list[str]:
    """Return the sentences of all checks, in the order of the table."""
    return [sentence for check in CHECKS.values() for sentence in check(seen)]
