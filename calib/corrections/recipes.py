"""Score a few complete candidates by the output error on held-out samples and keep the best.

No estimator and no correction wins everywhere: the best on one network is the worst on the next, and the error of a
single tensor does not predict that of the network. So the whole network is run.

This is also the acceptance test of corrections: a corrected candidate is kept only if its INT8 network scores higher on
held-out samples than the candidate it corrects, which has the same ranges and competes with it.

No sample is lost to that: once estimator and corrections are chosen, the ranges are fitted again to all calibration
samples, held-out ones included, and the corrections are computed anew. The model so made is kept unless it scores
clearly lower than the one before. Its own score is no longer one of samples that it has not seen, so the report has
that of the model before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calib.config.efforts import EFFORTS
from calib.corrections import CORRECTIONS, get_correction
from calib.corrections.attention import attention_costs
from calib.corrections.candidate import Candidate, Feed
from calib.corrections.compiling import without_failing
from calib.corrections.scoring import Scored, Scorer
from calib.graph.attention import Attention
from calib.graph.insert import Edits, insert
from calib.ranges import ESTIMATORS, RangeEstimator, get_estimator
from calib.ranges.assign import assign
from calib.runtime.failures import FAILURES, left_out
from calib.values.facts import CandidateFacts, CorrectionFacts
from calib.values.plan import QuantizationPlan
from calib.values.summary import Collected


@dataclass(frozen=True)
class Recipe:
    """The estimators and corrections that a run tries.

    Attributes:
        estimators: Estimators in order, as in :class:`calib.config.efforts.Effort`: names or the user's own objects.
        if_clipping_pays: Estimators tried only if one of these scored higher than the first.
        more: Estimators tried after these; a candidate that only they lead to has to win by :data:`MARGIN_DB`.
        samples: Number of samples that corrections learn from.
        corrections: Mapping from name to the number of candidates it is tried on, best first, of each set of
            corrections that earlier ones made.
    """

    estimators: tuple[str | RangeEstimator, ...] = ()
    if_clipping_pays: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    samples: int = 16
    corrections: Mapping[str, int] = field(default_factory=dict[str, int])


def recipe_of(effort: str, estimator: str | RangeEstimator = "auto") -> Recipe:
    """Return the recipe of an effort; an estimator that the user chose replaces those of the effort."""
    usual = EFFORTS[effort]
    corrections = {name: row.tried_on[effort] for name, row in CORRECTIONS.items() if effort in row.tried_on}
    if estimator != "auto" or not usual.estimators:
        return Recipe((estimator,), samples=usual.samples, corrections=corrections)
    named = (*usual.estimators, *usual.if_clipping_pays)
    others = tuple(name for name in ESTIMATORS if name not in named) if usual.every_estimator else ()
    return Recipe(usual.estimators, usual.if_clipping_pays, others, usual.samples, corrections)


# On one network MSE ranges scored .2 dB above min-max on 24 held-out samples and 4 to 6 dB below on 2,000 others.
# Ranges fitted to all samples have the same head start over those that clip a few: of 86 small networks with 4 held-out
# samples of 20, eight scored lower with the wider ranges: six by less than .8 dB, all of which were better with them on
# 100 other samples (by 0 to 1.1 dB), and two by more than 2 dB, which were worse there too (by 2.4 and 3.5 dB).
HEAD_START_DB = 1.0
# The more candidates, the likelier that one of them is the best by chance: those that balanced would not try have to
# be this much better than what it would choose, and with this few samples, or fewer, the estimators that it tries last.
MARGIN_DB = 1.0
FEW = 4
FAST = "auto"  # estimator of the fast effort
WITHOUT = "without equalization"
WITHOUT_INSERTED = "without inserted scales"


@dataclass(frozen=True)
class Chosen:
    """The best candidate and those it was chosen from.

    Attributes:
        scored: The candidate as it was scored; None if nothing was scored.
        energies: Name of each part that is compared → signal and noise energy of each held-out sample before the ranges
            were fitted to these too, ``(samples, 2)``; empty if nothing was scored.
        before: Candidate that these are the energies of; None if it is ``candidate``.
        held: Ids of the held-out samples.
        warnings: Sentences for the report.
    """

    candidate: Candidate
    candidates: tuple[CandidateFacts, ...] = ()
    corrections: tuple[CorrectionFacts, ...] = ()
    scored: Scored | None = None
    energies: Mapping[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])
    before: Candidate | None = None
    held: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class _Tried:
    """A scored candidate.

    Attributes:
        scored: Result with the compiled network; None once another candidate is ahead, because networks are large.
        estimators: Estimators that make these ranges; empty if they were given.
        corrections: Corrections applied, in order.
        extra: Whether the balanced effort would not try this candidate.
        margin: SQNR in dB that it has to be better by than others.
    """

    name: str
    candidate: Candidate
    score: float
    scored: Scored | None
    estimators: tuple[RangeEstimator, ...] = ()
    corrections: tuple[str, ...] = ()
    facts: tuple[CorrectionFacts, ...] = ()
    extra: bool = False
    margin: float = 0.0


class _Field:
    """All candidates so far, in the order they were tried, and the one that is ahead.

    Attributes:
        failing: Layers that OpenVINO can't compile or run in INT8, with the reason; no candidate has them.
        warnings: Sentences for the report.
    """

    def __init__(self, scorer: Scorer, told: Callable[[str], None]):
        self.scorer, self._told = scorer, told
        self.tried: list[_Tried] = []
        self.failing: dict[str, str] = {}
        self.warnings: list[str] = []

    def add(
        self,
        name: str,
        candidate: Candidate,
        facts: Sequence[CorrectionFacts] = (),
        *,
        estimator: RangeEstimator | None = None,
        parent: _Tried | None = None,
        correction: str = "",
        extra: bool = False,
        margin: float = 0.0,
    ) -> None:
        """Score a candidate, unless the same model was scored already.

        Args:
            name: Name for the report, made of the estimator and the corrections.
            candidate: Candidate to score.
            facts: Facts of the correction, layer by layer.
            estimator: Estimator of its ranges.
            parent: Candidate that it corrects.
            correction: Name of the correction.
            extra: Whether the balanced effort would not try this candidate.
            margin: SQNR in dB that it has to be better by than others.
        """
        estimators, planned = (estimator,) if estimator else (), {layer.name for layer in candidate.plan.layers}
        if known := {layer: why for layer, why in self.failing.items() if layer in planned}:
            candidate = candidate.without(known)
        twin = next((one for one in self.tried if _same(one.candidate, candidate)), None)
        if twin is not None:
            twin.estimators += estimators
            return
        try:
            model = insert(candidate.model, candidate.plan, candidate.edits, fold=True)  # as it ships
            scored = self.scorer.score(model)
        except FAILURES as error:
            score = self.scorer.score
            candidate, scored = without_failing(candidate, lambda one: score(one.executable()), error)
        self.failing |= {layer.name: layer.reason for layer in candidate.plan.skipped if layer.name in planned}
        new = _Tried(name, candidate, scored.score, scored, estimators, extra=extra, margin=margin)
        if parent:
            new.estimators, new.margin = parent.estimators, parent.margin
            new.corrections = (*parent.corrections, correction)
            new.facts = (*_with_facts(parent.facts, facts), _network_fact(parent, new))
        self.tried.append(new)
        self._told(f"{new.name} {new.score:.1f} dB")
        ahead = self.best()
        for one in self.tried:
            if one is not ahead:
                one.scored = None

    def restart(self, estimator: RangeEstimator, candidate: Candidate) -> None:
        """Take a candidate in place of those so far."""
        self.tried.clear()
        self.add(estimator.name, candidate, estimator=estimator)

    def rank(self, one: _Tried) -> float:
        """Return the key that candidates are compared by: the SQNR, with a bonus for the first estimator, min-max.

        A few held-out samples can't show what clipping does to a value that occurs in one of a thousand samples.
        """
        plain = one.candidate.plan.activations == self.tried[0].candidate.plan.activations
        return one.score + (HEAD_START_DB if plain else 0.0) - (MARGIN_DB if one.extra else one.margin)

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
    summaries: Collected,
    recipe: Recipe,
    samples: Sequence[Feed],
    scorer: Scorer,
    attention: Attention | None = None,
    *,
    others: Mapping[str, Candidate] | None = None,
    told: Callable[[str], None] = lambda note: None,
) -> Chosen:
    """Score one candidate per estimator and corrected forms of the best, and fit the best of all to all samples.

    Args:
        base: Network, equalized if that was kept, with a plan without ranges.
        summaries: Statistics of every quantized tensor, over all samples and over those that are not held out.
        recipe: Estimators and corrections to try.
        samples: Samples that corrections learn from.
        scorer: Scorer on the held-out samples.
        attention: Layers of attention, which are left out if :func:`attention_costs` says why; None for none.
        others: Name → the network and its plan without some rescalings, if ``base`` has any: what the fast effort would
            make of them competes too.
        told: Function that receives a remark for each candidate.
    """
    tried = _Field(scorer, told)

    others = dict(others or {})

    def ranged(estimator: RangeEstimator, of: Candidate, *, whole: bool = False) -> Candidate:
        bare = summaries.plain if summaries.plain is not None and not of.plan.scalings else summaries
        return replace(of, plan=assign(of.plan, bare.whole if whole else bare.kept, estimator), edits=Edits())

    first, *rest = map(get_estimator, recipe.estimators)
    tried.add(first.name, ranged(first, base), estimator=first)
    if attention and (left := attention_costs(tried.tried[0].candidate, tried.tried[0].score, attention, scorer)):
        base, others = base.without(left), {name: one.without(left) for name, one in others.items()}
        tried.restart(first, ranged(first, base))
    for estimator in rest:
        tried.add(estimator.name, ranged(estimator, base), estimator=estimator)
    margin = MARGIN_DB * FEW / max(len(scorer.held), FEW)
    for estimator in map(get_estimator, recipe.if_clipping_pays if tried.clipping_pays or recipe.more else ()):
        tried.add(estimator.name, ranged(estimator, base), estimator=estimator, margin=margin)
    for estimator in map(get_estimator, recipe.more):
        tried.add(estimator.name, ranged(estimator, base), estimator=estimator, extra=True)
    for name, other in others.items():
        estimator = get_estimator(FAST if FAST in recipe.estimators else recipe.estimators[0])
        tried.add(f"{estimator.name} {name}", ranged(estimator, other), estimator=estimator)
    best = _corrected(tried, recipe, samples)
    name, network = next(((n, one) for n, one in others.items() if one.model is best.candidate.model), ("", base))
    wider = {
        " ".join(filter(None, (one.name, name, "on all samples"))): ranged(one, network, whole=True)
        for one in best.estimators
    }
    again = _refitted(best, wider, tried, samples, told)
    kept = bool(again.tried) and again.best().score >= best.score - HEAD_START_DB
    chosen = _chosen(again.best() if kept else best, tried, again.tried, before=best if kept else None)
    return replace(chosen, warnings=(*chosen.warnings, *again.warnings))


def _refitted(
    best: _Tried,
    wider: Mapping[str, Candidate],
    tried: _Field,
    samples: Sequence[Feed],
    told: Callable[[str], None],
) -> _Field:
    """Score the best candidate with ranges of all samples, and its corrections computed for them.

    Args:
        best: Candidate that was chosen.
        wider: Name → candidate without corrections, for each estimator that made the same ranges as that candidate's:
            with more samples they may differ. Those that make its ranges again are not scored again.
        tried: Candidates so far, with the layers that no candidate can have.
        samples: Samples that corrections learn from.
        told: Function that receives a remark for each candidate.
    """
    again, seen = _Field(tried.scorer, told), [_grids(best.candidate.plan)]
    again.failing = dict(tried.failing)
    for name, candidate in wider.items():
        planned = {layer.name for layer in candidate.plan.layers}
        candidate = candidate.without({layer: why for layer, why in again.failing.items() if layer in planned})
        if _grids(candidate.plan) not in seen:
            seen.append(_grids(candidate.plan))
            with left_out("The ranges were not fitted to the held-out samples, since OpenVINO failed", again.warnings):
                corrected, facts = _applied(best.corrections, candidate, samples, tried.scorer)
                again.add(" + ".join([name, *best.corrections]), corrected)
                again.tried[-1].corrections = best.corrections
                again.tried[-1].facts = (*(fact for fact in best.facts if not fact.layer), *facts)
    return again


def _applied(
    names: Sequence[str], candidate: Candidate, samples: Sequence[Feed], scorer: Scorer
) -> tuple[Candidate, tuple[CorrectionFacts, ...]]:
    """Return the candidate with these corrections, in order, and the facts of the last one of each kind."""
    facts: tuple[CorrectionFacts, ...] = ()
    for name in names:
        found = get_correction(name)(candidate, samples, scorer)
        if found is not None:
            candidate, new = found
            facts = _with_facts(facts, new)
    return candidate, facts


def _with_facts(old: Sequence[CorrectionFacts], new: Sequence[CorrectionFacts]) -> tuple[CorrectionFacts, ...]:
    """Return the facts, where those of a correction replace earlier ones of the same kind."""
    kinds = {fact.correction for fact in new}
    return (*(fact for fact in old if fact.correction not in kinds), *new)


def choose_corrections(candidate: Candidate, recipe: Recipe, samples: Sequence[Feed], scorer: Scorer) -> Chosen:
    """Score a candidate that has its ranges, with and without corrections, and return the best.

    Corrections that its plan names were chosen already: they are computed again, and left out only if they do clear
    harm, as they may with other weights.
    """
    tried, named = _Field(scorer, lambda note: None), candidate.plan.corrections
    tried.add("plan", candidate)
    if named is None:
        return _chosen(_corrected(tried, recipe, samples), tried)
    plain, named = tried.tried[0], tuple(name for name in named if name in recipe.corrections)
    if not named:
        return _chosen(plain, tried)
    corrected, facts = _applied(named, candidate, samples, scorer)
    tried.add(" + ".join(["plan", *named]), corrected)
    last = tried.tried[-1]
    last.corrections = named
    last.facts = (*facts, _network_fact(plain, last))
    harmful = last.score < plain.score - HEAD_START_DB
    return _chosen(plain if harmful else last, tried)


def _corrected(tried: _Field, recipe: Recipe, samples: Sequence[Feed]) -> _Tried:
    """Apply the corrections of the table in turn to the best candidates so far, and return the best of all."""
    for name, count in recipe.corrections.items():
        correct, row = get_correction(name), CORRECTIONS[name]
        not_applied = f"The correction {name!r} was left out: it is for {row.takes}."
        for place, one in tried.leaders(count):
            found, known = None, len(tried.warnings)
            with left_out(f"The correction {name!r} of {one.name} was left out, since OpenVINO failed", tried.warnings):
                found = correct(one.candidate, samples, tried.scorer)
            if found is not None:  # balanced would correct the first alone
                extra = place > 0 or "balanced" not in row.tried_on
                tried.add(f"{one.name} + {name}", *found, parent=one, correction=name, extra=extra)
            elif row.takes and len(tried.warnings) == known and not_applied not in tried.warnings:
                tried.warnings.append(not_applied)
    return tried.best()


def _chosen(best: _Tried, field: _Field, refitted: Sequence[_Tried] = (), before: _Tried | None = None) -> Chosen:
    """Return the choice with the facts of all candidates.

    Args:
        best: Candidate that is chosen.
        field: Candidates whose ranges have not seen the held-out samples.
        refitted: Candidates whose ranges have.
        before: The candidate before its ranges were fitted to the held-out samples too, if it is one of these.
    """
    tried = field.tried
    details = [*("" for _ in tried), *("its ranges have seen these samples" for _ in refitted)]
    shown = [
        CandidateFacts(name=one.name, sqnr_db=round(one.score, 3), chosen=one is best, detail=detail)
        for one, detail in zip((*tried, *refitted), details, strict=True)
    ]
    scored = (before or best).scored
    candidate = replace(best.candidate, plan=replace(best.candidate.plan, corrections=best.corrections))
    earlier = before.candidate if before else None
    energies = scored.energies if scored else {}
    return Chosen(candidate, tuple(shown), best.facts, best.scored, energies, earlier, warnings=tuple(field.warnings))


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
    return not edited and one.model is other.model and _grids(one.plan) == _grids(other.plan)


def _grids(plan: QuantizationPlan) -> list[object]:
    """Return what is quantized and what the levels of each quantizer follow from."""
    return [
        plan.layers,
        *(
            (q.range.low, q.range.high, q.scheme.value, q.levels, q.channel_ranges)
            for q in plan.activations
            if q.range is not None
        ),
    ]
