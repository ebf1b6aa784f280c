"""Metrics of numbers against numbers, averaged over samples: MAE, MSE, PSNR and cosine similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.scores import first_output, mean_of_parts
from calib.values.sqnr import decibel

# Equal images would have an infinite PSNR, which no mean survives; 100 dB is less than half a step of 16 bits.
HIGHEST_PSNR = 100.0

Score = Callable[[NDArray[np.float64], NDArray[np.float64], Any], float]


class ElementMetric:
    """Mean over samples of a number computed from the first output and a target of as many elements."""

    needs_target = True
    needs_reference = False

    def __init__(self, name: str, unit: str, higher_is_better: bool, score: Score, detail: str = ""):
        self.name = name
        self.unit = unit
        self.higher_is_better = higher_is_better
        self.reads = f"first output of any shape; target: as many numbers{detail}"
        self._score = score

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> float:
        """Return this sample's number.

        Raises:
            MetricError: The numbers of elements differ, or a value is not finite.
        """
        output = first_output(outputs, self.name)
        try:
            wanted = np.asarray(target)
            want = wanted.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise MetricError(f"{self.name}: a target is numbers, got {str(target)[:60]!r}") from error
        got = output.astype(np.float64)
        if [size for size in got.shape if size != 1] != [size for size in want.shape if size != 1]:
            raise MetricError(
                f"{self.name}: the first output has shape {list(got.shape)}, the target {list(want.shape)}; they may "
                "differ in axes of 1 only"
            )
        if not np.isfinite(got).all() or not np.isfinite(want).all():
            which = "target" if np.isfinite(got).all() else "output"
            raise MetricError(f"{self.name}: the {which} holds values that are not finite")
        return self._score(got.ravel(), want.ravel(), wanted.dtype)

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the samples."""
        return mean_of_parts(parts, self.name)

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return each sample's number."""
        return np.array(parts, np.float64)


def mae() -> ElementMetric:
    """Return the mean absolute error."""
    return ElementMetric("mae", "error", False, lambda got, want, _: float(np.abs(got - want).mean()))


def mse() -> ElementMetric:
    """Return the mean squared error."""
    return ElementMetric("mse", "squared error", False, lambda got, want, _: float(np.square(got - want).mean()))


def psnr() -> ElementMetric:
    """Return the peak signal-to-noise ratio, 10·log10(peak² / MSE), at most ``HIGHEST_PSNR`` for one image."""
    detail = " in 0..255 if integers, in 0..1 if floats, as the output"
    return ElementMetric("psnr", "dB", True, _psnr, detail)


def cosine() -> ElementMetric:
    """Return the cosine of the angle between output and target, for embeddings."""
    return ElementMetric("cosine", "cosine", True, lambda got, want, _: _cosine(got, want))


def _psnr(got: NDArray[np.float64], want: NDArray[np.float64], dtype: np.dtype[Any]) -> float:
    peak = 255.0 if dtype.kind in "iu" else 1.0
    if want.size and (want.min() < 0 or want.max() > peak):
        raise MetricError(f"psnr: a {dtype} target is in 0..{peak:g}, got {want.min():g}..{want.max():g}")
    error = float(np.square(got - want).mean())
    return min(HIGHEST_PSNR, decibel(peak**2, error))


def _cosine(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    lengths = float(np.linalg.norm(got) * np.linalg.norm(want))
    return float(got @ want) / lengths if lengths > 0 else float(np.array_equal(got, want))
