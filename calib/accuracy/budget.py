"""What may be lost, and what so many samples can show of it: 95 % intervals, and the sequential test.

Intervals and the test compare the same samples through both models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # scipy.special is loaded at its first use; scipy.stats would cost a second of CPU
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.values.drops import drop_text

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
DropKind = Literal["absolute", "relative"]

Z = 1.959963984540054  # standard normal quantile of .975

# Fixed beforehand, so that the result depends neither on the machine's speed nor on chance.
RESAMPLES, SEED = 200, 0  # the seed is also that of the order in which samples are looked at
# A resample that has no value (AUC with one class only) is left out; below this share of survivors the percentiles
# would describe something else than the metric.
FEWEST_RESAMPLES = 0.5

# The sequential test: at most ALPHA wrong rejections over all looks (Bonferroni). It only ever rejects.
LOOKS = (0.10, 0.20, 0.35, 0.50, 0.75)
ALPHA = 0.02
# Below this many samples the first looks say too little: they save next to nothing, and the rough drop of a plan
# that was rejected early misleads the forecast.
FEWEST_FOR_LOOKS = 400


@dataclass(frozen=True)
class Budget:
    """The accuracy drop that is allowed.

    Attributes:
        max_drop: Largest drop allowed, 0 or more, in the metric's unit, or as a share of |baseline| if relative.
        kind: Kind of the drop, "absolute" or "relative".
        higher_is_better: Declared direction of the metric.
        unit: Unit of the metric, for sentences.
    """

    max_drop: float
    kind: DropKind = "absolute"
    higher_is_better: bool = True
    unit: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_drop) and self.max_drop >= 0):
            raise UsageError(f"max_drop must be a number of 0 or more, got {self.max_drop!r}. Example: max_drop=0.01")
        if self.kind not in ("absolute", "relative"):
            raise UsageError(f"drop must be 'absolute' or 'relative', got {self.kind!r}")

    def loss(self, baseline: float, value: float) -> float:
        """Return how much worse ``value`` is, in the metric's unit; +inf where the model gave no number."""
        loss = baseline - value if self.higher_is_better else value - baseline
        return math.inf if math.isnan(loss) else loss

    def scale(self, baseline: float) -> float:
        """Return what a loss is divided by to become a drop.

        Raises:
            MetricError: The baseline is not finite, or is 0 while the drop is relative.
        """
        if not math.isfinite(baseline):
            raise MetricError(f"the FP32 baseline must be a finite number, got {baseline!r}: check the metric")
        if self.kind == "absolute":
            return 1.0
        if baseline == 0:
            raise MetricError(
                "a relative drop divides by |baseline|, and the FP32 baseline is 0: use the absolute drop instead"
            )
        return abs(baseline)

    def drop(self, baseline: float, value: float) -> float:
        """Return the drop of ``value`` against ``baseline``: positive is worse, whatever the metric's direction."""
        return self.loss(baseline, value) / self.scale(baseline)

    def fits(self, drop: float) -> bool:
        """Say whether this drop is allowed; .87 − .86 is .01 in spite of binary rounding."""
        return drop <= self.max_drop + 1e-12 * max(1.0, self.max_drop)

    def text(self, drop: float) -> str:
        """Return a drop in the unit that the report writes all drops in."""
        return drop_text(self.kind, self.unit, drop)


def noise_note(budget: Budget, samples: int, half_width: float) -> str:
    """Return a sentence if the budget is smaller than the samples can resolve, else "".

    Args:
        budget: Accuracy budget.
        samples: Number of validation samples.
        half_width: Half the width of the drop's 95 % interval, in the scale of the drop.
    """
    if half_width <= budget.max_drop:
        return ""
    # The half-width shrinks with sqrt(N).
    ratio = (half_width / budget.max_drop) ** 2 if budget.max_drop else math.inf
    advice = (
        f"about {math.ceil(samples * ratio):,} samples would show it" if ratio < 1000 else "no sample size shows it"
    )
    return (
        f"The budget of {budget.text(budget.max_drop)} lies below the noise of {samples} samples "
        f"(±{budget.text(half_width)} at 95 %): {advice}."
    )


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
        lost: Number of samples that are right in FP32 and wrong in INT8.
        gained: Number of samples that are wrong in FP32 and right in INT8.
        samples: Number of all samples N.
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


def normal_cdf(x: float | Floats) -> Floats:
    """Return the distribution function of the standard normal, Phi."""
    return np.asarray(scipy.special.ndtr(x), np.float64)


