"""Find the fastest plan that keeps the budget: predict, confirm on real models, give back what was not needed.

1. Everything in INT8, screened first where plans can be judged in part (3.). Within the budget: done.
2. Where a plan can be judged on all samples only (a function over the whole set, a metric that is no mean over samples,
   a handful of samples): revert the first k units of the ranking; after a miss more of them, in steps that grow, until
   the budget is kept. Then plans that save more: shorter prefixes, and the best one with units given back to INT8.
   (`bisect.py`)
3. Otherwise such plans are screened on a part of the samples: on the doubtful ones where margins are known, on random
   ones without. The plan with fewest units that probably fits is evaluated on all; where that was wrong, only a safe
   one. What is left of the allowance goes into plans that save more, on all samples. (`screening.py`)
4. Both take next the plan where most is to be gained: the probability to keep the budget times what is saved, half of
   it counted in units and half in multiply-adds (`proposals.py`). What is expected of a plan follows from those
   evaluated (`loss_posterior.py`, `drop_posterior.py`). They end where no plan is left, or with the allowance.
5. Of the plans that fit take the cheapest in units and multiply-adds, which is the same in every run; where a speed-up
   is required, time them and take the fastest.
6. With a held-out part: confirm the choice on it; go on with 2 from there where it fails.

A plan is rejected early where a bounded error allows it, left alone where screening expects it over the budget, and
accepted only on all samples. Feasibility along the ranking is not monotone, so nothing is concluded about a plan that
was not evaluated itself, except to save work.

Where no quantized model keeps the budget the result is over_budget with the quantized model of the smallest drop: a
user who asked for INT8 can judge it, and the FP32 model is at hand anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from calib.accuracy.bisect import Bisection
from calib.accuracy.ledger import IMPROBABLE, Ledger, Stopped, Trial
from calib.accuracy.problem import CONFIRMATIONS, Problem
from calib.accuracy.result import Figure, SearchResult, SearchStatus, figure_of, note_of, reason_of, undecided
from calib.accuracy.screening import Screening
from calib.interrupts import INTERRUPTED
from calib.values.accuracy_facts import FinalistFacts

INT8 = frozenset[str]()  # the plan with no layer reverted

# Interleaved medians repeat to about two percent: plans closer than that are equally fast.
TIE = 0.02


def search(problem: Problem) -> SearchResult:
    """Return the best plan found; see the module's docstring for the way it goes.

    Ends early, with the best seen so far, when the time is up, when `Limits.max_evaluations` is reached, or on Ctrl-C.

    Raises:
        MetricError: The metric has no number for the baseline, or is 0 under a relative budget.
    """
    under_way, stopped = _Search(problem), ""
    others = len(problem.units) > 1  # one unit leaves no other quantized model to look for
    try:
        if problem.units:
            if not under_way.int8_fits() and others:
                ledger = under_way.ledger
                ledger.rank()
                if len(ledger.screened):
                    screening = Screening(ledger)
                    screening.run()
                    screening.give_back()
                else:
                    Bisection(ledger).run()
            under_way.choose_confirmed(others)
    except Stopped as stop:
        stopped = str(stop)
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    return under_way.result(stopped)


def fastest(trials: Sequence[Trial], latencies_ms: Sequence[float]) -> Trial:
    """Return the finalist to ship: a pure function of the timings, so that stored ones give the same bytes.

    Within `TIE` of the fastest, the one with fewest units reverted.
    """
    usable = [ms if math.isfinite(ms) and ms > 0 else math.inf for ms in latencies_ms]
    limit = min(usable) * (1 + TIE)
    return min((t for t, ms in zip(trials, usable, strict=True) if ms <= limit), key=lambda trial: trial.order)


class _Search:
    """One search under way: kept as an object so that an interruption finds everything seen so far."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.ledger = Ledger(problem)
        self.finalists: list[tuple[Trial, float]] = []
        self.chosen: Trial | None = None
        self.held_out: dict[frozenset[str], Figure] = {}  # of plans on the held-out samples

    def int8_fits(self) -> bool:
        """Say whether everything in INT8 keeps the budget; where screening makes it improbable, no more is spent."""
        if not len(self.ledger.screened) or self.problem.limits.max_evaluations == 1 or len(self.problem.units) == 1:
            return self.ledger.run(INT8, "int8").within
        self.ledger.screen(INT8, "int8")
        return self.ledger.probability(INT8) >= IMPROBABLE and self.ledger.run(INT8, "int8").within

    def choose_confirmed(self, others: bool) -> None:
        """Choose the fastest plan that fits; with a held-out part one that fits there too, after a few attempts.

        Args:
            others: Whether there are other quantized models to look for where the choice fails.
        """
        if not self.ledger.feasible():
            self.complete_closest()
        for attempt in range(1, CONFIRMATIONS + 1):
            if not self.ledger.feasible():
                return
            self.chosen = self.choose()
            if not len(self.problem.held_out) or self.confirm(self.chosen):
                return
            failed, self.chosen = self.chosen.reverted, None
            if attempt < CONFIRMATIONS and others and not self.ledger.feasible():
                Bisection(self.ledger).revert(failed, misses=attempt)

    def complete_closest(self) -> None:
        """Evaluate the best plan on all samples: a part of them says too little about the model that the user gets."""
        complete = [trial for trial in self.ledger.trials.values() if trial.complete]
        if not complete or self.ledger.affords(0, 1):
            self.ledger.run(self.closest().reverted, "confirm", to_the_end=True)

    def choose(self) -> Trial:
        """Time the finalists and return the fastest; untimed, the one that costs least in layers and multiply-adds."""
        trials, cost = self.ledger.feasible()[: self.problem.limits.finalists], self.problem.cost
        if len(trials) == 1 or self.problem.latency is None:
            self.finalists = []
            return min(trials, key=lambda trial: (cost(trial.reverted), trial.order))
        self.ledger.check_time()
        latencies = self.problem.latency([trial.reverted for trial in trials])
        self.finalists = list(zip(trials, map(float, latencies), strict=True))
        return fastest(trials, [ms for _, ms in self.finalists])

    def confirm(self, trial: Trial) -> bool:
        """Evaluate the plan chosen on the held-out samples, and say whether it keeps the budget there too."""
        problem, ledger, indices = self.problem, self.ledger, self.problem.held_out
        ledger.spend()
        found = ledger.evaluate(trial.reverted, indices)
        figure = figure_of(problem, dict(zip(indices.tolist(), found, strict=True)), indices)
        within = problem.budget.fits(figure.drop)
        reason = "" if within else "the drop on the samples that the search never saw is over the budget"
        interval = (figure.interval.low, figure.interval.high) if figure.interval else None
        ledger.enter("confirm", trial.reverted, len(indices), figure.value, figure.drop, within, reason, interval)
        self.held_out[trial.reverted] = figure
        if not within:
            ledger.unconfirmed.add(trial.reverted)
        return within

    def closest(self, complete_only: bool = False) -> Trial:
        """Return the quantized model with the smallest drop of all that were evaluated."""
        if failed := self.ledger.unconfirmed:
            return self.ledger.trials[min(failed, key=lambda r: (self.held_out[r].drop, sorted(r)))]
        trials = [t for t in self.ledger.trials.values() if t.complete or not complete_only]
        return min(trials, key=lambda t: (t.drop, not t.complete, t.order))

    def result(self, stopped: str) -> SearchResult:
        """Return the best seen and the account."""
        problem, ledger = self.problem, self.ledger
        feasible = ledger.feasible()
        best = self.chosen or (feasible[0] if feasible else None)
        status: SearchStatus = "within_budget" if best else "over_budget" if problem.units else "fp32_kept"
        if status == "over_budget" and ledger.trials:
            best = self.closest(complete_only=not stopped)
        figure = self.figure(best)
        held_out = self.held_out.get(best.reverted) if best else None
        return SearchResult(
            status=status,
            reason=reason_of(problem, status, best, held_out, stopped),
            reverted=best.reverted if best else INT8,
            ranking=ledger.ranking,
            figure=figure,
            held_out=held_out,
            stopped=stopped,
            undecided=status == "over_budget" and undecided(best, stopped),
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

    def figure(self, best: Trial | None) -> Figure | None:
        """Return the figure on the samples that the search saw."""
        ledger = self.ledger
        if not self.problem.units:
            return Figure(len(ledger.indices), ledger.baseline, ledger.baseline, 0.0)
        if best is None:
            return None
        seen = ledger.indices[[int(i) in best.parts for i in ledger.indices]]
        return figure_of(self.problem, best.parts, seen, ledger.scale)
