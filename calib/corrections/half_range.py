"""Choose the levels of weights on a CPU whose sums of INT8 products saturate, by the error of the network's outputs.

Without VNNI pairs of u8·i8 products are added in 16 bits. Weights in half of their range keep that exact
(2 · 255 · 63 < 2¹⁵) and are coarser by one bit. Which costs more depends on the network: of eight trained ones, on AVX2
at the effort fast, seven had .4 to 16 dB more with half of the range and one, whose channels differ by orders of
magnitude, 5 dB less; one of random weights, whose products rarely add up, had 4 dB less. Corrections of weights and
biases presume exact sums, so that they can turn the choice: see `corrected_in_half`.

Where hardly any sums saturate, three quarters of the range can be better than either: a deconvolution of random weights
had 37.1 dB with them, 34.8 with all and 34.7 with half. Where many do they are not: the demo's mobilenet had 31.9 dB,
21.1 and 33.9. So they are tried where the other two are close.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from calib.corrections.candidate import LARGE, Candidate, weights_in
from calib.corrections.scoring import Scored, Scorer
from calib.graph.finder import inexact
from calib.values.plan import HALF_RANGE, THREE_QUARTERS, QuantizationPlan

# What layers in floating point have to give: INT8 that is this much better is another model, less is chance.
WORTH_DB = 1.0
# Three quarters of the range are tried where the full range scores less than this below the half.
CLOSE_DB = 3.0


@dataclass(frozen=True)
class Levels:
    """The plan whose weights have the levels that suit this CPU.

    Attributes:
        sentence: What was chosen, with the figures, for the report.
        candidate: The candidate with these levels and with ranges, as it was run.
        scored: Its score; it need not be compiled again.
        halved: The plan with weights in half range, which `plan` was better than; None if that is ``plan``.
        half: The candidate of that plan with its score, no longer compiled; None if its network is large.
    """

    plan: QuantizationPlan
    sentence: str
    candidate: Candidate
    scored: Scored
    halved: QuantizationPlan | None = None
    half: tuple[Candidate, Scored] | None = None

    def is_of(self, candidate: Candidate) -> bool:
        """Return whether a candidate makes the model that was scored; reasons of layers left out may be others."""
        plans = (replace(one.plan, skipped=()) for one in (candidate, self.candidate))
        return candidate.model is self.candidate.model and next(plans) == next(plans)


def suited(candidate: Candidate, ranged: Candidate, scorer: Scorer) -> Levels:
    """Return the plan of a candidate with the levels of weights whose INT8 form is nearest to FP32 on this CPU.

    Weights keep their full range, or take half of it, or three quarters if those are clearly better than both; with
    half, layers that saturate all the same may stay in floating point as well.

    Args:
        candidate: Candidate whose plan is returned, with weights in full range.
        ranged: The same with ranges, to run.
        scorer: Scorer on a few samples, useful.

    Raises:
        ModelError, RuntimeError: OpenVINO can't compile or run it.
    """
    left = {layer.name: why for layer in ranged.plan.layers if (why := inexact(candidate.view, layer))}
    halved = replace(ranged, plan=in_half_range(ranged.plan, left))
    # What is behind is dropped before the next is made: networks may be large.
    ahead, best = ranged, scorer.shipped(ranged)
    full = best.score
    next_one = scorer.shipped(halved)
    half = next_one.score
    behind = None if weights_in(ranged) > LARGE else (halved, replace(next_one, compiled=None))
    if half >= full:
        ahead, best = halved, next_one
    del next_one
    between = -math.inf
    if full >= half - CLOSE_DB:
        quarters = replace(ranged, plan=with_levels(ranged.plan, THREE_QUARTERS, left))
        next_one = scorer.shipped(quarters)
        between = next_one.score
        if between >= max(full, half) + WORTH_DB:
            ahead, best = quarters, next_one
        del next_one
    samples = scorer.on
    most = max(full, half, between)
    if left and len(left) < len(ranged.plan.layers):
        fewer = replace(ranged, plan=in_half_range(ranged.plan.without(left)))
        bare = scorer.shipped(fewer)
        if bare.score >= most + WORTH_DB:
            floor = f"{most:.1f} dB on {samples} with it and its like in INT8, {bare.score:.1f} dB without"
            plan = candidate.plan
            for why in dict.fromkeys(left.values()):
                plan = plan.without([name for name, other in left.items() if other == why], f"{why} ({floor})")
            said = _half(f"{bare.score:.1f}", f"{full:.1f}", samples, len(left))
            return Levels(in_half_range(plan), said, fewer, bare)
    if ahead is halved:
        said = _half(f"{half:.1f}", f"{full:.1f}", samples)
        return Levels(in_half_range(candidate.plan, left), said, halved, best)
    start = "INT8 sums can saturate on this CPU, which has no VNNI, "
    any_data = "--target cpu-no-vnni takes half of them for any data."
    if ahead is ranged:
        said = (
            f"{start}and hardly do in this model: with all levels of weights its outputs are at {full:.1f} dB on "
            f"{samples}, with half of them at {half:.1f} dB, so weights keep all. {any_data}"
        )
        return Levels(candidate.plan, said, ranged, best, in_half_range(candidate.plan, left), behind)
    said = (
        f"{start}so weights take three quarters of their levels: the outputs are at {between:.1f} dB on {samples}, "
        f"with all of them at {full:.1f} dB, with half at {half:.1f} dB. {any_data}"
    )
    plan = with_levels(candidate.plan, THREE_QUARTERS, left)
    return Levels(plan, said, ahead, best, in_half_range(candidate.plan, left), behind)


def corrected_in_half(score: float, full: float, samples: str) -> str:
    """Return the sentence of a model that is better in half range once its weights are corrected.

    Args:
        score: SQNR in dB with half of the levels of weights, corrected.
        full: SQNR in dB with more of them, where no correction helped.
        samples: What the figures are of, as a scorer says.
    """
    return (
        f"INT8 sums saturate on this CPU, which has no VNNI, and corrections, which presume exact sums, do not help "
        f"there: with half of the levels of weights and corrected the outputs are at {score:.1f} dB on {samples}, with "
        f"more of them at {full:.1f} dB, so weights take half. For CPUs with VNNI give --target cpu."
    )


def _half(score: str, full: str, samples: str, left: int = 0) -> str:
    others = f", and layers that would saturate all the same ({left}) stay in floating point" if left else ""
    return (
        f"INT8 sums saturate on this CPU, which has no VNNI, so weights take half of their levels{others}: the outputs "
        f"are at {score} dB on {samples} in place of {full} dB. For CPUs with VNNI give --target cpu."
    )


def in_half_range(plan: QuantizationPlan, inexact_layers: Collection[str] = ()) -> QuantizationPlan:
    """Return the plan with weights in half of their range, as :func:`with_levels` does."""
    return with_levels(plan, HALF_RANGE, inexact_layers)


def with_levels(plan: QuantizationPlan, levels: int, inexact_layers: Collection[str] = ()) -> QuantizationPlan:
    """Return the plan with other levels of weights.

    Not those that oneDNN halves by itself, and not the rows of tables, which are picked and not summed, but for a table
    that is the weights of such a layer too: with levels of its own it would be stored twice.
    """
    tables = {layer.name for layer in plan.layers if layer.is_table}
    scales = {w.port.node: w.scale_shape for w in plan.weights}
    shared = {
        table
        for group in plan.groups
        for table in group & tables
        if any(scales[name] == scales[table] for name in group - tables - set(inexact_layers))
    }
    whole = tables.difference(shared).union(inexact_layers)
    weights = (w if w.port.node in whole else replace(w, levels=levels) for w in plan.weights)
    return replace(plan, weights=tuple(weights))
