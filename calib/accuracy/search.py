"""Find the fastest plan that keeps the budget: predict, confirm on real models, give back what was not needed.

1. Everything in INT8. Within the budget: done.
2. Climb: revert the first k units of the ranking, k predicted from the drop just measured; after a miss more of them,
   in steps that triple, so that a network of n units is climbed in log3(n) evaluations.
3. Bisect between the longest prefix that failed and the shortest that fits.
4. Back-fill: quantize reverted units again, the least damage per millisecond first.
5. Time the plans that fit, and take the fastest.
6. With a held-out part: confirm the choice on it; climb on from there where it fails.

A plan is rejected early where a bounded error allows it, and accepted only on all samples. Feasibility along the
ranking is not monotone, so nothing is concluded about a plan that was not evaluated itself, except to save work.

Where no quantized model keeps the budget the result is over_budget with the quantized model of the smallest drop: a
user who asked for INT8 can judge it, and the FP32 model is at hand anyway. It is returned only if asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from calib.accuracy.rank import Curve, RankedUnit
from calib.accuracy.result import Figure, SearchResult, SearchStatus, figure_of, note_of
from calib.accuracy.trial import Ledger, Limits, Problem, Stopped, Trial
from calib.outcome import FinalistFacts, SearchStepFacts

# Aim below the budget: a rejection near it costs a whole pass, and a forecast is only a forecast. Lower by each miss.
SAFETY = 0.8
STRIDE = 3
# So many times the forecast may fail to halve the gap in bisection before the middle is taken.
TRUST = 2
# Each look at the held-out samples makes them a little less unseen.
CONFIRMATIONS = 3
# Interleaved medians repeat to about two percent: plans closer than that are equally fast.
TIE = 0.02
# A plan predicted to stay this share of INT8's excess above the budget is not worth an evaluation of back-filling.
HOPELESS = 0.25


def climbs(units: int) -> int:
    """Return the most evaluations that climbing a network of so many units takes, about log3(2·units)."""
    count = reached = 0
    while reached < units - 1:
        reached += STRIDE**count
        count += 1
    return count


def bound(units: int, limits: Limits | None = None, *, held_out: bool = False) -> int:
    """Return the most evaluations that `search` takes for so many units: grows with the logarithm.

    An evaluation is one plan on at most all validation samples; confirming on held-out samples counts as one.
    """
    limits = limits or Limits()
    if not units:
        return 0
    # Everything in INT8, the climb, its bisection, back-filling, and completing an over-budget plan's figure.
    most = 1 + climbs(units) + _bisections(units) + limits.backfills + 1
    if held_out:
        most += CONFIRMATIONS + (CONFIRMATIONS - 1) * climbs(units)
    return most if limits.max_evaluations is None else min(most, limits.max_evaluations)


def bound_images(problem: Problem) -> int:
    """Return the most samples that `search` runs through any model, the FP32 pass included.

    Usually far less: refining ends at `Limits.images` validation sets, and hopeless plans are rejected early.
    """
    everything, seen, unseen = len(problem.baseline_parts), len(problem.search_indices), len(problem.held_out)
    up = climbs(len(problem.ranked))
    # Either nothing fits, and the best plan's figure is completed, or what fits is refined within the allowance.
    most = max(everything + seen * (2 + up), math.floor(problem.limits.allowance(len(problem.ranked)) * everything))
    if unseen:
        most += CONFIRMATIONS * unseen + (CONFIRMATIONS - 1) * up * seen
    limit = problem.limits.max_evaluations
    return most if limit is None else min(most, everything + limit * max(seen, unseen))


@dataclass(frozen=True)
class Expected:
    """What a search is going to cost, as told before it begins.

    Attributes:
        evaluations: at most.
        images: run through any model, at most, in validation sets, the FP32 pass included.
        usual_s: seconds where everything in INT8 keeps the budget, 0 where unknown.
        most_s: seconds at most.
        samples: of the validation set.
    """

    evaluations: int
    images: float
    usual_s: float
    most_s: float
    samples: int

    @property
    def sentence(self) -> str:
        """All of it in plain words."""
        plural = "s" * (self.evaluations != 1)
        return (
            f"at most {self.evaluations} evaluation{plural} of {self.samples} samples, {self.images:.1f} times the "
            f"validation set in all; by the time FP32 took, about {_duration(self.usual_s)} if INT8 keeps the budget, "
            f"at most about {_duration(self.most_s)}"
        )


def expected_cost(problem: Problem, fp32_s: float) -> Expected:
    """Return what a search costs, by the seconds that one FP32 pass took over the validation set."""
    everything = len(problem.baseline_parts)
    most = bound(len(problem.ranked), problem.limits, held_out=bool(len(problem.held_out)))
    images = bound_images(problem) / everything
    # The FP32 pass is behind us; INT8 takes less than its time, its compilations make up for it.
    return Expected(most, images, fp32_s, (images - 1) * fp32_s, everything)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(seconds, 1):.0f} s"


def search(problem: Problem) -> SearchResult:
    """Return the best plan found; see the module's docstring for the way it goes.

    Ends early, with the best seen so far, when the time is up, when `Limits.max_evaluations` is reached, or on Ctrl-C.

    Raises:
        MetricError: the metric has no number for the baseline, or is 0 under a relative budget.
    """
    walk = _Search(problem)
    stopped = ""
    try:
        walk.go()
    except Stopped as stop:
        stopped = str(stop)
    except KeyboardInterrupt:
        stopped = "it was interrupted"
    return walk.result(stopped)


def fastest(trials: Sequence[Trial], latencies_ms: Sequence[float]) -> Trial:
    """Return the finalist to ship: a pure function of the timings, so that stored ones give the same bytes.

    Within `TIE` of the fastest, the one with fewest units reverted.
    """
    usable = [ms if math.isfinite(ms) and ms > 0 else math.inf for ms in latencies_ms]
    limit = min(usable) * (1 + TIE)
    return min((t for t, ms in zip(trials, usable, strict=True) if ms <= limit), key=lambda trial: trial.order)


def _bisections(units: int) -> int:
    return math.ceil(math.log2(units)) + TRUST if units > 2 else 0


class _Search:
    """One search under way: kept as an object so that an interruption finds everything seen so far."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.ledger = Ledger(problem)
        self.prefixes = list(accumulate((unit.layers for unit in problem.ranked), frozenset.union, initial=frozenset()))
        self.finalists: list[tuple[Trial, float]] = []
        self.chosen: Trial | None = None
        self.refused: dict[frozenset[str], Figure] = {}  # kept the budget in the search, not on the held-out samples
        self.confirmed: Figure | None = None

    def go(self) -> None:
        """Run all stages; whatever was found is in the attributes, also after an exception."""
        if not self.problem.ranked:
            return
        if not self.ledger.run(frozenset(), "int8").within and (found := self.climb(frozenset())):
            self.backfill(self.bisect(found))
        if not self.feasible():
            # A rejection after a part of the samples says too little about the model that the user gets.
            self.ledger.run(self.closest().reverted, "confirm", to_the_end=True)
        for attempt in range(1, CONFIRMATIONS + 1):
            if not self.feasible():
                return
            self.chosen = self.choose()
            if not len(self.problem.held_out) or self.confirm(self.chosen):
                return
            failed, self.chosen = self.chosen.reverted, None
            if attempt < CONFIRMATIONS and not self.feasible():
                self.climb(failed, misses=attempt)

    def curve(self) -> Curve:
        """Return the forecast through everything measured so far."""
        measured = {reverted: trial.drop for reverted, trial in self.ledger.trials.items()}
        return Curve.through(self.problem.ranked, self.problem.forecast, measured)

    def climb(self, base: frozenset[str], misses: int = 0) -> Trial | None:
        """Revert more and more of the ranking on top of ``base``, until it fits or only one unit is left quantized."""
        low, last = sum(prefix <= base for prefix in self.prefixes) - 1, len(self.prefixes) - 2
        while low < last:
            allowed = SAFETY / (1 + misses / 2) * self.problem.budget.max_drop
            wanted = self.curve().shortest(base, allowed)
            # After a miss the forecast is known to be off: at most double, so that a jump does not revert everything.
            wanted = min(wanted, 2 * low + STRIDE) if misses else wanted
            low = min(max(wanted, low + STRIDE**misses), last)
            reverted = base | self.prefixes[low]
            if reverted == self.problem.layers:
                return None
            trial = self.ledger.run(reverted, "bisect" if misses else "prefix")
            if trial.within:
                return trial
            misses += 1
        return None

    def bisect(self, best: Trial) -> Trial:
        """Shorten a prefix that fits: where the curve says, at the middle once the curve was of little help."""
        high = self.prefixes.index(best.reverted)
        low = max(k for k in range(high) if (t := self.ledger.trials.get(self.prefixes[k])) and not t.within)
        poor = 0
        for _ in range(_bisections(len(self.problem.ranked))):
            gap = high - low
            if gap < 2 or not self.ledger.can_refine():
                break
            wanted = self.curve().shortest(frozenset(), self.problem.budget.max_drop)
            middle = min(max(wanted, low + 1), high - 1) if poor < TRUST else (low + high) // 2
            trial = self.ledger.run(self.prefixes[middle], "bisect")
            if trial.within:
                best, high = trial, middle
            else:
                low = middle
            poor += high - low > (gap + 1) // 2
        return best

    def backfill(self, best: Trial) -> Trial:
        """Give reverted units back to INT8: the cheaper half, a quarter, …, then one at a time."""
        for _ in range(self.problem.limits.backfills):
            reverted = self.give_back(best)
            if reverted is None or not self.ledger.can_refine():
                break
            trial = self.ledger.run(reverted, "backfill")
            best = trial if trial.within else best
        return best

    def give_back(self, best: Trial) -> frozenset[str] | None:
        """Return the next plan worth trying with fewer layers reverted than ``best``, None if there is none."""
        if (innocent := self.innocent(best)) is not None:
            return innocent
        units = sorted((u for u in self.problem.ranked if u.layers <= best.reverted), key=self.price)
        curve, max_drop = self.curve(), self.problem.budget.max_drop
        failed = [t for t in self.ledger.trials.values() if not t.within]
        hopeless = max_drop + HOPELESS * (self.ledger.trials[frozenset()].drop - max_drop)
        size = max(1, len(units) // 2)
        while size and units:
            groups = [units[:size]] if size > 1 else [[unit] for unit in units]
            for group in groups:
                reverted = best.reverted.difference(*(unit.layers for unit in group))
                # Fewer layers reverted than in a plan that failed: possible, but not worth an evaluation.
                if any(reverted <= t.reverted for t in failed) or curve.drop(reverted) > hopeless:
                    continue
                return reverted
            size //= 2
        return None

    def innocent(self, best: Trial) -> frozenset[str] | None:
        """Return ``best`` without the prefix that reverting did next to nothing for, None if there is none.

        Where a long prefix keeps half of INT8's drop and the next few units take it away, the ranking was wrong about
        the former: an output error that this metric does not mind.
        """
        trials, prefixes = self.ledger.trials, self.prefixes
        failed = [k for k, p in enumerate(prefixes) if p < best.reverted and p in trials and not trials[p].within]
        if not failed or failed[-1] < 2 or trials[prefixes[failed[-1]]].drop < trials[frozenset()].drop / 2:
            return None
        reverted = best.reverted - prefixes[failed[-1]]
        return None if reverted in trials else reverted

    def price(self, unit: RankedUnit) -> float:
        """Return the damage for each millisecond gained by quantizing this unit again."""
        if not any(other.cost_ms > 0 for other in self.problem.ranked):
            return unit.damage
        return unit.damage / unit.cost_ms if unit.cost_ms > 0 else math.inf

    def feasible(self) -> list[Trial]:
        """Return the plans that keep the budget as far as is known, fewest units reverted first."""
        fit = [t for t in self.ledger.trials.values() if t.within and not any(t.reverted <= r for r in self.refused)]
        return sorted(fit, key=lambda trial: trial.order)

    def choose(self) -> Trial:
        """Time the finalists and return the fastest; without a choice, the one with fewest units reverted."""
        trials = self.feasible()[: self.problem.limits.finalists]
        if len(trials) == 1 or self.problem.latency is None:
            self.finalists = []
            return trials[0]
        self.ledger.check_time()
        latencies = self.problem.latency([trial.reverted for trial in trials])
        self.finalists = list(zip(trials, map(float, latencies), strict=True))
        return fastest(trials, [ms for _, ms in self.finalists])

    def confirm(self, trial: Trial) -> bool:
        """Look at the held-out samples with the plan chosen."""
        problem, indices = self.problem, self.problem.held_out
        self.ledger.spend()
        found = self.ledger.evaluate(trial.reverted, indices)
        trial.parts.update(zip(indices.tolist(), found, strict=True))
        figure = figure_of(problem, trial.parts, indices)
        within = problem.budget.fits(figure.drop)
        step = SearchStepFacts(
            step=len(self.ledger.steps) + 1,
            kind="confirm",
            reverted=sorted(trial.reverted),
            samples=len(indices),
            value=figure.value,
            drop=figure.drop,
            within=within,
            reason="" if within else "the samples that the search never saw lose more than the budget",
        )
        self.ledger.enter(step)
        if within:
            self.confirmed = figure
        else:
            self.refused[trial.reverted] = figure
        return within

    def closest(self, complete_only: bool = False) -> Trial:
        """Return the quantized model with the smallest drop of all that were looked at."""
        if self.refused:
            return self.ledger.trials[min(self.refused, key=lambda r: (self.refused[r].drop, sorted(r)))]
        trials = [t for t in self.ledger.trials.values() if t.complete or not complete_only]
        return min(trials, key=lambda t: (t.drop, not t.complete, t.order))

    def result(self, stopped: str) -> SearchResult:
        """Return the best seen and the account."""
        problem, ledger = self.problem, self.ledger
        feasible = self.feasible()
        best = self.chosen or (feasible[0] if feasible else None)
        status: SearchStatus = "within_budget" if best else "over_budget"
        if best is None and (problem.limits.keep_fp32 or not problem.ranked):
            status = "fp32_kept"
        elif best is None and ledger.trials:
            best = self.closest(complete_only=not stopped)
        reverted = best.reverted if best else (problem.layers if status == "fp32_kept" else frozenset[str]())
        figure = self.figure(best, status)
        held_out = self.confirmed if best is self.chosen else self.refused.get(reverted)
        return SearchResult(
            status=status,
            reason=self.reason(status, best, held_out, stopped),
            reverted=reverted,
            units=tuple(unit.layers for unit in problem.ranked if unit.layers <= reverted),
            figure=figure,
            held_out=held_out,
            stopped=stopped,
            note=note_of(problem, held_out or figure),
            bound_evaluations=bound(len(problem.ranked), problem.limits, held_out=bool(len(problem.held_out))),
            evaluations=ledger.evaluations,
            images_evaluated=ledger.images,
            compilations=ledger.compilations,
            steps=tuple(ledger.steps),
            finalists=tuple(
                FinalistFacts(reverted=sorted(t.reverted), drop=t.drop, latency_ms=ms, chosen=t is best)
                for t, ms in self.finalists
            ),
            parts=best.parts if best else {},
        )

    def figure(self, best: Trial | None, status: SearchStatus) -> Figure | None:
        """Return the figure on the samples that the search saw."""
        if status == "fp32_kept":
            return Figure(len(self.ledger.indices), self.ledger.baseline, self.ledger.baseline, 0.0)
        if best is None:
            return None
        seen = self.ledger.indices[[int(i) in best.parts for i in self.ledger.indices]]
        return figure_of(self.problem, best.parts, seen, self.ledger.scale)

    def reason(self, status: SearchStatus, best: Trial | None, held_out: Figure | None, stopped: str) -> str:
        """Return what happened in one or two plain sentences."""
        budget = self.problem.budget.max_drop
        early = f" The search ended early: {stopped}." if stopped else ""
        if status == "within_budget":
            unseen = len(self.problem.held_out) and held_out is None
            return f"The budget of {budget:g} is kept.{early}" + (
                " The held-out samples were not reached." * bool(unseen)
            )
        if status == "fp32_kept":
            what = "no quantized model evaluated keeps it" if self.problem.ranked else "there is no layer to quantize"
            return f"This is the FP32 model, the last resort: {what} (budget {budget:g}).{early}"
        if best is None:
            return f"No model was evaluated.{early}"
        if self.refused:
            return f"The budget of {budget:g} was kept on the samples searched, not on the held-out ones.{early}"
        part = "" if best.complete else f", on {len(best.parts)} of {len(self.ledger.indices)} samples"
        return (
            f"No quantized model evaluated keeps the budget of {budget:g}; the best loses {best.drop:.4g}{part}.{early}"
        )
