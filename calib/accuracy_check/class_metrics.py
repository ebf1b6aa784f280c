"""Metrics of classifiers: accuracy, also by class, and F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.fields import Fields
from calib.accuracy_check.measure import IGNORED, Mean, Measure
from calib.accuracy_check.values import Labels, Scores, Value
from calib.errors import MetricError


def best_classes(prediction: Value, k: int) -> NDArray[np.int64]:
    """Return the ``k`` classes of the highest scores.

    Raises:
        MetricError: The prediction holds no scores of classes.
    """
    if not isinstance(prediction, Scores):
        raise MetricError("a metric of classifiers takes scores of classes")
    return np.argpartition(prediction.values, -k)[-k:] if len(prediction.values) > k else np.arange(k)


def class_of(annotation: Value) -> int:
    """Return the class of an annotation.

    Raises:
        MetricError: It is something else.
    """
    if not isinstance(annotation, Scores):
        raise MetricError("a metric of classifiers takes a class as target")
    return int(annotation.values)


class Accuracy(Mean):
    """Share of images whose class is among the ``k`` best."""

    def __init__(self, k: int):
        super().__init__(lambda annotation, prediction: float(class_of(annotation) in best_classes(prediction, k)))
        self._k = k

    def chance(self, classes: int) -> float:
        """Return the value for random guesses among this many classes."""
        return min(self._k / classes, 1.0)

    def moved(self, annotation: Value, by: int) -> Scores:
        """Return an annotation with its class moved by ``by``, which may then be none of the network's."""
        return Scores(np.asarray(class_of(annotation) + by))


@dataclass(frozen=True)
class _PerClass:
    """Mean over the data set's classes of the share of each whose class is among the best; 0 for one without images."""

    classes: Sequence[int]
    k: int
    unit: str = "fraction"
    mean: bool = False
    higher: bool = True

    def part(self, annotation: Value, prediction: Value) -> Any:
        """Return the class, whether it is among the best, and the number of classes."""
        label = _known(annotation, self.classes)
        return [label, int(label in best_classes(prediction, self.k)), len(self.classes)]

    def chance(self, classes: int) -> float:
        """Return the value for random guesses among the classes that the network tells apart."""
        return min(self.k / classes, 1.0)

    def value(self, parts: Sequence[Any]) -> float:
        """Return the metric over these images."""
        labels, hits, counts = np.asarray(parts, np.int64).reshape(-1, 3).T
        return sum(float(hits[labels == label].mean()) for label in np.unique(labels)) / int(counts[0])


@dataclass(frozen=True)
class _F1:
    """F1 of one class, of two classes their mean, and of more that of the first, as the original gives it."""

    classes: Sequence[int]
    chosen: int | None
    unit: str = "fraction"
    mean: bool = False
    higher: bool = True

    def part(self, annotation: Value, prediction: Value) -> Any:
        """Return the class, the one predicted, and the number of classes."""
        label = _known(annotation, self.classes)
        return [label, int(best_classes(prediction, 1)[0]), len(self.classes)]

    def value(self, parts: Sequence[Any]) -> float:
        """Return the metric over these images."""
        true, found, counts = np.asarray(parts, np.int64).reshape(-1, 3).T
        wanted = [self.chosen] if self.chosen is not None else range(2 if counts[0] == 2 else 1)
        hits = [int(((true == label) & (found == label)).sum()) for label in wanted]
        sums = [int((true == label).sum() + (found == label).sum()) for label in wanted]
        return float(np.mean([2 * hit / total if total else 0.0 for hit, total in zip(hits, sums, strict=True)]))


def _known(annotation: Value, classes: Sequence[int]) -> int:
    """Return the class of an annotation, which has to be one of the data set's.

    Raises:
        MetricError: It is not, or the data set says no classes.
    """
    label = class_of(annotation)
    if not classes:
        raise MetricError("metrics by class need the data set's classes: give its dataset_meta_file with a label_map")
    if label not in classes:
        raise MetricError(f"class {label} of the annotation is none of the data set's, which are {len(classes)}")
    return label


def accuracy_per_class(fields: Fields, labels: Labels) -> Measure:
    """Return the mean accuracy over classes."""
    made = _PerClass(list(labels.names), fields.size("top_k", 1) or 1)
    fields.choice("label_map", ("label_map",), "label_map")
    fields.finish(*IGNORED)
    return made


def f1_score(fields: Fields, labels: Labels) -> Measure:
    """Return F1 of a classifier."""
    chosen = fields.number("pos_label", None, 0, 1 << 16)
    fields.choice("label_map", ("label_map",), "label_map")
    if fields.flag("pixel_level"):
        fields.refuse("pixel_level is not supported")
    fields.finish(*IGNORED)
    return _F1(list(labels.names), None if chosen is None else int(chosen))
