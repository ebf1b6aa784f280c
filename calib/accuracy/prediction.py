"""The sensitivity of each unit, and a forecast of the drop from the error of a plan.

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


def change_probability(margins: Floats, sigma: float) -> Floats:
    """Return how probably each sample changes its verdict, Phi(−|m|/sigma), under an error of this deviation."""
    return normal_cdf(-np.abs(margins) / sigma)
