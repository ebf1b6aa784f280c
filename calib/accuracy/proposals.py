"""The plan to evaluate next: that of the greatest probability to keep the budget times what it saves.

Plans are prefixes of the ranking, and the best plan known with single units or groups of units given back to INT8.

Probabilities are forecasts. Where they prove wrong, steps along the ranking triple until something keeps the budget,
and gaps are halved from then on, so that a network of n units takes log(n) evaluations all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np

from calib.accuracy.ledger import Ledger, Trial
from calib.accuracy.problem import STRIDE, TRUST

# A plan with a smaller probability to keep the budget is not evaluated, if there is another that does.
WORTHWHILE = 0.05
# A plan of small probability that saves much is evaluated before a safer one that saves less, but not again and again:
# after each that failed the smallest probability grows, up to the last.
BOLDEST, BOLDER, CAUTIOUS = 0.05, 1.5, 0.5
# The first of these where each miss costs an evaluation on all samples. (Simulated, 128 networks each: by recall 10.3
# layers were reverted instead of 10.8, more than by greedy on 22 networks instead of 29; by one number for the whole
# set 12.8 instead of 12.9, more on 19 instead of 21.)
BOLDEST_ON_ALL = 0.15
# Of each kind of plan so many at most are looked at.
CANDIDATES = 48

Plan = frozenset[str]


class Proposals:
    """Prefixes of the ranking, and the best plan known with units given back to INT8.

    Args:
        ledger: What was evaluated so far; everything in INT8 has missed the budget there.

    Attributes:
        prefixes: Layers of the first k units of the ranking, for each k.
    """

    def __init__(self, ledger: Ledger):
        self._ledger, self._cost = ledger, ledger.problem.cost
        self.prefixes = ledger.prefixes()
        self._misses = 0  # plans in a row that did not keep the budget
        self._poor = 0  # plans in a row that did not halve the gap

    def told(self, kept: bool, before: range, after: range) -> None:
        """Learn from a plan that was proposed whether it kept the budget, and of the `gap` before and after it."""
        self._misses = 0 if kept else self._misses + 1
        self._poor = 0 if len(after) <= (len(before) + 1) // 2 else self._poor + 1

    def shorter(self, best: Trial) -> Plan | None:
        """Return the plan to evaluate next that saves more than one that fits; None if all were evaluated."""
        gap = self.gap(best)
        useless = self._useless(gap)
        if useless and (plan := self.prefixes[gap.stop] - useless) not in self._ledger.trials:
            return plan
        if gap and (self._poor > TRUST or (useless and best.reverted.isdisjoint(useless))):
            return self.prefixes[gap[len(gap) // 2]]
        plans = [*self._near_the_best(range(best.units), best), *self._lighter(best), *self._regrouped(best)]
        worth = self._worth(plans, best.reverted)
        if not worth:
            return None
        likeliest = max(probability for probability, _ in worth.values())
        boldest = BOLDEST if len(self._ledger.screened) else BOLDEST_ON_ALL
        least = min(boldest * BOLDER**self._misses, CAUTIOUS, likeliest)
        return max((plan for plan in worth if worth[plan][0] >= least), key=lambda plan: worth[plan][1])

    def longer(self, base: Plan, low: int, misses: int, needed: float = 0.0) -> int:
        """Return how many units of the ranking to revert next on top of ``base`` while nothing keeps the budget.

        Args:
            base: Layers that are reverted in any case.
            low: Longest prefix that missed; the next one is longer, and ever more so after each that missed.
            misses: Number of plans that missed.
            needed: Smallest probability to keep the budget, if there is a plan that reaches it.
        """
        last = len(self.prefixes) - 2
        least = min(low + (1 if misses <= TRUST else STRIDE ** (misses - TRUST)), last)
        worth = self._worth((base | prefix for prefix in self._near_the_best(range(least, last + 1))), None)
        plans = {k: base | self.prefixes[k] for k in range(least, last + 1)}
        known = {k: worth[plan] for k, plan in plans.items() if plan in worth}
        likeliest = max((probability for probability, _ in known.values()), default=0.0)
        if likeliest < WORTHWHILE:
            # Nothing is known to help: on along the ranking, at first not everything at once.
            return min(max(low + STRIDE**misses, least), last) if misses else last
        return max((k for k in known if known[k][0] >= min(needed, likeliest)), key=lambda k: known[k][1])

    def gap(self, best: Trial) -> range:
        """Return the lengths of the prefixes between the longest that missed and the shortest that fits."""
        known = [self._ledger.trials.get(prefix) for prefix in self.prefixes]
        fits = (k for k, trial in enumerate(known) if trial and self._ledger.keeps(trial))
        high = next(fits, best.units)
        return range(max((k for k in range(high) if known[k]), default=0) + 1, high)

    def _near_the_best(self, lengths: range, best: Trial | None = None) -> list[Plan]:
        """Return prefixes of these lengths: some of them, and all near the one that is worth most."""
        coarse = thinned(lengths)
        if len(coarse) == len(lengths):
            return [self.prefixes[k] for k in coarse]
        worth = self._worth((self.prefixes[k] for k in coarse), best.reverted if best else None)
        at = max(range(len(coarse)), key=lambda i: worth.get(self.prefixes[coarse[i]], (0.0, 0.0))[1])
        near = range(coarse[max(at - 1, 0)], coarse[min(at + 1, len(coarse) - 1)])
        return [self.prefixes[k] for k in sorted({*coarse, *thinned(near)})]

    def _lighter(self, best: Trial) -> list[Plan]:
        """Return a plan with single units given back, and with the 2, 4, 8… that save most for their damage."""
        units = sorted(self._ledger.reverted_units(best), key=lambda unit: unit.sensitivity / self._cost(unit.layers))
        singles = [best.reverted - unit.layers for unit in units[:CANDIDATES]]
        groups = [best.reverted.difference(*(unit.layers for unit in units[: 2**j])) for j in range(1, 10)]
        return singles + groups

    def _regrouped(self, best: Trial) -> list[Plan]:
        """Return a plan with single groups given back, and with more and more of them.

        A group is of units that no plan evaluated has told apart: what it does is known from plans that differ by it.
        """
        groups: dict[tuple[bool, ...], Plan] = {}
        for unit in self._ledger.reverted_units(best):
            pattern = tuple(unit.layers <= plan for plan in self._ledger.trials)
            groups[pattern] = groups.get(pattern, frozenset()) | unit.layers
        risks = {group: 1 - self._ledger.probability(best.reverted - group) for group in groups.values()}
        order = sorted(risks, key=lambda group: (risks[group] / self._cost(group), sorted(group)))[:CANDIDATES]
        return [*(best.reverted - group for group in order), *accumulate(order, Plan.difference, initial=best.reverted)]

    def _useless(self, gap: range) -> Plan:
        """Return the longest prefix that missed, if reverting it did next to nothing; else no layers.

        Where a long prefix keeps half of INT8's drop and the next few units take it away, the ranking was wrong about
        the former: an output error that this metric does not mind.
        """
        longest, trials = self.prefixes[gap.start - 1], self._ledger.trials
        known = gap.start > 2 and longest in trials and self.prefixes[gap.stop] in trials
        if not known or self._ledger.seen(trials[longest]) < self._ledger.seen(trials[frozenset()]) / 2:
            return frozenset()
        return longest

    def _worth(self, plans: Iterable[Plan], roof: Plan | None) -> dict[Plan, tuple[float, float]]:
        """Return plan → probability to keep the budget, and that times what is saved, for plans not evaluated yet.

        Args:
            plans: Plans.
            roof: Plan against which something is saved; None for that with everything reverted.
        """
        most = self._cost(self.prefixes[-1] if roof is None else roof)
        found: dict[Plan, tuple[float, float]] = {}
        for plan in dict.fromkeys(plans):
            saved = most - self._cost(plan)
            if plan not in self._ledger.trials and saved > 0:
                probability = self._ledger.probability(plan)
                found[plan] = probability, probability * saved
        return found


def thinned(numbers: Sequence[int]) -> list[int]:
    """Return at most `CANDIDATES` of the numbers, the first and the last among them, evenly."""
    if not numbers:
        return []
    return [numbers[i] for i in sorted({round(x) for x in np.linspace(0, len(numbers) - 1, CANDIDATES).tolist()})]
