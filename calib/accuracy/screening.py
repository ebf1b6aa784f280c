"""Search with margins: plans are screened on the doubtful samples, and the best of them evaluated on all.

A sample that FP32 decides narrowly is the first to change its verdict, so that a part of the samples says most of what
all of them would. Each screening tells more about all plans (`LossPosterior`).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from calib.accuracy.ledger import Ledger, Trial
from calib.accuracy.problem import COMPLETIONS, plans_tried

# A plan that keeps the budget with this probability is worth all samples; after one that failed, only a safer one is.
PROBABLE, SAFE, NEARLY_CERTAIN = 0.5, 0.8, 0.9
# A plan with a smaller probability is not screened, if there is another that probably fits; and of so many each kind at
# most.
WORTHWHILE = 0.05
CANDIDATES = 48
# So many screenings are put aside for each time that a plan did not fit after all.
RETRIES = 2


class Screening:
    """The plans are prefixes of the ranking, and the one that fits best with units given back.

    Args:
        ledger: Everything in INT8 has missed the budget there, or was screened and is improbable to keep it.
    """

    def __init__(self, ledger: Ledger):
        self.ledger, self.problem = ledger, ledger.problem

    @cached_property
    def _prefixes(self) -> list[frozenset[str]]:
        return self.ledger.prefixes()

    def run(self) -> None:
        """Screen plans, and evaluate the one with fewest units that probably fits on all samples; again with the rest.

        After one that did not fit after all only a safer one is evaluated, at last one that is nearly certain to fit.
        """
        ledger, left = self.ledger, plans_tried(len(self.problem.units), self.problem.limits)
        for attempt in range(COMPLETIONS):
            fits, first, last = ledger.feasible(), attempt == 0, not ledger.affords(0, 2)
            share = PROBABLE if first or fits else NEARLY_CERTAIN if last else SAFE
            # Of few units as many screenings as are put aside would be all there are: one is left in any case.
            more, keep = (1 + RETRIES, min(RETRIES * COMPLETIONS, left - 1)) if first else (1, 0)
            aside = 1 if fits or last else 2
            while left > keep and ledger.affords(more, aside) and (plan := self.next_plan(share)) is not None:
                ledger.screen(plan, "prefix" if plan in self._prefixes else "backfill")
                left -= 1
            best = self.lightest(share) or self.safest()
            if best is None or best.complete or not ledger.affords(0, 1):
                return
            # The last one that can be afforded is evaluated on all samples in any case, for its figure.
            ledger.run(best.reverted, "backfill" if fits else "prefix", to_the_end=not ledger.affords(0, 2))

    def next_plan(self, share: float) -> frozenset[str] | None:
        """Return the plan to screen next, None if there is none worth it.

        That of the greatest probability to keep the budget times the units that it saves.
        """
        best, last = self.lightest(share), len(self._prefixes) - 1
        most = best.units if best else last
        plans = [plan for plan in self._plans(best, most) if plan not in self.ledger.trials]
        probabilities = [self.ledger.probability(plan) for plan in plans]
        if not plans or (best and max(probabilities) < WORTHWHILE):
            return None
        # Without a plan that is safe enough, there has to be one first.
        needed = min(share, max(probabilities)) if share > PROBABLE and not best else 0.0
        worth = [
            probability * (most - self.ledger.units_of(plan)) if probability >= needed else 0.0
            for plan, probability in zip(plans, probabilities, strict=True)
        ]
        return plans[int(np.argmax(worth))]

    def lightest(self, share: float) -> Trial | None:
        """Return the plan with fewest units of those that fit, or do so with this probability; None without any."""
        known = [
            trial
            for trial in self.ledger.trials.values()
            if trial.within or (trial.screened and self.ledger.probability(trial.reverted) >= share)
        ]
        return min(known, key=lambda trial: trial.order, default=None)

    def safest(self) -> Trial | None:
        """Return the screened plan that most probably fits; the one with most units, where none does."""
        screened = [trial for trial in self.ledger.trials.values() if trial.screened and trial.reverted]
        found = {trial.reverted: self.ledger.probability(trial.reverted) for trial in screened}
        found = {plan: probability if probability >= WORTHWHILE else 0.0 for plan, probability in found.items()}
        return max(screened, key=lambda t: (found[t.reverted], t.units, -t.order[1]), default=None)

    def _plans(self, best: Trial | None, most: int) -> list[frozenset[str]]:
        """Return the plans in question with fewer than ``most`` units: prefixes, and ``best`` with units given back."""
        plans = [self._prefixes[k] for k in thinned(range(most))]
        if best:
            units = [unit.layers for unit in self.ledger.reverted_units(best)]
            plans += [best.reverted - unit for unit in units[:CANDIDATES]]
            plans += [best.reverted.difference(*units[: 2**j]) for j in range(1, 10)]
        return list(dict.fromkeys(plans))


def thinned(numbers: range) -> list[int]:
    """Return at most `CANDIDATES` of the numbers, the first and the last among them, evenly."""
    if not numbers:
        return []
    return [numbers[i] for i in sorted({round(x) for x in np.linspace(0, len(numbers) - 1, CANDIDATES).tolist()})]
