"""The drop in pictures: the samples that change most from FP32 to INT8, with what both models found in them.

The samples are found by what was measured of them anyway. Only these few run once more through both models.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.together import Together
from calib.engine.changes import Change, counted, most_changed
from calib.engine.decoding import decoding_for
from calib.engine.evaluators import Evaluator, SampleEvaluator
from calib.engine.job import Job
from calib.loading.load import input_specs
from calib.metrics.label_free import is_class_scores
from calib.metrics.several import each_of
from calib.outputs.decoding import Decoding
from calib.report.pictures import Found, class_name, drawn, shortened
from calib.runtime.session import F32, ov, precision_config
from calib.samples.feed import feed_of
from calib.samples.sample import Frames, Sample
from calib.values.detections import Detections
from calib.values.pictures import FOLDER, Drawn, PictureFacts

MOST_LABELS = 20  # of a target that is named
LINES = 5  # classes or boxes that are named of a sample
FEWEST_PIXELS = 8  # on a side, for numbers to be an image
SHOWN = 0.25  # score from which a box is drawn


class Outputs:
    """Keeps what a metric is given of each sample, in place of measuring it."""

    name, unit, reads = "outputs", "", ""
    higher_is_better, needs_target, needs_reference = True, False, False

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> list[Any]:
        """Return copies of the outputs."""
        return [np.array(output) for output in outputs]


@dataclass(frozen=True)
class Measured:
    """What was measured of two models, one part of the metric for each sample.

    Attributes:
        evaluator: Evaluator that measured them.
        model: INT8 model.
        precision: Precision of layers in floating point that it runs in.
        before: Parts of FP32 by sample.
        after: Parts of INT8 by sample.
    """

    evaluator: Evaluator
    model: ov.Model
    precision: str
    before: Mapping[int, Any]
    after: Mapping[int, Any]


def write_pictures(measured: Measured, folder: Path) -> Drawn:
    """Draw the samples that changed most into a folder, and count those that changed.

    Args:
        measured: What was measured of both models.
        folder: Folder of the report.
    """
    evaluator = measured.evaluator
    metric, before, after = evaluator.metric, measured.before, measured.after
    if isinstance(metric, Together):  # whose parts hold those of FP32 too
        after = {index: own for index, (own, _) in after.items()}
        before = {index: own for index, (own, _) in before.items()}
        metric = metric.several
    if not isinstance(evaluator, SampleEvaluator):
        return Drawn(note="No sample is drawn: the metric is a function that reads samples of its own.")
    counts = counted(metric, before, after, evaluator.ids)
    pictures, note = _drawn(measured, evaluator, most_changed(metric, before, after), folder)
    return Drawn(tuple(pictures), note, counts)


def _drawn(
    measured: Measured, evaluator: SampleEvaluator, changes: Sequence[Change], folder: Path
) -> tuple[list[PictureFacts], str]:
    """Return the pictures of samples that changed, or why there are none."""
    if not changes:
        return [], "No sample is drawn: none of them changed."
    ids = [evaluator.ids[change.index] for change in changes]
    samples = list(evaluator.dataset.load(ids))
    images = [image_of(evaluator.job, sample) for sample in samples]
    if any(image is None for image in images):
        return [], "No sample is drawn: the samples are no images."
    plain: Any = replace(evaluator, metric=Outputs(), before=None, references={})
    indices = [change.index for change in changes]
    ran = [
        plain.run(evaluator.compiled(model, config), indices)
        for model, config in (
            (evaluator.job.reference, F32),
            (measured.model, precision_config(measured.precision)),
        )
    ]
    names, pictures = class_names(evaluator.job, evaluator.dataset.class_folders), list[PictureFacts]()
    for number, (change, sample, image) in enumerate(zip(changes, samples, images, strict=True)):
        assert image is not None, "looked at above"
        before, after = (_found(evaluator, outputs[number], sample, names) for outputs in ran)
        pictures.append(_written(folder, number, image, (before, after), sample, change.words, names))
    return pictures, ""


def write_compared(
    job: Job, samples: Sequence[Sample], changes: Sequence[float], outputs: Sequence[tuple[Any, Any]], folder: Path
) -> tuple[list[PictureFacts], str]:
    """Draw samples with what two models give for them, as far as shapes tell; return the pictures, or why not.

    Args:
        job: Run of the first model.
        samples: Samples to draw, those that change most first.
        changes: Relative error of the outputs of each.
        outputs: Outputs of both models for each.
        folder: Folder of the page.
    """
    images = [image_of(job, sample) for sample in samples]
    if any(image is None for image in images):
        return [], "No sample is drawn: the samples are no images."
    names, pictures = class_names(job, {}), list[PictureFacts]()
    decoding = decoding_for(job.loaded, job.settings, Outputs()) if job.settings.decode is not None else None
    for number, (sample, image, pair) in enumerate(zip(samples, images, outputs, strict=True)):
        assert image is not None, "looked at above"
        before, after = (meant(decoding, arrays, sample, names) for arrays in pair)
        change = f"relative error of the outputs {changes[number]:.3g}"
        pictures.append(_written(folder, number, image, (before, after), sample, change, names))
    return pictures, ""


def meant(decoding: Decoding | None, outputs: Sequence[Any], sample: Sample, names: Sequence[str]) -> Found:
    """Return what outputs mean, decoded if a decoder is given."""
    arrays = [np.asarray(array) for array in outputs]
    if decoding is None:
        return _read("", arrays, sample, names)
    feed = feed_of(sample)
    assert not isinstance(feed, Frames), "such a sample is no image"
    decoded = decoding.outputs(arrays, decoding.facts.size_of(feed), sample.geometry)
    return _read(decoding.gives, decoded, sample, names)


def _written(
    folder: Path,
    number: int,
    image: NDArray[np.uint8],
    found: tuple[Found, Found],
    sample: Sample,
    change: str,
    names: Sequence[str],
) -> PictureFacts:
    """Draw one sample into the folder of pictures."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    name = f"{FOLDER}/{number + 1}.png"
    (folder / name).write_bytes(drawn(image, *found))
    return PictureFacts(
        file=name,
        sample=shortened(sample.where or sample.id),
        id=sample.id,
        change=change,
        target=target_in_words(sample.target, names),
        before=list(found[0].lines),
        after=list(found[1].lines),
    )


