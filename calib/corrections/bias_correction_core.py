"""Bias correction: restore the mean of each output channel that quantization has shifted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bias_delta(
    mean_fp32: NDArray[np.floating], mean_int8: NDArray[np.floating], standard_error: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the correction of a layer's bias: ``E[y] - E[y_q]``, shrunk by how well it is known.

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, §4.2.

    The mean m is measured on n samples and carries a standard error e. Correcting by λ·m leaves an expected squared
    shift of ``(1 - λ)² μ² + λ² e²`` for the true shift μ; the best λ is ``μ² / (μ² + e²)``, and m² - e² estimates μ²
    without bias. Hence, per channel::

        λ = max(0, 1 - e² / m²)

    the positive-part James-Stein factor. A channel within its noise is left alone and one far beyond it is corrected
    in full, however small it is in absolute terms: a threshold on magnitude would skip small shifts that add up over
    many layers. It does not replace the acceptance test on held-out samples, which the whole network has to pass in
    :mod:`calib.corrections.recipes`; it leaves less for that test to refuse.

    Args:
        mean_fp32: Mean output in floating point, ``(channels,)``.
        mean_int8: Mean output with quantized weights and inputs, ``(channels,)``.
        standard_error: Standard error of the difference, ``(channels,)``, from :func:`standard_error`; 0 corrects in
            full.
    """
    shift = np.asarray(mean_fp32, np.float64) - np.asarray(mean_int8, np.float64)
    noise, square = np.asarray(standard_error, np.float64) ** 2, shift**2
    known = square > noise
    return np.where(known, shift * (1.0 - np.where(known, noise, 0.0) / np.where(known, square, 1.0)), 0.0)


def standard_error(per_sample: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the standard error of the mean over samples, ``(channels,)``; infinite for a single sample.

    Samples are counted, not positions: the positions of one image share their error, so treating them as independent
    would make the error look too small.

    Args:
        per_sample: Mean of y - y_q over the positions of each sample, ``(samples, channels)``.
    """
    samples = len(per_sample)
    if samples < 2:
        return np.full(per_sample.shape[1:], np.inf)
    return np.asarray(per_sample, np.float64).std(axis=0, ddof=1) / np.sqrt(samples)


def left_out_errors(
    fp32: NDArray[np.floating], int8: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shift ``y - y_q`` of each sample before and after a correction learnt from the other samples.

    Every sample is held out once, so that even a few samples show what a correction is worth on unseen ones.

    Args:
        fp32: Mean output of each sample in floating point, ``(samples, channels)``.
        int8: Mean output of each sample with quantized weights and inputs, ``(samples, channels)``.
    """
    shift = np.asarray(fp32, np.float64) - np.asarray(int8, np.float64)
    others = len(shift) - 1
    if others == 0:
        return shift, shift.copy()
    # around the mean of all, where nothing cancels: mean and scatter of the others follow from those of all
    off = shift - shift.mean(axis=0)
    mean = shift.mean(axis=0) - off / others
    error = np.full_like(shift, np.inf)
    if others > 1:
        scatter = np.maximum((off**2).sum(axis=0) - off**2 * (others + 1) / others, 0.0)
        error = np.sqrt(scatter / ((others - 1) * others))
    return shift, shift - bias_delta(mean, np.zeros_like(mean), error)
