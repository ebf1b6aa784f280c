"""Search without margins: revert along the ranking until the budget is kept, bisect, and back-fill.

Every plan is evaluated on all samples, or rejected early by the sequential test.
"""

from __future__ import annotations

from functools import cached_property

from calib.accuracy.ledger import Ledger, Trial
from calib.accuracy.prediction import Curve, forecast_by
from calib.accuracy.problem import STRIDE, TRUST, bisections

# Aim below the budget: a rejection near it costs a whole pass, and a forecast is only a forecast. Lower by each miss.
SAFETY = 0.8
# A plan predicted to stay this share of INT8's excess above the budget is not worth an evaluation of back-filling.
FAR_OVER = 0.25


class Bisection:
    """The plans are prefixes of the ranking, and what back-filling leaves of the shortest that fits.

    Args:
        ledger: Everything in INT8 has missed the budget there.
    """

    def __init__(self, ledger: Ledger):
        self.ledger, self.problem = ledger, ledger.problem
        self._forecast = forecast_by(self.problem.margins)
        self._backfills = self.problem.limits.backfills

    @cached_property
    def _prefixes(self) -> list[frozenset[str]]:
        return self.ledger.prefixes()

    def run(self) -> None:
        """Find a plan that keeps the budget, and one with as few layers reverted as the limits allow."""
        if found := self.revert(frozenset()):
            self.backfill(self.bisect(found))

    def revert(self, base: frozenset[str], misses: int = 0) -> Trial | None:
        """Revert more and more of the ranking on top of ``base``, until it fits or only one unit is left quantized."""
        prefixes = self._prefixes
        low, last = sum(prefix <= base for prefix in prefixes) - 1, len(prefixes) - 2
        while low < last:
            allowed = SAFETY / (1 + misses / 2) * self.problem.budget.max_drop
            wanted = self._curve().shortest(base, allowed)
            # After a miss the forecast is known to be off: at most double, so that a jump does not revert everything.
            wanted = min(wanted, 2 * low + STRIDE) if misses else wanted
            low = min(max(wanted, low + STRIDE**misses), last)
            reverted = base | prefixes[low]
            if reverted == self.problem.layers:
                return None
            trial = self.ledger.run(reverted, "bisect" if misses else "prefix")
            if trial.within:
                return trial
            misses += 1
        return None

    def bisect(self, best: Trial) -> Trial:
        """Shorten a prefix that fits: where the curve says, at the middle once the curve was of little help."""
        high = self._prefixes.index(best.reverted)
        known = ((k, self.ledger.trials.get(self._prefixes[k])) for k in range(high))
        low = max(k for k, trial in known if trial and not trial.within)
        poor = 0
        for _ in range(bisections(len(self.problem.units))):
            gap = high - low
            if gap < 2 or not self._affords():
                break
            wanted = self._curve().shortest(frozenset(), self.problem.budget.max_drop)
            middle = min(max(wanted, low + 1), high - 1) if poor < TRUST else (low + high) // 2
            trial = self.ledger.run(self._prefixes[middle], "bisect")
            if trial.within:
                best, high = trial, middle
            else:
                low = middle
            poor += high - low > (gap + 1) // 2
        return best

    def backfill(self, best: Trial) -> Trial:
        """Give reverted units back to INT8: the less sensitive half, a quarter, …, then one at a time."""
        while self._backfills and self._affords():
            reverted = self._without_ineffective_prefix(best) or self._next_backfill(best)
            if reverted is None:
                break
            self._backfills -= 1
            trial = self.ledger.run(reverted, "backfill")
            best = trial if trial.within else best
        return best

    def _next_backfill(self, best: Trial) -> frozenset[str] | None:
        """Return the next plan worth trying with fewer layers reverted than ``best``, None if there is none."""
        units = self.ledger.reverted_units(best)
        curve, max_drop = self._curve(), self.problem.budget.max_drop
        failed = [trial for trial in self.ledger.trials.values() if not trial.within]
        far_over = max_drop + FAR_OVER * (self.ledger.trials[frozenset()].drop - max_drop)
        size = max(1, len(units) // 2)
        while size and units:
            groups = [units[:size]] if size > 1 else [[unit] for unit in units]
            for group in groups:
                reverted = best.reverted.difference(*(unit.layers for unit in group))
                # Fewer layers reverted than in a plan that failed: possible, but not worth an evaluation.
                if any(reverted <= trial.reverted for trial in failed) or curve.drop(reverted) > far_over:
                    continue
                return reverted
            size //= 2
        return None

    def _without_ineffective_prefix(self, best: Trial) -> frozenset[str] | None:
        """Return ``best`` without the prefix that reverting did next to nothing for, None if there is none.

        Where a long prefix keeps half of INT8's drop and the next few units take it away, the ranking was wrong about
        the former: an output error that this metric does not mind.
        """
        trials, prefixes = self.ledger.trials, self._prefixes
        below = [k for k, prefix in enumerate(prefixes) if prefix < best.reverted and prefix in trials]
        failed = [k for k in below if not trials[prefixes[k]].within]
        if not failed or failed[-1] < 2 or trials[prefixes[failed[-1]]].drop < trials[frozenset()].drop / 2:
            return None
        reverted = best.reverted - prefixes[failed[-1]]
        return None if reverted in trials else reverted

    def _curve(self) -> Curve:
        """Return the forecast through everything measured so far."""
        measured = {reverted: trial.drop for reverted, trial in self.ledger.trials.items()}
        return Curve.through(self.ledger.rank(), self._forecast, measured)

    def _affords(self) -> bool:
        """Say whether there is enough left for another plan, and one more should it fail while none fits."""
        return self.ledger.affords(1 if self.ledger.feasible() else 2)
