"""Decide what attention in INT8 may cost: ranges behind its Softmax by the error of its sums, or none at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calib.engine.job import Job
from calib.graph.attention import Attention, WeightedSum, attention_in, tapped, weighted_sums
from calib.graph.view import GraphView
from calib.ranges.weighted_sum import Pair, weighted_sum_range
from calib.runtime.session import Session, ov
from calib.values.plan import Port, QuantizationPlan

SAMPLES = 2  # each gives 64 rows of every head
# In two networks of three layers, over 197 and 512 tokens, at 33 dB with these sums in floating point, one layer's sums
# at 22, 25, 28, 31, 33 and 36 dB took 5, 2.3, 2.0, .7, .0 and .0 dB off.
FLOOR_DB = 30.0
# Where the network's outputs are not scored afterwards: with the other floor, attention that was all of a network took
# 3.8 dB off 33.7.
SURE_DB = 36.0


def with_attention_ranges(
    job: Job, model: ov.Model, view: GraphView, plan: QuantizationPlan
) -> tuple[Attention, QuantizationPlan]:
    """Return the layers of attention, and the plan with their ranges and without the sums whose error is too large.

    What a query does with its keys, the first product, stays in the plan: its error was .1 to .4 dB of the network's.
    One model is compiled and run on two samples, if there is attention in the plan.

    Args:
        job: Run with its samples.
        model: Floating-point network.
        view: View of it.
        plan: Plan from placement, without ranges.
    """
    sums = weighted_sums(view, plan)
    feeds = job.feeds(job.ids[:SAMPLES])
    if not sums or not feeds:
        return Attention(), plan
    layers, floor = attention_in(view, plan), FLOOR_DB if job.effort.held_out else SURE_DB
    outputs = list(Session(tapped(model, sums)).each(feeds))
    ranged = {quantizer.tensor: quantizer for quantizer in plan.activations}
    reasons: dict[str, str] = {}
    read_by = plan.input_quantizers()
    for index, one in enumerate(sums):
        quantizer = read_by.get(Port(one.layer, 0))
        if quantizer is None or quantizer.own:
            continue  # the model's own quantizers stay as they are
        pairs = [_pair(one, sample[2 * index], sample[2 * index + 1]) for sample in outputs]
        chosen, found = weighted_sum_range([pair for pair in pairs if pair[0].size], quantizer.levels)
        if found < floor:
            reasons[one.layer] = (
                f"its input behind a Softmax loses too much in 8 bit: its sums are at {found:.1f} dB with the best of "
                f"9 ranges, under {floor:g} dB"
            )
        else:
            ranged[quantizer.tensor] = replace(quantizer, range=chosen)
    plan = replace(plan, activations=tuple(ranged[quantizer.tensor] for quantizer in plan.activations))
    for layer, reason in reasons.items():
        plan = plan.without([layer], reason)
    return replace(layers, sums=layers.sums - reasons.keys()), plan


def _pair(one: WeightedSum, weights: np.ndarray, values: np.ndarray) -> Pair:
    return weights, np.swapaxes(values, -1, -2) if one.turned else values
