"""plan + summaries → plan with ranges: one estimator for all, or one chosen for each tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from calib.errors import StatisticsError
from calib.plan import ActivationQuantizer, QuantizationPlan, Range, Scheme, TensorId
from calib.ranges.estimator import RangeEstimator
from calib.summary import TensorSummary

Choose = Callable[[ActivationQuantizer], RangeEstimator]


def assign(
    plan: QuantizationPlan, summaries: Mapping[TensorId, TensorSummary], choose: RangeEstimator | Choose
) -> QuantizationPlan:
    """Return the plan with a range and a final scheme for every quantizer.

    Quantizers with the same ``unify`` key get the range of their merged summaries. A tensor without negative values
    becomes unsigned, unless its consumer needs signed levels.

    Args:
        plan: from placement; ranges it already has are replaced.
        summaries: of every quantized tensor.
        choose: one estimator for all quantizers, or a function from quantizer to estimator.

    Raises:
        StatisticsError: a tensor has no summary.
    """
    pick: Choose = choose if not hasattr(choose, "needs_histogram") else lambda _: choose  # pyright: ignore
    merged = merge_unified(plan.activations, summaries)
    shared: dict[str, ActivationQuantizer] = {}
    ranged = []
    for quantizer in plan.activations:
        twin = shared.get(quantizer.unify)
        if twin is not None:
            ranged.append(replace(quantizer, range=twin.range, scheme=twin.scheme, levels=twin.levels))
            continue
        summary = merged[quantizer.tensor]
        scheme = final_scheme(quantizer, summary)
        chosen = pick(quantizer)(summary, scheme, quantizer.levels)
        channels = _channel_ranges(quantizer, summary, chosen)
        done = replace(quantizer, scheme=scheme, range=chosen, channel_ranges=channels)
        if quantizer.unify:
            shared[quantizer.unify] = done
        ranged.append(done)
    return replace(plan, activations=tuple(ranged))


def _channel_ranges(
    quantizer: ActivationQuantizer, summary: TensorSummary, chosen: Range
) -> tuple[tuple[float, float], ...]:
    """Return each channel's extremes inside the tensor's range: a depthwise layer takes levels for each channel."""
    if not quantizer.per_channel or summary.channel_low is None or summary.channel_high is None:
        return ()
    low = np.clip(summary.channel_low.astype(np.float64), chosen.low, 0.0)
    high = np.clip(summary.channel_high.astype(np.float64), 0.0, chosen.high)
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def final_scheme(quantizer: ActivationQuantizer, summary: TensorSummary) -> Scheme:
    """Return unsigned for data without negative values, unless the levels have to be signed."""
    if summary.low >= 0 and not quantizer.signed_only:
        return Scheme.UNSIGNED
    return Scheme.SYMMETRIC if quantizer.signed_only else quantizer.scheme


def merge_unified(
    quantizers: Sequence[ActivationQuantizer], summaries: Mapping[TensorId, TensorSummary]
) -> dict[TensorId, TensorSummary]:
    """Return the summary each quantizer's range is estimated from: that of all tensors it shares its range with."""
    for quantizer in quantizers:
        if quantizer.tensor not in summaries:
            raise StatisticsError(f"there are no statistics of {quantizer.tensor}; collect them for this model anew")
    groups: dict[str, list[TensorSummary]] = {}
    for quantizer in quantizers:
        groups.setdefault(quantizer.unify or f"\0{quantizer.tensor}", []).append(summaries[quantizer.tensor])
    joined = {key: reduce(_merge, members) for key, members in groups.items()}
    return {q.tensor: joined[q.unify or f"\0{q.tensor}"] for q in quantizers}


def _merge(one: TensorSummary, other: TensorSummary) -> TensorSummary:
    both = one.histogram is not None and other.histogram is not None
    return TensorSummary(
        one.tensor,
        one.samples,
        min(one.low, other.low),
        max(one.high, other.high),
        min(one.mean_low, other.mean_low),
        max(one.mean_high, other.mean_high),
        one.histogram.merge(other.histogram) if both else None,  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
        histogram_samples=one.histogram_samples,
    )
