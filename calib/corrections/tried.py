"""The candidates of a run so far, scored, and the one that is ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calib.corrections import get_correction
from calib.corrections.candidate import LARGE, Candidate, Feed, weights_in
from calib.corrections.compiling import without_failing
from calib.corrections.scoring import Scored, Scorer
from calib.graph.insert import insert
from calib.ranges import RangeEstimator
from calib.runtime.failures import FAILURES
from calib.values.facts import CorrectionFacts
from calib.values.plan import ActivationQuantizer, QuantizationPlan

# On one network MSE ranges scored .2 dB above min-max on 24 held-out samples and 4 to 6 dB below on 2,000 others.
# Ranges fitted to all samples have the same head start over those that clip a few: of 86 small networks with 4 held-out
# samples of 20, eight scored lower with the wider ranges: six by less than .8 dB, all of which were better with them on
# 100 other samples (by 0 to 1.1 dB), and two by more than 2 dB, which were worse there too (by 2.4 and 3.5 dB).
HEAD_START_DB = 1.0
# The more candidates, the likelier that one of them is the best by chance: those that balanced would not try have to
# be this much better than what it would choose, and with this few samples, or fewer, the estimators that it tries last.
MARGIN_DB = 1.0
FEW = 4
# Corrections of weights and biases are taken over for ranges whose levels are at most this much wider or narrower. With
# 1.5 a network of face landmarks lost 1.1 dB on unseen samples and the demo's mobilenet .1, with 1.25 neither.
ALIKE = 1.25


@dataclass
class Tried:
    """A scored candidate.

    Attributes:
        scored: Result with the compiled network; None once another candidate is ahead, because networks are large.
        energies: Part → signal and noise energy of each held-out sample, ``(samples, 2)``.
        estimators: Estimators that make these ranges; empty if they were given.
        corrections: Corrections applied, in order.
        extra: Whether the balanced effort would not try this candidate.
        margin: SQNR in dB that it has to be better by than others.
        learned: Samples that its corrections learned from.
        before: The same before its ranges were fitted to the held-out samples; None if they were not.
        detail: Why it was not chosen though its score is the highest; "" otherwise.
    """

    name: str
    candidate: Candidate
    score: float
    scored: Scored | None
    energies: Mapping[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])
    estimators: tuple[RangeEstimator, ...] = ()
    corrections: tuple[str, ...] = ()
    facts: tuple[CorrectionFacts, ...] = ()
    extra: bool = False
    margin: float = 0.0
    learned: Sequence[Feed] = ()
    before: Tried | None = None
    detail: str = ""


class Field:
    """All candidates so far, in the order they were tried, and the one that is ahead.

    Args:
        scorer: Scorer on the held-out samples.
        told: Function that receives a remark for each candidate.
        failing: Layers that are known to fail.

    Attributes:
        tried: The candidates.
        known: A candidate that was scored already; if the first one is the same, it is not compiled again. The list is
            emptied then, because networks are large.
        failing: Layers that OpenVINO can't compile or run in INT8, with the reason; no candidate has them.
        clipping_db: SQNR in dB that candidates that clip have to be ahead by, since on the samples that it clips most
            one of them is behind the first.
        warnings: Sentences for the report.
    """

    def __init__(self, scorer: Scorer, told: Callable[[str], None], failing: Mapping[str, str] | None = None):
        self.scorer, self.told = scorer, told
        self.tried: list[Tried] = []
        self.known: list[tuple[Candidate, Scored]] = []
        self.failing = dict(failing or {})
        self.clipping_db = 0.0
        self.warnings: list[str] = []

    def add(
        self,
        name: str,
        candidate: Candidate,
        facts: Sequence[CorrectionFacts] = (),
        *,
        estimator: RangeEstimator | None = None,
        parent: Tried | None = None,
        correction: str = "",
        extra: bool = False,
        margin: float = 0.0,
        learned: Sequence[Feed] = (),
        before: Tried | None = None,
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
            learned: Samples that the correction learned from, unless an earlier one of the parent learned from others.
            before: The same before its ranges were fitted to the held-out samples; None if they were not.
        """
        estimators, planned = (estimator,) if estimator else (), {layer.name for layer in candidate.plan.layers}
        candidate = self.possible(candidate)
        if (twin := self.twin(candidate)) is not None:
            twin.estimators += estimators
            return
        try:
            scored = self._known_score(candidate)
            if scored is None:
                model = insert(candidate.model, candidate.plan, candidate.edits, fold=True)  # as it ships
                scored = self.scorer.score(model)
        except FAILURES as error:
            candidate, scored = without_failing(candidate, self.scorer.shipped, error)
        self.failing |= {layer.name: layer.reason for layer in candidate.plan.skipped if layer.name in planned}
        new = Tried(name, candidate, scored.score, scored, scored.energies, estimators)
        new.extra, new.margin, new.before, new.learned = extra, margin, before, learned
        if parent:
            new.estimators, new.margin = parent.estimators, parent.margin + margin
            new.learned = parent.learned or learned
            new.corrections = (*parent.corrections, correction)
            new.facts = (*with_facts(parent.facts, facts), network_fact(parent, new))
        if scored.compiled is not None and weights_in(candidate) > LARGE:
            new.scored = replace(scored, compiled=None)
        self.tried.append(new)
        self.told(f"{new.name} {new.score:.1f} dB")
        ahead = self.best()
        for one in self.tried:
            if one is not ahead:
                one.scored = None

    @property
    def margin(self) -> float:
        """SQNR in dB that what is tried last of those that balanced would try has to be better by."""
        return MARGIN_DB * FEW / max(len(self.scorer.held), FEW)

    def _known_score(self, candidate: Candidate) -> Scored | None:
        """Return the score of the first candidate if it is the one that was scored before all others."""
        known = self.known.pop() if self.known else None
        same = known and _same(known[0], candidate) and known[0].plan.weights == candidate.plan.weights
        return known[1] if known and same else None

    def possible(self, candidate: Candidate) -> Candidate:
        """Return the candidate without the layers that OpenVINO can't compile or run in INT8."""
        planned = {layer.name for layer in candidate.plan.layers}
        known = {layer: why for layer, why in self.failing.items() if layer in planned}
        return candidate.without(known) if known else candidate

    def twin(self, candidate: Candidate) -> Tried | None:
        """Return the candidate so far that makes the same model; None if there is none."""
        return next((one for one in self.tried if _same(one.candidate, candidate)), None)

    def restart(self, estimator: RangeEstimator, candidate: Candidate) -> None:
        """Take a candidate in place of those so far."""
        self.tried.clear()
        self.add(estimator.name, candidate, estimator=estimator)

    def rank(self, one: Tried) -> float:
        """Return the key that candidates are compared by: the SQNR, with a bonus for the first estimator, min-max.

        A few held-out samples can't show what clipping does to a value that occurs in one of a thousand samples.
        """
        plain = one.candidate.plan.activations == self.tried[0].candidate.plan.activations
        ahead = HEAD_START_DB if plain else -self.clipping_db
        return one.score + ahead - (MARGIN_DB if one.extra else one.margin)

    @property
    def clipping_pays(self) -> bool:
        """Return whether any candidate scored higher than the first, by however little."""
        return any(one.score > self.tried[0].score for one in self.tried[1:])

    def best(self, *, extra: bool = True) -> Tried:
        """Return the first candidate of the highest rank, of all or of those that the balanced effort would try."""
        return max((one for one in self.tried if extra or not one.extra), key=self.rank)

    def leaders(self, count: int) -> list[tuple[int, Tried]]:
        """Return ``(place, candidate)`` of the best candidate for each set of corrections so far; extras come last."""
        kinds = dict.fromkeys(one.corrections for one in self.tried)
        alike = ([one for one in self.tried if one.corrections == kind] for kind in kinds)
        ranked = (sorted(some, key=lambda one: (one.extra, -self.rank(one)))[:count] for some in alike)
        return [placed for some in ranked for placed in enumerate(some)]


