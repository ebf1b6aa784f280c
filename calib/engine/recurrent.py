"""Decide by their error over whole held-out sequences which recurrent layers run in INT8.

The state of an INT8 recurrent layer is INT8 at every step, so that an error goes on with it: with random weights and 20
steps, LSTM and GRU kept 18 to 20 dB. In floating point they are exact, and with bf16 as the default precision nearly
so. So each layer's outputs over time are compared with those in f32: it stays in floating point below a floor, unless
the machine's default precision is no better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.engine.job import Job
from calib.graph.recurrent import MEASURED, quantize_recurrent, reaches
from calib.graph.taps import expose, tapped_model
from calib.graph.view import GraphView
from calib.runtime.executed import executed_layers
from calib.runtime.failures import FAILURES, said
from calib.runtime.session import Session, ov, precision_config
from calib.values.plan import FULL_RANGE, HALF_RANGE, QuantizationPlan, RecurrentRange, Skipped
from calib.values.sqnr import decibel, squared_error

# What INT8 costs other networks: 29 to 40 dB. A layer below would be the largest error of its network.
FLOOR_DB = 30.0
RANGED = 64  # samples that ranges are taken from


def measured_recurrent(job: Job, model: ov.Model, plan: QuantizationPlan) -> tuple[ov.Model, QuantizationPlan]:
    """Return the network with those recurrent layers in INT8 that may be, and the plan that says so of each.

    Args:
        job: Run with its samples.
        model: Floating-point network.
        plan: Plan whose recurrent layers are left out so far.
    """
    names = [one.name for one in plan.skipped if one.reason == MEASURED]
    if not names:
        return model, plan
    if job.settings.max_drop is not None:
        why = "a recurrent layer: with a budget it stays in floating point, since the search can't give its error back"
        return model, _said(plan, dict.fromkeys(names, why))
    ranges = _ranges(job, model, names)
    try:
        errors, primitives = _errors(job, model, ranges)
    except FAILURES as error:
        return model, _said(plan, dict.fromkeys(names, f"OpenVINO can't run its INT8 form: {said(error)}"))
    kept: list[RecurrentRange] = []
    reasons: dict[str, str] = {}
    for one in ranges:
        found, rival = errors[one.name]
        floor = min(FLOOR_DB, rival)
        beside = f" ({job.reduced_precision} {rival:.1f})" if job.reduced_precision else ""
        figure = f"in INT8 its outputs over time have {found:.1f} dB{beside} on held-out sequences"
        if not primitives[one.name].lower().endswith("i8"):
            reasons[one.name] = f"OpenVINO ran its INT8 form as {primitives[one.name] or 'other operations'}"
        elif found < floor:
            reasons[one.name] = f"{figure}, and at least {floor:.1f} dB are asked for"
        else:
            reasons[one.name] = figure
            kept.append(replace(one, reason=figure))
    return in_int8(job, model, tuple(kept)), replace(_said(plan, reasons), recurrent=tuple(kept))


def in_int8(job: Job, model: ov.Model, ranges: tuple[RecurrentRange, ...]) -> ov.Model:
    """Return the network with these recurrent layers in INT8; itself without any."""
    return quantize_recurrent(model, ranges, _levels(job)) if ranges else model


def _levels(job: Job) -> int:
    return FULL_RANGE if job.exact_int8 and not job.chooses_levels else HALF_RANGE


def _said(plan: QuantizationPlan, reasons: Mapping[str, str]) -> QuantizationPlan:
    """Return the plan with these reasons for layers that are left out."""
    skipped = (Skipped(one.name, one.type, reasons.get(one.name, one.reason)) for one in plan.skipped)
    return replace(plan, skipped=tuple(skipped))


def _ranges(job: Job, model: ov.Model, names: Sequence[str]) -> list[RecurrentRange]:
    """Return the range of each layer: the largest magnitude of its data, states and outputs over samples."""
    counts: list[int] = []

    def tensors(view: GraphView) -> list[ov.Output]:
        found = [reaches(view, name) for name in names]
        counts.extend(map(len, found))
        return [output for outputs in found for output in outputs]

    session = Session(expose(model, tensors, own=False))
    highest = np.max([np.stack(outputs) for outputs in session.each(job.feeds(job.all_ids[:RANGED]))], axis=0)
    ends = np.cumsum([0, *counts])
    return [
        RecurrentRange(name, float(np.max(highest[start:end])) or 1.0)
        for name, start, end in zip(names, ends[:-1], ends[1:], strict=True)
    ]


def _errors(
    job: Job, model: ov.Model, ranges: Sequence[RecurrentRange]
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Return layer → SQNR in dB of its outputs over time in INT8 and in the default precision, and its primitive."""
    names, own = [one.name for one in ranges], len(model.outputs)
    quantized = tapped_model(quantize_recurrent(model, tuple(ranges), _levels(job)), names)
    plain, int8 = Session(tapped_model(model, names)), Session(quantized)
    rival = Session(tapped_model(model, names), precision_config(job.reduced_precision or "f32"))
    sums = np.zeros((len(names), 2, 2))
    for feed in job.feeds(job.held):
        for exact, *others in zip(*(session.each([feed]) for session in (plain, int8, rival)), strict=True):
            for layer in range(len(names)):
                pairs = [_pair(exact[own + layer], other[own + layer]) for other in others]
                sums[layer] += np.array(pairs)
    ran = executed_layers(int8.compiled)
    found = {name: (decibel(*one[0]), decibel(*one[1])) for name, one in zip(names, sums.tolist(), strict=True)}
    return found, {name: ran[name].primitive if name in ran else "" for name in names}


def _pair(exact: NDArray[Any], other: NDArray[Any]) -> tuple[float, float]:
    signal, noise = squared_error(exact, other)
    return float(signal), float(noise)
