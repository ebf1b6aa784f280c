"""Whole-model candidates: a few complete recipes, scored by output error on held-out samples, and the best kept.

No estimator and no correction wins everywhere: the best on one network is the worst on the next, and the error of a
single tensor does not predict the network's. So the network is asked.

That is also the guard of the corrections: a corrected candidate is kept only where the INT8 network it makes scores
higher on held-out samples than the one it corrects, which has the same ranges and stays in the field beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from calib.config.efforts import EFFORTS
from calib.corrections import CORRECTIONS, get_correction
from calib.corrections.candidate import Arrays, Candidate
from calib.corrections.scoring import Scored, Scorer
from calib.graph.insert import Edits, insert
from calib.ranges import ESTIMATORS, RangeEstimator, get_estimator
from calib.ranges.assign import assign
from calib.values.facts import CandidateFacts, CorrectionFacts
from calib.values.plan import QuantizationPlan, TensorId
from calib.values.summary import TensorSummary


@dataclass(frozen=True)
class Recipe:
    """What a run tries.

    Attributes:
        estimators: in order, as in :class:`calib.config.efforts.Effort`: names, or objects of the user's.
        more: estimators tried after these; what only they lead to has to win by :data:`MARGIN_DB`.
        samples: that corrections learn from.
        corrections: name → on how many candidates it is tried, best first, of each kind that earlier ones made.
    """

    estimators: tuple[Any, ...] = ()
    more: tuple[str, ...] = ()
    samples: int = 16
    corrections: Mapping[str, int] = field(default_factory=dict)


def recipe_of(effort: str, estimator: Any = "auto") -> Recipe:
    """Return what an effort tries, with the estimator that was asked for in place of several."""
    usual = EFFORTS[effort]
    corrections = {name: row.tried_on[effort] for name, row in CORRECTIONS.items() if effort in row.tried_on}
    if estimator != "auto" or not usual.estimators:
        return Recipe((estimator,), (), usual.samples, corrections)
    others = tuple(name for name in ESTIMATORS if name not in usual.estimators) if usual.every_estimator else ()
    return Recipe(usual.estimators, others, usual.samples, corrections)


# On one network MSE ranges scored .2 dB above min-max on 24 held-out samples and 4 to 6 dB below on 2,000 others.
HEAD_START_DB = 1.0
# The more candidates, the likelier that one of them is the best by chance: those that balanced would not try have to
# be this much better than what it would choose.
MARGIN_DB = 1.0


@dataclass(frozen=True)
class Chosen:
    """The best candidate and what it was chosen from.

    Attributes:
        scored: the candidate as it was scored; None where nothing was.
    """

    candidate: Candidate
    candidates: tuple[CandidateFacts, ...] = ()
    corrections: tuple[CorrectionFacts, ...] = ()
    scored: Scored | None = None

    @property
    def errors(self) -> Mapping[str, float]:
        """Output name → normalized error on held-out samples; empty where nothing was scored."""
        return self.scored.errors if self.scored else {}


@dataclass
class _Tried:
    """A scored candidate.

    Attributes:
        scored: None once another one is ahead: compiled networks are large.
        corrections: what was done to it, in order.
        extra: whether balanced would not come to it.
    """

    name: str
    candidate: Candidate
    score: float
    scored: Scored | None
    corrections: tuple[str, ...] = ()
    facts: tuple[CorrectionFacts, ...] = ()
    extra: bool = False


class _Field:
    """All candidates so far, in the order they were tried, and who is ahead."""

    def __init__(self, scorer: Scorer, told: Callable[[str], None]):
        self.scorer, self._told = scorer, told
        self.tried: list[_Tried] = []

    def add(
        self,
        name: str,
        candidate: Candidate,
        facts: Sequence[CorrectionFacts] = (),
        *,
        parent: _Tried | None = None,
        correction: str = "",
        extra: bool = False,
    ) -> None:
        """Score a candidate; one that makes a model that was scored already is passed over.

        Args:
            name: of the estimator, and of what was done since, as the report shows it.
            candidate: to score.
            facts: what the correction did layer by layer.
            parent: what it corrects.
            correction: its name.
            extra: whether balanced would not come to it.
        """
        if any(_same(one.candidate, candidate) for one in self.tried):
            return
        scored = self.scorer.score(insert(candidate.model, candidate.plan, candidate.edits, fold=True))  # as it ships
        new = _Tried(name, candidate, scored.score, scored, extra=extra)
        if parent:
            anew = {fact.correction for fact in facts}
            kept = (fact for fact in parent.facts if fact.correction not in anew)
            new.corrections = (*parent.corrections, correction)
            new.facts = (*kept, *facts, _network_fact(parent, new))
        self.tried.append(new)
        self._told(f"{new.name} {new.score:.1f} dB")
        ahead = self.best()
        for one in self.tried:
            if one is not ahead:
                one.scored = None

    def rank(self, one: _Tried) -> float:
        """Return what candidates are compared by: the SQNR, with a head start for the first estimator, min-max.

        A few held-out samples can't show what clipping does to the one rare value in a thousand samples.
        """
        plain = one.candidate.plan.activations == self.tried[0].candidate.plan.activations
        return one.score + (HEAD_START_DB if plain else 0.0) - (MARGIN_DB if one.extra else 0.0)

    @property
    def clipping_pays(self) -> bool:
        """Say whether any candidate scored higher than the first, by however little."""
        return any(one.score > self.tried[0].score for one in self.tried[1:])

    def best(self) -> _Tried:
        """Return the first of the highest rank."""
        return max(self.tried, key=self.rank)

    def leaders(self, count: int) -> list[tuple[int, _Tried]]:
        """Return ``(place, candidate)`` of the best with each set of corrections so far; extras come last."""
        kinds = dict.fromkeys(one.corrections for one in self.tried)
        alike = ([one for one in self.tried if one.corrections == kind] for kind in kinds)
        ranked = (sorted(some, key=lambda one: (one.extra, -self.rank(one)))[:count] for some in alike)
        return [placed for some in ranked for placed in enumerate(some)]


def choose_recipe(
    base: Candidate,
    summaries: Mapping[TensorId, TensorSummary],
    recipe: Recipe,
    samples: Sequence[Arrays],
    scorer: Scorer,
    *,
    told: Callable[[str], None] = lambda note: None,
) -> Chosen:
    """Score one candidate for each estimator, the best of them with corrections too, and return the best.

    Args:
        base: the network, equalized if that was kept; its plan has no ranges yet.
        summaries: of every quantized tensor.
        recipe: what is tried.
        samples: what corrections learn from.
        scorer: scores on other samples.
        told: receives a remark for each candidate.
    """
    tried = _Field(scorer, told)

    def ranged(estimator: RangeEstimator) -> Candidate:
        return replace(base, plan=assign(base.plan, summaries, estimator), edits=Edits())

    for position, estimator in enumerate(map(get_estimator, recipe.estimators)):
        if position < 2 or recipe.more or tried.clipping_pays:
            tried.add(estimator.name, ranged(estimator))
    for estimator in map(get_estimator, recipe.more):
        tried.add(estimator.name, ranged(estimator), extra=True)
    return _corrected(tried, recipe, samples)


def choose_corrections(candidate: Candidate, recipe: Recipe, samples: Sequence[Arrays], scorer: Scorer) -> Chosen:
    """Score a candidate that has its ranges with corrections and without, and return the best."""
    tried = _Field(scorer, lambda note: None)
    tried.add("plan", candidate)
    return _corrected(tried, recipe, samples)


def _corrected(tried: _Field, recipe: Recipe, samples: Sequence[Arrays]) -> Chosen:
    """Correct the best so far, one correction of the table after the other, and return the best of all."""
    for name, count in recipe.corrections.items():
        correct, usual = get_correction(name), "balanced" in CORRECTIONS[name].tried_on
        for place, one in tried.leaders(count):
            found = correct(one.candidate, samples, tried.scorer)
            if found is not None:  # balanced would correct the first alone
                extra = place > 0 or not usual
                tried.add(f"{one.name} + {name}", *found, parent=one, correction=name, extra=extra)
    best = tried.best()
    shown = (CandidateFacts(name=one.name, sqnr_db=round(one.score, 3), chosen=one is best) for one in tried.tried)
    return Chosen(best.candidate, tuple(shown), best.facts, best.scored)


def _network_fact(before: _Tried, after: _Tried) -> CorrectionFacts:
    """Return what corrections did to the outputs of the whole network; they are kept only where the candidate is."""
    return CorrectionFacts(
        correction=after.corrections[-1],
        layer="",
        kept=True,
        sqnr_before_db=round(before.score, 3),
        sqnr_after_db=round(after.score, 3),
        detail=f"{after.name} against {before.name}: the network's outputs on held-out samples, everything in INT8",
    )


def _same(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates make the same model, as far as that shows without a comparison of weights."""
    edited = any(edit.rounded or edit.biases for edit in (one.edits, other.edits))
    return not edited and _same_ranges(one.plan, other.plan)


def _same_ranges(one: QuantizationPlan, other: QuantizationPlan) -> bool:
    return all(
        a.range is not None and b.range is not None and (a.range.low, a.range.high) == (b.range.low, b.range.high)
        for a, b in zip(one.activations, other.activations, strict=True)
    )
