"""Squared errors and decibels by one convention: the SQNR is infinite if there is no error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy  # scipy.special is loaded at its first use; scipy.stats would cost a second of CPU
from numpy.typing import NDArray

LEAST_SAMPLES = 3  # with two, Student's t has one degree of freedom and the interval tens of decibels
# Random 4-sample subsets missed the figure of 120 samples by more than 1.5 dB in 54 to 93 % of the draws.
ENOUGH_SAMPLES = 30
CONFIDENCE = 0.95

# A sigmoid or softmax near 0 is right to a few ulps of 1 (1.2e-7 each): measured 1.3e-7 on a text detector whose
# scores were all below 1e-4, which would be 1.4 % of them.
ABSOLUTE = 1e-6


def decibel(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)``, the signal-to-quantization-noise ratio of two energies.

    It is inf without noise, even if the signal is zero; -inf for noise without signal or for infinite noise; NaN if the
    signal is not finite or the noise is NaN.
    """
    if not math.isfinite(signal) or math.isnan(noise):
        return math.nan
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and noise < math.inf else -math.inf


# Share of the mean norm over the samples below which an output is nearly empty, such as the scores of an image without
# objects: relative to itself, its error would outweigh those of all other samples.
NEARLY_EMPTY = 0.1

QUANTILES = 200  # of sizes, to integrate over


