"""Metrics without labels: how close the outputs stay to those of the FP32 model, whose own value is 1.0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.scores import class_scores, margin_of, mean_of_parts

# A relative error has no upper end (the reference may be near 0, an output infinite); beyond this all are equally bad.
_WORST_ERROR = 1e3


class Agreement:
    """Share of samples (or of positions in a sample) with the same best class as in FP32."""

    name = "agreement"
    higher_is_better = True
    unit = "fraction"
    reads = "first output: class scores [1, C] (also [1, C, 1, 1], or [1, T, C] for tokens); no target"
    needs_target = False
    needs_reference = True

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> float:
        """Return the share of positions with the same argmax; positions with a NaN do not agree.

        Raises:
            MetricError: The output does not hold class scores, or the reference has another shape.
        """
        got = class_scores(outputs, self.name)
        want = class_scores(_given(reference, self.name), self.name)
        if got.shape != want.shape:
            raise MetricError(f"{self.name}: scores of shape {list(got.shape)}, FP32 gave {list(want.shape)}")
        return float(np.mean((got.argmax(-1) == want.argmax(-1)) & np.isfinite(got).all(-1)))

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean share."""
        return mean_of_parts(parts, self.name)

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the share of each sample."""
        return np.array(parts, np.float64)

    def margin(self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]]) -> float:
        """Return how far the best class of FP32 is ahead of the best other class."""
        scores, want = class_scores(outputs, self.name), class_scores(reference, self.name)
        return margin_of(scores.reshape(-1, scores.shape[-1]), want.reshape(-1, want.shape[-1]).argmax(-1))


class RelativeL2:
    """Mean over floating-point outputs of 1 − ‖output − FP32‖ / ‖FP32‖; 1.0 is equal.

    An output whose shape differs from that in FP32 (detections kept by a threshold) counts with error 1, as if it were
    all zeros. Integer outputs are skipped.
    """

    name = "relative-l2"
    higher_is_better = True
    unit = "1 − relative error"
    reads = "all floating-point outputs of any shape; no target"
    needs_target = False
    needs_reference = True

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> float:
        """Return 1 − the mean relative error of the outputs.

        Raises:
            MetricError: There is no floating-point output, or the number of outputs differs from FP32.
        """
        pairs = list(zip(outputs, _given(reference, self.name), strict=False))
        if len(outputs) != len(_given(reference, self.name)):
            raise MetricError(f"{self.name}: {len(outputs)} outputs, FP32 gave {len(_given(reference, self.name))}")
        errors: list[float] = []
        for output, expected in pairs:
            if np.asarray(expected).dtype.kind == "f":
                errors.append(_relative_error(np.asarray(output), np.asarray(expected)))
        if not errors:
            raise MetricError(f"{self.name}: the model has no floating-point output; give a metric of your own")
        return 1.0 - float(np.mean(errors))

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the samples."""
        return mean_of_parts(parts, self.name)

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the value of each sample."""
        return np.array(parts, np.float64)


def is_class_scores(shape: Sequence[int | None], dtype: np.dtype[Any]) -> bool:
    """Return whether an output looks like class scores: floating point of shape [1 or ?, C, 1…] with C ≥ 2."""
    trailing = list(shape[1:])
    while len(trailing) > 1 and trailing[-1] == 1:
        trailing.pop()
    fits = len(trailing) == 1 and trailing[0] is not None and trailing[0] >= 2
    return np.dtype(dtype).kind == "f" and fits and shape[0] in (1, None)


def _given(reference: Sequence[NDArray[Any]] | None, name: str) -> Sequence[NDArray[Any]]:
    if reference is None:
        raise MetricError(f"{name} compares with the FP32 outputs, and none were given")
    return reference


def _relative_error(output: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return ‖output − reference‖ / ‖reference‖, computed in float64."""
    if output.shape != reference.shape:
        return 1.0
    want = np.asarray(reference, np.float64).ravel()
    with np.errstate(over="ignore", invalid="ignore"):  # the result says it: inf or nan
        off = np.asarray(output, np.float64).ravel() - want
        signal, noise = float(want @ want), float(off @ off)
    if noise == 0:
        return 0.0
    error = math.sqrt(noise / signal) if signal > 0 and math.isfinite(noise) else _WORST_ERROR
    return min(error, _WORST_ERROR)