def applied(
    names: Sequence[str], candidate: Candidate, samples: Sequence[Feed], scorer: Scorer
) -> tuple[Candidate, tuple[CorrectionFacts, ...]]:
    """Return the candidate with these corrections, in order, and the facts of the last one of each kind."""
    facts: tuple[CorrectionFacts, ...] = ()
    for name in names:
        found = get_correction(name)(candidate, samples, scorer)
        if found is not None:
            candidate, new = found
            facts = with_facts(facts, new)
    return candidate, facts


def with_facts(old: Sequence[CorrectionFacts], new: Sequence[CorrectionFacts]) -> tuple[CorrectionFacts, ...]:
    """Return the facts, where those of a correction replace earlier ones of the same kind."""
    kinds = {fact.correction for fact in new}
    return (*(fact for fact in old if fact.correction not in kinds), *new)


def taken_over(one: Tried, candidate: Candidate) -> tuple[Candidate, tuple[CorrectionFacts, ...]] | None:
    """Return a candidate with the corrections of another one, and their facts; None if it needs its own.

    Ranges decide little about them: ``E[x_q x_qᵀ]`` is that of the unquantized inputs but for the noise of their levels
    and for what is clipped. With 20 and 100 samples of seven networks, outputs on 200 unseen samples were -.3 to +.2 dB
    (median 0) from what corrections computed for the new ranges gave, which take a fifth of a run on a larger network.

    Args:
        one: Candidate whose weights are rounded and whose biases are corrected, each layer by itself.
        candidate: The same network with other ranges and without edits.
    """
    before, after = one.candidate, candidate
    known = {q.tensor: q for q in before.plan.activations}
    if before.refit is not None or before.model is not after.model or not _covers(before.plan, after.plan):
        return None
    if not all(q.tensor in known and _alike(known[q.tensor], q) for q in after.plan.activations):
        return None
    gone = {layer.name for layer in before.plan.layers} - {layer.name for layer in after.plan.layers}
    facts = tuple(fact for fact in one.facts if fact.layer and fact.layer not in gone)
    return replace(candidate, edits=before.edits.without(frozenset(gone))), facts


def _covers(before: QuantizationPlan, after: QuantizationPlan) -> bool:
    """Return whether all layers and weights of one plan are in another, with the same levels."""
    return set(after.layers) <= set(before.layers) and set(after.weights) <= set(before.weights)


def _alike(before: ActivationQuantizer, after: ActivationQuantizer) -> bool:
    """Return whether the levels of two quantizers of a tensor are about as wide, in each channel."""
    if before.range is None or after.range is None or (before.scheme, before.levels) != (after.scheme, after.levels):
        return False
    ends = [q.channel_ranges or ((q.range.low, q.range.high),) for q in (before, after) if q.range is not None]
    if len(ends[0]) != len(ends[1]):
        return False
    widths = [np.ptp(np.array(one), axis=1) for one in ends]
    return bool((np.maximum(*widths) <= ALIKE * np.minimum(*widths)).all())


def network_fact(before: Tried, after: Tried) -> CorrectionFacts:
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
    return not edited and one.model is other.model and grids(one.plan) == grids(other.plan)


def grids(plan: QuantizationPlan) -> list[object]:
    """Return what is quantized and what the levels of each quantizer follow from."""
    return [
        plan.layers,
        *(
            (q.range.low, q.range.high, q.scheme.value, q.levels, q.channel_ranges)
            for q in plan.activations
            if q.range is not None
        ),
    ]
