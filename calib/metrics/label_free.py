"""Metrics without labels: how close the outputs stay to those of the FP32 model, whose own value is 1.0.

Outputs are compared in parts, and those behind a selection before it; see ``calib.values.compared``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.scores import class_scores, margin_of, mean_of_parts
from calib.values.drops import OF_THE_SIGNAL
from calib.values.sqnr import squared_error, usual_norms

# A relative error has no upper end (the reference may be near 0, an output infinite); beyond this all are equally bad.
_WORST_ERROR = 1e3


class Agreement:
    """Share of samples (or of positions in a sample) with the same best class as in FP32."""

    name = "agreement"
    higher_is_better = True
    unit = "fraction"
    reads = (
        "first output, or the tensor that decides it: class scores [1, C] (also [1, C, 1, 1], or [1, T, C] for "
        "tokens); no target"
    )
    needs_target = False
    needs_reference = True
    by_parts = True

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


class _Energies:
    """Measures the energies of the outputs in FP32 and of what they differ by."""

    name: str
    needs_target = False
    needs_reference = True
    by_parts = True

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> list[list[float]]:
        """Return [sum of squares in FP32, sum of squared differences] of each part.

        Raises:
            MetricError: There is no floating-point output, or the number of outputs differs from FP32.
        """
        wanted = _given(reference, self.name)
        if len(outputs) != len(wanted):
            raise MetricError(f"{self.name}: {len(outputs)} outputs, FP32 gave {len(wanted)}")
        pairs = [(np.asarray(y), np.asarray(y_q)) for y, y_q in zip(wanted, outputs, strict=True)]
        with np.errstate(over="ignore", invalid="ignore"):  # the result says it: inf or nan
            sums = [squared_error(y, y_q) for y, y_q in pairs if y.dtype.kind == "f"]
        if not sums:
            raise MetricError(f"{self.name}: the model has no floating-point output; give a metric of your own")
        return [[signal, math.inf if math.isnan(noise) else noise] for signal, noise in sums]


class RelativeL2(_Energies):
    """Mean over floating-point outputs, in parts, of 1 − ‖output − FP32‖ / ‖FP32‖; 1.0 is equal.

    ‖FP32‖ is that of the sample, and its mean over the samples for one on which an output is nearly empty (an image
    without objects), under a tenth of that mean. An output whose shape differs from that in FP32 (detections kept by a
    threshold) counts with error 1, as if it were all zeros, and so does any error of an output that is all zero in FP32
    on every sample.
    """

    name = "relative-l2"
    higher_is_better = True
    unit = "1 − relative error"
    reads = "all floating-point outputs of any shape, in parts, or the tensors that decide the others; no target"

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the samples."""
        return mean_of_parts(self.per_sample(parts).tolist() if parts else [], self.name)

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the value of each sample."""
        sums = np.array(parts, np.float64)
        norms, error = usual_norms(np.sqrt(sums[..., 0])), np.sqrt(sums[..., 1])
        relative = np.where(error > 0, 1.0, 0.0)
        np.divide(error, norms, out=relative, where=norms > 0)
        return 1.0 - np.minimum(relative, _WORST_ERROR).mean(axis=1)


class Noise(_Energies):
    """Energy of the noise as a share of the signal's, of the floating-point output, in parts, with the most of it.

    The noise is output − FP32, the signal FP32, each summed over the samples. The SQNR in dB is −10 log10 of it, so
    that a smallest SQNR is a largest drop: FP32 itself is at 0. A part that is all zero in FP32 does not count.
    """

    name = "noise"
    higher_is_better = False
    unit = OF_THE_SIGNAL
    reads = RelativeL2.reads

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the ratio of the sums over the samples."""
        return mean_of_parts(self.per_sample(parts).tolist() if parts else [], self.name)

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the noise of each sample per mean signal of all, in the part that is worst over all of them."""
        energies = np.array(parts, np.float64)
        signal = energies[..., 0].mean(axis=0)
        with np.errstate(invalid="ignore"):  # inf / inf: as bad as noise without end
            ratios = np.divide(energies[..., 1], signal, out=np.zeros(energies.shape[:2]), where=signal > 0)
        ratios = np.minimum(np.where(np.isnan(ratios), np.inf, ratios), _WORST_ERROR**2)
        return ratios[:, ratios.mean(axis=0).argmax()]


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
