"""Similarity of images: the structural similarity index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.metrics.scores import first_output, mean_of_parts

Floats = NDArray[np.float64]

# Wang et al. 2004, section III-C: a Gaussian window of σ = 1.5 in 11 pixels, K1 = 0.01 and K2 = 0.03.
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


class Ssim:
    """Structural similarity of images, averaged over windows, channels and samples (Wang et al. 2004, eq. 13).

    (2·μx·μy + C1)(2·σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2)) with C = (K · peak)².
    """

    name = "ssim"
    higher_is_better = True
    unit = "similarity"
    needs_target = True
    needs_reference = False

    def __init__(self, window: str = str(WINDOW)):
        """Make the metric.

        Args:
            window: Side of the Gaussian window in pixels, odd; 0 for one window of equal weights over the whole
                image, its channels together, as Accuracy Checker has it.

        Raises:
            UsageError: It is another number.
        """
        if not window.isdecimal() or (int(window) and int(window) % 2 == 0):
            raise UsageError(
                f"metric ssim: window is an odd number of pixels, or 0 for the whole image, got {window!r}"
            )
        self.window = int(window)
        self.reads = (
            "first output: an image [1, C, H, W], [1, H, W, C] or [1, H, W] with C = 1, 3 or 4; target: an image of "
            "that size in either layout, in 0..255 if integers, in 0..1 if floats, as the output; "
            f"?window={WINDOW}, 0 for one window over the whole image"
        )

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> float:
        """Return the similarity of one image, −1..1.

        Raises:
            MetricError: Output and target are not images of one size, or a value is not finite or out of range.
        """
        try:
            wanted = np.asarray(target)
            kind, want = wanted.dtype.kind, _planes(wanted.astype(np.float64), self.name, "target")
        except (TypeError, ValueError) as error:
            raise MetricError(f"{self.name}: a target is an image, got {str(target)[:60]!r}") from error
        got = _planes(first_output(outputs, self.name).astype(np.float64), self.name, "first output")
        if got.shape != want.shape:
            raise MetricError(
                f"{self.name}: the first output is an image of {_size(got)}, the target one of {_size(want)}"
            )
        peak = 255.0 if kind in "iu" else 1.0
        if not np.isfinite(got).all() or not np.isfinite(want).all():
            which = "target" if np.isfinite(got).all() else "output"
            raise MetricError(f"{self.name}: the {which} holds values that are not finite")
        if want.size and (want.min() < 0 or want.max() > peak):
            raise MetricError(f"{self.name}: the target is in 0..{peak:g}, got {want.min():g}..{want.max():g}")
        if min(want.shape[1:]) < self.window:
            raise MetricError(
                f"{self.name}: an image of {_size(want)} is smaller than the window: give ?window=, at most "
                f"{min(want.shape[1:])} and odd, or 0"
            )
        return float(np.mean(_similarity(got, want, peak, self.window)))

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the samples."""
        return mean_of_parts(parts, self.name)

    def per_sample(self, parts: Sequence[Any]) -> Floats:
        """Return each sample's similarity."""
        return np.array(parts, np.float64)


def _similarity(x: Floats, y: Floats, peak: float, window: int) -> Floats:
    """Return the index of each window of planes ``(C, H, W)``."""
    first, second = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_x, mean_y = _mean(x, window), _mean(y, window)
    var_x, var_y = _mean(x * x, window) - mean_x**2, _mean(y * y, window) - mean_y**2
    both = _mean(x * y, window) - mean_x * mean_y
    upper = (2 * mean_x * mean_y + first) * (2 * both + second)
    return upper / ((mean_x**2 + mean_y**2 + first) * (var_x + var_y + second))


def _mean(planes: Floats, window: int) -> Floats:
    """Return the weighted mean of each window that lies inside; of all planes together for a window of 0."""
    if not window:
        return planes.mean(keepdims=True)
    places = np.arange(window) - window // 2
    weights = np.exp(-np.square(places) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (1, 2):
        planes = np.lib.stride_tricks.sliding_window_view(planes, window, axis) @ weights
    return planes


def _planes(image: Floats, name: str, what: str) -> Floats:
    """Return an image as ``(C, H, W)``.

    Raises:
        MetricError: It is none.
    """
    shape = image.shape
    if image.ndim == 4 and shape[0] == 1:
        image = image[0]
    if image.ndim == 2:
        return image[None]
    if image.ndim == 3 and image.shape[0] in (1, 3, 4):
        return image
    if image.ndim == 3 and image.shape[2] in (1, 3, 4):
        return np.moveaxis(image, 2, 0)
    raise MetricError(
        f"{name}: reads an image of 1, 3 or 4 channels from the first output, and one as the target; the {what} is "
        f"{list(shape)}"
    )


def _size(planes: Floats) -> str:
    channels, height, width = planes.shape
    return f"{height}x{width} with {channels} channel{'s' * (channels > 1)}"
