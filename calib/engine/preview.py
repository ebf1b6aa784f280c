"""A few samples as the network sees them after preprocessing, with what it answers, and what looks wrong with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.baseline import LABEL_SHIFT_GAIN, SHIFTS, no_better_than_chance
from calib.engine.data_checks import LOOKED_AT, Data, doubts_about
from calib.engine.decoding import decoding_for
from calib.engine.job import Job
from calib.engine.pictures import Outputs, class_names, image_of, meant, target_in_words
from calib.engine.prepare import prepare
from calib.errors import DataError, MetricError, one_line
from calib.loading.load import input_specs
from calib.metrics.detection import CocoMap
from calib.metrics.label_free import is_class_scores
from calib.outputs.decoding import Decoding
from calib.report.numbers import minus, plural
from calib.report.pictures import Found, panel, shortened
from calib.runtime.session import Session, ov
from calib.samples.feed import arrays_of, feed_of, frames_in
from calib.samples.preprocess import Preprocess
from calib.samples.sample import Frames, InputSpec, Sample
from calib.values.preview import InputRange, Preview, ShownInput, ShownSample

SHOWN = 8  # samples on a page
FIRST = 8  # values that are named of an input or an output
BINS = 24
FEWEST = 8  # labelled samples from which a share of right answers says something


def preview(
    model: str | Path | ov.Model | None,
    calibration: Any = None,
    *,
    count: int = SHOWN,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    allow_python: bool | None = None,
    **settings: Any,
) -> Preview:
    """Return a few samples as the network sees them, with its answers and with what looks wrong.

    A fixed choice of up to 32 samples, spread over those that a run would use, runs through the model in f32.

    Args:
        model: Model as for ``calib.quantize``; it may be quantized already.
        calibration: Samples, as for ``calib.quantize``; targets are used where there are any.
        count: Most samples to show.
        config: Path of a YAML or JSON file of settings, such as preprocessing; it may name model and data.
        sets: Settings as ``"key=value"``.
        allow_python: Whether ``python:module:function`` may run, as for ``calib.quantize``.
        settings: Settings by name.

    Raises:
        CalibError: The model, the data or a setting can't be used.
    """
    asked: dict[str, Any] = {"flags": settings, "sets": sets, "config": config, "allow_python": allow_python}
    job = prepare(model, calibration, need_float=False, calibrates=True, **asked)
    assert job.calibration is not None, "calibration samples were asked for"
    ids = job.all_ids
    used = _spread(ids, LOOKED_AT)
    seen = Data(job, job.calibration, used, called="samples looked at", class_folders=job.calibration.class_folders)
    samples: Sequence[Sample] = seen.samples
    boxed = [_has_boxes(one.target) for one in samples]
    decoding, unknown = _decoding(job, boxes=any(boxed))
    outputs = _outputs(job, samples)
    answers = [_class_of(arrays) for arrays in outputs] if decoding is None else []
    classes = outputs[0][0].size if answers and None not in answers else None
    names = class_names(job, job.calibration.class_folders)
    chosen: list[int] = _spread(range(len(seen.samples)), count)
    agreement, doubts = _agreement([sample.target for sample in seen.samples], answers, classes)
    if decoding is not None and any(boxed):
        doubts = [*doubts, *_numbering(decoding, list(compress(zip(samples, outputs, strict=True), boxed)))]
    few = replace(seen, used=ids, calibrates=True)  # the number of samples is that of the run
    sentences = [*dict.fromkeys([*doubts_about(replace(seen, classes=classes)), *doubts_about(few)])]
    return Preview(
        model=job.loaded.facts.name,
        source=job.calibration.source,
        samples=tuple(_shown(job, samples[i], outputs[i], decoding, names) for i in chosen),
        looked_at=len(seen.samples),
        of_samples=len(ids),
        ranges=tuple(InputRange(one.spec.name, one.low, one.high) for one in seen.inputs),
        preprocessing=tuple(_steps(job, seen.samples)),
        labels=tuple(
            Counter(label for one in seen.samples if (label := target_in_words(one.target, names))).most_common()
        ),
        agreement=agreement,
        doubts=(*job.warnings, *_not_finite(outputs), *unknown, *doubts, *sentences),
    )


def _has_boxes(target: Any) -> bool:
    return isinstance(target, dict) and "boxes" in target


def _decoding(job: Job, *, boxes: bool) -> tuple[Decoding | None, list[str]]:
    """Return how outputs are decoded, as asked or to compare with targets that are boxes, and why they are not."""
    if job.settings.decode is not None:
        return decoding_for(job.loaded, job.settings, CocoMap() if boxes else Outputs()), []
    if not boxes:
        return None, []
    try:
        return decoding_for(job.loaded, job.settings, CocoMap()), []
    except MetricError as error:
        return None, [f"The outputs are shown as they are: {one_line(error)}"]


def _numbering(decoding: Decoding, shown: Sequence[tuple[Sample, Sequence[NDArray[Any]]]]) -> list[str]:
    """Say whether the model numbers the classes of boxes otherwise than the targets."""
    metric, parts = CocoMap(), list[Any]()
    for sample, outputs in shown:
        feed = feed_of(sample)
        size = decoding.facts.size_of(feed[0] if isinstance(feed, Frames) else feed)
        parts.append(metric.measure(decoding.outputs(list(outputs), size, sample.geometry), sample.target))
    return metric.doubts(parts)


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return items at equal distances, so that sorted names of folders do not give one folder only."""
    count = min(most, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _outputs(job: Job, samples: Sequence[Sample]) -> list[list[NDArray[Any]]]:
    """Return the outputs of the model as it was read; of a sequence those of its last frame."""
    session = Session(job.reference)
    return [list(session.each([feed_of(sample)]))[-1] for sample in samples]


def _shown(
    job: Job, sample: Sample, outputs: Sequence[NDArray[Any]], decoding: Decoding | None, names: Sequence[str]
) -> ShownSample:
    found = meant(decoding, outputs, sample, names)
    lines = found.lines or tuple(
        _in_words(port.get_any_name() if port.get_names() else f"output {number}", array)
        for number, (port, array) in enumerate(zip(job.reference.outputs, outputs, strict=True))
    )
    specs, arrays = input_specs(job.loaded.model), arrays_of(sample)
    return ShownSample(
        name=shortened(sample.where or sample.id),
        target=target_in_words(sample.target, names),
        frames=frames_in(feed_of(sample)),
        inputs=tuple(
            _input(job, sample, found, number, spec, array)
            for number, (spec, array) in enumerate(zip(specs, arrays, strict=False))  # the first frame of a sequence
        ),
        answers=lines,
    )


def _input(job: Job, sample: Sample, found: Found, number: int, spec: InputSpec, values: NDArray[Any]) -> ShownInput:
    image = image_of(job, sample) if number == 0 else None
    array = np.asarray(values)
    shown = ShownInput(spec.name, array.shape, str(array.dtype), first=_first(array))
    if image is not None:
        shown = replace(shown, picture=panel(image, replace(found, lines=())))
    if array.dtype.kind not in "biuf" or not array.size:
        return shown
    wide = array.astype(np.float64).reshape(-1)  # finite: samples that are not are refused
    low, high = float(wide.min()), float(wide.max())
    mean = float((wide / wide.size).sum())  # divided first: a sum of the largest numbers would overflow
    spanned = high > low and math.isfinite(high - low)
    counts = np.histogram(wide, BINS, (low, high))[0].tolist() if spanned else [wide.size]
    return replace(shown, low=low, high=high, mean=mean, counts=tuple(counts))


def _first(array: NDArray[Any]) -> tuple[str, ...]:
    values = array.reshape(-1)[:FIRST].tolist()
    return tuple(minus(f"{value:.4g}") if isinstance(value, float) else shortened(str(value)) for value in values)


def _in_words(name: str, array: NDArray[Any]) -> str:
    shape = "×".join(map(str, array.shape)) or "a number"
    if array.dtype.kind not in "biuf" or not array.size:
        return shortened(f"{name}: {shape}")
    some = ", ".join(_first(array)) + (", …" if array.size > FIRST else "")
    return f"{shortened(name)}: {shape}, {minus(f'{array.min():.4g}')} to {minus(f'{array.max():.4g}')}: {some}"


def _class_of(outputs: Sequence[NDArray[Any]]) -> int | None:
    """Return the best class of the first output; None if it is no scores of classes."""
    first = outputs[0]
    return int(first.argmax()) if is_class_scores(first.shape, first.dtype) else None


def _not_finite(outputs: Sequence[Sequence[NDArray[Any]]]) -> list[str]:
    bad = sum(any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in arrays) for arrays in outputs)
    if not bad:
        return []
    return [
        f"The outputs hold NaN or infinity for {bad} of {plural(len(outputs), 'sample')}: look at the range of the "
        "inputs, and at the weights of the model."
    ]


