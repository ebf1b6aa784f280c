"""Find the scale and the order of channels of images at which FP32 is right.

Asked only where FP32 is no better than guessing, on a few samples: then mean, scale or channel order are the usual
reason, and which of them can be found by trying. It costs a compilation and at most nine runs of `TRIED` samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.baseline import LABEL_SHIFT_GAIN, no_better_than_chance, standard_error
from calib.engine.evaluators import Evaluator, SampleEvaluator
from calib.loading.load import input_specs
from calib.report.numbers import significant
from calib.runtime.session import F32
from calib.samples.feed import arrays_of, feed_of
from calib.samples.sample import Dataset, Frames, InputSpec, Sample

TRIED = 64  # samples

# Of ImageNet's pixels of 0 to 255, in the order red, green, blue: torchvision's, times 255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Scaling:
    """What is done to pixels of 0 to 255: (x − mean) / scale, one number for each channel in the order RGB.

    Attributes:
        name: Description that stands after "values".
        low, high: Ends that the values stay between.
    """

    name: str
    low: float
    high: float
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)


# The first that values fit into is taken for what they are.
SCALINGS = (
    Scaling("from 0 to 1", 0, 1, scale=(255.0,)),
    Scaling("from 0 to 255", 0, 255),
    Scaling("from −1 to 1", -1, 1, (127.5,), (127.5,)),
    Scaling("less ImageNet's mean, over its standard deviation", -2.2, 2.7, MEAN, STD),
    Scaling("from 0 to 255 less ImageNet's mean", -124, 152, MEAN),
)


@dataclass(frozen=True)
class _Form:
    """One way to feed images.

    Attributes:
        scaling: Scaling of the values.
        flipped: Whether the channels are in the other order than in the samples.
    """

    scaling: Scaling
    flipped: bool


@dataclass(frozen=True)
class _Images:
    """The input that takes images, and what the samples hold for it.

    Attributes:
        number: Number of the input.
        axis: Axis of the channels.
        spec: Properties of the input.
        scaling: Scaling that the values of the samples have.
        order: Order of the channels that the samples have, rgb or bgr; "" for one channel.
    """

    number: int
    axis: int
    spec: InputSpec
    scaling: Scaling
    order: str

    def constants(self, numbers: Sequence[float], flipped: bool) -> NDArray[np.float64]:
        """Return one number for each channel, shaped to work on arrays of the input."""
        values = np.array(numbers, np.float64)
        if not self.order:
            values = values.mean(keepdims=True)
        elif len(values) > 1 and (self.order == "bgr") != flipped:
            values = values[::-1]
        shape = [1] * len(self.spec.shape)
        shape[self.axis] = values.size
        return values.reshape(shape)

    def changed(self, array: NDArray[Any], form: _Form) -> NDArray[Any]:
        """Return an array of the input in another form."""
        now, then = self.scaling, form.scaling
        pixels = array * self.constants(now.scale, False) + self.constants(now.mean, False)
        if form.flipped:
            pixels = np.flip(pixels, self.axis)
        changed = (pixels - self.constants(then.mean, form.flipped)) / self.constants(then.scale, form.flipped)
        return np.ascontiguousarray(changed, array.dtype)

    def forms(self) -> Iterator[_Form]:
        """Yield all forms but that of the samples; integers keep their scale."""
        for flipped in (False, True) if self.order else (False,):
            for scaling in SCALINGS if self.spec.dtype.kind == "f" else (self.scaling,):
                if flipped or scaling is not self.scaling:
                    yield _Form(scaling, flipped)

    def settings(self, form: _Form) -> str:
        """Return the settings of preprocessing that feed images in a form."""
        order = {"rgb": "bgr", "bgr": "rgb"}[self.order] if form.flipped else self.order
        found = [f"preprocessing.color={order}"] if order else []
        for key, numbers in (("mean", form.scaling.mean), ("scale", form.scaling.scale)):
            values = ",".join(f"{value:g}" for value in self.constants(numbers, form.flipped).ravel().tolist())
            found.append(f"preprocessing.{key}={f'[{values}]' if ',' in values else values}")
        return ", ".join(found)


@dataclass(frozen=True)
class _Changed:
    """A dataset whose images are fed in another form."""

    dataset: Dataset
    images: _Images
    form: _Form

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order."""
        for sample in self.dataset.load(ids):
            feed = feed_of(sample)
            assert not isinstance(feed, Frames)
            arrays = list(feed)
            arrays[self.images.number] = self.images.changed(arrays[self.images.number], self.form)
            yield replace(sample, feed=tuple(arrays))


