"""Which layer to revert first, and how many: damage of each unit, and a forecast of the drop.

Damage is measured one-in: quantize one unit, leave the rest in FP32, take the normalized squared error (NMSE) of the
outputs. Its order agrees with the true damage (Spearman .96–.99) where leaving one out does not (.2–.4), because it
does not saturate on a model that is already broken.
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
"""Damage (sum of NMSE) that remains quantized → predicted drop up to a factor: 0 at 0 and never falling.

The factor does not matter: the search scales it to the drops that it has measured.
"""


@dataclass(frozen=True)
class RankedUnit:
    """The smallest set of layers that can be reverted.

    Attributes:
        layers: names.
        damage: NMSE of the outputs with only this unit quantized; inf where that gave no number.
        cost_ms: latency that reverting it is expected to cost, 0 where unknown.
    """

    layers: frozenset[str]
    damage: float
    cost_ms: float = 0.0


def rank(
    units: Sequence[frozenset[str]],
    damages: Mapping[frozenset[str], float],
    costs_ms: Mapping[frozenset[str], float] | None = None,
) -> tuple[RankedUnit, ...]:
    """Return the units, the most damaging first; equal ones in the order given.

    Raises:
        UsageError: a unit has no damage, or units overlap.
    """
    seen: set[str] = set()
    ranked = []
    for unit in units:
        if unit not in damages:
            raise UsageError(f"unit {sorted(unit)} has no damage: measure every unit before ranking")
        if seen & unit:
            raise UsageError(f"layers {sorted(seen & unit)} are in two units: a layer belongs to exactly one")
        seen |= unit
        damage = float(damages[unit])
        ranked.append(RankedUnit(unit, math.inf if math.isnan(damage) else damage, (costs_ms or {}).get(unit, 0.0)))
    return tuple(sorted(ranked, key=lambda unit: -unit.damage))


def root_forecast(damage: float) -> float:
    """Return sqrt(damage): the forecast for metrics about which nothing else is known.

    A flip, a boundary pixel or a swapped rank happens where the error exceeds a margin. With margins that are spread
    evenly around zero the share of these is proportional to the standard deviation of the error, so to the root of
    NMSE; mean absolute errors grow like that too. For a squared error, which is linear in NMSE, it predicts too much
    for small damages, which errs to the side where the first prefix is accepted. An NMSE of 1 is as broken as a model
    gets, so more counts as 1.
    """
    return math.sqrt(min(damage, 1.0))


def margin_forecast(
    margins: NDArray[np.floating], norms_squared: NDArray[np.floating], classes: int, rho: float = 1.0
) -> Forecast:
    """Return the forecast for classification, from the FP32 logits of some samples.

    sigma_i² = 2·rho·damage·‖z_i‖²/C is the variance of the difference of two logits, P(right_i) =
    Phi(margin_i/sigma_i), and the drop is the share of right samples minus the mean of P(right_i).

    Args:
        margins: ``(samples,)`` logit of the target minus the largest other one (the k-th largest for top-k), negative
            where FP32 is wrong; for agreement with FP32 the largest minus the second largest logit.
        norms_squared: ``(samples,)`` squared norm of each sample's logits.
        classes: C.
        rho: NMSE of the whole model quantized / sum of the units' damages.
    """
    margins = np.asarray(margins, np.float64)
    spread = np.sqrt(2 * rho * np.asarray(norms_squared, np.float64) / classes)
    right = float((margins > 0).mean())

    def forecast(damage: float) -> float:
        # The floor keeps logits that are all zero out of the division.
        sigma = np.maximum(spread * math.sqrt(damage), np.finfo(np.float64).tiny)
        return max(right - float(ndtr(margins / sigma).mean()), 0.0) if damage > 0 else 0.0

    # Wrong samples that turn right can make the forecast fall again where little is right: keep it rising.
    grid = np.concatenate(([0.0], np.logspace(-8, 1, 64)))
    rising = np.maximum.accumulate([forecast(float(damage)) for damage in grid])
    return lambda damage: float(np.interp(damage, grid, rising))


@dataclass(frozen=True)
class Curve:
    """A forecast scaled to what was measured: predicts the drop of any prefix of the ranking.

    Attributes:
        ranked: the units, most damaging first.
        forecast: shape of drop over remaining damage.
        measured: (remaining damage, drop) of the plans evaluated so far.
    """

    ranked: tuple[RankedUnit, ...]
    forecast: Forecast
    measured: tuple[tuple[float, float], ...]

    def remaining(self, reverted: frozenset[str]) -> float:
        """Return the damage that is left when these layers are reverted."""
        return sum(unit.damage for unit in self.ranked if not unit.layers <= reverted)

    def drop(self, reverted: frozenset[str]) -> float:
        """Return the predicted drop: interpolated between the measured ones and the origin, over the forecast."""
        points = sorted((self.forecast(damage), drop) for damage, drop in self.measured if math.isfinite(drop))
        points = [(x, drop) for x, drop in points if x > 0]
        if not points:
            return 0.0
        x = self.forecast(self.remaining(reverted))
        return float(np.interp(x, [0.0, *(p[0] for p in points)], [0.0, *(p[1] for p in points)]))

    def shortest(self, base: frozenset[str], allowed: float) -> int:
        """Return the least k for which ``base`` and the first k units reverted are predicted to lose ``allowed``."""
        reverted = base
        for count, unit in enumerate(self.ranked):
            if self.drop(reverted) <= allowed:
                return count
            reverted |= unit.layers
        return len(self.ranked)
