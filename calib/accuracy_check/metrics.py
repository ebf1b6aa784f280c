"""Metrics of Accuracy Checker, in parts of one image each, so that any set of samples has its value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check import box_metrics, class_metrics, text
from calib.accuracy_check.fields import Fields
from calib.accuracy_check.measure import IGNORED, Mean, Measure
from calib.accuracy_check.values import Labels, Picture, Value
from calib.errors import MetricError


def _accuracy(fields: Fields, _: Labels) -> Measure:
    k = fields.size("top_k", 1) or 1
    fields.get("label_map")
    if fields.get("match"):
        fields.refuse("match is not supported")
    fields.finish(*IGNORED)
    return class_metrics.Accuracy(k)


class _Confusion:
    """A metric of the confusion matrix of all pixels."""

    mean, higher = False, True
    unit = "fraction"

    def __init__(self, classes: int, argmax: bool, ignored: int | None, value: Callable[[NDArray[Any]], NDArray[Any]]):
        self._classes, self._argmax, self._ignored, self._value = classes, argmax, ignored, value

    def part(self, annotation: Value, prediction: Value) -> Any:
        """Return the counts of pixels, by true and predicted class."""
        if not isinstance(annotation, Picture) or not isinstance(prediction, Picture):
            raise MetricError("a metric of class maps takes class maps")
        found = prediction.values
        found = np.argmax(found, axis=0) if self._argmax else found.astype(np.int64)
        truth, found = annotation.values.reshape(-1), found.reshape(-1)
        if len(truth) != len(found):
            raise MetricError(
                f"the predicted class map has {len(found)} pixels, and that of the annotation {len(truth)}; "
                "postprocessing has to bring them to one size"
            )
        count = self._classes
        known = (truth >= 0) & (truth < count) & (found >= 0) & (found < count)
        pairs = count * truth[known].astype(np.int64) + found[known]
        counts = np.bincount(pairs, minlength=count**2).reshape(count, count)
        if self._ignored is not None:
            counts[self._ignored, :] = 0
            counts[:, self._ignored] = 0
        return counts.tolist()

    def value(self, parts: Sequence[Any]) -> float:
        """Return the mean over the classes that occur."""
        counts = np.sum([np.asarray(part) for part in parts], axis=0)
        values = self._value(counts)
        values = np.delete(values, self._ignored) if self._ignored is not None and values.ndim else values
        values = values[np.isfinite(values)]
        return float(np.mean(values)) if values.size else 0.0


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole != 0)


def _iou(counts: NDArray[Any]) -> NDArray[Any]:
    return _ratio(np.diag(counts), counts.sum(1) + counts.sum(0) - np.diag(counts))


def _class_accuracy(counts: NDArray[Any]) -> NDArray[Any]:
    return _ratio(np.diag(counts), counts.sum(1))


def _pixel_accuracy(counts: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.trace(counts) / max(counts.sum(), 1))


def _of_pixels(value: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Fields, Labels], Measure]:
    def build(fields: Fields, labels: Labels) -> Measure:
        argmax, ignored = fields.flag("use_argmax", True), fields.number("ignore_label", None, 0, 1 << 16)
        fields.finish(*IGNORED)
        ignored = None if ignored is None else int(ignored)
        return _Confusion(len(labels.names), argmax, ignored, value)

    return build


def _images(annotation: Value, prediction: Value) -> tuple[NDArray[Any], NDArray[Any]]:
    if not isinstance(annotation, Picture) or not isinstance(prediction, Picture):
        raise MetricError("a metric of images takes images")
    return annotation.values, prediction.values


def _psnr(fields: Fields, _: Labels) -> Measure:
    border = int(fields.number("scale_border", 4, 0, 1 << 14))
    order = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}[fields.choice("color_order", ("RGB", "BGR"), "RGB")]
    scale = 1 if fields.flag("normalized_images") else 255
    plain = fields.flag("unweighted_average")
    fields.finish(*IGNORED)

    def decibels(annotation: Value, prediction: Value) -> float:
        truth, found = (np.squeeze(image).astype(float) for image in _images(annotation, prediction))
        height, width = found.shape[:2]
        inner = (slice(border, height - border), slice(border, width - border))
        truth, found = truth[inner], found[inner]
        if truth.ndim == 3 and found.ndim == 2:  # as OpenCV's COLOR_RGB2GRAY of floating-point images
            truth = truth[..., list(order)] @ np.array([0.299, 0.587, 0.114])
        if truth.shape != found.shape:
            raise MetricError(f"psnr compares images of one size, got {truth.shape} and {found.shape}")
        apart = (found - truth) / scale
        if apart.ndim == 3 and apart.shape[2] == 3 and not plain:
            apart = apart[..., list(order)] @ (np.array([65.738, 129.057, 25.064]) / 256)
        error = float(np.mean(apart**2))
        return math.inf if error == 0 else -10 * math.log10(error)

    return Mean(decibels, "dB")


def _ssim(fields: Fields, _: Labels) -> Measure:
    fields.finish(*IGNORED)

    def alike(annotation: Value, prediction: Value) -> float:
        """Return SSIM over the whole image as one window (Wang et al. 2004, eq. 13)."""
        truth, found = _images(annotation, prediction)
        found = np.squeeze(found) if truth.ndim < found.ndim and found.shape[-1] == 1 else found
        if truth.shape != found.shape:
            raise MetricError(f"ssim compares images of one size, got {truth.shape} and {found.shape}")
        mean_x, mean_y = np.mean(found), np.mean(truth)
        both = np.mean((found - mean_x) * (truth - mean_y))
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        top = (2 * mean_x * mean_y + c1) * (2 * both + c2)
        return float(top / ((mean_x**2 + mean_y**2 + c1) * (np.var(found) + np.var(truth) + c2)))

    return Mean(alike)


def _error(power: int, root: bool = False) -> Callable[[Fields, Labels], Measure]:
    """Return the builder of the mean over images of the mean difference to some power, or of its root."""

    def build(fields: Fields, _: Labels) -> Measure:
        if fields.flag("max_error"):
            fields.refuse("max_error is not supported: the mean is what a budget is of")
        fields.finish(*IGNORED)

        def apart(annotation: Value, prediction: Value) -> float:
            truth, found = (image.astype(float) for image in _images(annotation, prediction))
            if truth.shape != found.shape:
                raise MetricError(f"an error compares images of one size, got {truth.shape} and {found.shape}")
            mean = float(np.mean(np.abs(truth - found) ** power))
            return math.sqrt(mean) if root else mean

        return Mean(apart, "error", higher=False)

    return build


METRICS: dict[str, Callable[[Fields, Labels], Measure]] = {
    "accuracy": _accuracy,
    "accuracy_per_class": class_metrics.accuracy_per_class,
    "classification_f1-score": class_metrics.f1_score,
    "character_recognition_accuracy": text.whole_texts,
    "label_level_recognition_accuracy": text.characters,
    "map": box_metrics.voc_map,
    "coco_precision": box_metrics.coco_precision,
    "coco_orig_precision": box_metrics.coco_orig_precision,
    "mean_iou": _of_pixels(_iou),
    "mean_accuracy": _of_pixels(_class_accuracy),
    "segmentation_accuracy": _of_pixels(_pixel_accuracy),
    "psnr": _psnr,
    "ssim": _ssim,
    "mae": _error(1),
    "mse": _error(2),
    "rmse": _error(2, root=True),
}
