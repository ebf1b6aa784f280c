"""Search where a plan can be judged on a part of the samples: plans are screened, and the best evaluated on all.

With margins the part is that of the doubtful samples: one that FP32 decides narrowly is the first to change its
verdict, so that a part of the samples says most of what all of them would. Without margins it is a random one, held
against the same samples of a plan that was evaluated on more. Each screening tells more about all plans
(`LossPosterior`, `DropPosterior`).
"""

from __future__ import annotations

from functools import cached_property

from calib.accuracy.ledger import PROBABLE, Ledger, Trial
from calib.accuracy.problem import COMPLETIONS, RETURNS, TRUST, plans_tried
from calib.accuracy.proposals import WORTHWHILE, Proposals

# After a plan that was evaluated on all samples and missed, only one that keeps the budget with this probability is.
NEARLY_CERTAIN = 0.95
# That a plan keeps the budget at all is worth so many times what everything in INT8 saves.
KEPT = 2.0
# Of plans better than one that keeps the budget the last that is evaluated on all samples has this probability, if any.
LIKELY = 0.7
# Of units given back at the end: plans of a smaller probability, once screened, are not evaluated on all samples.
# (Simulated by top-1, 32 networks of 40 and 150 samples: 8.6 layers reverted in 8.6 sets, 9.1 in 10.3 without that.)
POSSIBLE = 0.2
# With a plan that fits, what a better one has to have grows with each in a row that misses on all samples: forecasts of
# plans that hardly differ are wrong together. (Simulated by top-1 with chance in each verdict, six networks of 1,000
# units: 3.7 % more units reverted than by greedy, 7.0 % without that; of the worst 13 and 22 %.)
STRICTER = 1.5
# So many plans are screened before one is evaluated on all samples: only that tells what the other samples hold.
FIRST = 4
# So many screenings are put aside for each time that a plan did not fit after all.
RETRIES = 2


class Screening:
    """The plans are prefixes of the ranking, and the one that fits best with units given back.

    Args:
        ledger: Everything in INT8 has missed the budget there, or was screened and is improbable to keep it.
    """

    def __init__(self, ledger: Ledger):
        self.ledger, self.problem = ledger, ledger.problem
        self._left = plans_tried(len(self.problem.units), self.problem.limits)
        self._misses = 0  # plans screened in a row while none was probable

    @cached_property
    def _proposals(self) -> Proposals:
        return Proposals(self.ledger)

    def run(self) -> None:
        """Screen plans, and evaluate the one with fewest units that probably fits on all samples; again with the rest.

        After one that did not fit after all only one that is nearly certain to fit is evaluated.
        """
        ledger, misses = self.ledger, 0
        for attempt in range(COMPLETIONS):
            fits, first = ledger.feasible(), attempt == 0
            share = min(PROBABLE * STRICTER**misses, NEARLY_CERTAIN) if first or fits else NEARLY_CERTAIN
            # After a miss there has to be a plan that keeps the budget before a better one is looked for.
            tries = FIRST if first else self._left if fits else RETRIES
            self._screen(share, tries, 1 + RETRIES * first, 1 if fits or not ledger.affords(0, 2) else 2)
            best = self._chosen(share)
            if best is None or best.complete or not ledger.affords(0, 1):
                return
            if misses and ledger.probability(best.reverted) < share:
                return  # `give_back` has others
            # The last one that can be afforded is evaluated on all samples in any case, for its figure.
            kind = "backfill" if fits else "prefix"
            trial = ledger.run(best.reverted, kind, to_the_end=not ledger.affords(0, 2))
            misses = misses + 1 if fits and not trial.within else 0

    def give_back(self) -> None:
        """Screen plans that save more than the best, and evaluate on all samples those that may fit, within limits."""
        ledger, proposals = self.ledger, self._proposals
        for _ in range(RETURNS * self.problem.limits.backfills):
            fits = ledger.feasible()
            if not fits or not ledger.affords(1, 1):
                return
            best = min(fits, key=lambda trial: (self.problem.cost(trial.reverted), trial.order))
            gap = proposals.gap(best)
            if (plan := proposals.shorter(best)) is None:
                return
            kind = "prefix" if plan in proposals.prefixes else "backfill"
            ledger.screen(plan, kind)
            kept = ledger.probability(plan) >= POSSIBLE and ledger.run(plan, kind).within
            proposals.told(kept, gap, proposals.gap(best))

    def _chosen(self, share: float) -> Trial | None:
        """Return the plan to evaluate on all samples; the last one that can be afforded should not be for nothing."""
        best = self.lightest(share) or self.safest()
        if self.ledger.affords(0, 2):
            return best
        if not self.ledger.feasible():
            return best if share == PROBABLE else self._worthiest()
        likely = self.lightest(LIKELY)
        return likely if likely and not likely.complete else best

    def _worthiest(self) -> Trial | None:
        """Return the screened plan of which most is expected, by what it saves and that it keeps the budget at all."""
        cost, probability = self.problem.cost, self.ledger.probability
        most = cost(self.problem.layers)
        screened = [trial for trial in self.ledger.trials.values() if trial.screened and trial.reverted]
        worth = {t.reverted: probability(t.reverted) * (most - cost(t.reverted) + KEPT * most) for t in screened}
        return max(screened, key=lambda trial: worth[trial.reverted], default=None)

    def _screen(self, share: float, tries: int, more: int, aside: int) -> None:
        """Screen so many plans, and more until one is probable.

        Args:
            share: Probability to keep the budget from which a plan is worth all samples.
            tries: Number of plans.
            more: Number of screenings that have to be left.
            aside: Number of evaluations on all samples that have to be left.
        """
        proposals = self._proposals
        while self._left and self.ledger.affords(more, aside):
            best = self.lightest(share)
            if (best and tries <= 0) or (plan := proposals.shorter(best) if best else self._safer(share)) is None:
                return
            gap = proposals.gap(best) if best else range(0)
            trial = self.ledger.screen(plan, "prefix" if plan in proposals.prefixes else "backfill")
            kept = trial.within or self.ledger.probability(plan) >= share
            if best:
                proposals.told(kept, gap, proposals.gap(self.lightest(share) or best))
            self._misses = 0 if self.ledger.keeps(trial) else self._misses + 1
            self._left, tries = self._left - 1, tries - 1

    def _safer(self, share: float) -> frozenset[str] | None:
        """Return the prefix to screen next while none of the plans is probable enough; None if none is left."""
        prefixes, trials = self._proposals.prefixes, self.ledger.trials
        missed = (prefix in trials and not self.ledger.keeps(trials[prefix]) for prefix in prefixes)
        longest = max((k for k, found in enumerate(missed) if found), default=0)
        # As long as forecasts may be right, also shorter ones than one that missed.
        low = longest if self._misses > TRUST else 0
        if low >= len(prefixes) - 2:
            return None
        plan = prefixes[self._proposals.longer(frozenset(), low, self._misses, share if share > PROBABLE else 0.0)]
        return None if plan in trials else plan

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