def image_of(job: Job, sample: Sample) -> NDArray[np.uint8] | None:
    """Return the first input of a sample as colours ``(H, W, 3)``; None if it is no image of one or three channels.

    Mean and scale of the preprocessing are undone. Numbers of unknown scale are spread from the least to the greatest.
    """
    feed = feed_of(sample)
    if isinstance(feed, Frames):
        return None
    spec = input_specs(job.loaded.model)[0]
    values = np.asarray(feed[0])
    axis = next((axis for axis in (1, 3) if values.ndim == 4 and values.shape[axis] in (1, 3)), None)
    if axis is None or spec.dtype.kind not in "fiu" or values.shape[0] != 1:
        return None
    pixels = (values[0].transpose(1, 2, 0) if axis == 1 else values[0]).astype(np.float64)
    if min(pixels.shape[:2]) < FEWEST_PIXELS or not np.isfinite(pixels).all():
        return None
    host = job.host
    if host is not None and (host.mean is not None or host.scale is not None):
        scale, mean = (1 if host.scale is None else host.scale), (0 if host.mean is None else host.mean)
        pixels = pixels * np.asarray(scale, np.float64) + np.asarray(mean, np.float64)
    low, high = pixels.min(), pixels.max()
    if low < -0.5 or high > 256 or high <= 8:  # no picture on the scale 0 to 255 with its rounding, unless a black one
        unit = low >= 0 and high <= 1
        pixels = pixels * 255 if unit else (pixels - low) * (255 / max(high - low, 1e-12))
    if host is not None and host.color == "bgr":
        pixels = pixels[:, :, ::-1]
    return np.clip(np.rint(np.broadcast_to(pixels, (*pixels.shape[:2], 3))), 0, 255).astype(np.uint8)


