"""Score a few complete candidates by the output error on held-out samples and keep the best.

No estimator and no correction wins everywhere: the best on one network is the worst on the next, and the error of a
single tensor does not predict that of the network. So the whole network is run.

This is also the acceptance test of corrections: a corrected candidate is kept only if its INT8 network scores higher on
held-out samples than the candidate it corrects, which has the same ranges and competes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

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
    """The estimators and corrections that a run tries.

    Attributes:
        estimators: Estimators in order, as in :class:`calib.config.efforts.Effort`: names or the user's own objects.
        more: Estimators tried after these; a candidate that only they lead to has to win by :data:`MARGIN_DB`.
        samples: Number of samples that corrections learn from.
        corrections: Mapping from name to the number of candidates it is tried on, best first, of each set of
            corrections that earlier ones made.
    """

    estimators: tuple[str | RangeEstimator, ...] = ()
    more: tuple[str, ...] = ()
    samples: int = 16
    corrections: Mapping[str, int] = field(default_factory=dict[str, int])


def recipe_of(effort: str, estimator: str | RangeEstimator = "auto") -> Recipe:
    """Return the recipe of an effort; an estimator that the user chose replaces those of the effort."""
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
    """The best candidate and those it was chosen from.

    Attributes:
        scored: The candidate as it was scored; None if nothing was scored.
    """

    candidate: Candidate
    candidates: tuple[CandidateFacts, ...] = ()
    corrections: tuple[CorrectionFacts, ...] = ()
    scored: Scored | None = None

    @property
    def errors(self) -> Mapping[str, float]:
        """Output name → normalized error on held-out samples; empty if nothing was scored."""
        return self.scored.errors if self.scored else {}


@dataclass
class _Tried:
    """A scored candidate.

    Attributes:
        scored: Result with the compiled network; None once another candidate is ahead, because networks are large.
        corrections: Corrections applied, in order.
        extra: Whether the balanced effort would not try this candidate.
    """

    name: str
    candidate: Candidate
    score: float
    scored: Scored | None
    corrections: tuple[str, ...] = ()
    facts: tuple[CorrectionFacts, ...] = ()
    extra: bool = False


class _Field:
    """All candidates so far, in the order they were tried, and the one that is ahead."""

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
        """Score a candidate, unless the same model was scored already.

        Args:
            name: Name for the report, made of the estimator and the corrections.
            candidate: Candidate to score.
            facts: Facts of the correction, layer by layer.
            parent: Candidate that it corrects.
            correction: Name of the correction.
            extra: Whether the balanced effort would not try this candidate.
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
        """Return the key that candidates are compared by: the SQNR, with a bonus for the first estimator, min-max.

        A few held-out samples can't show what clipping does to a value that occurs in one of a thousand samples.
        """
        plain = one.candidate.plan.activations == self.tried[0].candidate.plan.activations
        return one.score + (HEAD_START_DB if plain else 0.0) - (MARGIN_DB if one.extra else 0.0)

    @property
    def clipping_pays(self) -> bool:
        """Return whether any candidate scored higher than the first, by however little."""
        return any(one.score > self.tried[0].score for one in self.tried[1:])

    def best(self) -> _Tried:
        """Return the first candidate of the highest rank."""
        return max(self.tried, key=self.rank)

    def leaders(self, count: int) -> list[tuple[int, _Tried]]:
        """Return ``(place, candidate)`` of the best candidate for each set of corrections so far; extras come last."""
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
    """Score one candidate per estimator and corrected forms of the best of them, and return the best of all.

    Args:
        base: Network, equalized if that was kept, with a plan without ranges.
        summaries: Statistics of every quantized tensor.
        recipe: Estimators and corrections to try.
        samples: Samples that corrections learn from.
        scorer: Scorer on other samples.
        told: Function that receives a remark for each candidate.
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
    """Score a candidate that has its ranges, with and without corrections, and return the best."""
    tried = _Field(scorer, lambda note: None)
    tried.add("plan", candidate)
    return _corrected(tried, recipe, samples)


def _corrected(tried: _Field, recipe: Recipe, samples: Sequence[Arrays]) -> Chosen:
    """Apply the corrections of the table in turn to the best candidates so far, and return the best of all."""
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
    """Return the fact about the outputs of the whole network with the corrections of the candidate that is kept."""
    return CorrectionFacts(
        correction=after.corrections[-1],
        layer="",
        kept=True,
        sqnr_before_db=round(before.score, 3),
        sqnr_after_db=round(after.score, 3),
        detail=f"{after.name} against {before.name}: the network's outputs on held-out samples, everything in INT8",
    )


def _same(one: Candidate, other: Candidate) -> bool:
    """Return whether two candidates make the same model, as far as can be told without comparing weights."""
    edited = any(edit.rounded or edit.biases for edit in (one.edits, other.edits))
    return not edited and _same_ranges(one.plan, other.plan)


def _same_ranges(one: QuantizationPlan, other: QuantizationPlan) -> bool:
    return all(
        a.range is not None and b.range is not None and (a.range.low, a.range.high) == (b.range.low, b.range.high)
        for a, b in zip(one.activations, other.activations, strict=True)
    )