def usual_norms(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return norms to take errors relative to: the mean over the samples where an output is nearly empty.

    Args:
        norms: Norms of outputs, ``(samples, …)``.
    """
    usual = norms.mean(axis=0)
    return np.where(norms < NEARLY_EMPTY * usual, usual, norms)


def squared_error(y: NDArray[Any], y_q: NDArray[Any]) -> tuple[float, float]:
    """Return ``(sum y², sum (y_q - y)²)`` in float64: the two energies of :func:`decibel`.

    Elements where ``y`` is not finite are left out. An output whose shape depends on the data and differs counts as
    entirely wrong: its error is its energy.

    Args:
        y: Output in floating point, of any shape.
        y_q: The same output with quantization.
    """
    finite = np.isfinite(y)
    y64 = np.where(finite, y, 0).astype(np.float64)
    signal = float((y64**2).sum())
    return signal, float(((y64 - np.where(finite, y_q, 0)) ** 2).sum()) if y.shape == y_q.shape else signal


def relative_difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return how far two computations of one FP32 output are apart, ``‖ours − theirs‖ / ‖theirs‖``.

    Elements that differ by less than ``ABSOLUTE`` count as equal. It is inf if the shapes differ, or if only one of
    them is NaN somewhere. For integers it is the share of the elements that differ.
    """
    if ours.shape != theirs.shape:
        return float("inf")
    if not np.issubdtype(theirs.dtype, np.floating):
        return np.count_nonzero(np.not_equal(ours, theirs)) / max(1, ours.size)
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    same = np.isclose(a, b, rtol=0, atol=ABSOLUTE, equal_nan=True)  # equal infinities are close too
    distance = np.linalg.norm(np.subtract(a, b, out=np.zeros_like(a), where=~same))
    if np.isnan(distance):
        return float("inf")
    return float(distance / max(np.linalg.norm(np.where(np.isfinite(b), b, 0)), 1e-12))


def sqnr_interval(energies: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % interval in dB for the SQNR of samples that were not seen, from some that were not seen either.

    The SQNR is a ratio of two sums over samples of uneven size, so a few samples tell little of it. Its logarithm is
    estimated in three ways, each with Student's t, and the widest ends are taken: by the first-order effect of a
    sample, ``signal / mean signal - noise / mean noise`` (delta method); by leaving each out (jackknife; Efron and
    Stein, 1981), which feels a single large sample more; and as the ratio of the means of two log-normal variables,
    which knows of larger samples than those that were seen (Cox's method; Zhou and Gao, 1997), here correlated::

        m = mean log(signal / noise) + (s² of log signal - s² of log noise) / 2
        m ± t √(s² of log(signal / noise) / n + (s⁴ of log signal + s⁴ of log noise - 2 covariance²) / (2 (n - 1)))

    Args:
        energies: Signal and noise energy of each sample, ``(samples, 2)``.

    Returns:
        Lower and upper end; None for fewer than 3 samples, or if there is no noise or no signal in them.
    """
    count = len(energies)
    if count < LEAST_SAMPLES or not np.isfinite(energies).all():
        return None
    sums, left = energies.sum(axis=0), energies.sum(axis=0) - energies
    if sums.min() <= 0 or left.min() <= 0:
        return None
    estimate = math.log(sums[0] / sums[1])
    jackknife = count * estimate - (count - 1) * np.log(left[:, 0] / left[:, 1])
    relative = energies / energies.mean(axis=0)
    found = [
        (estimate, float((relative[:, 0] - relative[:, 1]).var(ddof=1)) / count),
        (float(jackknife.mean()), float(jackknife.var(ddof=1)) / count),
    ]
    if energies.min() > 0:
        found.append(_log_normal(np.log(energies)))
    t, to_db = float(scipy.special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)), 10 / math.log(10)
    halves = [t * math.sqrt(variance) for _, variance in found]
    low = min(centre - half for (centre, _), half in zip(found, halves, strict=True))
    high = max(centre + half for (centre, _), half in zip(found, halves, strict=True))
    return to_db * low, to_db * high


def censused_interval(
    drawn: NDArray[np.float64], censused: NDArray[np.float64], count: int
) -> tuple[float, float] | None:
    """Return the 95 % interval in dB for the SQNR of unseen samples, from a stratified sample of those that were seen.

    The samples expected to have the largest errors are all run, and some of the others, drawn by chance, stand for the
    rest. Each of the first counts for itself alone (Cochran, *Sampling Techniques*, 1977, chapter 5), with the variance
    of a Poisson count, since as many of their kind are to be expected among as many unseen samples::

        mean = sum of censused / N + (1 - m / N) mean of drawn
        d = signal / mean signal - noise / mean noise        of each sample, to first order
        variance of log(SQNR) = sum of censused d² / N² + (1 - m / N)² s²(d of drawn) / n

    Where a few samples make most of the noise, the logarithm of their sum is not normal. So the lower end is at most
    that of the upper limit for a weighted sum of Poisson counts (Fay and Feuer, 1997): of the noise energies x, y their
    sum, v that of their squares and w the largest of them, the limit of y is::

        (v + w²) / (2 (y + w)) chi-square quantile at .975 for 2 (y + w)² / (v + w²) degrees of freedom

    Args:
        drawn: Signal and noise energy of each of the n samples that were drawn, ``(n, 2)``.
        censused: The same of the m samples that are expected to have the largest errors, ``(m, 2)``, m > 0.
        count: Number N of all samples that both are from.

    Returns:
        Lower and upper end; None for fewer than 3 drawn samples, or if there is no noise or no signal.
    """
    if len(drawn) < LEAST_SAMPLES or not (np.isfinite(drawn).all() and np.isfinite(censused).all()):
        return None
    share = 1 - len(censused) / count
    mean = censused.sum(axis=0) / count + share * drawn.mean(axis=0)
    if mean.min() <= 0:
        return None
    effects, others = ((rows / mean) @ np.array([1.0, -1.0]) for rows in (censused, drawn))
    variance = float((effects**2).sum()) / count**2 + share**2 * float(others.var(ddof=1)) / len(drawn)
    half = float(scipy.special.stdtrit(len(drawn) - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    estimate, to_db = math.log(mean[0] / mean[1]), 10 / math.log(10)
    most = _poisson_limit(censused[:, 1]) / count + share * drawn[:, 1].mean()
    return min(to_db * (estimate - half), decibel(mean[0], most)), to_db * (estimate + half)


def most_of_none(count: int) -> float:
    """Return the upper limit of the share of samples with something that none of ``count`` has, two-sided 95 %.

    It is that of a Poisson count of zero, ``-log(.025) / count`` (Hanley and Lippman-Hand, 1983, for one side).
    """
    return -math.log((1 - CONFIDENCE) / 2) / count


def _poisson_limit(weights: NDArray[np.float64]) -> float:
    """Return the upper limit of a weighted sum of Poisson counts that were all one, see :func:`censused_interval`."""
    largest = float(weights.max())
    total, squares = float(weights.sum()) + largest, float((weights**2).sum()) + largest**2
    if total == 0:
        return 0.0
    return squares / (2 * total) * float(scipy.special.chdtri(2 * total**2 / squares, (1 - CONFIDENCE) / 2))


def _log_normal(logs: NDArray[np.float64]) -> tuple[float, float]:
    """Return the logarithm of the ratio of two log-normal means, and its variance."""
    (signal, both), (_, noise) = np.cov(logs.T)
    ratio = logs[:, 0] - logs[:, 1]
    spread = max(signal**2 + noise**2 - 2 * both**2, 0.0) / (2 * (len(logs) - 1))
    return float(ratio.mean() + (signal - noise) / 2), float(ratio.var(ddof=1) / len(logs) + spread)


def noise_beyond(
    sizes: NDArray[np.float64], largest: float, multiples: NDArray[np.float64], noises: NDArray[np.float64]
) -> float:
    """Return the expected noise energy of one unseen sample that is due to its being larger than all of some samples.

    Ranges end where the largest of the samples does that they are from, and a few held-out samples hardly ever show
    what a larger one suffers: one in 33 is larger than all of 32. So noise is measured on samples that were enlarged,
    and sizes are taken for log-normal, with the upper 95 % limit of their spread s for n samples::

        integral over z > largest of noise(z / largest) p(z) dz,     s √((n - 1) / chi-square quantile at .05)

    Between the multiples that were measured the logarithm of the noise is interpolated over that of the size; beyond
    the last one it goes on as between the last two, at most with the fourth power of the size, as in a product of two
    tensors that grow with it.

    Args:
        sizes: Sizes of some samples, ``(samples,)``, above 0.
        largest: Size of the largest of all samples that ranges are from.
        multiples: Sizes of enlarged samples, as ascending multiples of the largest, ``(multiples,)``.
        noises: Mean noise energy of samples of these sizes, ``(multiples,)``.
    """
    share, beyond = _sizes_beyond(sizes, largest)
    if not len(beyond):
        return 0.0
    if not np.isfinite(noises).all():
        return math.inf
    at, noise = np.log(multiples), np.log(np.maximum(noises, np.finfo(np.float64).tiny))
    slope = float(np.clip((noise[-1] - noise[-2]) / (at[-1] - at[-2]), 0, 4))
    further = np.clip(beyond - at[-1], 0, None)
    return share * float(np.exp(np.interp(beyond, at, noise) + slope * further).mean())


def multiples_needed(sizes: NDArray[np.float64], largest: float, multiples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return those of some multiples that :func:`noise_beyond` looks at: up to the first that no size is beyond.

    Args:
        sizes: Sizes of some samples, as there.
        largest: Size of the largest sample, as there.
        multiples: Ascending multiples, ``(multiples,)``; at least two are returned.
    """
    farthest = math.exp(float(np.max(_sizes_beyond(sizes, largest)[1], initial=0.0)))
    return multiples[: max(int(np.searchsorted(multiples, farthest)) + 1, 2)]


def _sizes_beyond(sizes: NDArray[np.float64], largest: float) -> tuple[float, NDArray[np.float64]]:
    """Return the share of samples that are larger than the largest, and quantiles of the logarithm of by how much.

    Without a spread there are no quantiles.
    """
    logs = np.log(sizes)
    spread = float(logs.std(ddof=1)) * math.sqrt(
        (len(logs) - 1) / float(scipy.special.chdtri(len(logs) - 1, CONFIDENCE))
    )
    if spread == 0:
        return 0.0, np.zeros(0)
    reach = math.log(largest) - float(logs.mean())
    share = float(scipy.special.ndtr(-reach / spread))
    quantiles = (np.arange(QUANTILES) + 0.5) / QUANTILES * share
    return share, -spread * scipy.special.ndtri(quantiles) - reach


def largest_share(energies: NDArray[np.float64]) -> float:
    """Return the largest share that one sample has of the signal or of the noise, from 1 / samples to 1.

    Args:
        energies: Signal and noise energy of each sample, ``(samples, 2)``.
    """
    sums = energies.sum(axis=0)
    return float(np.max(energies.max(axis=0)[sums > 0] / sums[sums > 0], initial=0.0))
