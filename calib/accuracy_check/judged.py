"""The metric of an Accuracy Checker configuration: adapter, postprocessing and metric over the outputs of a sample."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.adapters import Outputs
from calib.accuracy_check.build import Judgement, build
from calib.accuracy_check.class_metrics import Accuracy
from calib.accuracy_check.measure import Measure
from calib.accuracy_check.values import Judged, Labels
from calib.errors import MetricError, one_line
from calib.metrics.metric import WithChance


class AccuracyCheck:
    """One metric of a configuration; samples are those of ``accuracy-check:`` with the same file."""

    needs_target = True
    needs_reference = False

    def __init__(self, file: str = "", definitions: str = "", dataset: str = "", metric: str = ""):
        self._names: Sequence[Sequence[str]] = ()
        self._made = None
        self.name, self.unit, self.higher_is_better = "accuracy-check", "fraction", True
        self.configuration = ""
        self.reads = (
            "the outputs that the adapter of an Accuracy Checker configuration reads, accuracy-check?file=FILE with "
            "definitions=FILE, dataset=NAME and metric=NAME if needed; targets are those of accuracy-check: samples"
        )
        if file:
            made = build(Path(file), Path(definitions) if definitions else None, dataset, metric)
            self._made = (made, made.measure(Labels({})))
            self.name, self.unit = made.title, self._made[1].unit
            self.higher_is_better = self._made[1].higher
            # Only what the metric has itself: a baseline is checked by what stands among the attributes.
            if isinstance(self._made[1], WithChance):
                self.chance = self._made[1].chance
            if isinstance(self._made[1], Accuracy):
                self.moved_target = self._moved_target
            said = [made.entry.launcher, made.entry.dataset, made.metric]
            self.configuration = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()

    def with_names(self, names: Sequence[Sequence[str]]) -> AccuracyCheck:
        """Return the metric for a model whose outputs have these names, one list for each output."""
        made = copy.copy(self)
        made._names = names
        return made

    def _moved_target(self, outputs: Sequence[NDArray[Any]], target: Any, by: int) -> Any:
        """Return the target with its class moved; of another kind as it is, which measuring refuses."""
        measure = self._configured()[1]
        if not isinstance(target, Judged) or not isinstance(measure, Accuracy):
            return target
        return replace(target, annotation=measure.moved(target.annotation, by))

    def _configured(self) -> tuple[Judgement, Measure]:
        if self._made is None:
            raise MetricError(
                "accuracy-check: give the configuration: --metric 'accuracy-check?file=accuracy-check.yml'"
            )
        return self._made

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> Any:
        """Return what one image adds to the metric.

        Raises:
            MetricError: The outputs are not those of the adapter, or the sample is not of such a configuration.
        """
        judgement, _ = self._configured()
        if not isinstance(target, Judged):
            raise MetricError(
                f"{self.name}: reads samples of accuracy-check: alone. Give --accuracy-check FILE --source DIR, or "
                "--validation 'accuracy-check:FILE?source=DIR'"
            )
        names = self._names or [[str(number)] for number in range(len(outputs))]
        annotation = target.annotation.copy()
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                found = judgement.adapter(Outputs(outputs, names, target.labels), target.network)
            for step in judgement.after(target.labels):
                step(annotation, found, target)
            return judgement.measure(target.labels).part(annotation, found)
        except (ValueError, IndexError, TypeError) as error:
            shapes = ", ".join(str(list(np.shape(array))) for array in outputs) or "none"
            raise MetricError(
                f"{self.name}: the outputs, of shapes {shapes}, do not have the form that the adapter of the "
                f"configuration reads ({type(error).__name__}: {one_line(error)})"
            ) from error

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the metric over the samples of these parts."""
        if not len(parts):
            raise MetricError(f"{self.name}: no samples to measure")
        return self._configured()[1].value(parts)

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64] | None:
        """Return a number for each sample if the metric is their mean, else None."""
        return np.asarray(parts, np.float64) if self._configured()[1].mean else None
