"""What plans are expected to lose on samples they were not run on, by what was seen of others.

The error of a plan is taken to be the sum of its units' sensitivities, scaled to the changes of margin that plans
really showed, because real errors interact. A sample of margin m changes its verdict under an error of standard
deviation sigma with the probability Phi(−|m|/sigma): right ones are lost, wrong ones gained.

The nearest plan that was looked at tells more than FP32: only the errors of the units by which the two differ move a
sample from where that plan left it. So the outcome of a plan is expected to be that of its neighbour, and not an
average over all plans of its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from calib.accuracy.rank import RankedUnit

Floats = NDArray[np.float64]

# Margins beyond this are those of samples that can't change: without a target, or with one class only.
FAR = 1e6
# The error of a plan is known to about this share from the others.
UNSURE = 0.2
# So many times more samples change far from the boundary than a normal error says, where any of many classes may win:
# near it there is one rival. (Simulated with ten classes 1.2 to 2.3 times.)
RIVALS = 2.0
# Variance of what a plan changes there against all expectations, in samples.
ODD = 0.1
# Mean of |x| → standard deviation of a normal x: less moved by single samples than the root of the mean square.
SPREAD = math.sqrt(math.pi / 2)


@dataclass(frozen=True)
class _Seen:
    """A plan that was looked at, on some of the most doubtful samples or on all.

    Attributes:
        active: ``(units,)`` 1 where the unit is in INT8.
        lost: samples lost minus samples gained.
        changed: samples lost plus samples gained.
        margins: ``(count,)`` after quantization, of those looked at; None where nobody knows them.
        count: how many were looked at.
    """

    active: Floats
    lost: float
    changed: float
    margins: Floats | None
    count: int


class Outlook:
    """Expectations, sharper with each plan that is looked at.

    Args:
        ranked: the units.
        margins: ``(samples,)`` of FP32, negative where it is wrong, those nearest to 0 first.
        counts: how many of the first samples a plan may be looked at on, ascending; the last is all.
    """

    def __init__(self, ranked: Sequence[RankedUnit], margins: Floats, counts: Sequence[int]):
        self._ranked, self._margins = ranked, _numbers(margins)
        self._sensitivities = np.array([min(unit.sensitivity, 1.0) for unit in ranked])
        fp32 = _Seen(np.zeros(len(ranked)), 0.0, 0.0, self._margins, len(margins))
        self._seen: dict[frozenset[str] | None, _Seen] = {None: fp32}
        self._scales: list[tuple[float, float]] = []  # log of an error as predicted, log of observed over predicted
        sizes = np.abs(self._margins[np.abs(self._margins) < FAR])
        # From an error that reaches next to nobody to one that decides alone, in steps of a quarter.
        self._sigmas = max(float(sizes.max(initial=0.0)), 1e-30) * 1.25 ** np.arange(-40, 31)
        self._inside = {n: self._table(self._margins[:n])[0] for n in counts}
        self._outside = {n: self._table(self._margins[n:]) for n in counts}
        # Of samples that plans were looked at on only later: changes expected, those seen, how many samples.
        self._later = np.zeros(3)

    def learn(self, reverted: frozenset[str], losses: Floats, margins: Floats | None, count: int) -> None:
        """Take in a plan that was looked at on the first ``count`` samples.

        Args:
            reverted: its layers in floating point.
            losses: of these samples, as far as they count; positive is lost.
            margins: ``(count,)`` after quantization; None where nobody knows them.
            count: one of the counts.
        """
        if not np.isfinite(losses).all():
            losses, margins = np.full(1, float(len(self._margins))), None
        active = self._active(reverted)
        after = None if margins is None else _numbers(margins)
        seen = _Seen(active, float(losses.sum()), float(np.abs(losses).sum()), after, count)
        known, self._seen[reverted] = self._seen.get(reverted), seen
        if known is not None:
            expected = self._others(known.count, active)[0] - self._others(count, active)[0]
            self._later += expected, seen.changed - known.changed, count - known.count
            return
        predicted, near = self._joint(active), np.abs(self._margins[:count]) < FAR
        if after is None:
            sigma = float(np.interp(max(seen.changed, 0.5), self._inside[count], self._sigmas))
        else:
            sigma = SPREAD * float(np.abs(after - self._margins[:count])[near].mean()) if near.any() else 0.0
        if predicted > 0 and sigma > 0:
            self._scales = sorted([*self._scales, (math.log(predicted), math.log(sigma**2 / 2 / predicted))])

    def lost(self, reverted: frozenset[str]) -> tuple[float, float]:
        """Return how many samples a plan is expected to lose (less those it gains), and their standard deviation."""
        active = self._active(reverted)
        near = self._nearest(reverted, active)
        variance = shift = 0.0
        if near.margins is not None:
            _, variance, shift = _moments(near.margins, self._sigma(active, near.active))
        _, more, others = self._others(near.count, active) * self.surprise
        unseen = len(self._margins) - near.count
        anyhow, shift = self.anyhow * unseen, shift + others
        variance += more + anyhow + ODD * (unseen > 0)
        return near.lost + shift + anyhow, math.sqrt(variance + (UNSURE * shift) ** 2)

    @property
    def surprise(self) -> float:
        """How many times more samples changed than expected, of those that plans were looked at on only later.

        It begins at `RIVALS`.
        """
        expected, seen, _ = self._later
        return max(1.0, float((seen + RIVALS) / (expected + 1)))

    @property
    def anyhow(self) -> float:
        """The share of these samples that changed beyond that, whatever their margins and the plan."""
        expected, seen, samples = self._later
        return max(0.0, float(seen - self.surprise * expected) / max(float(samples), 1.0))

    def _nearest(self, reverted: frozenset[str], active: Floats) -> _Seen:
        """Return what was seen of this plan, or of the one whose errors differ least from its own."""
        if reverted in self._seen:
            return self._seen[reverted]
        known = [seen for seen in self._seen.values() if seen.margins is not None]
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
        return np.array([np.interp(sigma, self._sigmas, row) for row in self._outside[count]])

    def _table(self, margins: Floats) -> Floats:
        return np.array([_moments(margins, sigma) for sigma in self._sigmas]).T

    def _active(self, reverted: frozenset[str]) -> Floats:
        return np.array([not unit.layers <= reverted for unit in self._ranked], np.float64)


def _moments(margins: Floats, sigma: float) -> tuple[float, float, float]:
    """Return how many samples change under an error, the variance of that, and how many more are lost than gained."""
    if sigma <= 0:
        return 0.0, 0.0, 0.0
    chance = ndtr(-np.abs(margins) / sigma)
    return float(chance.sum()), float((chance * (1 - chance)).sum()), float((chance * np.sign(margins)).sum())


def _numbers(margins: Floats) -> Floats:
    # What is no number decides nothing: it is at the boundary.
    return np.nan_to_num(np.asarray(margins, np.float64), nan=0.0, posinf=FAR, neginf=-FAR)
