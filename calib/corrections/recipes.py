"""Whole-model candidates: a few complete recipes, scored by output error on held-out samples, and the best kept.

No estimator and no correction wins everywhere: the best on one network is the worst on the next, and the error of a
single tensor does not predict the network's. So the network is asked.

That is also the guard of the corrections: a candidate with rounded weights and corrected biases is kept only where the
INT8 network it makes scores higher on held-out samples than the one it corrects, which has the same ranges and stays in
the field beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from calib.corrections.bias_correction import RefitBiases, bias_fact, sequential_correction
from calib.corrections.candidate import Arrays, Candidate
from calib.corrections.rounding import round_all
from calib.corrections.scoring import Scored, Scorer
from calib.graph.insert import Edits, insert
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.values.facts import CandidateFacts, CorrectionFacts
from calib.values.plan import QuantizationPlan, TensorId
from calib.values.summary import TensorSummary


@dataclass(frozen=True)
class Recipe:
    """What an effort tries.

    Attributes:
        estimators: in order; the first is what the others have to beat, the second what the fast effort takes. Beyond
            the second they are tried only where it scored higher than the first, unless there are ``more``: where one
            that clips lost, so did the others.
        more: estimators tried after these; what only they lead to has to win by :data:`MARGIN_DB`.
        samples: that rounding and bias correction learn from.
        rounded: how many candidates, best first, get their weights rounded.
        biased: how many, best first, of those with and of those without rounding, get their biases corrected.
    """

    estimators: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    samples: int = 16
    rounded: int = 1
    biased: int = 0


RECIPES: dict[str, Recipe] = {
    "fast": Recipe(),
    "balanced": Recipe(("minmax", "auto", "percentile")),
    "thorough": Recipe(
        ("minmax", "auto", "percentile"),
        ("mse", "mean-minmax", "percentile-99.9", "kl"),
        samples=32,
        rounded=2,
        biased=2,
    ),
}
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
        extra: whether only the thorough effort comes to it.
        sequential: whether biases were corrected one layer after the other.
    """

    name: str
    candidate: Candidate
    score: float
    scored: Scored | None
    notes: list[CorrectionFacts] = field(default_factory=list)
    extra: bool = False
    sequential: bool = False


class _Field:
    """All candidates so far, in the order they were tried, and who is ahead."""

    def __init__(self, scorer: Scorer, told: Callable[[str], None]):
        self.scorer, self._told = scorer, told
        self.tried: list[_Tried] = []

    def add(
        self,
        name: str,
        candidate: Candidate,
        notes: Sequence[CorrectionFacts] = (),
        *,
        parent: _Tried | None = None,
        extra: bool = False,
        sequential: bool = False,
    ) -> None:
        """Score a candidate; one that makes a model that was scored already is passed over.

        Args:
            name: of the recipe, as the report shows it.
            candidate: to score.
            notes: what its corrections did layer by layer.
            parent: what it corrects.
            extra: whether only the thorough effort comes to it.
            sequential: whether biases were corrected one layer after the other.
        """
        if any(_same(one.candidate, candidate) for one in self.tried):
            return
        scored = self.scorer.score(insert(candidate.model, candidate.plan, candidate.edits, fold=True))  # as it ships
        new = _Tried(name, candidate, scored.score, scored, list(notes), extra, sequential)
        if parent:
            new.notes.append(_network_fact(parent, new))
        self.tried.append(new)
        self._told(f"{name} {new.score:.1f} dB")
        ahead = self.best(self.tried)
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

    def best(self, some: Iterable[_Tried]) -> _Tried:
        """Return the first of the highest rank."""
        return max(some, key=self.rank)

    def leaders(self, count: int, *, rounded: bool = False) -> list[_Tried]:
        """Return the best with rounded weights, or of those that nothing was done to; extras come last."""
        fit = [one for one in self.tried if bool(one.candidate.edits.rounded) == rounded and one.sequential is False]
        return sorted(fit, key=lambda one: (one.extra, -self.rank(one)))[:count]


def choose_recipe(
    base: Candidate,
    summaries: Mapping[TensorId, TensorSummary],
    recipe: Recipe,
    samples: Sequence[Arrays],
    scorer: Scorer,
    *,
    streams: int = 1,
    told: Callable[[str], None] = lambda note: None,
) -> Chosen:
    """Score one candidate for each estimator, the best of them with corrections too, and return the best.

    Args:
        base: the network, equalized if that was kept; its plan has no ranges yet.
        summaries: of every quantized tensor.
        recipe: what is tried.
        samples: what corrections learn from.
        scorer: scores on other samples.
        streams: how many samples run at the same time.
        told: receives a remark for each candidate.
    """
    candidates = _Field(scorer, told)

    def ranged(name: str | object) -> Candidate:
        return replace(base, plan=assign(base.plan, summaries, get_estimator(name)), edits=Edits())  # pyright: ignore

    for position, name in enumerate(recipe.estimators):
        if position < 2 or recipe.more or candidates.clipping_pays:
            candidates.add(get_estimator(name).name, ranged(name))  # pyright: ignore
    for name in recipe.more:
        candidates.add(name, ranged(name), extra=True)
    return _corrected(candidates, recipe, samples, streams)


def choose_corrections(
    candidate: Candidate, recipe: Recipe, samples: Sequence[Arrays], scorer: Scorer, *, streams: int = 1
) -> Chosen:
    """Score a candidate that has its ranges with corrections and without, and return the best."""
    candidates = _Field(scorer, lambda note: None)
    candidates.add("plan", candidate)
    return _corrected(candidates, recipe, samples, streams)


def _corrected(candidates: _Field, recipe: Recipe, samples: Sequence[Arrays], streams: int) -> Chosen:
    """Correct the best so far, and return the best of all."""
    for number, one in enumerate(candidates.leaders(recipe.rounded)):  # the first is the one that balanced would take
        corrected, notes = round_all(one.candidate, samples, streams=streams)
        candidates.add(f"{one.name} + rounding + bias", corrected, notes, parent=one, extra=number > 0)
    for one in [*candidates.leaders(recipe.biased), *candidates.leaders(recipe.biased, rounded=True)]:
        weights = replace(one.candidate, edits=Edits(one.candidate.edits.rounded))
        corrected = sequential_correction(weights, samples)
        if corrected is not None:
            corrected = replace(corrected, refit=RefitBiases(samples, candidates.scorer, one.candidate.edits))
            notes = [note for note in one.notes if note.correction != "bias"]
            notes += [bias_fact(layer, delta) for layer, delta in corrected.edits.biases.items()]
            name = one.name.removesuffix(" + bias")
            candidates.add(f"{name} + sequential bias", corrected, notes, parent=one, extra=True, sequential=True)
    best = candidates.best(candidates.tried)
    shown = (CandidateFacts(name=one.name, sqnr_db=round(one.score, 3), chosen=one is best) for one in candidates.tried)
    return Chosen(best.candidate, tuple(shown), tuple(best.notes), best.scored)


def _network_fact(before: _Tried, after: _Tried) -> CorrectionFacts:
    """Return what corrections did to the outputs of the whole network; they are kept only where the candidate is."""
    return CorrectionFacts(
        correction="sequential bias" if after.sequential else "rounding and bias",
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
