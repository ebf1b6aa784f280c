"""Metrics of class scores against class indices: top-k accuracy and F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.scores import class_scores, margin_of, mean_of_parts

IGNORED = -1


class TopK:
    """Share of positions whose target is among the k highest scores; among equal scores the lower index comes first.

    A sample with several positions (tokens) counts as their mean; a sample without a target (all −1) does not count.
    """

    higher_is_better = True
    unit = "fraction"
    needs_target = True
    needs_reference = False
    takes = "scores"

    def __init__(self, k: int):
        self.k = k
        self.name = f"top-{k}"
        self.reads = (
            "first output: class scores [1, C] (also [1, C, 1, 1], or [1, T, C] and [T, C] for tokens or points); "
            "target: a class index, a list of acceptable ones, or one for each token; −1 is ignored"
        )

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> float | None:
        """Return the share of hits in 0..1, or None if every target is −1.

        Raises:
            MetricError: The output does not hold class scores, or the targets are not class indices.
        """
        scores = class_scores(outputs, self.name)
        targets = class_targets(target, scores, self.name)
        if scores.ndim == 1:
            wanted = targets[targets != IGNORED]
            return (
                float(_hits(np.broadcast_to(scores, (wanted.size, scores.size)), wanted, self.k).any())
                if wanted.size
                else None
            )
        if targets.shape != scores.shape[:-1]:
            targets = _one_a_position(targets, scores.shape[:-1], self.name)
        kept = targets != IGNORED
        return float(_hits(scores[kept], targets[kept], self.k).mean()) if kept.any() else None

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the samples that have a target."""
        return mean_of_parts(parts, self.name)

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the share of hits of each sample that has a target."""
        return np.array([part for part in parts if part is not None], np.float64)

    def chance(self, classes: int) -> float:
        """Return the value for random guesses."""
        return min(self.k / classes, 1.0)

    def margin(self, outputs: Sequence[NDArray[Any]], target: Any) -> float:
        """Return the distance of the sample from another result; with several acceptable classes, that of the best."""
        scores = class_scores(outputs, self.name)
        targets = class_targets(target, scores, self.name).ravel()
        kept = targets != IGNORED
        if scores.ndim > 1:
            return margin_of(scores.reshape(-1, scores.shape[-1])[kept], targets[kept], self.k)
        return max((margin_of(scores[None], one[None], self.k) for one in targets[kept]), default=float("inf"))

    def moved_target(self, outputs: Sequence[NDArray[Any]], target: Any, by: int) -> NDArray[np.int64]:
        """Return the target with its class numbers moved, wrapping around at the ends."""
        return _moved(outputs, target, by, self.name)


def class_targets(target: Any, scores: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return targets as int64, checked to be −1 or below the number of classes.

    One-hot vectors become the positions of their ones; a list of classes that are accepted holds integers.

    Args:
        target: Class index, several of them, or a vector of as many numbers as classes, one of which is 1.
        scores: Class scores, classes last.
        name: Name of the metric.

    Raises:
        MetricError: Targets are no class indices or are out of range.
    """
    classes = scores.shape[-1]
    if isinstance(target, dict) and "boxes" in target:
        raise MetricError(
            f"{name}: a target is a class index, and these are boxes: measure a detector with coco-map or voc-map"
        )
    values = np.asarray(sorted(target) if isinstance(target, set | frozenset) else target)
    if not isinstance(target, set | frozenset) and is_vector(values, scores.shape):
        return _one_hot(values, name)
    if values.dtype.kind == "f" and np.abs(values).max(initial=0) < 2**53 and np.array_equal(values, np.round(values)):
        if values.size > 1 and scores.ndim == 1:
            raise MetricError(
                f"{name}: a target of {values.size} floating-point numbers is neither a class nor a vector of "
                f"{classes} numbers, one a class: give the class index, or a list of integers if several are right"
            )
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise MetricError(
            f"{name}: a target is a class index, got {str(target)[:60]!r} ({values.dtype}). Names of classes become "
            "indices with ?classes=FILE after a list or a folder"
        )
    if values.size and (values.min() < IGNORED or values.max() >= classes):
        odd = values.max() if values.max() >= classes else values.min()
        raise MetricError(
            f"{name}: target {odd} is no index of {classes} classes (0 to {classes - 1}). Are the labels off by "
            "one, or is it the wrong output? A folder or label whose name is a number is that class, unless "
            "?classes=FILE lists the names in their order"
        )
    return values.astype(np.int64)