def _agreement(targets: Sequence[Any], answers: Sequence[int | None], classes: int | None) -> tuple[str, list[str]]:
    """Return how often the best class is the label, and what looks wrong with labels or classes."""
    labels = [_label(target) for target in targets]
    if classes is None or not labels or None in labels:
        return "", []
    pairs = [(label, best) for label, best in zip(labels, answers, strict=True) if label is not None]
    total, right = len(pairs), sum(label == best for label, best in pairs)
    said = f"The best class is the label of {right} of {plural(total, 'sample')}."
    outside = sorted({label for label, _ in pairs if not 0 <= label < classes})
    if outside:
        return said, [
            f"The label {outside[0]} is none of the {classes} classes of the output, which are numbered from 0: the "
            "labels may count from 1, or be of other classes."
        ]
    moved = {by: sum(label + by == best for label, best in pairs) for by in SHIFTS}
    by = max(moved, key=lambda by: moved[by])
    if total >= FEWEST and moved[by] > right and (moved[by] - right) / total > max(LABEL_SHIFT_GAIN, 2 / total):
        return said, [
            f"With {by:+d} added to each label, the best class would be the label of {moved[by]} samples: the labels "
            "may be off by one, as with a class for the background."
        ]
    if total >= FEWEST and no_better_than_chance(right / total, 1 / classes, total):
        return said, [
            f"That is no better than guessing among {classes} classes. Look at mean and scale, the order of colours, "
            "resize and crop, and the order of the classes."
        ]
    return said, []


