"""Equalize a network before its statistics are collected: one rescaling for each tensor that allows it.

It covers cross-layer equalization (a convolution's output through ReLU, PReLU or pooling into the next layers) and
the migration of SmoothQuant (a normalization's gain and bias into the MatMuls after it). Where no constant can take the
division, as behind GELU or at an input, a Multiply in front of the layers divides, see ``graph/inserted_scales.py``. In
all, the strength is chosen for each tensor by the expected output error of its readers, see
``equalization_core.choose_strength``, and whether the network is rescaled at all by the error of its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.corrections.candidate import Feed
from calib.corrections.equalization_core import Readers, choose_strength, expected_db
from calib.errors import StatisticsError
from calib.graph.inserted_scales import examined, find_insertable, routes_from
from calib.graph.scalable import Scalable, apply_factors, find_scalable, reader_weights, tensors_scaled
from calib.graph.taps import channel_moments, expose
from calib.graph.view import GraphView
from calib.runtime.session import compile_model, infer_all, ov
from calib.samples.feed import frames_in
from calib.values.facts import CorrectionFacts
from calib.values.plan import FULL_RANGE, QuantizationPlan, Scaling, TensorId
from calib.values.summary import TensorSummary

SAMPLES = 16
# low, high and mean square of every channel of a tensor, (channels,) each
Moments = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Equalized:
    """Result of looking at a network's channels.

    Attributes:
        scalings: Rescalings that help; ``rescale`` applies them.
    """

    scalings: tuple[Scaling, ...] = ()
    facts: tuple[CorrectionFacts, ...] = ()


def equalize(
    model: ov.Model,
    view: GraphView,
    plan: QuantizationPlan,
    samples: Sequence[Feed],
    held: Sequence[Feed] = (),
    streams: int = 1,
) -> Equalized:
    """Choose the rescalings that help.

    Args:
        model: Floating-point model.
        view: View of that model.
        plan: Plan without ranges.
        samples: Calibration samples; the first :data:`SAMPLES` are used to measure channels.
        held: Held-out samples, which say whether a rescaling helps.
        streams: Number of samples that run at the same time.
    """
    tensors = [q.tensor for q in plan.activations if not q.unify and q.tensor.node not in view.inside]
    scalables = _with_inserted(view, plan, find_scalable(view, tensors))
    if not scalables:
        return Equalized()
    levels = min(weight.levels for weight in plan.weights)
    chosen: list[Scaling] = []
    facts: list[CorrectionFacts] = []
    moments, held_moments = _channel_moments(model, scalables, list(samples)[:SAMPLES], held, streams)
    for scalable, fit, unseen in zip(scalables, moments, held_moments, strict=True):
        readers = Readers.of(reader_weights(view, scalable), levels)
        factors, strength = choose_strength(*fit, readers, bool(scalable.ports))
        before, after = (expected_db(one, *unseen, readers) for one in (np.ones_like(factors), factors))
        helps = strength is not None and not np.all(factors == 1)
        detail = "no strength lowers the expected output error enough"
        if helps and scalable.ports and (before or 0.0) >= (after or 0.0):
            helps, detail = False, "on held-out samples it does not lower the expected output error"
        if helps:
            chosen.append(scalable.scaling(factors))
            detail = (
                f"strength {strength:g}, factors {factors.min():.3g} to {factors.max():.3g}; the SQNR is that expected "
                "of the layers that read it, from its channels in held-out samples"
            )
        if strength is not None or not scalable.ports:  # in front of most layers no scale is called for
            facts.append(_fact(scalable, helps, before, after, detail))
    return Equalized(tuple(chosen), tuple(facts))


def _with_inserted(view: GraphView, plan: QuantizationPlan, found: Sequence[Scalable]) -> list[Scalable]:
    """Return those that are found and read by layers of the plan alone, and scales in front of the other tensors."""
    layers = {layer.name for layer in plan.layers}
    absorbed = [one for one in found if all(site.port.node in layers for site in one.readers)]
    taken = {tensor for one in absorbed for tensor in tensors_scaled(view, one)}
    inserted = [find_insertable(view, q) for q in plan.activations if q.tensor not in taken]
    return [one for one in (*absorbed, *inserted) if one is not None and not one.depthwise]


def _fact(scalable: Scalable, kept: bool, before: float | None, after: float | None, detail: str) -> CorrectionFacts:
    if scalable.ports:
        names = sorted({site.port.node for site in scalable.readers})
        detail = f"in front of {', '.join(names[:3])}{', …' if len(names) > 3 else ''}: {detail}"
    return CorrectionFacts(
        correction="inserted scales" if scalable.ports else "equalization",
        layer=str(scalable.tensor),
        kept=kept,
        sqnr_before_db=before,
        sqnr_after_db=after,
        detail=detail,
    )


def evident_scales(
    view: GraphView, plan: QuantizationPlan, summaries: Mapping[TensorId, TensorSummary]
) -> list[tuple[Scalable, NDArray[np.float64], CorrectionFacts]]:
    """Return scales in front of layers that the extremes of channels alone show to help, without running anything.

    The mean square of a channel is taken as that of values from a normal distribution whose extreme is at three
    standard deviations.

    Args:
        view: View of the floating-point model.
        plan: Plan without ranges.
        summaries: Statistics; tensors whose channels were not looked at get no scale, nor do those whose extremes come
            from outlier samples, which need a range that clips.
    """
    found: list[tuple[Scalable, NDArray[np.float64], CorrectionFacts]] = []
    levels = min((weight.levels for weight in plan.weights), default=FULL_RANGE)
    for quantizer in plan.activations:
        seen = summaries.get(quantizer.tensor)
        low, high = (seen.channel_low, seen.channel_high) if seen and not seen.has_outlier_samples else (None, None)
        scalable = None if low is None else find_insertable(view, quantizer)
        if scalable is None or scalable.depthwise or low is None or len(low) != scalable.channels:
            continue
        low = low.astype(np.float64)
        high = low if high is None else high.astype(np.float64)
        readers = Readers.of(reader_weights(view, scalable), levels)
        stats = (low, high, (np.maximum(np.abs(low), np.abs(high)) / 3) ** 2)
        factors, strength = choose_strength(*stats, readers, inserted=True)
        if strength is not None:
            before, after = (expected_db(one, *stats, readers) for one in (np.ones_like(factors), factors))
            detail = f"strength {strength:g}, factors {factors.min():.3g} to {factors.max():.3g}, from the extremes of "
            found.append((scalable, factors, _fact(scalable, True, before, after, f"{detail}channels")))
    return found


def rescale(model: ov.Model, view: GraphView, scalings: Sequence[Scaling]) -> ov.Model:
    """Return the rescaled network, which computes the same function: bit by bit, if no Multiply is inserted.

    Without scalings the model itself is returned.

    Raises:
        StatisticsError: A tensor can't be rescaled in this model: the plan was made for another one.
    """
    if not scalings:
        return model
    there = [s for s in scalings if _has(view, s.tensor)]
    found = {scalable.tensor: scalable for scalable in find_scalable(view, [s.tensor for s in there if not s.ports])}
    for scaling in there:
        if scaling.ports and set(scaling.ports) <= set(view.consumers[scaling.tensor]):
            scalable = examined(view, scaling.tensor, routes_from(view, scaling.ports))
            found |= {scaling.tensor: scalable} if scalable else {}
    for scaling in scalings:
        if scaling.tensor not in found or found[scaling.tensor].channels != len(scaling.factors):
            raise StatisticsError(f"the plan rescales {scaling.tensor}, which this model does not allow: "
                                  "it was made for another model")  # fmt: skip
    return apply_factors(model, [(found[s.tensor], np.array(s.factors)) for s in scalings])


def rescaled_tensors(view: GraphView, scalings: Sequence[Scaling]) -> dict[TensorId, tuple[int, tuple[float, ...]]]:
    """Return tensor → axis and factors of its channels, of every tensor that these scalings divide by them."""
    factors = {scaling.tensor: scaling.factors for scaling in scalings if not scaling.ports}
    found = find_scalable(view, list(factors))
    return {t: (one.axis, factors[one.tensor]) for one in found for t in tensors_scaled(view, one)}


def _has(view: GraphView, tensor: TensorId) -> bool:
    return tensor.node in view.nodes and tensor.output < view.nodes[tensor.node].get_output_size()


def _channel_moments(
    model: ov.Model, scalables: Sequence[Scalable], samples: Sequence[Feed], held: Sequence[Feed], streams: int
) -> tuple[list[Moments], list[Moments]]:
    """Return every tensor's channel moments over samples, and over held-out ones: the same if there are none."""
    tapped = expose(model, lambda view: [channel_moments(view.output(s.tensor), s.axis) for s in scalables], own=False)
    seen: list[list[NDArray[np.float64]]] = []
    seen_held: list[list[NDArray[np.float64]]] = []
    inferences = sum(map(frames_in, samples))
    for index, values in enumerate(infer_all(compile_model(tapped, streams=streams), [*samples, *held])):
        mine = seen if index < inferences else seen_held
        mine.append([value.reshape(3, -1).astype(np.float64) for value in values])
    moments = [_over_samples(seen, position) for position in range(len(scalables))]
    held_moments = [_over_samples(seen_held, position) for position in range(len(scalables))] if seen_held else moments
    return moments, held_moments


def _over_samples(seen: Sequence[Sequence[NDArray[np.float64]]], position: int) -> Moments:
    stack = np.stack([sample[position] for sample in seen])
    held = (stack[:, 0] <= stack[:, 1]).all(axis=1)  # the plug-in returns a lowest above the highest of an empty tensor
    stack = stack[held] if held.any() else np.zeros_like(stack)
    return stack[:, 0].min(axis=0), stack[:, 1].max(axis=0), stack[:, 2].mean(axis=0)
