"""Find the fastest plan that keeps the budget: predict, confirm on real models, give back what was not needed.

1. Everything in INT8, a scout first (5.). Within the budget: done.
2. Climb: revert the first k units of the ranking, k predicted from the drop just measured; after a miss more of them,
   in steps that triple, so that a network of n units is climbed in log3(n) evaluations.
3. Bisect between the longest prefix that failed and the shortest that fits.
4. Back-fill: quantize reverted units again, the least sensitive first.
5. Where margins are known, scouts replace 2 to 4: they look at the doubtful samples only, and each tells more about all
   plans (`Outlook`). The next one goes where most is to be gained: the chance to keep the budget times the units saved.
   The plan with fewest units that probably fits is looked at to the end; a safer one where that was wrong.
6. Time the plans that fit, and take the fastest.
7. With a held-out part: confirm the choice on it; climb on from there where it fails.

A plan is rejected early where a bounded error allows it, left alone where a scout expects it over the budget, and
accepted only on all samples. Feasibility along the ranking is not monotone, so nothing is concluded about a plan that
was not evaluated itself, except to save work.

Where no quantized model keeps the budget the result is over_budget with the quantized model of the smallest drop: a
user who asked for INT8 can judge it, and the FP32 model is at hand anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import numpy as np

from calib.accuracy.ledger import CERTAIN, HOPELESS, PROMISING, SAFE, Ledger, Stopped, Trial
from calib.accuracy.prediction import Curve, forecast_by
from calib.accuracy.problem import COMPLETIONS, CONFIRMATIONS, STRIDE, TRUST, Problem, bisections, scouts
from calib.accuracy.result import Figure, SearchResult, SearchStatus, figure_of, note_of
from calib.values.facts import FinalistFacts, SearchStepFacts

# Aim below the budget: a rejection near it costs a whole pass, and a forecast is only a forecast. Lower by each miss.
SAFETY = 0.8

# Interleaved medians repeat to about two percent: plans closer than that are equally fast.
TIE = 0.02
# A plan predicted to stay this share of INT8's excess above the budget is not worth an evaluation of back-filling.
FUTILE = 0.25
# A plan with less of a chance is not scouted, if there is another that probably fits; and of so many each kind at most.
WORTHWHILE = 0.05
CANDIDATES = 48
# So many scouts are put aside for each time that a plan did not fit after all.
RETRIES = 2


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


def thinned(numbers: range) -> list[int]:
    """Return at most `CANDIDATES` of the numbers, the first and the last among them, evenly."""
    return [
        numbers[i] for i in sorted({round(x) for x in np.linspace(0, len(numbers) - 1, CANDIDATES)} if numbers else ())
    ]


class _Search:
    """One search under way: kept as an object so that an interruption finds everything seen so far."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.ledger = Ledger(problem)
        self.forecast = forecast_by(problem.margins)
        self.backfills = problem.limits.backfills
        self.finalists: list[tuple[Trial, float]] = []
        self.chosen: Trial | None = None
        self.refused: dict[frozenset[str], Figure] = {}  # kept the budget in the search, not on the held-out samples
        self.confirmed: Figure | None = None

    @cached_property
    def prefixes(self) -> list[frozenset[str]]:
        """The layers of the first k units of the ranking, for each k from 0 to all."""
        return list(accumulate((unit.layers for unit in self.ledger.rank()), frozenset.union, initial=frozenset()))

    def go(self) -> None:
        """Run all stages; whatever was found is in the attributes, also after an exception."""
        if not self.problem.units:
            return
        # With one unit there is no other quantized model to look for.
        if not self.everything() and len(self.problem.units) > 1:
            if self.ledger.outlook is not None:
                self.scout()
            elif found := self.climb(frozenset()):
                self.backfill(self.bisect(found))
        if not self.feasible():
            # A rejection after a part of the samples says too little about the model that the user gets.
            complete = [trial for trial in self.ledger.trials.values() if trial.complete]
            if not complete or self.ledger.affords(0, 1):
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

    def everything(self) -> bool:
        """Say whether everything in INT8 keeps the budget; where a scout leaves no hope of it, no more is spent."""
        if self.ledger.outlook is None or self.problem.limits.max_evaluations == 1:
            return self.ledger.run(frozenset(), "int8").within
        self.ledger.scout(frozenset(), "int8")
        return self.ledger.chance(frozenset()) >= HOPELESS and self.ledger.run(frozenset(), "int8").within

    def scout(self) -> None:
        """Scout plans, and look at the one with fewest units that probably fits to the end; again with what is left.

        After one that did not fit after all only a safer one is looked at, at last one that is nearly certain to fit.
        """
        ledger, left = self.ledger, scouts(len(self.problem.units), self.problem.limits)
        for attempt in range(COMPLETIONS):
            fits, first, last = self.feasible(), attempt == 0, not ledger.affords(0, 2)
            share = PROMISING if first or fits else CERTAIN if last else SAFE
            # Of few units as many scouts as are put aside would be all there are: one is left in any case.
            more, keep = (1 + RETRIES, min(RETRIES * COMPLETIONS, left - 1)) if first else (1, 0)
            aside = 1 if fits or last else 2
            while left > keep and ledger.affords(more, aside) and (plan := self.worthwhile(share)) is not None:
                ledger.scout(plan, "prefix" if plan in self.prefixes else "backfill")
                left -= 1
            best = self.lightest(share) or self.safest()
            if best is None or best.complete or not ledger.affords(0, 1):
                return
            # The last one that can be afforded is looked at to the end in any case, for its figure.
            ledger.run(best.reverted, "backfill" if fits else "prefix", to_the_end=not ledger.affords(0, 2))

    def safest(self) -> Trial | None:
        """Return the scouted plan with the greatest chance to fit; the heaviest, where none has any."""
        scouted = [trial for trial in self.ledger.trials.values() if trial.scouted and trial.reverted]
        chances = {trial.reverted: self.ledger.chance(trial.reverted) for trial in scouted}
        hopes = {reverted: chance if chance >= WORTHWHILE else 0.0 for reverted, chance in chances.items()}
        return max(scouted, key=lambda t: (hopes[t.reverted], t.units, -t.order[1]), default=None)

    def lightest(self, share: float) -> Trial | None:
        """Return the plan with fewest units of those that fit, or do so with this probability; None without any."""
        known = [
            t
            for t in self.ledger.trials.values()
            if t.within or (t.scouted and self.ledger.chance(t.reverted) >= share)
        ]
        return min(known, key=lambda t: t.order, default=None)

    def worthwhile(self, share: float) -> frozenset[str] | None:
        """Return the plan that a scout should look at next, None if there is none worth it.

        That of the greatest chance to keep the budget times the units that it saves.
        """
        best, last = self.lightest(share), len(self.prefixes) - 1
        most = best.units if best else last
        plans = [self.prefixes[k] for k in thinned(range(most))]
        if best:
            cheapest = sorted(
                (u for u in self.ledger.rank() if u.layers <= best.reverted), key=lambda unit: unit.sensitivity
            )
            plans += [best.reverted - unit.layers for unit in cheapest[:CANDIDATES]]
            plans += [best.reverted.difference(*(u.layers for u in cheapest[: 2**j])) for j in range(1, 10)]
        plans = [plan for plan in dict.fromkeys(plans) if plan not in self.ledger.trials]
        chances = [self.ledger.chance(plan) for plan in plans]
        if not plans or (best and max(chances) < WORTHWHILE):
            return None
        # Without a plan that is safe enough, there has to be one first.
        needed = min(share, max(chances)) if share > PROMISING and not best else 0.0
        worth = [
            chance * (most - self.ledger.units_of(plan)) if chance >= needed else 0.0
            for plan, chance in zip(plans, chances, strict=True)
        ]
        return plans[int(np.argmax(worth))]

    def curve(self) -> Curve:
        """Return the forecast through everything measured so far."""
        measured = {reverted: trial.drop for reverted, trial in self.ledger.trials.items()}
        return Curve.through(self.ledger.rank(), self.forecast, measured)

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
        known = ((k, self.ledger.trials.get(self.prefixes[k])) for k in range(high))
        low = max(k for k, trial in known if trial and not trial.within)
        poor = 0
        for _ in range(bisections(len(self.problem.units))):
            gap = high - low
            if gap < 2 or not self.affords():
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
        while self.backfills and self.affords():
            reverted = self.give_back(best)
            if reverted is None:
                break
            self.backfills -= 1
            trial = self.ledger.run(reverted, "backfill")
            best = trial if trial.within else best
        return best

    def affords(self) -> bool:
        """Say whether there is enough left for another plan, and one more should it fail while none fits."""
        return self.ledger.affords(1 if self.feasible() else 2)

    def give_back(self, best: Trial) -> frozenset[str] | None:
        """Return the next plan worth trying with fewer layers reverted than ``best``, None if there is none."""
        if (innocent := self.innocent(best)) is not None:
            return innocent
        units = sorted((u for u in self.ledger.rank() if u.layers <= best.reverted), key=lambda unit: unit.sensitivity)
        curve, max_drop = self.curve(), self.problem.budget.max_drop
        failed = [t for t in self.ledger.trials.values() if not t.within]
        futile = max_drop + FUTILE * (self.ledger.trials[frozenset()].drop - max_drop)
        size = max(1, len(units) // 2)
        while size and units:
            groups = [units[:size]] if size > 1 else [[unit] for unit in units]
            for group in groups:
                reverted = best.reverted.difference(*(unit.layers for unit in group))
                # Fewer layers reverted than in a plan that failed: possible, but not worth an evaluation.
                if any(reverted <= t.reverted for t in failed) or curve.drop(reverted) > futile:
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
        below = [k for k, p in enumerate(prefixes) if p < best.reverted and p in trials]
        failed = [k for k in below if not trials[prefixes[k]].within]
        if not failed or failed[-1] < 2 or trials[prefixes[failed[-1]]].drop < trials[frozenset()].drop / 2:
            return None
        reverted = best.reverted - prefixes[failed[-1]]
        return None if reverted in trials else reverted

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
        if best is None and not problem.units:
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
            ranking=ledger.ranking,
            figure=figure,
            held_out=held_out,
            stopped=stopped,
            note=note_of(problem, held_out or figure),
            evaluations=ledger.evaluations,
            images_evaluated=ledger.images,
            compilations=ledger.compilations,
            steps=tuple(ledger.steps),
            finalists=tuple(
                FinalistFacts(reverted=sorted(t.reverted), drop=t.drop, latency_ms=ms, chosen=t is best)
                for t, ms in self.finalists
            ),
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
            return f"This is the FP32 model: there is no layer to quantize (budget {budget:g}).{early}"
        if best is None:
            return f"No model was evaluated.{early}"
        if self.refused:
            return f"The budget of {budget:g} was kept on the samples searched, not on the held-out ones.{early}"
        part = "" if best.complete else f", on {len(best.parts)} of {len(self.ledger.indices)} samples"
        return (
            f"No quantized model evaluated keeps the budget of {budget:g}; the best loses {best.drop:.4g}{part}.{early}"
        )
