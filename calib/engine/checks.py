"""What is suspicious about the data of a run and its outcome: one check each, and the sentences that it warns with.

Nothing here is an error: the run goes through, and the reader decides. What can't be right, such as a label that is no
class, is refused where it is read. Each sentence names what was found, the value and the way out; one that rests on a
guess says so. To add a check, write a function and add its line to ``CHECKS``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.config.settings import DEFAULT_SAMPLES
from calib.corrections.candidate import Candidate
from calib.engine.job import Job
from calib.engine.pixel_scale import against_model_info, doubts
from calib.graph.layers import weights_of
from calib.loading.inputs import found_preprocessing
from calib.loading.load import input_specs
from calib.ranges.affine import SCALE_FLOOR
from calib.report.numbers import decibel, plural
from calib.runtime.isa import saturates
from calib.samples.content import content_of, mark
from calib.samples.feed import arrays_of
from calib.samples.sample import InputSpec, Sample
from calib.values.summary import Summaries, TensorSummary

FLOOR_DB = 10.0  # noise of a tenth of the signal's power: errors of a third of it
FEW_SAMPLES = 30
LOOKED_AT = 32  # samples whose values are looked at
_ENOUGH_TO_COMPARE = 8  # samples: of fewer, each may be the only one of its kind
_SATURATED = "INT8 sums saturate on this CPU, so try --target cpu-no-vnni first. "
_WIDER = 2.0  # times as wide as without one sample: a bit less for all the others


@dataclass(frozen=True)
class InputValues:
    """The values of one input over a few samples.

    Attributes:
        number: Number of the input.
        arrays: Its array in each sample.
        low, high: Extremes over the samples.
    """

    spec: InputSpec
    number: int
    arrays: Sequence[NDArray[Any]]
    low: float
    high: float

    @property
    def constant(self) -> bool:
        """Whether all values in all samples are the same, where each sample has several values."""
        return self.low == self.high and self.arrays[0].size > 1

    @property
    def raw(self) -> bool:
        """Whether the values look like pixels of 0 to 255."""
        return self.low >= 0 and 64 < self.high <= 255

    @property
    def unit(self) -> bool:
        """Whether the values look like pixels of 0 to 1."""
        return self.low >= 0 and 0.2 < self.high <= 1

    def is_image(self, *channels: int) -> bool:
        """Return whether it has four axes, the second or last of which is as long as one of ``channels``."""
        shape = self.spec.shape
        return len(shape) == 4 and (shape[1] in channels or shape[3] in channels)


@dataclass(frozen=True)
class Evidence:
    """What the checks look at.

    Attributes:
        candidate: Network in floating point, with the plan of everything that was to be INT8.
        summaries: Statistics of the quantized tensors; empty where a plan with ranges was replayed.
        output_sqnr_db: SQNR in dB of each output of the INT8 model that is kept; empty without one.
        validated: The `calib.samples.content.mark` of each validation sample.
        on_calibration: Whether accuracy was measured on the calibration samples, for want of others.
        class_folders: Name of each folder of validation samples → its class, where the metric compares with that.
        classes: Number of classes that the metric tells apart, if known.
    """

    job: Job
    candidate: Candidate
    summaries: Summaries = field(default_factory=dict[Any, TensorSummary])
    output_sqnr_db: Mapping[str, float] = field(default_factory=dict[str, float])
    validated: Sequence[str] = ()
    on_calibration: bool = False
    class_folders: Mapping[str, int] = field(default_factory=dict[str, int])
    classes: int | None = None

    @property
    def used(self) -> list[str]:
        """Ids of all calibration samples that the run used."""
        return [] if self.job.replays else sorted({*self.job.ids, *self.job.held})

    @cached_property
    def samples(self) -> list[Sample]:
        """A few calibration samples, in the order of their ids; they were loaded before and are in memory, mostly."""
        return list(self.job.samples(self.used[:LOOKED_AT]))

    @cached_property
    def inputs(self) -> list[InputValues]:
        """Values of each numeric input over these samples."""
        found: list[InputValues] = []
        feeds = [arrays_of(sample) for sample in self.samples]
        specs = input_specs(self.job.loaded.model)
        for number, spec in enumerate(specs):
            # of a sequence the arrays of all frames, one frame after the other
            filled = [array for feed in feeds for array in feed[number :: len(specs)] if array.size]
            if filled and filled[0].dtype.kind in "biuf":
                low, high = min(float(x.min()) for x in filled), max(float(x.max()) for x in filled)
                found.append(InputValues(spec, number, filled, low, high))
        return found


def low_sqnr(seen: Evidence) -> Iterator[str]:
    """Warn of outputs of the INT8 model that are mostly noise."""
    low = {name: error for name, error in seen.output_sqnr_db.items() if not error >= FLOOR_DB}
    if low:
        worst = min(low, key=lambda name: low[name])
        others = f" ({plural(len(low), 'output')} of {len(seen.output_sqnr_db)} are under it)" if len(low) > 1 else ""
        budget = "Give a metric and --max-drop" if seen.job.settings.max_drop is None else "Lower --max-drop"
        yield (
            f"Output {worst!r} of the INT8 model has an SQNR of {decibel(low[worst])} against FP32, under "
            f"{FLOOR_DB:g} dB{others}: much of it is noise. {_SATURATED if saturates(seen.candidate.plan) else ''}"
            f"{budget}, so that layers return to floating point; try --effort thorough; or leave out with --ignore the "
            "layers where `calib compare` sees the error jump."
        )


def empty_inputs(seen: Evidence) -> Iterator[str]:
    """Warn of inputs that hold one value only: a loader that failed, or a dummy.

    A mask of ones and integers such as token types are usually constant, so they count only if nothing else varies.
    """
    nothing_varies = all(values.low == values.high for values in seen.inputs)
    for values in seen.inputs:
        usual = values.low == 1 or values.spec.dtype.kind != "f"
        if values.constant and (nothing_varies or not usual):
            what = "all zero" if values.low == 0 else f"{values.low:g} everywhere"
            yield (
                f"Input {values.spec.name!r} is {what} in {_looked_at(seen)}: no range can be found from that. Check "
                "the path, and the code that loads the samples."
            )


def equal_samples(seen: Evidence) -> Iterator[str]:
    """Warn of a dataset that gives one sample again and again."""
    several = len(seen.samples) > 1 and not all(values.constant for values in seen.inputs)
    if several and len({content_of(mark(sample)) for sample in seen.samples}) == 1:
        yield (
            f"In {_looked_at(seen)} the inputs are the same: ranges then fit this one sample. Check the code that "
            "loads the samples."
        )


def pixel_scale(seen: Evidence) -> Iterator[str]:
    """Warn of images at another scale than the file speaks for."""
    found, _ = found_preprocessing(seen.job.loaded.rt_info)
    info = {key: value for key, value in found.items() if key in ("mean", "scale")}
    for values in seen.inputs:
        name, kind, interval = values.spec.name, values.spec.dtype.kind, (values.low, values.high)
        span = f"Input {name!r} gets values from {values.low:g} to {values.high:g}"
        if kind in "iu" and values.is_image(3) and interval == (0, 1):
            yield f"{span}, and takes images as bytes of 0 to 255: leave out the division by 255 before the cast."
        if kind != "f" or not (values.raw or values.unit) or not values.is_image(1, 3) or _asked_for(seen, values.spec):
            continue
        node = seen.job.loaded.model.inputs[values.number].get_node().get_friendly_name()
        if info:
            yield from (f"{span}, {why}." for why in against_model_info(interval, info))
        else:
            yield from (
                _scale_doubt(span, values.raw, why)
                for why in doubts(seen.job.view, node, values.arrays[:8], values.raw)
            )


def _asked_for(seen: Evidence, spec: InputSpec) -> bool:
    """Return whether the user gave a mean or a scale for this input: then the values are as they are meant."""
    blocks = ("preprocessing", *(f"preprocessing.{name}" for name in (spec.name, *spec.names)))
    origins = (seen.job.resolved.origins.get(f"{block}.{key}") for block in blocks for key in ("mean", "scale"))
    return any(origin not in (None, "rt_info") for origin in origins)


def _scale_doubt(span: str, raw: bool, why: str) -> str:
    if raw:
        return (
            f"{span}, and no mean or scale is set; the network may have been trained on normalized images: {why}. If "
            "so, set preprocessing.mean and preprocessing.scale for images, or scale the arrays; if 0 to 255 is right, "
            "preprocessing.mean=0 says so."
        )
    return (
        f"{span}, and the network may have been trained on 0 to 255: {why}. If so, multiply the arrays by 255, or "
        "leave out the division by 255; if 0 to 1 is right, preprocessing.scale=1 says so."
    )


def few_samples(seen: Evidence) -> Iterator[str]:
    """Warn of too few calibration samples for ranges that hold for others."""
    if (count := len(seen.used)) < FEW_SAMPLES and not seen.job.replays:
        yield (
            f"The number of calibration samples is {count}: ranges and figures from so few may not hold for others. "
            f"Give at least {FEW_SAMPLES}; by default {DEFAULT_SAMPLES} are used."
        )


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
    if any(values.constant and values.low == 0 for values in seen.inputs):
        return  # that is said already, and the reason
    plan, rows = seen.candidate.plan, seen.summaries
    dead = [q for q in plan.activations if q.tensor in rows and rows[q.tensor].low == rows[q.tensor].high == 0]
    source = {layer: str(quantizer.tensor) for quantizer in dead for layer in quantizer.layers}
    layers = [layer.name for layer in plan.layers if layer.name in source]
    if layers:
        yield (
            f"{plural(len(layers), 'layer')} got nothing but zeros from the calibration samples, {layers[0]!r} first "
            f"(tensor {source[layers[0]]}): no range is right for what other samples may bring. Use samples that reach "
            "it, or leave it in floating point with --ignore."
        )


def floored_scales(seen: Evidence) -> Iterator[str]:
    """Warn of layers whose weights or values are mostly smaller than the smallest scale.

    Single channels of such weights are usual in trained networks, and add nothing to the result.
    """
    candidate = seen.candidate
    for weight in candidate.plan.weights:
        axes = tuple(axis for axis, size in enumerate(weight.scale_shape) if size == 1)
        largest = np.abs(weights_of(candidate.view, weight.port)).max(axis=axes, initial=0.0)
        largest, least = largest[largest > 0], SCALE_FLOOR * (weight.levels // 2)
        if 2 * int((largest < least).sum()) > largest.size:
            yield _floored(f"The weights of layer {weight.port.node!r}", float(largest.max()), least, weight.port.node)
    for quantizer in candidate.plan.activations:
        row, least = seen.summaries.get(quantizer.tensor), SCALE_FLOOR * (quantizer.levels - 1)
        if row and 0 < _width(row) < least:
            yield _floored(
                f"The values of tensor {quantizer.tensor}", _width(row), least, min(quantizer.layers, default="")
            )


def _floored(what: str, largest: float, least: float, layer: str) -> str:
    return (
        f"{what} are at most {largest:.2g}. The smallest scale there is reaches to {least:.2g}, so few of its levels "
        f"or none are used. Leave the layer in floating point with --ignore {layer!r}, or export the network with "
        "larger numbers."
    )


def validation_overlaps(seen: Evidence) -> Iterator[str]:
    """Warn of accuracy that is measured on samples that ranges and corrections were made from.

    Calibration samples that did not fit into memory are loaded again for that, and not run.
    """
    if seen.on_calibration:
        yield (
            "Accuracy was measured on the calibration samples, as no others were given: on others the drop may be "
            "larger. Give --validation DATA (validation=…) for a figure that holds."
        )
    elif seen.validated and seen.job.calibration is not None:
        known = {content_of(mark(sample)) for sample in seen.job.samples(seen.used)}
        count, total = sum(content_of(one) in known for one in seen.validated), len(seen.validated)
        which = f"All {total}" if count == total else f"{count} of {total}"
        if count:
            yield (
                f"{which} validation samples are calibration samples too, by their contents: on others the drop may be "
                "larger. Validate on samples that calibration does not use."
            )


def class_folders(seen: Evidence) -> Iterator[str]:
    """Warn of folder names that another order or numbering than the one taken is as likely for.

    Numbers below a known number of classes fit; the check of the baseline then tells whether they are right.
    """
    names = list(seen.class_folders)
    numbers = sorted(int(name) for name in names if name.isdecimal())
    if numbers and len(numbers) == len(names):
        if numbers != list(range(len(names))) and not (seen.classes and numbers[-1] < seen.classes):
            yield (
                f"The names of the class folders are numbers, {_some(numbers)}, and were taken for class numbers. If "
                "they are names of other classes, list them in the order of the network's classes, one a line: "
                "?classes=FILE."
            )
        return
    alike: dict[str, list[str]] = {}  # names that differ in numbers alone, in the order of their classes
    for name in sorted(names, key=lambda name: seen.class_folders[name]):
        alike.setdefault(re.sub(r"\d+", "0", name), []).append(name)
    for before, after in (pair for group in alike.values() for pair in pairwise(group)):
        if _numbers_in(before) > _numbers_in(after):
            yield (
                f"The class folders were numbered in the order of their letters: {before!r} is class "
                f"{seen.class_folders[before]}, and {after!r} class {seen.class_folders[after]}. If the network's "
                "classes are in another order, list them, one a line: ?classes=FILE."
            )
            return


def _numbers_in(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:3])) + (", …" if len(numbers) > 3 else "")


def _looked_at(seen: Evidence) -> str:
    some, count = len(seen.samples), len(seen.used)
    return (
        f"all {count} calibration samples" if some == count else f"the {some} of {count} calibration samples looked at"
    )


CHECKS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "output SQNR under a floor": low_sqnr,
    "inputs of one value": empty_inputs,
    "samples that are all the same": equal_samples,
    "images at another scale": pixel_scale,
    "few calibration samples": few_samples,
    "one sample that sets most extremes": one_sample_sets_ranges,
    "layers that get only zeros": dead_layers,
    "scales that can't be smaller": floored_scales,
    "validation on calibration samples": validation_overlaps,
    "names of class folders": class_folders,
}


def suspicions(seen: Evidence) -> list[str]:
    """Return the sentences of all checks, in the order of the table."""
    return [sentence for check in CHECKS.values() for sentence in check(seen)]