def class_names(job: Job, class_folders: Mapping[str, int]) -> list[str]:
    """Return the names of classes: those of ``model_info`` in the model, or of folders."""
    if labels := job.loaded.rt_info.get("model_info/labels", "").split():
        return labels
    numbered = {number: name for name, number in class_folders.items()}
    return [numbered.get(number, str(number)) for number in range(max(numbered, default=-1) + 1)]


def _found(evaluator: SampleEvaluator, outputs: list[Any], sample: Sample, names: Sequence[str]) -> Found:
    """Return what the outputs of a sample mean, as far as the metric says or their shapes tell."""
    metric = evaluator.metric.several if isinstance(evaluator.metric, Together) else evaluator.metric
    metric, _ = each_of(metric, [])[0]
    return _read(getattr(metric, "takes", ""), outputs, sample, names)


def _read(takes: str, outputs: list[Any], sample: Sample, names: Sequence[str]) -> Found:
    """Return what outputs mean, by what a metric ``takes`` of them or by their shapes alone."""
    first = outputs[0]
    if takes == "boxes" and [array.ndim for array in outputs] == [2, 1, 1]:
        return _boxes(Detections(*outputs), sample, names)
    if (
        first.dtype.kind in "iu"
        and (takes == "class map" or first.ndim == 3)
        and first.size == np.prod(first.shape[-2:])
    ):
        classes = first.reshape(first.shape[-2:]).astype(np.int64)
        seen, counts = np.unique(classes, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:LINES]
        lines = [
            f"{class_name(names, int(seen[i]))}: {100 * counts[i] / classes.size:.1f} % of the pixels" for i in order
        ]
        return Found(class_map=classes, lines=tuple(lines))
    if takes == "text" or first.dtype.kind in "US":
        return Found(lines=(shortened(str(first.reshape(-1)[0]) if first.dtype.kind in "US" else str(first.tolist())),))
    if is_class_scores(first.shape, first.dtype):
        return Found(lines=tuple(_best(first.reshape(-1).astype(np.float64), names)))
    return Found()


def _best(scores: NDArray[np.float64], names: Sequence[str]) -> list[str]:
    """Return the best classes with their scores, as shares where the outputs are logits."""
    if not np.isfinite(scores).all():
        return ["scores that are not finite"]
    if scores.min() < 0 or not 0.99 < scores.sum() < 1.01:
        scores = np.exp(scores - scores.max())
        scores = scores / scores.sum()
    order = np.argsort(-scores, kind="stable")[:3]
    return [f"{class_name(names, index)}: {scores[index]:.3f}" for index in order.tolist()]


def _boxes(found: Detections, sample: Sample, names: Sequence[str]) -> Found:
    """Return boxes in pixels of the network's input, which is what is drawn."""
    found = found.take(np.flatnonzero(found.scores >= SHOWN))
    found = found.take(np.argsort(-found.scores, kind="stable"))
    lines = [f"{class_name(names, int(found.labels[i]))}: {found.scores[i]:.3f}" for i in range(min(len(found), LINES))]
    more = [f"and {len(found) - LINES} more"] if len(found) > LINES else []
    boxes = found.boxes if sample.geometry is None else sample.geometry.to_network(found.boxes)
    shown = Detections(boxes, found.scores, found.labels)
    return Found(boxes=shown, names=names, lines=tuple([*lines, *more] or [f"no box with a score of {SHOWN:g}"]))


def target_in_words(target: Any, names: Sequence[str]) -> str:
    """Return a target in words; "" for one that is neither a text nor a few numbers."""
    found: Any = cast(Mapping[str, Any], target).get("labels") if isinstance(target, Mapping) else target
    if found is None or isinstance(found, str):
        return shortened(found or "")
    values: list[Any] = [found]
    if isinstance(found, np.ndarray):
        values = cast(list[Any], found.reshape(-1).tolist())
    elif isinstance(found, list | tuple | set | frozenset):
        values = list(cast(Sequence[Any], found))
    if len(values) > MOST_LABELS:
        return ""
    words = [
        class_name(names, operator.index(value)) if hasattr(value, "__index__") else str(value) for value in values
    ]
    return shortened(", ".join(words) or "nothing")