def _label(target: Any) -> int | None:
    """Return a target that is one class number; None for any other."""
    array = np.asarray(target) if isinstance(target, int | np.integer | np.ndarray) else np.zeros(0)
    return int(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "iu" else None


def _steps(job: Job, samples: Sequence[Sample]) -> list[str]:
    """Return what is done to images before the network, in words; nothing for arrays, which are used as they are."""
    inside = list(job.loaded.facts.preprocessing)
    if not samples or samples[0].geometry is None:
        return inside
    host = job.host or Preprocess()
    try:
        made = host.resolve(input_specs(job.loaded.model)[0])
    except DataError:  # images that a function of the user's made, of an input that takes none of ours
        return inside
    sizes = [
        (name.replace("_", " "), getattr(made, name))
        for name in ("resize_short", "resize_long", "resize", "letterbox", "crop", "pad")
    ]
    steps = [f"colours as {made.color}"]
    steps += [f"{name} to {_size(value)}" for name, value in sizes if value is not None]
    steps += [f"{made.filter} resampling"]
    steps += [f"mean {_numbers(made.mean)} subtracted"] if made.mean else []
    steps += [f"divided by {_numbers(made.scale)}"] if made.scale else []
    return [*steps, f"given as {made.layout} in {made.dtype}", *inside]


def _size(value: int | tuple[int, int]) -> str:
    return f"{value} pixels" if isinstance(value, int) else f"{value[0]}×{value[1]} (height × width)"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