def guessing(evaluator: Evaluator, parts: Sequence[Any]) -> bool:
    """Return whether a model is no better than guessing, by its parts of all samples."""
    metric, chance = evaluator.metric, evaluator.chance
    if chance is None or not metric.higher_is_better:
        return False
    return no_better_than_chance(float(metric.aggregate(parts)), chance, len(parts))


def tried_scalings(evaluator: Evaluator, parts: Sequence[Any]) -> str:
    """Return what came of feeding the images in other forms; "" where there are no images, or none that are known.

    Args:
        evaluator: Evaluator of the model, whose metric counts labels.
        parts: Parts of the metric of all samples as they are fed.
    """
    if not isinstance(evaluator, SampleEvaluator) or evaluator.job.loaded.model.get_sinks():
        return ""
    count = min(TRIED, len(evaluator.ids))
    chosen = np.unique(np.linspace(0, len(evaluator.ids) - 1, count).round().astype(np.int64)).tolist()
    images = _images(evaluator, chosen)
    if images is None:
        return ""
    metric, name = evaluator.metric, evaluator.metric.name
    compiled = evaluator.compiled(evaluator.job.reference, F32)
    found: list[tuple[float, _Form]] = []
    for form in images.forms():
        changed: Any = _Changed(evaluator.dataset, images, form)
        found.append((float(metric.aggregate(replace(evaluator, dataset=changed).run(compiled, chosen))), form))
    if not found:
        return ""
    now = float(metric.aggregate([parts[index] for index in chosen]))
    best, form = max(found, key=lambda one: one[0])  # the first of equals
    noise = 3 * math.hypot(standard_error(now, len(chosen)), standard_error(best, len(chosen)))
    tried = f"On {len(chosen)} samples {name} is {significant(now)} with values {images.scaling.name}, as they are"
    guessed = evaluator.chance is not None and no_better_than_chance(best, evaluator.chance, len(chosen))
    if best <= now + max(LABEL_SHIFT_GAIN, noise) or guessed:
        return (
            f"{tried}, and at most {significant(best)} at {len(found)} other scales and channel orders, so that these "
            "are hardly the reason."
        )
    flipped = " and the channels in the other order" if form.flipped else ""
    return (
        f"{tried}, and {significant(best)} with values {form.scaling.name}{flipped}. For images in files set "
        f"{images.settings(form)}; compute arrays so."
    )


def _images(evaluator: SampleEvaluator, chosen: Sequence[int]) -> _Images | None:
    """Return the first input that takes images of one or three channels, if its values are at a known scale."""
    job = evaluator.job
    specs = input_specs(job.loaded.model)
    for number, spec in enumerate(specs):
        axis = next((axis for axis in (1, 3) if len(spec.shape) == 4 and spec.shape[axis] in (1, 3)), None)
        if axis is None or spec.dtype.kind not in "fiu":
            continue
        arrays = [
            arrays_of(sample)[number] for sample in evaluator.dataset.load([evaluator.ids[i] for i in chosen[:8]])
        ]
        low, high = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
        scaling = next((one for one in SCALINGS if one.low <= low and high <= one.high), None)
        color = (job.host.color if job.host else None) or "rgb"
        order = "" if spec.shape[axis] == 1 else ("bgr" if color == "bgr" else "rgb")
        return _Images(number, axis, spec, scaling, order) if scaling else None
    return None