def is_vector(values: NDArray[Any], scores: Sequence[int | None]) -> bool:
    """Say whether targets hold a number for each class, and not class indices.

    Floating-point numbers do where there are as many as classes. So do integers and truth values that are all 0 or 1:
    as a list of accepted classes they would name one twice, or both of two.

    Args:
        values: Targets of one sample.
        scores: Shape of its class scores, classes last.
    """
    classes = scores[-1]
    if values.ndim == 0 or values.shape[-1] != classes:
        return False
    if len(scores) > 1 and values.size == classes and classes in scores[:-1]:  # as many tokens as classes
        return False
    return values.dtype.kind == "f" or (values.dtype.kind in "iub" and bool(np.isin(values, (0, 1)).all()))


def _one_hot(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return the positions of the ones in vectors of zeros and a single one each.

    Raises:
        MetricError: They are other vectors.
    """
    if not (np.isin(values, (0, 1)).all() and (values.sum(-1) == 1).all()):
        raise MetricError(
            f"{name}: a target of {values.shape[-1]} numbers, one a class, has to be 1 at one class and 0 at all "
            f"others, got {str(values)[:60]!r}. Give the class index instead, or a list of integers if several are "
            "right; for shares of classes take a metric of your own (python:module:function)"
        )
    return np.atleast_1d(values.argmax(-1)).astype(np.int64)


def _moved(outputs: Sequence[NDArray[Any]], target: Any, by: int, name: str) -> NDArray[np.int64]:
    scores = class_scores(outputs, name)
    targets = class_targets(target, scores, name)
    return np.where(targets == IGNORED, IGNORED, (targets + by) % scores.shape[-1])


def _one_a_position(targets: NDArray[np.int64], shape: tuple[int, ...], name: str) -> NDArray[np.int64]:
    if targets.size != int(np.prod(shape)):
        raise MetricError(f"{name}: {targets.size} targets for {int(np.prod(shape))} positions with scores")
    return targets.reshape(shape)


def _hits(scores: NDArray[Any], targets: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return for each row whether its target is among the k highest scores. Rows with NaN are misses."""
    own = np.take_along_axis(scores, targets[..., None], -1)
    earlier = np.arange(scores.shape[-1]) < targets[..., None]
    before = (scores > own).sum(-1) + ((scores == own) & earlier).sum(-1)
    return (before < k) & np.isfinite(scores).all(-1)


class F1:
    """Harmonic mean of precision and recall, of class 1 if there are two classes, else averaged over the classes.

    For each class it is 2·TP / (2·TP + FP + FN) over the whole set. Classes that occur neither in a target nor in an
    output do not count; with two classes and no positive at all the value is 1.
    """

    name = "f1"
    higher_is_better = True
    unit = "fraction"
    reads = (
        "first output: class scores [1, C], or [1, T, C] for tokens; target: a class index, or one for each token, "
        "or one-hot vectors; −1 is ignored; F1 of class 1 if C = 2, else macro F1"
    )
    needs_target = True
    needs_reference = False
    takes = "scores"

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> list[list[int]]:
        """Return [target, predicted, number of classes] for each position that counts.

        Raises:
            MetricError: The output does not hold class scores, or the targets are not class indices.
        """
        scores = class_scores(outputs, self.name)
        targets = _one_a_position(
            class_targets(target, scores, self.name), scores.shape[:-1] or (1,), self.name
        ).ravel()
        predicted = scores.reshape(-1, scores.shape[-1]).argmax(-1)
        classes = scores.shape[-1]
        return [[int(t), int(p), classes] for t, p in zip(targets, predicted, strict=True) if t != IGNORED]

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return F1 in 0..1."""
        rows = [row for part in parts for row in part]
        if not rows:
            raise MetricError(f"{self.name}: no sample with a target to measure")
        targets, predicted, classes = np.array(rows, np.int64).T
        count = int(classes[0])
        hits = np.bincount(targets[targets == predicted], minlength=count)
        total = np.bincount(targets, minlength=count) + np.bincount(predicted, minlength=count)
        if count == 2:
            return float(2 * hits[1] / total[1]) if total[1] else 1.0
        return float(np.mean(2 * hits[total > 0] / total[total > 0]))

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None, because counts are taken over the whole set."""
        return None

    def margin(self, outputs: Sequence[NDArray[Any]], target: Any) -> float:
        """Return the distance of the sample from another result."""
        return TopK(1).margin(outputs, target)

    def moved_target(self, outputs: Sequence[NDArray[Any]], target: Any, by: int) -> NDArray[np.int64]:
        """Return the target with its class numbers moved, wrapping around at the ends."""
        return _moved(outputs, target, by, self.name)
