"""What plans are expected to lose by a metric without margins, from the drops of those that were evaluated.

The error behind a drop, its inverse under the forecast, is taken as a sum over the units in INT8. A unit's share is its
sensitivity, up to a factor that changes slowly as more units are quantized, and to a deviation of its own.
What is known of a plan then follows from the plans evaluated by kriging: interpolation along the ranking, and what two
plans have in common counts for both.

A plan evaluated on a part of the samples is estimated by regression on one that was evaluated on all: W. G. Cochran,
Sampling Techniques (1977), chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.accuracy.budget import Floats
from calib.accuracy.prediction import Forecast, RankedUnit, invert

# Relative deviation of the curve between plans far apart, and how far that is as the logarithm of the error's ratio.
BEND, REACH = 0.5, 2.0
# Relative deviation of a unit's share in the error from its sensitivity.
OWN = 0.7
# Drop by chance of a metric of which only the number over the whole set is known, as a share of that of INT8.
LUCK = 0.1
# So many samples change for each that is lost on balance: some are gained.
CHANGED = 1.3
# The slope of the regression of one plan's losses on another's.
STEEPEST = 2.0
# Without any plan evaluated a sensitivity says this much about the error.
UNKNOWN = 2.0
# No plan is taken to have a smaller error than this share of what the others say, also where none was seen.
LEAST_RATIO = 1e-3
TINY = 1e-100


@dataclass(frozen=True)
class _Seen:
    """Result of a plan.

    Attributes:
        active: 1 for each unit in INT8, 0 otherwise, ``(units,)``.
        drop: Drop on the samples it was evaluated on.
        losses: Losses of the samples in each of the portions evaluated, ascending; empty without any of samples.
        complete: Whether it was evaluated on all samples.
    """

    active: Floats
    drop: float
    losses: tuple[Floats, ...]
    complete: bool


class DropPosterior:
    """Expectations of what plans lose, sharper with each plan that is observed.

    Args:
        ranked: Units.
        forecast: Forecast of the drop from the error.
        samples: Number of all samples.
    """

    def __init__(self, ranked: Sequence[RankedUnit], forecast: Forecast, samples: int):
        self._ranked, self._forecast, self._samples = ranked, forecast, samples
        self._sensitivities = np.array([min(unit.sensitivity, 1.0) for unit in ranked])
        self._plans: dict[frozenset[str], _Seen] = {}
        self._field: _Field | None = None
        self._step: float | None = None  # as of the plans observed, which it is asked for many candidates with

    def observe(self, reverted: frozenset[str], drop: float, losses: Sequence[Floats], complete: bool) -> None:
        """Add a plan that was evaluated.

        Args:
            reverted: Layers in floating point.
            drop: Drop on the samples it was evaluated on.
            losses: Losses of these samples in the drop's scale, for each of the nested portions, ascending; empty where
                the metric is no mean over samples.
            complete: Whether it was evaluated on all samples.
        """
        if not math.isfinite(drop) or not all(np.isfinite(part).all() for part in losses):
            drop, losses = math.inf, ()
        self._plans[reverted] = _Seen(self._active(reverted), drop, tuple(losses), complete)
        self._field = self._step = None

    def drop(self, reverted: frozenset[str]) -> tuple[float, float]:
        """Return the expected drop of a plan on all samples, and its standard deviation."""
        seen = self._plans.get(reverted)
        if seen is not None and (seen.complete or not math.isfinite(seen.drop)):
            return seen.drop, 0.0
        active = self._active(reverted)
        if not active.any():
            return 0.0, 0.0
        if self._field is None:
            self._field = self._interpolated()
        error, deviation = self._field.at(active)
        low, high = self._forecast(max(error - deviation, 0.0)), self._forecast(max(error, 0.0) + deviation)
        drop, deviation = self._forecast(max(error, 0.0)), math.hypot((high - low) / 2, self._luck(active))
        if seen is None:
            return drop, deviation
        # Its own samples tell of its luck too, which the others don't.
        own, spread = self._estimate(seen)
        weight = deviation**2 / max(deviation**2 + spread**2, TINY)
        return weight * own + (1 - weight) * drop, math.sqrt(weight) * spread

    @property
    def step(self) -> float:
        """The smallest difference of two drops, half of which is no drop; 0 for a metric without steps."""
        if self._step is None:
            self._step = self._smallest()
        return self._step

    def _smallest(self) -> float:
        sizes = [np.abs(seen.losses[-1]) for seen in self._plans.values() if seen.losses]
        if not sizes:
            return self.single
        changed = [size[size > 0] for size in sizes if (size == 0).mean() > 0.5]
        return min((float(size.min()) for size in changed if len(size)), default=0.0) / self._samples

    @property
    def single(self) -> float:
        """The drop of one sample that is lost, by a metric that is no mean over samples; 0 for one over the whole set.

        Steps of a function over the whole set can be told from its drops, but simulated searches reverted no fewer
        layers for it.
        """
        return 1 / self._samples if self._samples > 1 else 0.0

    @property
    def _size(self) -> float:
        """The largest loss of any sample."""
        return max(float(np.abs(seen.losses[-1]).max()) for seen in self._plans.values() if seen.losses)

    def _interpolated(self) -> _Field:
        plans = [seen for seen in self._plans.values() if math.isfinite(seen.drop) and seen.active.any()]
        active = np.array([seen.active for seen in plans]).reshape(len(plans), len(self._ranked))
        errors, variances = np.zeros(len(plans)), np.zeros(len(plans))
        for number, seen in enumerate(plans):
            drop, deviation = self._estimate(seen)
            deviation = math.hypot(deviation, self._luck(seen.active))
            errors[number] = invert(self._forecast, drop)
            above, below = (invert(self._forecast, drop + sign * deviation) for sign in (1, -1))
            variances[number] = ((above - below) / 2) ** 2
        return _Field(self._sensitivities, active, errors, variances)

    def _estimate(self, seen: _Seen) -> tuple[float, float]:
        """Return the drop on all samples as far as this plan's own samples tell, and its standard deviation."""
        if seen.complete or not seen.losses:
            return seen.drop, 0.0
        own, portions = seen.losses[-1], len(seen.losses)
        count = len(own)
        others = [other for other in self._plans.values() if len(other.losses) > portions]
        spread = own
        drop, known = float(own.mean()), 0.0
        if others:
            most = max(len(other.losses) for other in others)
            distance = {id(other): self._distance(seen, other) for other in others}
            near = min((o for o in others if len(o.losses) == most), key=lambda o: distance[id(o)])
            same = near.losses[portions - 1]
            slope = float(np.clip(own @ same / max(float(same @ same), TINY), 0.0, STEEPEST))
            estimate, known = self._estimate(near)
            drop, spread, known = drop + slope * (estimate - float(same.mean())), own - slope * same, slope * known
        # Of few samples the deviation is known badly itself.
        factor = math.sqrt((count + 1) / max(count - 1, 0.5) / count * max(1 - count / self._samples, 0.0))
        # Where samples change or don't, one more or less could have been among them.
        single = self._size / math.sqrt(count + 1) if (own == 0).any() else 0.0
        return drop, math.hypot(math.hypot(float(spread.std()), single) * factor, known)

    def _distance(self, seen: _Seen, other: _Seen) -> float:
        return float(((seen.active - other.active) ** 2) @ self._sensitivities)

    def _luck(self, active: Floats) -> float:
        """Return by how much the drop of a plan deviates by chance: other samples change, and some for the better."""
        complete = [seen for seen in self._plans.values() if seen.complete and math.isfinite(seen.drop)]
        if not complete:
            return 0.0
        own = float(active @ self._sensitivities)
        near = min(complete, key=lambda seen: abs(math.log(self._ratio(own, seen.active))))
        if near.losses:
            losses = near.losses[-1]
            share = float((losses == 0).mean())
            variance = share * float(losses @ losses) / len(losses) ** 2
        else:
            near = max(complete, key=lambda seen: seen.drop)
            single = self.single
            variance = CHANGED * max(near.drop, single) * single if single else (LUCK * near.drop) ** 2
        return math.sqrt(variance * math.sqrt(self._ratio(own, near.active)))

    def _ratio(self, own: float, other: Floats) -> float:
        return max(own, TINY) / max(float(other @ self._sensitivities), TINY)

    def _active(self, reverted: frozenset[str]) -> Floats:
        return np.array([not unit.layers <= reverted for unit in self._ranked], np.float64)


