"""Whole-model candidates: a few complete recipes, scored by output error on held-out samples, and the best kept.

No estimator and no correction wins everywhere: the best on one network is the worst on the next, and the error of a
single tensor does not predict the network's. So the network is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from calib.corrections.judge import Arrays, Draft, Judge, decibel
from calib.corrections.sequential_bias import correct_biases
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
    detail: str = ""
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
        told: receives a remark for each candidate.
    """
    tried: list[_Tried] = []
    for entry in estimators:
        estimator = get_estimator(entry)  # pyright: ignore[reportArgumentType]
        draft = Draft(model, view, assign(plan, summaries, estimator), Edits())
        if not any(_same_ranges(one.draft.plan, draft.plan) for one in tried):
            tried.append(_Tried(estimator.name, draft, judge.errors(draft.quantized())))
            told(f"{estimator.name} {tried[-1].score:.1f} dB")
    for base in sorted(tried, key=lambda one: -one.score)[:biased]:
        corrected = correct_biases(base.draft, samples)
        if corrected is not None:
            errors = judge.errors(corrected.quantized())
            notes = _facts(corrected)
            tried.append(_Tried(f"{base.name} + bias", corrected, errors, "sequential bias correction", notes))
            told(f"{base.name} + bias {tried[-1].score:.1f} dB")
    best = max(tried, key=lambda one: one.score)  # the first of equals: the order above is fixed
    shown = tuple(
        CandidateFacts(name=one.name, sqnr_db=round(one.score, 3), chosen=one is best, detail=one.detail)
        for one in tried
    )
    before = next((one.score for one in tried if f"{one.name} + bias" == best.name), None)
    notes = [n.model_copy(update={"sqnr_before_db": before, "sqnr_after_db": best.score}) for n in best.notes]
    return Chosen(best.draft, shown, tuple(notes), best.errors)


def _same_ranges(one: QuantizationPlan, other: QuantizationPlan) -> bool:
    return all(
        a.range is not None and b.range is not None and (a.range.low, a.range.high) == (b.range.low, b.range.high)
        for a, b in zip(one.activations, other.activations, strict=True)
    )


def _facts(draft: Draft) -> list[CorrectionFacts]:
    return [
        CorrectionFacts(
            correction="bias", layer=layer, kept=True, detail=f"largest change of a channel {abs(delta).max():.3g}"
        )
        for layer, delta in draft.edits.biases.items()
    ]
