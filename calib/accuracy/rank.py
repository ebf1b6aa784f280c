"""Which layer to revert first, and how many: the sensitivity of each unit, and a forecast of the drop.

Sensitivity is measured one-in: quantize one unit, leave the rest in FP32, take the normalized squared error (NMSE) of
the outputs. Its order agrees with the units' share in the drop (Spearman .96–.99), where that of leaving one out does
not (.2–.4), because it does not saturate on a model that is already broken. The error of a plan is predicted as
the sum of the sensitivities of its units in INT8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from calib.errors import UsageError

Forecast = Callable[[float], float]
"""Error (NMSE of the outputs) → predicted drop: 0 at 0 and never falling.

A factor on the error does not matter: the search fits it to the drops that it has measured.
"""


@dataclass(frozen=True)
class RankedUnit:
    """The smallest set of layers that can be reverted.

    Attributes:
        layers: names.
        sensitivity: NMSE of the outputs with only this unit quantized; inf where that gave no number.
    """

    layers: frozenset[str]
    sensitivity: float


def rank(units: Sequence[frozenset[str]], sensitivities: Mapping[frozenset[str], float]) -> tuple[RankedUnit, ...]:
    """Return the units, the most sensitive first; equal ones in the order given.

    Raises:
        UsageError: a unit has no sensitivity, or units overlap.
    """
    seen: set[str] = set()
    ranked = []
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
        margins: ``(samples,)`` logit of the target minus the largest other one (the k-th largest for top-k), in
            standard deviations of the sample's logits; negative where FP32 is wrong; for agreement with FP32 the
            largest minus the second largest logit.
    """
    margins = np.nan_to_num(np.asarray(margins, np.float64), posinf=1e6, neginf=-1e6)
    right = float((margins > 0).mean())

    def forecast(error: float) -> float:
        return max(right - float(ndtr(margins / math.sqrt(2 * error)).mean()), 0.0) if error > 0 else 0.0

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
        ranked: the units, most sensitive first.
        forecast: drop over error.
        effective: (sum of the sensitivities that remain, effective error) of the plans evaluated so far, ascending.
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
