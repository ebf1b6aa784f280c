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
from calib.engine.decoding import decoding_for
from calib.engine.evaluators import Evaluator, SampleEvaluator
from calib.engine.job import Job
from calib.errors import MetricError
from calib.loading.load import input_specs
from calib.metrics.label_free import is_class_scores
from calib.metrics.several import each_of
from calib.outputs.decoding import Decoding
from calib.report.pictures import Found, class_name, drawn, shortened
from calib.runtime.session import F32, ov, precision_config
from calib.samples.feed import feed_of
from calib.samples.sample import Frames, Sample
from calib.values.detections import Detections
from calib.values.pictures import FOLDER, PictureFacts

MOST = 6  # pictures of a report
MOST_LABELS = 20  # of a target that is named
LINES = 5  # classes or boxes that are named of a sample
FEWEST_PIXELS = 8  # on a side, for numbers to be an image
SHOWN = 0.25  # score from which a box is drawn


@dataclass(frozen=True)
class Change:
    """How a sample changed.

    Attributes:
        index: Position of the sample in the validation dataset.
        words: What changed, such as "top-1 1 → 0".
    """

    index: int
    words: str


def most_changed(metric: Any, before: Mapping[int, Any], after: Mapping[int, Any]) -> tuple[Change, ...]:
    """Return the samples that change most, at most MOST of them, by the parts of the (first) metric.

    Boxes change by what they are, other samples by their score; where scores are as far apart, by their margins.

    Args:
        metric: Metric, or several.
        before: Parts of FP32 by sample.
        after: Parts of INT8, of some samples at least.
    """
    indices: list[int] = sorted(set(before) & set(after))
    if not indices:
        return ()
    one, old, new = _first(metric, [before[i] for i in indices], [after[i] for i in indices])
    margins = np.zeros(len(indices))
    if hasattr(one, "margins"):
        margins = np.abs(np.nan_to_num(one.margins(new) - one.margins(old), posinf=1e6, neginf=-1e6))
        one, old, new = one.metric, [part for part, _ in old], [part for part, _ in new]
    if isinstance(old[0], dict) and "found" in cast(dict[str, Any], old[0]):
        pairs: list[tuple[Any, Any]] = list(zip(old, new, strict=True))
        changes = np.array([boxes_changed(a["found"], b["found"]) for a, b in pairs], np.float64)
        words = [f"the boxes differ by {change:.2f}" for change in changes.tolist()]
        most: list[int] = np.argsort(-changes, kind="stable").tolist()
        return tuple(Change(indices[i], words[i]) for i in most[:MOST] if changes[i] > 0)
    scores = [_scores(one, parts) for parts in (old, new)]
    worse = (scores[0] - scores[1]) * (1 if one.higher_is_better else -1)
    order: list[int] = np.lexsort((np.arange(len(indices)), -margins, -worse, -np.abs(worse))).tolist()
    return tuple(
        Change(indices[i], f"{one.name} {scores[0][i]:.4g} → {scores[1][i]:.4g}")
        for i in order[:MOST]
        if worse[i] or margins[i] > 0
    )


def _first(metric: Any, before: list[Any], after: list[Any]) -> tuple[Any, list[Any], list[Any]]:
    """Return the first of several metrics with its parts of both models."""
    (one, old), (_, new) = (each_of(metric, parts)[0] for parts in (before, after))
    return one, old, new


def _scores(metric: Any, parts: Sequence[Any]) -> NDArray[np.float64]:
    """Return a number for each sample: its score, or the metric over it alone."""
    scores = metric.per_sample(parts)
    if scores is not None and len(scores) == len(parts):
        return np.nan_to_num(np.asarray(scores, np.float64))
    found: list[float] = []
    for part in parts:
        try:
            found.append(float(metric.aggregate([part])))
        except MetricError:
            found.append(0.0)
    return np.nan_to_num(np.array(found))


def boxes_changed(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float:
    """Return how far two sets of boxes are apart, rows of x1, y1, x2, y2, score, label.

    Boxes of one class are paired, those that overlap most first. A pair counts the change of its score and the better
    score times what is missing of its overlap (1 − IoU), a box without a partner its score.
    """
    old, new = (np.asarray(rows, np.float64).reshape(-1, 6) for rows in (before, after))
    overlaps = _overlaps(old[:, :4], new[:, :4]) * (old[:, 5:] == new[:, 5])
    left, right, total = set(range(len(old))), set(range(len(new))), 0.0
    for place in np.argsort(-overlaps, axis=None, kind="stable").tolist():
        a, b = divmod(place, len(new))
        if overlaps[a, b] <= 0:
            break
        if a in left and b in right:
            left.remove(a)
            right.remove(b)
            total += abs(old[a, 4] - new[b, 4]) + max(old[a, 4], new[b, 4]) * (1 - overlaps[a, b])
    return float(total + sum(old[a, 4] for a in left) + sum(new[b, 4] for b in right))


def _overlaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of every two boxes, ``(n, m)``."""
    first = np.maximum(one[:, None, :2], other[None, :, :2])
    last = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(last - first, 0, None).prod(-1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


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


def write_pictures(measured: Measured, folder: Path) -> tuple[list[PictureFacts], str]:
    """Draw the samples that changed most into a folder; return the pictures, or why there are none.

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
    changes = most_changed(metric, before, after)
    if not isinstance(evaluator, SampleEvaluator):
        return [], "No sample is drawn: the metric is a function that reads samples of its own."
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
        sample=shortened(sample.id or sample.where),
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
    if low < -1 or high > 256 or high <= 2:
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
