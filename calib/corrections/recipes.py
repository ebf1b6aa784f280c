"""Score a few complete candidates by the output error on held-out samples and keep the best.

No estimator and no correction wins everywhere: the best on one network is the worst on the next, and the error of a
single tensor does not predict that of the network. So the whole network is run.

This is also the acceptance test of corrections: a corrected candidate is kept only if its INT8 network scores higher on
held-out samples than the candidate it corrects, which has the same ranges and competes with it.

No sample is lost to that: once estimator and corrections are chosen, the ranges are fitted again to all calibration
samples, held-out ones included, and the corrections are computed anew where ranges become much wider. The model so made
is kept unless it scores clearly lower than the one before. Its own score is no longer one of samples that it has not
seen, so the report has that of the model before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.config.efforts import EFFORTS
from calib.corrections import CORRECTIONS, get_correction
from calib.corrections.attention import attention_costs
from calib.corrections.candidate import Candidate, Feed
from calib.corrections.scoring import Scored, Scorer
from calib.corrections.tried import HEAD_START_DB, Field, Tried, applied, grids, network_fact, taken_over
from calib.graph.attention import Attention
from calib.graph.insert import Edits
from calib.ranges import ESTIMATORS, RangeEstimator, get_estimator
from calib.ranges.assign import assign
from calib.runtime.failures import left_out
from calib.values.facts import CandidateFacts, CorrectionFacts
from calib.values.plan import QuantizationPlan
from calib.values.summary import Collected, Summaries


@dataclass(frozen=True)
class Recipe:
    """The estimators and corrections that a run tries.

    Attributes:
        estimators: Estimators in order, as in :class:`calib.config.efforts.Effort`: names or the user's own objects.
        if_clipping_pays: Estimators tried only if one of these scored higher than the first.
        more: Estimators tried after these; a candidate that only they lead to has to win by :data:`MARGIN_DB`.
        samples: Number of samples that corrections learn from.
        first: Number of the first of these that balanced learns from. What it would make of its best candidate is
            then tried as well; 0 if these are all.
        corrections: Mapping from name to the number of candidates it is tried on, best first, of each set of
            corrections that earlier ones made.
    """

    estimators: tuple[str | RangeEstimator, ...] = ()
    if_clipping_pays: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    samples: int = 16
    first: int = 0
    corrections: Mapping[str, int] = field(default_factory=dict[str, int])


def recipe_of(effort: str, estimator: str | RangeEstimator = "auto") -> Recipe:
    """Return the recipe of an effort; an estimator that the user chose replaces those of the effort."""
    usual, first = EFFORTS[effort], EFFORTS["balanced"].samples
    corrections = {name: row.tried_on[effort] for name, row in CORRECTIONS.items() if effort in row.tried_on}
    learning: dict[str, Any] = {"samples": usual.samples, "first": first if first < usual.samples else 0}
    if estimator != "auto" or not usual.estimators:
        return Recipe((estimator,), **learning, corrections=corrections)
    named = (*usual.estimators, *usual.if_clipping_pays)
    others = tuple(name for name in ESTIMATORS if name not in named) if usual.every_estimator else ()
    return Recipe(usual.estimators, usual.if_clipping_pays, others, **learning, corrections=corrections)


FAST = "auto"  # estimator of the fast effort
WITHOUT = "without equalization"
WITHOUT_INSERTED = "without inserted scales"
# What fast makes of all samples is not scored where it is this far behind without the held-out ones: to see these gave
# it 6 dB at most, of 20 samples of which four were held out, and .5 dB of 100.
FAR_DB = 10.0


@dataclass(frozen=True)
class AsFast:
    """What the fast effort makes ranges of, without corrections.

    Attributes:
        network: Its network, with scales in front of layers, and a plan without ranges.
        summaries: Statistics of its tensors.
        facts: Facts of the scales.
    """

    network: Candidate
    summaries: Collected
    facts: tuple[CorrectionFacts, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """The best candidate and those it was chosen from.

    Attributes:
        scored: The candidate as it was scored; None if nothing was scored.
        energies: Name of each part that is compared → signal and noise energy of each held-out sample before the ranges
            were fitted to these too, ``(samples, 2)``; empty if nothing was scored.
        before: Candidate that these are the energies of; None if it is ``candidate``.
        held: Ids of the held-out samples.
        summaries: Statistics of its tensors; None if they are those that were collected.
        warnings: Sentences for the report.
    """

    candidate: Candidate
    candidates: tuple[CandidateFacts, ...] = ()
    corrections: tuple[CorrectionFacts, ...] = ()
    scored: Scored | None = None
    energies: Mapping[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])
    before: Candidate | None = None
    held: tuple[str, ...] = ()
    summaries: Summaries | None = None
    warnings: tuple[str, ...] = ()


def choose_recipe(
    base: Candidate,
    summaries: Collected,
    recipe: Recipe,
    samples: Sequence[Feed],
    scorer: Scorer,
    attention: Attention | None = None,
    *,
    others: Mapping[str, Candidate] | None = None,
    fast: AsFast | None = None,
    known: list[tuple[Candidate, Scored]] | None = None,
    told: Callable[[str], None] = lambda note: None,
    doubt: Callable[[Tried, Tried], str] = lambda ahead, usual: "",
) -> Chosen:
    """Score one candidate per estimator and corrected forms of the best, and fit the best of all to all samples.

    Args:
        base: Network, equalized if that was kept, with a plan without ranges.
        summaries: Statistics of every quantized tensor, over all samples and over those that are not held out.
        recipe: Estimators and corrections to try.
        samples: Samples that corrections learn from.
        scorer: Scorer on the held-out samples.
        attention: Layers of attention, which are left out if :func:`attention_costs` says why; None for none.
        others: Name → the network and its plan without some rescalings, if ``base`` has any.
        fast: What the fast effort makes of the network. It is chosen where it is ahead of all others, so that no effort
            is behind it on these samples; None to choose among others alone.
        known: A candidate that was scored already, see :class:`calib.corrections.tried.Field`, which empties the list.
        told: Function that receives a remark for each candidate.
        doubt: Function that says why a candidate that clips, or that only ``recipe.more`` leads to, is not chosen, ""
            if nothing speaks against it; it gets that candidate and the one that would be chosen otherwise.
    """
    tried, ranged, others = Field(scorer, told), _Ranges(summaries, fast), dict(others or {})
    tried.known = [] if known is None else known
    first, *rest = map(get_estimator, recipe.estimators)
    tried.add(first.name, ranged(first, base), estimator=first)
    if attention and (left := attention_costs(tried.tried[0].candidate, tried.tried[0].score, attention, scorer)):
        base, others = base.without(left), {name: one.without(left) for name, one in others.items()}
        fast = fast and replace(fast, network=fast.network.without(left))
        tried.restart(first, ranged(first, base))
    for estimator in rest:
        tried.add(estimator.name, ranged(estimator, base), estimator=estimator)
    for estimator in map(get_estimator, recipe.if_clipping_pays if tried.clipping_pays or recipe.more else ()):
        tried.add(estimator.name, ranged(estimator, base), estimator=estimator, margin=tried.margin)
    for estimator in map(get_estimator, recipe.more):
        tried.add(estimator.name, ranged(estimator, base), estimator=estimator, extra=True)
    _doubt_clipping(tried, doubt)
    quick = get_estimator(FAST if FAST in recipe.estimators else recipe.estimators[0])
    for name, other in others.items():
        tried.add(f"{quick.name} {name}", ranged(quick, other), estimator=quick)
    best = _undoubted(_corrected(tried, recipe, samples), tried, doubt)
    again = _fitted(best, tried, {"": base, **others}, ranged)
    final = again.best() if again.tried and again.best().score >= best.score - HEAD_START_DB else best
    best.scored = best.scored if final is best else None
    shown, summed = [*tried.tried, *again.tried], None
    if fast and (challenger := _ahead(quick, fast, ranged, final, (tried, again), shown, doubt)):
        final, summed = challenger, fast.summaries.whole
    return replace(_chosen(final, shown, (*tried.warnings, *again.warnings)), summaries=summed)


class _Ranges:
    """Makes candidates with the ranges of an estimator, each once.

    Args:
        summaries: Statistics of every quantized tensor.
        fast: What the fast effort makes ranges of, with statistics of its own.
    """

    def __init__(self, summaries: Collected, fast: AsFast | None):
        self._summaries, self._fast = summaries, fast
        self._made: dict[tuple[str, bool], list[tuple[QuantizationPlan, Candidate]]] = {}

    def __call__(self, estimator: RangeEstimator, of: Candidate, *, whole: bool = False) -> Candidate:
        """Return a network and its plan with ranges of all samples, or of those that are not held out."""
        seen = self._summaries
        if self._fast and of.model is self._fast.network.model:
            seen = self._fast.summaries
        elif seen.plain is not None and not of.plan.scalings:
            seen = seen.plain
        made = self._made.setdefault((estimator.name, whole), [])
        known = next((one for plan, one in made if one.model is of.model and plan == of.plan), None)
        if known is None:
            plan = assign(of.plan, seen.whole if whole else seen.kept, estimator)
            known = replace(of, plan=plan, edits=Edits())
            made.append((of.plan, known))
        return known


def _doubt_clipping(tried: Field, doubt: Callable[[Tried, Tried], str]) -> None:
    """Rank candidates that clip behind the first, which does not, if the one ahead is behind where it clips most.

    On a small classifier ``auto`` scored above min-max on 24 held-out images and was at 33.4 dB on 1,000 others, where
    min-max was at 39.0 dB: four of 200 images made 70 % of the noise. Nothing is run where the first one is ahead.
    """
    first, leader = tried.tried[0], tried.best(extra=False)
    if grids(leader.candidate.plan) == grids(first.candidate.plan):
        return
    with left_out("What ranges clip in a few samples was not compared, since OpenVINO failed", tried.warnings):
        leader.detail = doubt(leader, first)
    if leader.detail:
        tried.clipping_db = tried.rank(leader) - tried.rank(first)


def _undoubted(best: Tried, tried: Field, doubt: Callable[[Tried, Tried], str]) -> Tried:
    """Return the best candidate, or the best of those that balanced would try where something speaks against it."""
    if not best.extra or best.candidate.plan.activations == tried.tried[0].candidate.plan.activations:
        return best
    usual = tried.best(extra=False)
    with left_out(f"Ranges of {best.name} were not tried on the samples that they clip most", tried.warnings):
        best.detail = doubt(best, usual)
    return usual if best.detail else best


def _fitted(best: Tried, tried: Field, networks: Mapping[str, Candidate], ranged: _Ranges) -> Field:
    """Return the best candidate with ranges of all samples; behind that of balanced, if that would not try it."""
    again = Field(tried.scorer, tried.told, tried.failing)
    for one in (tried.best(extra=False), best) if best.extra else (best,):
        known = (item for item in networks.items() if item[1].model is one.candidate.model)
        name, network = next(known, ("", networks[""]))
        wider = {
            " ".join(filter(None, (estimator.name, name, "on all samples"))): ranged(estimator, network, whole=True)
            for estimator in one.estimators
        }
        _refit(one, wider, again)
    return again


def _refit(one: Tried, wider: Mapping[str, Candidate], again: Field) -> None:
    """Score a candidate with ranges of all samples, and its corrections computed for them.

    Args:
        one: Candidate that was chosen.
        wider: Name → candidate without corrections, for each estimator that made the same ranges as that candidate's:
            with more samples they may differ. Those that make its ranges again are not scored again.
        again: Receives them.
    """
    seen, titles = [grids(one.candidate.plan)], one.name.split(" + ")
    done = titles[len(titles) - len(one.corrections) :]  # what was corrected, and from how many samples
    for name, candidate in wider.items():
        candidate = again.possible(candidate)
        if grids(candidate.plan) not in seen:
            seen.append(grids(candidate.plan))
            with left_out("The ranges were not fitted to the held-out samples, since OpenVINO failed", again.warnings):
                known = taken_over(one, candidate)
                corrected, facts = known or applied(one.corrections, candidate, one.learned, again.scorer)
                again.add(" + ".join([name, *done]), corrected, before=one)
                again.tried[-1].corrections = one.corrections
                again.tried[-1].facts = (*(fact for fact in one.facts if not fact.layer), *facts)


def _ahead(
    estimator: RangeEstimator,
    fast: AsFast,
    ranged: _Ranges,
    final: Tried,
    fields: tuple[Field, Field],
    shown: list[Tried],
    doubt: Callable[[Tried, Tried], str],
) -> Tried | None:
    """Return what the fast effort makes if it is ahead of the choice; None if it is not.

    It is scored unless a candidate makes the same model, or is far behind with ranges of fewer samples. By less than
    the head start it has to be ahead on the samples that it clips most too.

    Args:
        estimator: Its estimator.
        fast: Its network.
        ranged: Function that makes ranges.
        final: Candidate that would be chosen.
        fields: Candidates so far, before and after ranges were fitted to all samples.
        shown: Receives what is scored.
        doubt: Function that says what speaks against it, as for :func:`choose_recipe`.
    """
    whole = ranged(estimator, fast.network, whole=True)
    tried, again = fields
    known = tried.twin(tried.possible(whole)) or again.twin(tried.possible(whole))
    if known is not None and known.score <= final.score:
        return None
    kept = tried.twin(tried.possible(ranged(estimator, fast.network)))
    if kept is not None and kept.score <= final.score - FAR_DB:
        return None
    own = Field(tried.scorer, tried.told, tried.failing)
    with left_out("What the fast effort makes was not compared, since OpenVINO failed", again.warnings):
        own.add(f"{estimator.name} on all samples, as the effort fast", whole)
    shown += own.tried
    if not own.tried or own.tried[0].score <= final.score:
        return None
    (challenger,) = own.tried
    if challenger.score <= final.score + HEAD_START_DB + tried.clipping_db:
        with left_out("What ranges clip in a few samples was not compared, since OpenVINO failed", again.warnings):
            challenger.detail = doubt(challenger, final)
        if challenger.detail:
            return None
    challenger.facts = fast.facts
    if tried.twin(challenger.candidate) is None:  # its ranges have seen the held-out samples
        kept = ranged(estimator, fast.network)
        challenger.before = tried.twin(tried.possible(kept))
        if challenger.before is None:
            before = Field(tried.scorer, tried.told, own.failing)
            before.add(f"{estimator.name}, as the effort fast", kept)
            shown += before.tried
            challenger.before, before.tried[0].scored = before.tried[0], None
    return challenger


def choose_corrections(candidate: Candidate, recipe: Recipe, samples: Sequence[Feed], scorer: Scorer) -> Chosen:
    """Score a candidate that has its ranges, with and without corrections, and return the best.

    Corrections that its plan names were chosen already: they are computed again, and left out only if they do clear
    harm, as they may with other weights.
    """
    tried, named = Field(scorer, lambda note: None), candidate.plan.corrections
    tried.add("plan", candidate)
    if named is None:
        return _chosen(_corrected(tried, recipe, samples), tried.tried, tried.warnings)
    plain, named = tried.tried[0], tuple(name for name in named if name in recipe.corrections)
    if not named:
        return _chosen(plain, tried.tried, tried.warnings)
    corrected, facts = applied(named, candidate, samples, scorer)
    tried.add(" + ".join(["plan", *named]), corrected)
    last = tried.tried[-1]
    last.corrections = named
    last.facts = (*facts, network_fact(plain, last))
    harmful = last.score < plain.score - HEAD_START_DB
    return _chosen(plain if harmful else last, tried.tried, tried.warnings)


def _corrected(tried: Field, recipe: Recipe, samples: Sequence[Feed]) -> Tried:
    """Apply the corrections of the table in turn to the best candidates so far, and return the best of all."""
    first = samples[: recipe.first] if 0 < recipe.first < len(samples) else samples
    for name, count in recipe.corrections.items():
        correct, row = get_correction(name), CORRECTIONS[name]
        not_applied = f"The correction {name!r} was left out: it is for {row.takes}."
        for place, one in tried.leaders(count):
            usual = place == 0 and "balanced" in row.tried_on  # balanced would correct the first alone
            for some in (first, samples) if usual and first is not samples else (samples,):
                found, known = None, len(tried.warnings)
                said = f"The correction {name!r} of {one.name} was left out, since OpenVINO failed"
                with left_out(said, tried.warnings):
                    found = correct(one.candidate, some, tried.scorer)
                if found is not None:
                    more = usual and some is not first
                    title = f"{one.name} + {name}" + (f" from {len(some)} samples" if more else "")
                    about: dict[str, Any] = {"extra": not usual, "margin": tried.margin if more else 0.0}
                    tried.add(title, *found, parent=one, correction=name, learned=some, **about)
                elif row.takes and len(tried.warnings) == known and not_applied not in tried.warnings:
                    tried.warnings.append(not_applied)
    return tried.best()


def _chosen(best: Tried, tried: Sequence[Tried], warnings: Sequence[str]) -> Chosen:
    """Return the choice with the facts of all candidates.

    Args:
        best: Candidate that is chosen.
        tried: All candidates.
        warnings: Sentences for the report.
    """
    shown = [
        CandidateFacts(
            name=one.name,
            sqnr_db=round(one.score, 3),
            chosen=one is best,
            detail=one.detail or ("its ranges have seen these samples" if one.before else ""),
        )
        for one in tried
    ]
    candidate = replace(best.candidate, plan=replace(best.candidate.plan, corrections=best.corrections))
    energies, earlier = (best.before or best).energies, best.before.candidate if best.before else None
    said = tuple(dict.fromkeys(warnings))
    return Chosen(candidate, tuple(shown), best.facts, best.scored, energies, earlier, warnings=said)
