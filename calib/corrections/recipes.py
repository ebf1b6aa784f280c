"""Whole-model candidates: a few complete recipes, scored by output error on held-out samples, and the best kept.

No estimator and no correction wins everywhere: the best on one network is the worst on the next, and the error of a
single tensor does not predict the network's. So the network is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from calib.corrections.judge import Arrays, Draft, Judge, decibel
from calib.corrections.sequential_bias import correct_biases
from calib.corrections.weights import round_all
from calib.graph.insert import Edits
from calib.graph.view import GraphView
from calib.outcome import CandidateFacts, CorrectionFacts
from calib.plan import QuantizationPlan, TensorId
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.session import ov
from calib.summary import TensorSummary

# Estimators tried as a whole-model candidate, by effort; the first is what the others have to beat.
ESTIMATORS: dict[str, tuple[str, ...]] = {
    "fast": (),
    "balanced": ("minmax", "percentile", "mse"),
    "thorough": ("minmax", "mean-minmax", "percentile", "percentile-99.9", "kl", "mse", "auto"),
}
# On one network MSE ranges scored .2 dB above min-max on 24 held-out samples and 4 to 6 dB below on 2,000 others.
HEAD_START_DB = 1.0
# How many of them, best first, are tried with bias correction too.
BIASED = {"balanced": 1, "thorough": 7}


@dataclass(frozen=True)
class Chosen:
    """The best draft and what it was chosen from.

    Attributes:
        errors: output name → normalized error of the draft on held-out samples; empty where nothing was scored.
    """

    draft: Draft
    candidates: tuple[CandidateFacts, ...] = ()
    corrections: tuple[CorrectionFacts, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass
class _Tried:
    name: str
    draft: Draft
    errors: dict[str, float]
    notes: list[CorrectionFacts] = field(default_factory=list)

    @property
    def score(self) -> float:
        """SQNR in dB."""
        return decibel(self.errors)


def choose_recipe(
    model: ov.Model,
    view: GraphView,
    plan: QuantizationPlan,
    summaries: Mapping[TensorId, TensorSummary],
    estimators: Sequence[str | object],
    samples: Sequence[Arrays],
    judge: Judge,
    *,
    biased: int,
    rounded: bool = False,
    told: Callable[[str], None] = lambda note: None,
) -> Chosen:
    """Score one draft for each estimator, the best of them with bias correction too, and return the best.

    Args:
        model: floating point, equalized if that was kept.
        view: of that model.
        plan: without ranges.
        summaries: of every quantized tensor.
        estimators: names, or estimator objects of the user's own.
        samples: what bias correction learns from.
        judge: scores on other samples.
        biased: how many of the candidates get bias correction.
        rounded: whether weight rounding is tried on the best candidate, alone and with bias correction after it.
        told: receives a remark for each candidate.
    """
    tried: list[_Tried] = []
    for entry in estimators:
        estimator = get_estimator(entry)  # pyright: ignore[reportArgumentType]
        draft = Draft(model, view, assign(plan, summaries, estimator), Edits())
        if not any(_same_ranges(one.draft.plan, draft.plan) for one in tried):
            tried.append(_Tried(estimator.name, draft, judge.errors(draft.quantized())))
            told(f"{estimator.name} {tried[-1].score:.1f} dB")
    for base in sorted(tried, key=_rank(tried[0]), reverse=True)[:biased]:
        _add(tried, f"{base.name} + bias", correct_biases(base.draft, samples), _bias_facts, judge, told)
    if rounded:
        base = max((one for one in tried if not one.draft.edits.biases), key=_rank(tried[0]))
        draft, notes = round_all(base.draft, samples)
        _add(tried, f"{base.name} + rounding", draft, lambda _: notes, judge, told)
        both = correct_biases(draft, samples)
        _add(tried, f"{base.name} + rounding + bias", both, lambda d: [*notes, *_bias_facts(d)], judge, told)
    best = max(tried, key=_rank(tried[0]))  # the first of equals: the order above is fixed
    shown = tuple(CandidateFacts(name=one.name, sqnr_db=round(one.score, 3), chosen=one is best) for one in tried)
    return Chosen(best.draft, shown, tuple(best.notes), best.errors)


def _rank(first: _Tried) -> Callable[[_Tried], float]:
    """Return what candidates are compared by: the SQNR, with a head start for the first, min-max.

    A few held-out samples can't show what clipping does to the one rare value in a thousand samples.
    """
    plain = first.draft.plan.activations
    return lambda one: one.score + (HEAD_START_DB if one.draft.plan.activations == plain else 0.0)


def _add(
    tried: list[_Tried],
    name: str,
    draft: Draft | None,
    facts: Callable[[Draft], list[CorrectionFacts]],
    judge: Judge,
    told: Callable[[str], None],
) -> None:
    """Score a corrected draft, if the correction was possible."""
    if draft is None:
        return
    tried.append(_Tried(name, draft, judge.errors(draft.quantized()), facts(draft)))
    told(f"{name} {tried[-1].score:.1f} dB")


def _same_ranges(one: QuantizationPlan, other: QuantizationPlan) -> bool:
    return all(
        a.range is not None and b.range is not None and (a.range.low, a.range.high) == (b.range.low, b.range.high)
        for a, b in zip(one.activations, other.activations, strict=True)
    )


def _bias_facts(draft: Draft) -> list[CorrectionFacts]:
    return [
        CorrectionFacts(
            correction="bias", layer=layer, kept=True, detail=f"largest change of a channel {abs(delta).max():.3g}"
        )
        for layer, delta in draft.edits.biases.items()
    ]
