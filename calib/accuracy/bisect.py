"""Search where a plan can be judged on all samples only: revert until the budget is kept, then give units back.

Every plan is evaluated on all samples, or rejected early by the sequential test.
"""

from __future__ import annotations

from functools import cached_property

from calib.accuracy.ledger import Ledger, Trial
from calib.accuracy.problem import bisections
from calib.accuracy.proposals import Proposals


class Bisection:
    """The plans are prefixes of the ranking, and the best of them with units given back.

    Args:
        ledger: Everything in INT8 has missed the budget there.
    """

    def __init__(self, ledger: Ledger):
        self.ledger, self.problem = ledger, ledger.problem

    @cached_property
    def _proposals(self) -> Proposals:
        return Proposals(self.ledger)

    def run(self) -> None:
        """Find a plan that keeps the budget, and one with as few layers reverted as the limits allow."""
        if found := self.revert(frozenset()):
            self.refine(found)

    def revert(self, base: frozenset[str], misses: int = 0) -> Trial | None:
        """Revert more and more of the ranking on top of ``base``, until it fits or only one unit is left quantized."""
        prefixes = self._proposals.prefixes
        low, last = sum(prefix <= base for prefix in prefixes) - 1, len(prefixes) - 2
        while low < last:
            low = self._proposals.longer(base, low, misses)
            reverted = base | prefixes[low]
            if reverted == self.problem.layers:
                return None
            trial = self.ledger.run(reverted, "bisect" if misses else "prefix")
            if trial.within:
                return trial
            misses += 1
        return None

    def refine(self, best: Trial) -> Trial:
        """Look for a plan that saves more than one that fits, as long as there is one and limits allow."""
        proposals = self._proposals
        for _ in range(bisections(len(self.problem.units)) + self.problem.limits.backfills):
            gap = proposals.gap(best)
            if not self._affords() or (plan := proposals.shorter(best)) is None:
                break
            trial = self.ledger.run(plan, "bisect" if plan in proposals.prefixes else "backfill")
            cheaper = trial.within and self.problem.cost(plan) < self.problem.cost(best.reverted)
            best = trial if cheaper else best
            proposals.told(trial.within, gap, proposals.gap(best))
        return best

    def _affords(self) -> bool:
        """Say whether there is enough left for another plan, and one more should it fail while none fits."""
        return self.ledger.affords(1 if self.ledger.feasible() else 2)
