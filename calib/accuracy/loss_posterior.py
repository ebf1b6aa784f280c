"""How many samples plans are expected to lose by a metric with margins, from the samples others were evaluated on.

A sample of margin m changes its verdict under an error of standard deviation sigma with the probability
Phi(−|m|/sigma): right ones are lost, wrong ones gained. Plans that were evaluated tell more than FP32: the errors of
two plans have those of the units in common that are in INT8 in both, so that a sample's margin under one plan is known
from those under the others, up to the errors of the units by which they differ (`MarginField`). So a plan is expected
to end like its neighbours, and not like an average over all plans of its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from calib.accuracy.budget import Floats, normal_cdf
from calib.accuracy.margin_field import MarginField
from calib.accuracy.prediction import RankedUnit, change_probability

# Margins beyond this are those of samples that can't change: without a target, or with one class only.
FAR = 1e6
# The error of a plan is known to about this share from the others.
RELATIVE_ERROR = 0.2
# So many times more samples change far from the boundary than a normal error says, where any of many classes may win:
# near it there is one rival. (Simulated with ten classes 1.2 to 2.3 times.)
MOST_RIVALS = 2.0
# Variance of what a plan changes there against all expectations, in samples.
UNEXPECTED = 0.1
# Changes are as many as expected, up to so many standard deviations.
SURPRISING = 2.0
# Mean of |x| → standard deviation of a normal x: less moved by single samples than the root of the mean square.
MEAN_TO_SIGMA = math.sqrt(math.pi / 2)


@dataclass
class _Observed:
    """Result of a plan on some of the most doubtful samples, or on all.

    Attributes:
        active: 1 for each unit in INT8, 0 otherwise, ``(units,)``.
        lost: Samples lost minus samples gained in each portion, as far as it was evaluated.
        changed: Samples lost plus samples gained in each portion, as far as it was evaluated.
        margins: Margins after quantization of the samples evaluated, ``(count,)``; None if unknown.
    """

    active: Floats
    lost: list[float] = field(default_factory=list[float])
    changed: list[float] = field(default_factory=list[float])
    margins: Floats | None = None


class LossPosterior:
    """Expectations of what plans lose on samples they were not run on, sharper with each plan that is observed.

    Args:
        ranked: Units.
        margins: Margins of FP32, negative where it is wrong, those nearest to 0 first, ``(samples,)``.
        counts: Numbers of first samples that a plan may be evaluated on, ascending; the last is all.
    """

    def __init__(self, ranked: Sequence[RankedUnit], margins: Floats, counts: Sequence[int]):
        self._ranked, self._margins, self._counts = ranked, _numbers(margins), list(counts)
        self._sensitivities = np.array([min(unit.sensitivity, 1.0) for unit in ranked])
        self._portions = [slice(first, last) for first, last in pairwise([0, *counts])]
        self._plans: dict[frozenset[str], _Observed] = {}
        self._scales: list[tuple[float, float]] = []  # log of an error as predicted, log of observed over predicted
        # Of samples that plans were evaluated on only later: changes expected, those seen, how many samples, by plan.
        self._later: dict[frozenset[str], Floats] = {}
        self._fields: dict[int, MarginField] = {}  # number of a portion → what the plans evaluated tell of its margins
        self._known: dict[frozenset[str], tuple[float, float]] = {}  # what was asked since the last plan was evaluated
        self._sizes = np.zeros(2)  # of the losses of samples that changed: their sum, their number

    def observe(self, reverted: frozenset[str], losses: Sequence[Floats], margins: Floats | None) -> None:
        """Add a plan that was evaluated on the first samples, or that it was evaluated on more of them.

        Args:
            reverted: Layers in floating point.
            losses: Losses of the samples in each portion evaluated, as far as they count; positive is lost.
            margins: Margins after quantization, ``(count,)``; None if unknown.
        """
        known = self._plans.get(reverted)
        active = self._active(reverted)
        seen = _Observed(active, margins=None if margins is None else _numbers(margins))
        for portion, part in zip(self._portions, losses, strict=False):
            broken = not np.isfinite(part).all()
            part = np.full(portion.stop - portion.start, 1.0) if broken else part
            seen.margins = None if broken else seen.margins
            seen.lost.append(float(part.sum()))
            seen.changed.append(float(np.abs(part).sum()))
            self._sizes += np.abs(part).sum(), np.count_nonzero(part)
        self._fields.clear()
        self._known.clear()
        if known is None:
            self._plans[reverted] = seen
            self._learn_scale(seen)
            return
        for number in range(len(known.lost), len(seen.lost)):
            portion = self._portions[number]
            if not self._others(number):
                expected = self._moments(active, number)[0]
                more = np.array([expected, seen.changed[number], portion.stop - portion.start])
                self._later[reverted] = self._later.get(reverted, np.zeros(3)) + more
        self._plans[reverted] = seen

    def lost(self, reverted: frozenset[str]) -> tuple[float, float]:
        """Return how many samples a plan is expected to lose more than to gain, and the standard deviation."""
        if reverted not in self._known:
            self._known[reverted] = self._lost(reverted)
        return self._known[reverted]

    def _lost(self, reverted: frozenset[str]) -> tuple[float, float]:
        active = self._active(reverted)
        if not active.any():
            return 0.0, 0.0
        seen = self._plans.get(reverted, _Observed(active))
        lost = sum(seen.lost)
        shift = variance = 0.0
        for number in range(len(seen.lost), len(self._portions)):
            portion = self._portions[number]
            _, more, others = self._moments(active, number)
            if number and not self._others(number):  # the samples of small margin are as a normal error says
                rate = self.base_rate * (portion.stop - portion.start)
                lost, variance = lost + rate, variance + rate
                more, others = more * self.change_ratio, others * self.change_ratio
            variance += more + UNEXPECTED * (number > 0)
            shift += others
        size = self._size
        return lost + shift * size, math.sqrt(variance + (RELATIVE_ERROR * shift) ** 2) * size

    @property
    def change_ratio(self) -> float:
        """How many times more samples changed than expected, of those that plans were evaluated on only later.

        It begins at `MOST_RIVALS`.
        """
        expected, seen, _ = sum(self._later.values(), np.zeros(3)).tolist()
        return max(1.0, (seen + MOST_RIVALS) / (expected + 1))

    @property
    def base_rate(self) -> float:
        """The share of these samples that changed whatever the plan: more than a larger error explains.

        The smallest seen of any plan, because such changes are the same for all of them; with one it may be its error.
        """
        rates = [
            (seen - MOST_RIVALS * expected - SURPRISING * math.sqrt(MOST_RIVALS * expected + 1)) / count
            for expected, seen, count in (row.tolist() for row in self._later.values())
        ]
        return max(0.0, min(rates)) if len(rates) > 1 else 0.0

    @property
    def _size(self) -> float:
        """The loss of a sample that changes: 1, or less where a sample is right in part."""
        total, count = self._sizes
        return float(total + 1) / float(count + 1)

    def _learn_scale(self, seen: _Observed) -> None:
        predicted = self._joint(seen.active)
        count = self._portions[len(seen.lost) - 1].stop if seen.lost else 0
        fp32 = self._margins[:count]
        near = np.abs(fp32) < FAR
        if seen.margins is None:
            sigmas = max(float(np.abs(fp32[near]).max(initial=0.0)), 1e-30) * 1.25 ** np.arange(-40, 31)
            changed = [float(change_probability(fp32, sigma).sum()) for sigma in sigmas.tolist()]
            sigma = float(np.interp(max(sum(seen.changed), 0.5), changed, sigmas))
        else:
            sigma = MEAN_TO_SIGMA * float(np.abs(seen.margins - fp32)[near].mean()) if near.any() else 0.0
        if predicted > 0 and sigma > 0:
            self._scales = sorted([*self._scales, (math.log(predicted), math.log(sigma**2 / 2 / predicted))])

    def _others(self, number: int) -> list[_Observed]:
        """Return the plans whose margins are known in a portion."""
        return [seen for seen in self._plans.values() if len(seen.lost) > number and seen.margins is not None]

    def _field(self, number: int) -> MarginField | None:
        """Return what the plans evaluated on a portion tell of its margins; None where there is none."""
        if number not in self._fields and (others := [o for o in self._others(number) if self._joint(o.active) > 0]):
            fp32, portion = self._margins[self._portions[number]], self._portions[number]
            active = np.array([other.active for other in others])
            near = np.abs(fp32) < FAR
            shifts = np.array([other.margins[portion] - fp32 for other in others if other.margins is not None]) * near
            self._fields[number] = MarginField(self._sensitivities, active, shifts, near)
        return self._fields.get(number)

    def _moments(self, active: Floats, number: int) -> tuple[float, float, float]:
        """Return what a plan is expected to do to the samples of a portion.

        Returns:
            How many change their verdict, the variance of how many more are lost than gained, and its mean.
        """
        fp32, own = self._margins[self._portions[number]], self._joint(active)
        mean, left = fp32, own
        if (field := self._field(number)) is not None:
            shifts, left = field.at(active)
            mean = fp32 + shifts
        sigma = math.sqrt(2 * self._scale(own) * left)
        right = normal_cdf(mean / sigma) if sigma > 0 else (mean > 0).astype(np.float64)
        right = np.where(np.abs(fp32) < FAR, right, fp32 > 0)
        variance = float((right * (1 - right)).sum())
        return float(np.abs((fp32 > 0) - right).sum()), variance, float(((fp32 > 0) - right).sum())

    def _scale(self, joint: float) -> float:
        """Return how many times the error of a plan is what the sensitivities say."""
        logs, scales = zip(*self._scales, strict=True) if self._scales else ((0.0,), (0.0,))
        return math.exp(float(np.interp(math.log(max(joint, 1e-300)), logs, scales)))

    def _joint(self, active: Floats) -> float:
        """Return the sum of the sensitivities of units in INT8."""
        return float(active @ self._sensitivities)

    def _active(self, reverted: frozenset[str]) -> Floats:
        return np.array([not unit.layers <= reverted for unit in self._ranked], np.float64)


def _numbers(margins: Floats) -> Floats:
    # What is no number decides nothing: it is at the boundary.
    return np.nan_to_num(np.asarray(margins, np.float64), nan=0.0, posinf=FAR, neginf=-FAR)