class _Field:
    """Kriging of the error over plans, relative to a curve: the error over the sum of the sensitivities, by that sum.

    The curve is a mean of the plans evaluated in the logarithm of both, the nearest counting most.

    Args:
        sensitivities: ``(units,)``.
        active: Plans evaluated, ``(plans, units)``.
        errors: Errors behind their drops, ``(plans,)``.
        variances: Variances of these, ``(plans,)``.
    """

    def __init__(self, sensitivities: Floats, active: Floats, errors: Floats, variances: Floats):
        self._sensitivities, self._known = sensitivities, active
        self._sums = np.maximum(active @ sensitivities, TINY)
        ratios = errors / self._sums
        floor = LEAST_RATIO * float(ratios.max(initial=0.0))
        self._ratios = np.log(np.maximum(ratios, floor)) if floor > 0 else np.zeros(len(ratios))
        curve = self._curve(self._sums)
        covariance = self._covariance(active, self._sums) + np.diag(variances / (curve * self._sums) ** 2)
        self._inverse = np.linalg.inv(covariance + 1e-9 * np.diag(np.diag(covariance)))
        self._weights = self._inverse.sum(axis=0)
        self._precision = float(self._weights.sum())
        self._mean = float(self._weights @ (ratios / curve)) / self._precision if len(errors) else 1.0
        self._residuals = self._inverse @ (ratios / curve - self._mean)

    def at(self, active: Floats) -> tuple[float, float]:
        """Return the error expected of a plan, and its standard deviation."""
        total = max(float(active @ self._sensitivities), TINY)
        if not len(self._sums):
            return total, UNKNOWN * total
        common = self._covariance(active[None], np.array([total]))[0]
        own = BEND**2 + OWN**2 * float(active**2 @ (self._sensitivities / total) ** 2)
        variance = own - float(common @ self._inverse @ common)
        variance += (1 - float(common @ self._weights)) ** 2 / self._precision
        scale = total * float(self._curve(np.array([total]))[0])
        return (self._mean + float(common @ self._residuals)) * scale, math.sqrt(max(variance, 0.0)) * scale

    def _curve(self, sums: Floats) -> Floats:
        """Return the error over the sum of the sensitivities, for these sums."""
        if not len(self._sums):
            return np.ones(len(sums))
        apart = np.abs(np.log(sums)[:, None] - np.log(self._sums)[None, :])
        weights = np.exp(-(apart - apart.min(axis=1, keepdims=True)))
        return np.exp(weights @ self._ratios / weights.sum(axis=1))

    def _covariance(self, active: Floats, sums: Floats) -> Floats:
        """Return the covariance of the relative errors of plans and those evaluated, ``(plans, evaluated)``."""
        apart = np.abs(np.log(sums)[:, None] - np.log(self._sums)[None, :])
        shares, known = active * self._sensitivities / sums[:, None], self._known * self._sensitivities
        return BEND**2 * np.exp(-apart / REACH) + OWN**2 * shares @ (known / self._sums[:, None]).T
