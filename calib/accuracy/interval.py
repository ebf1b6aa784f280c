"""95 % intervals of an accuracy drop, from the same samples through both models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # scipy.stats and scipy.optimize would cost a second of CPU in every process

from calib.errors import MetricError

Z = 1.959963984540054  # standard normal quantile of .975

# Fixed beforehand, so that the result depends neither on the machine's speed nor on chance.
RESAMPLES, SEED = 200, 0
# A resample that has no value (AUC with one class only) is left out; below this share of survivors the percentiles
# would describe something else than the metric.
FEWEST_RESAMPLES = 0.5


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a drop and how it was found."""

    low: float
    high: float
    method: str

    @property
    def half_width(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2


def score_interval(lost: float, gained: float, samples: int) -> tuple[float, float]:
    """Return Tango's score interval for the difference of two paired proportions.

    T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998), equations 12 and 13. It is the paired form of Wilson's interval: it
    stays inside [−1, 1] and does not collapse without discordant samples, where it is ±z²/(N + z²), about 3.8/N.

    Args:
        lost: samples right in FP32 and wrong in INT8.
        gained: samples wrong in FP32 and right in INT8.
        samples: N.
    """
    estimate = (lost - gained) / samples

    def excess(delta: float) -> float:
        a = 2 * samples
        b = -lost - gained + (2 * samples - lost + gained) * delta
        c = -gained * delta * (1 - delta)
        p = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = samples * (2 * p + delta * (1 - delta))
        return (lost - gained - samples * delta) ** 2 - Z * Z * variance

    def solve(end: float) -> float:
        # The estimate itself is a root when nothing is discordant: start beside it.
        start = estimate + math.copysign(1e-9, end)
        if abs(start) >= 1 or excess(start) >= 0:
            return end
        return _crossing(excess, start, end)

    return solve(-1.0), solve(1.0)


def _crossing(excess: Callable[[float], float], inside: float, outside: float) -> float:
    """Halve the way between a place where ``excess`` is negative and one where it is not, to the last bits."""
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if excess(middle) < 0 else (inside, middle)
    return outside


def mean_interval(losses: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return Student's interval for the mean of paired losses ``(N,)``; None for fewer than two."""
    if len(losses) < 2:
        return None
    half = float(stdtrit(len(losses) - 1, 0.975)) * float(losses.std(ddof=1)) / math.sqrt(len(losses))
    return float(losses.mean()) - half, float(losses.mean()) + half


def paired_interval(
    baseline: NDArray[np.float64], scores: NDArray[np.float64], higher_is_better: bool
) -> Interval | None:
    """Return the interval of the loss from the scores of each sample, in the metric's unit.

    Args:
        baseline: FP32 scores ``(N,)``.
        scores: INT8 scores of the same samples ``(N,)``.
        higher_is_better: the metric's direction.

    Returns:
        A score interval where samples are right or wrong, Student's otherwise; None where the samples do not allow any
        (one sample, or scores that are not finite).
    """
    losses = baseline - scores if higher_is_better else scores - baseline
    if not len(losses) or not np.isfinite(losses).all():
        return None
    bounded = bool(((baseline >= 0) & (baseline <= 1)).all())
    if bounded and np.isin(losses, (-1.0, 0.0, 1.0)).all():
        low, high = score_interval(int((losses > 0).sum()), int((losses < 0).sum()), len(losses))
        return Interval(low, high, "paired score interval (Tango)")
    found = mean_interval(losses)
    return None if found is None else Interval(*found, "paired differences (Student)")


def bootstrap_interval(
    drop_of: Callable[[Sequence[Any], Sequence[Any]], float],
    baseline: Sequence[Any],
    parts: Sequence[Any],
) -> Interval | None:
    """Return the percentile interval of a drop that is no mean over samples (AUC, mAP, Spearman).

    Args:
        drop_of: ``(baseline parts, parts) → drop``; called `RESAMPLES` times with the same resample of both.
        baseline: FP32 parts.
        parts: INT8 parts of the same samples.

    Returns:
        None where more than half of the resamples have no finite value.
    """
    random = np.random.default_rng(SEED)
    drops: list[float] = []
    for _ in range(RESAMPLES):
        chosen = random.integers(0, len(parts), len(parts))
        try:
            drop = drop_of([baseline[i] for i in chosen], [parts[i] for i in chosen])
        except MetricError:
            continue
        if math.isfinite(drop):
            drops.append(drop)
    if len(drops) < max(1, FEWEST_RESAMPLES * RESAMPLES):
        return None
    low, high = np.quantile(drops, (0.025, 0.975))
    return Interval(float(low), float(high), f"paired bootstrap ({RESAMPLES} resamples)")
