"""What is suspicious about the samples of a run, known before the long part of it: one check each.

Nothing here is an error: the run goes through, and the reader decides. What can't be right, such as a label that is no
class, is refused where it is read. Each sentence names what was found, the value and the way out; one that rests on a
guess says so. To add a check, write a function and add its line to ``DATA_CHECKS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from calib.config.settings import DEFAULT_SAMPLES
from calib.engine.evaluators import Evaluator, SampleEvaluator
from calib.engine.job import Job
from calib.engine.pixel_scale import against_model_info, doubts
from calib.loading.inputs import found_preprocessing
from calib.loading.load import input_specs
from calib.progress import Clock, Stage
from calib.report.escape import printable
from calib.samples.content import content_of, mark
from calib.samples.feed import arrays_of
from calib.samples.sample import Dataset, InputSpec, Sample

FEW_SAMPLES = 30
LOOKED_AT = 32  # samples whose values are looked at


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
class Data:
    """Samples that a model is given, and what is known of the others of the run.

    Attributes:
        job: Run; its model takes the samples.
        dataset: Samples; None for none.
        used: Ids of the samples that are used, in order.
        called: What they are called in messages, in the plural.
        calibrates: Whether ranges are made from them.
        on_calibration: Whether accuracy is measured on the calibration samples, for want of others.
        class_folders: Name of each folder of validation samples → its class, where the metric compares with that.
        classes: Number of classes that the metric tells apart, if known.
        decoded: How outputs are decoded for the metric, and why; "" if they are not.
    """

    job: Job
    dataset: Dataset | None = None
    used: Sequence[str] = ()
    called: str = "calibration samples"
    calibrates: bool = False
    on_calibration: bool = False
    class_folders: Mapping[str, int] = field(default_factory=dict[str, int])
    classes: int | None = None
    decoded: str = ""

    @cached_property
    def samples(self) -> list[Sample]:
        """A few samples, in the order of their ids; of calibration they were loaded before and are in memory."""
        return list(self.dataset.load(self.used[:LOOKED_AT])) if self.dataset is not None else []

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


def empty_inputs(seen: Data) -> Iterator[str]:
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


def only_zeros(seen: Data) -> bool:
    """Return whether an input holds nothing but zeros, which `empty_inputs` warns of."""
    return any(values.constant and values.low == 0 for values in seen.inputs)


def equal_samples(seen: Data) -> Iterator[str]:
    """Warn of a dataset that gives one sample again and again."""
    several = len(seen.samples) > 1 and not all(values.constant for values in seen.inputs)
    if several and len({content_of(mark(sample)) for sample in seen.samples}) == 1:
        yield (
            f"In {_looked_at(seen)} the inputs are the same: ranges then fit this one sample. Check the code that "
            "loads the samples."
        )


def pixel_scale(seen: Data) -> Iterator[str]:
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


def _asked_for(seen: Data, spec: InputSpec) -> bool:
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


def few_samples(seen: Data) -> Iterator[str]:
    """Warn of too few calibration samples for ranges that hold for others."""
    if seen.calibrates and (count := len(seen.used)) < FEW_SAMPLES:
        yield (
            f"The number of calibration samples is {count}: ranges and figures from so few may not hold for others. "
            f"Give at least {FEW_SAMPLES}; by default {DEFAULT_SAMPLES} are used."
        )


def accuracy_on_calibration(seen: Data) -> Iterator[str]:
    """Warn of accuracy that is measured on the calibration samples, for want of others."""
    if seen.on_calibration:
        yield (
            "Accuracy was measured on the calibration samples, as no others were given: on others the drop may be "
            "larger. Give --validation DATA (validation=…) for a figure that holds."
        )


def class_folders(seen: Data) -> Iterator[str]:
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


def _looked_at(seen: Data) -> str:
    some, count = len(seen.samples), len(seen.used)
    return f"all {count} {seen.called}" if some == count else f"the {some} of {count} {seen.called} looked at"


def decoded_outputs(seen: Data) -> Iterator[str]:
    """Say how outputs are decoded for the metric: what was found by itself can be wrong."""
    if seen.decoded:
        yield seen.decoded


DATA_CHECKS: dict[str, Callable[[Data], Iterator[str]]] = {
    "inputs of one value": empty_inputs,
    "samples that are all the same": equal_samples,
    "images at another scale": pixel_scale,
    "few calibration samples": few_samples,
    "names of class folders": class_folders,
    "accuracy on calibration samples": accuracy_on_calibration,
    "decoder of the outputs": decoded_outputs,
}


def doubts_about(seen: Data) -> list[str]:
    """Return the sentences of all checks, in the order of the table."""
    found: list[str] = []
    for check in DATA_CHECKS.values():
        found += check(seen)
    return found


def tell(clock: Clock, stage: Stage, sentences: Sequence[str]) -> Sequence[str]:
    """Warn of something while there is time to stop; return the sentences."""
    clock.warn(stage, map(printable, sentences))
    return sentences


def overlaps(job: Job, evaluator: Evaluator, marks: Sequence[str]) -> list[str]:
    """Warn of validation samples that ranges and corrections are made from.

    Calibration samples that did not fit into memory are loaded again for that, and not run.

    Args:
        job: Run with its calibration samples.
        evaluator: Evaluator that measured FP32.
        marks: The `calib.samples.content.mark` of each validation sample; empty for a function that reads its own.
    """
    if evaluator.on_calibration or not marks or job.replays:
        return []
    known = {content_of(mark(sample)) for sample in job.samples(job.all_ids)}
    count, total = sum(content_of(one) in known for one in marks), len(marks)
    which = f"All {total}" if count == total else f"{count} of {total}"
    return (
        []
        if not count
        else [
            f"{which} validation samples are calibration samples too, by their contents: on others the drop may be "
            "larger. Validate on samples that calibration does not use."
        ]
    )


def data_of(job: Job, evaluator: Evaluator | None) -> Data:
    """Return what the checks look at in a run that calibrates: before FP32 was measured, without its marks."""
    used = () if job.replays else job.all_ids
    apart = job.heads[1] if evaluator is None and job.settings.decode is not None else ""
    found = Data(job, job.calibration, used, calibrates=bool(used), decoded=apart)
    return replace(_with_classes(found, evaluator), on_calibration=bool(evaluator and evaluator.on_calibration))


def data_to_measure_on(job: Job, evaluator: Evaluator | None) -> Data:
    """Return what the checks look at where one model is measured: its validation samples."""
    if not isinstance(evaluator, SampleEvaluator):
        return Data(job)
    return _with_classes(Data(job, evaluator.dataset, evaluator.ids, "validation samples"), evaluator)


def _with_classes(seen: Data, evaluator: Evaluator | None) -> Data:
    if not isinstance(evaluator, SampleEvaluator) or not evaluator.metric.needs_target:
        return seen
    decoded = evaluator.decoding.sentence if evaluator.decoding is not None else ""
    return replace(seen, class_folders=evaluator.dataset.class_folders, classes=evaluator.classes, decoded=decoded)
