"""What plans are expected to lose: the sensitivity of each unit, a forecast of the drop, and what others' samples say.

Sensitivity is measured one-in: quantize one unit, leave the rest in FP32, take the normalized squared error (NMSE) of
the outputs. Its order agrees with the units' share in the drop (Spearman .96–.99), where that of leaving one out does
not (.2–.4), because it does not saturate on a model that is already broken. The error of a plan is predicted as the
sum of the sensitivities of its units in INT8, and corrected by what plans really showed, because errors interact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.budget import Floats, normal_cdf
from calib.errors import UsageError

Forecast = Callable[[float], float]
"""Error (NMSE of the outputs) → predicted drop: 0 at 0 and never falling.

A factor on the error does not matter: the search fits it to the drops that it has measured.
"""

# Margins beyond this are those of samples that can't change: without a target, or with one class only.
FAR = 1e6
# The error of a plan is known to about this share from the others.
RELATIVE_ERROR = 0.2
# So many times more samples change far from the boundary than a normal error says, where any of many classes may win:
# near it there is one rival. (Simulated with ten classes 1.2 to 2.3 times.)
MOST_RIVALS = 2.0
# Variance of what a plan changes there against all expectations, in samples.
UNEXPECTED = 0.1
# Mean of |x| → standard deviation of a normal x: less moved by single samples than the root of the mean square.
MEAN_TO_SIGMA = math.sqrt(math.pi / 2)


@dataclass(frozen=True)
class RankedUnit:
    """The smallest set of layers that can be reverted.

    Attributes:
        layers: Names of the layers.
        sensitivity: NMSE of the outputs with only this unit quantized; inf if that gave no number.
    """

    layers: frozenset[str]
    sensitivity: float


def rank(units: Sequence[frozenset[str]], sensitivities: Mapping[frozenset[str], float]) -> tuple[RankedUnit, ...]:
    """Return the units, the most sensitive first; equal ones in the order given.

    Raises:
        UsageError: A unit has no sensitivity, or units overlap.
    """
    seen: set[str] = set()
    ranked: list[RankedUnit] = []
    for unit in units:
        if unit not in sensitivities:
            raise UsageError(f"unit {sorted(unit)} has no sensitivity: measure every unit before ranking")
        if seen & unit:
            raise UsageError(f"layers {sorted(seen & unit)} are in two units: a layer belongs to exactly one")
        seen |= unit
        sensitivity = float(sensitivities[unit])
        ranked.append(RankedUnit(unit, math.inf if math.isnan(sensitivity) else sensitivity))
    return tuple(sorted(ranked, key=lambda unit: -unit.sensitivity))


def root_forecast(error: float) -> float:
    """Return sqrt(error): the forecast for metrics about which nothing else is known.

    A flip, a boundary pixel or a swapped rank happens where the error exceeds a margin. With margins that are spread
    evenly around zero the share of these is proportional to the standard deviation of the error, so to the root of
    NMSE; mean absolute errors grow like that too. For a squared error, which is linear in NMSE, it predicts too much
    for small errors, which errs to the side where the first prefix is accepted.
    """
    return math.sqrt(error)


def forecast_by(margins: NDArray[np.floating] | None) -> Forecast:
    """Return `margin_forecast` of these margins, `root_forecast` where there are none."""
    return root_forecast if margins is None else margin_forecast(margins)


def margin_forecast(margins: NDArray[np.floating]) -> Forecast:
    """Return the forecast for classification, from the margins of some samples in FP32.

    sigma² = 2·error is the variance of the difference of two logits of variance 1, P(right_i) = Phi(margin_i/sigma),
    and the drop is the share of right samples minus the mean of P(right_i).

    Args:
        margins: Logit of the target minus the largest other one (the k-th largest for top-k), in standard deviations of
            the sample's logits, ``(samples,)``; negative where FP32 is wrong. For agreement with FP32, the largest
            minus the second largest logit.
    """
    margins = np.nan_to_num(np.asarray(margins, np.float64), posinf=1e6, neginf=-1e6)
    right = float((margins > 0).mean())

    def forecast(error: float) -> float:
        return max(right - float(normal_cdf(margins / math.sqrt(2 * error)).mean()), 0.0) if error > 0 else 0.0

    # Wrong samples that turn right can make the forecast fall again where little is right: keep it rising.
    grid = np.concatenate(([0.0], np.logspace(-8, 1, 64)))
    rising = np.maximum.accumulate([forecast(float(error)) for error in grid])
    return lambda error: float(np.interp(error, grid, rising))


@dataclass(frozen=True)
class Curve:
    """A forecast fitted to what was measured: predicts the drop of any plan.

    Every measured drop is turned into the error that the forecast would need for it, the effective error. Where
    errors are independent it is proportional to the sum of the sensitivities (their ratio is rho of the margin
    forecast); where they point the same way it grows faster. So it is interpolated between the measured plans,
    and proportional below them.

    Attributes:
        ranked: Units, most sensitive first.
        forecast: Forecast of the drop from the error.
        effective: Pairs (sum of the sensitivities that remain, effective error) of the plans evaluated, ascending.
    """

    ranked: tuple[RankedUnit, ...]
    forecast: Forecast
    effective: tuple[tuple[float, float], ...]

    @classmethod
    def through(
        cls, ranked: tuple[RankedUnit, ...], forecast: Forecast, measured: Mapping[frozenset[str], float]
    ) -> Curve:
        """Fit a forecast to the drops of the plans measured, by their reverted layers."""
        bare = cls(ranked, forecast, ())
        points = ((bare.remaining(r), invert(forecast, drop)) for r, drop in measured.items())
        return cls(ranked, forecast, tuple(sorted(points)))

    def remaining(self, reverted: frozenset[str]) -> float:
        """Return the sum of the sensitivities of what stays in INT8, at most 1: as broken as it gets."""
        return min(sum(unit.sensitivity for unit in self.ranked if not unit.layers <= reverted), 1.0)

    def drop(self, reverted: frozenset[str]) -> float:
        """Return the predicted drop of the plan with these layers reverted."""
        return self._drop(self.remaining(reverted))

    def shortest(self, base: frozenset[str], allowed: float) -> int:
        """Return the least k for which ``base`` and the first k units reverted are predicted to lose ``allowed``."""
        left = [0.0 if unit.layers <= base else unit.sensitivity for unit in self.ranked]
        # From the back, where they are small: a running difference would keep the rounding of the large ones.
        sums = [*np.cumsum(left[::-1])[::-1].tolist(), 0.0]
        return next((k for k, error in enumerate(sums) if self._drop(min(error, 1.0)) <= allowed), len(left))

    def _drop(self, error: float) -> float:
        known = [0.0, *(point[0] for point in self.effective)]
        found = [0.0, *(point[1] for point in self.effective)]
        return self.forecast(float(np.interp(error, known, found)))


def invert(forecast: Forecast, drop: float) -> float:
    """Return the error for which this drop is forecast; at 95 % of what the forecast can reach it ends."""
    low, high = -12.0, 12.0  # decades of error: beyond them everything is intact or broken
    drop = min(drop, 0.95 * forecast(10.0**high))
    if drop <= forecast(10.0**low):
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if forecast(10.0**middle) < drop else (low, middle)
    return float(10.0**high)


@dataclass(frozen=True)
class _Observed:
    """Result of a plan on some of the most doubtful samples, or on all.

    Attributes:
        active: 1 for each unit in INT8, 0 otherwise, ``(units,)``.
        lost: Number of samples lost minus samples gained.
        changed: Number of samples lost plus samples gained.
        margins: Margins after quantization of the samples evaluated, ``(count,)``; None if unknown.
        count: Number of samples evaluated.
    """

    active: Floats
    lost: float
    changed: float
    margins: Floats | None
    count: int


class LossPosterior:
    """Expectations of what plans lose on samples they were not run on, sharper with each plan that is observed.

    A sample of margin m changes its verdict under an error of standard deviation sigma with the probability
    Phi(−|m|/sigma): right ones are lost, wrong ones gained. The nearest plan that was observed tells more than FP32:
    only the errors of the units by which the two differ move a sample from where that plan left it. So the outcome of
    a plan is expected to be that of its neighbour, and not an average over all plans of its size.

    Args:
        ranked: Units.
        margins: Margins of FP32, negative where it is wrong, those nearest to 0 first, ``(samples,)``.
        counts: Numbers of first samples that a plan may be evaluated on, ascending; the last is all.
    """

    def __init__(self, ranked: Sequence[RankedUnit], margins: Floats, counts: Sequence[int]):
        self._ranked, self._margins = ranked, _numbers(margins)
        self._sensitivities = np.array([min(unit.sensitivity, 1.0) for unit in ranked])
        fp32 = _Observed(np.zeros(len(ranked)), 0.0, 0.0, self._margins, len(margins))
        self._plans: dict[frozenset[str] | None, _Observed] = {None: fp32}
        self._scales: list[tuple[float, float]] = []  # log of an error as predicted, log of observed over predicted
        sizes = np.abs(self._margins[np.abs(self._margins) < FAR])
        # From an error that reaches next to nobody to one that decides alone, in steps of a quarter.
        self._sigmas = max(float(sizes.max(initial=0.0)), 1e-30) * 1.25 ** np.arange(-40, 31)
        self._inside = {n: self._table(self._margins[:n])[0] for n in counts}
        self._outside = {n: self._table(self._margins[n:]) for n in counts}
        # Of samples that plans were evaluated on only later: changes expected, those seen, how many samples.
        self._later = np.zeros(3)

    def observe(self, reverted: frozenset[str], losses: Floats, margins: Floats | None, count: int) -> None:
        """Add a plan that was evaluated on the first ``count`` samples.

        Args:
            reverted: Layers in floating point.
            losses: Losses of these samples, as far as they count; positive is lost.
            margins: Margins after quantization, ``(count,)``; None if unknown.
            count: One of the counts.
        """
        if not np.isfinite(losses).all():
            losses, margins = np.full(1, float(len(self._margins))), None
        active = self._active(reverted)
        after = None if margins is None else _numbers(margins)
        seen = _Observed(active, float(losses.sum()), float(np.abs(losses).sum()), after, count)
        known, self._plans[reverted] = self._plans.get(reverted), seen
        if known is not None:
            expected = self._others(known.count, active)[0] - self._others(count, active)[0]
            self._later += expected, seen.changed - known.changed, count - known.count
            return
        predicted, near = self._joint(active), np.abs(self._margins[:count]) < FAR
        if after is None:
            sigma = float(np.interp(max(seen.changed, 0.5), self._inside[count], self._sigmas))
        else:
            sigma = MEAN_TO_SIGMA * float(np.abs(after - self._margins[:count])[near].mean()) if near.any() else 0.0
        if predicted > 0 and sigma > 0:
            self._scales = sorted([*self._scales, (math.log(predicted), math.log(sigma**2 / 2 / predicted))])

    def lost(self, reverted: frozenset[str]) -> tuple[float, float]:
        """Return how many samples a plan is expected to lose (less those it gains), and their standard deviation."""
        active = self._active(reverted)
        near = self._nearest(reverted, active)
        variance = shift = 0.0
        if near.margins is not None:
            _, variance, shift = _moments(near.margins, self._sigma(active, near.active))
        _, more, others = self._others(near.count, active) * self.change_ratio
        unseen = len(self._margins) - near.count
        base_rate, shift = self.base_rate * unseen, shift + others
        variance += more + base_rate + UNEXPECTED * (unseen > 0)
        return near.lost + shift + base_rate, math.sqrt(variance + (RELATIVE_ERROR * shift) ** 2)

    @property
    def change_ratio(self) -> float:
        """How many times more samples changed than expected, of those that plans were evaluated on only later.

        It begins at `MOST_RIVALS`.
        """
        expected, seen, _ = self._later
        return max(1.0, float((seen + MOST_RIVALS) / (expected + 1)))

    @property
    def base_rate(self) -> float:
        """The share of these samples that changed beyond that, whatever their margins and the plan."""
        expected, seen, samples = self._later
        return max(0.0, float(seen - self.change_ratio * expected) / max(float(samples), 1.0))

    def _nearest(self, reverted: frozenset[str], active: Floats) -> _Observed:
        """Return what was seen of this plan, or of the one whose errors differ least from its own."""
        if reverted in self._plans:
            return self._plans[reverted]
        known = [seen for seen in self._plans.values() if seen.margins is not None]
        return min(known, key=lambda seen: self._joint(active - seen.active))

    def _sigma(self, active: Floats, other: Floats | float = 0.0) -> float:
        """Return the standard deviation of the margins' difference between two plans, by default to FP32."""
        logs, scales = zip(*self._scales, strict=True) if self._scales else ((0.0,), (0.0,))
        joint = self._joint(active)
        scale = math.exp(float(np.interp(math.log(max(joint, 1e-300)), logs, scales)))
        return math.sqrt(2 * scale * self._joint(active - other))

    def _joint(self, active: Floats) -> float:
        """Return the sum of the sensitivities of units in INT8, or of those by which two plans differ."""
        return float(active**2 @ self._sensitivities)

    def _others(self, count: int, active: Floats) -> Floats:
        """Return `_moments` of the samples behind the first ``count`` under a plan's error."""
        sigma = self._sigma(active)
        return np.array([float(np.interp(sigma, self._sigmas, moment)) for moment in self._outside[count]])

    def _table(self, margins: Floats) -> tuple[Floats, Floats, Floats]:
        """Return `_moments` of these samples, each for all of the standard deviations."""
        changed, variance, shift = zip(*(_moments(margins, sigma) for sigma in self._sigmas.tolist()), strict=True)
        return np.array(changed), np.array(variance), np.array(shift)

    def _active(self, reverted: frozenset[str]) -> Floats:
        return np.array([not unit.layers <= reverted for unit in self._ranked], np.float64)


def change_probability(margins: Floats, sigma: float) -> Floats:
    """Return how probably each sample changes its verdict, Phi(−|m|/sigma), under an error of this deviation."""
    return normal_cdf(-np.abs(margins) / sigma)


def _moments(margins: Floats, sigma: float) -> tuple[float, float, float]:
    """Return how many samples change under an error, the variance of that, and how many more are lost than gained."""
    if sigma <= 0:
        return 0.0, 0.0, 0.0
    share = change_probability(margins, sigma)
    return float(share.sum()), float((share * (1 - share)).sum()), float((share * np.sign(margins)).sum())


def _numbers(margins: Floats) -> Floats:
    # What is no number decides nothing: it is at the boundary.
    return np.nan_to_num(np.asarray(margins, np.float64), nan=0.0, posinf=FAR, neginf=-FAR)