def value_interval(scores: Floats, *, share: bool) -> Interval | None:
    """Return the interval of a metric's value, the mean of the scores of single samples.

    Samples that are right or wrong have Wilson's score interval: it stays inside [0, 1] and does not collapse where all
    of them are right. E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
    the American Statistical Association 22 (1927).

    Args:
        scores: Scores of the samples, ``(N,)``.
        share: Whether the metric is a fraction, which no value of it exceeds: Student's interval ends at 1 then, and at
            0 if no score is below.

    Returns:
        The interval; None for a single sample or scores that are not finite.
    """
    count = len(scores)
    if count < 2 or not np.isfinite(scores).all():
        return None
    if np.isin(scores, (0.0, 1.0)).all():
        mean, z = float(scores.mean()), Z * Z / count
        middle, half = mean + z / 2, math.sqrt(z * (mean * (1 - mean) + z / 4))
        low, high = (middle - half) / (1 + z), (middle + half) / (1 + z)
        return Interval(low if mean else 0.0, high if mean < 1 else 1.0, "Wilson score interval")
    found = mean_interval(scores)
    assert found is not None  # two scores or more
    if not share:
        return Interval(*found, "Student")
    return Interval(max(found[0], min(0.0, float(scores.min()))), min(found[1], 1.0), "Student")


def mean_interval(losses: Floats) -> tuple[float, float] | None:
    """Return Student's interval for the mean of paired losses ``(N,)``; None for fewer than two."""
    if len(losses) < 2:
        return None
    half = float(scipy.special.stdtrit(len(losses) - 1, 0.975)) * float(losses.std(ddof=1)) / math.sqrt(len(losses))
    return float(losses.mean()) - half, float(losses.mean()) + half


def paired_interval(baseline: Floats, scores: Floats, higher_is_better: bool) -> Interval | None:
    """Return the interval of the loss from the scores of each sample, in the metric's unit.

    Args:
        baseline: FP32 scores, ``(N,)``.
        scores: INT8 scores of the same samples, ``(N,)``.
        higher_is_better: Direction of the metric.

    Returns:
        A score interval if samples are right or wrong, Student's otherwise; None if the samples do not allow any (one
        sample, or scores that are not finite).
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
    drop_of: Callable[[Indices], float],
    samples: int,
) -> Interval | None:
    """Return the percentile interval of a drop that is not a mean over samples (AUC, mAP, Spearman).

    Args:
        drop_of: Function ``indices of samples → drop of INT8 against FP32 over these``; called `RESAMPLES` times with
            as many indices as there are samples, drawn with replacement.
        samples: Number of samples.

    Returns:
        The interval; None for a single sample, which resamples only to itself, or if more than half of the resamples
        have no finite value.
    """
    if samples < 2:
        return None
    random = np.random.default_rng(SEED)
    drops: list[float] = []
    for _ in range(RESAMPLES):
        try:
            drop = drop_of(random.integers(0, samples, samples))
        except MetricError:
            continue
        if math.isfinite(drop):
            drops.append(drop)
    if len(drops) < max(1, FEWEST_RESAMPLES * RESAMPLES):
        return None
    low, high = np.quantile(drops, (0.025, 0.975))
    return Interval(float(low), float(high), f"paired bootstrap ({RESAMPLES} resamples)")


def shuffled(indices: Indices) -> Indices:
    """Return the samples in a random order that depends on their number only.

    A listing sorted by class would make every early look a look at the first classes.
    """
    return np.random.default_rng(SEED).permutation(indices)


def portions_of(samples: int) -> list[int]:
    """Return after how many of the samples a plan is looked at before the end."""
    return [math.ceil(share * samples) for share in LOOKS]


def blocks(indices: Indices, stop_early: bool) -> list[Indices]:
    """Return the samples in the portions in which they are looked at, see `shuffled`."""
    if not stop_early or len(indices) < FEWEST_FOR_LOOKS:
        return [indices]
    return [np.sort(block) for block in np.split(shuffled(indices), portions_of(len(indices)))]


def least_loss(losses: Floats, total: int) -> float:
    """Return the lower bound of the mean loss over ``total`` samples after a look at some of them.

    One-sided Student bound with the finite-population correction sqrt((N − m)/(N − 1)), at ALPHA over the looks. The
    variance is that of the losses with one more gain and one more loss of the largest size seen: with two or three
    discordant samples the plain variance is too small (4 % wrong rejections at N = 500 instead of 2 %).

    Args:
        losses: Paired losses of the samples evaluated, a random subset, ``(m,)`` with m of 2 or more.
        total: Number of all samples N.
    """
    count, mean = len(losses), float(losses.mean())
    spread = float(((losses - mean) ** 2).sum()) + 2 * float(np.abs(losses).max()) ** 2
    quantile = float(scipy.special.stdtrit(count - 1, 1 - ALPHA / len(LOOKS)))
    correction = math.sqrt((total - count) / (total - 1))
    return mean - quantile * math.sqrt(spread / (count - 1) / count) * correction
