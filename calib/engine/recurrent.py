"""Decide by their error over whole held-out sequences which recurrent layers run in INT8.

The state of an INT8 recurrent layer is INT8 at every step, so that an error goes on with it: with random weights and 20
steps, LSTM and GRU kept 18 to 20 dB. In floating point they are exact, and with bf16 as the default precision nearly
so. So each layer's outputs over time are compared with those in f32: it stays in floating point below a floor, unless
the machine's default precision is no better. With a budget, which gives layers back by what they cost, there is no
floor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.engine.job import Job
from calib.graph.operations import MEASURED
from calib.graph.recurrent import DIVIDED, alone, given_to, quantize_recurrent, range_of, reaches
from calib.graph.taps import expose, tapped_model
from calib.graph.view import GraphView
from calib.runtime.executed import executed_layers
from calib.runtime.failures import FAILURES, said
from calib.runtime.session import Session, ov, precision_config
from calib.values.plan import (
    FULL_RANGE,
    HALF_RANGE,
    THREE_QUARTERS,
    QuantizableNode,
    QuantizationPlan,
    RecurrentRange,
    Skipped,
)
from calib.values.sqnr import decibel, squared_error

# What INT8 costs other networks: 29 to 40 dB. A layer below would be the largest error of its network. The captcha
# reader below, with both of its layers in INT8 (31.4 and 29.1 dB), reads .988 of the characters, as with them in f32.
FLOOR_DB = 29.0
RANGED = 64  # samples that ranges are taken from
SEARCHED = 16  # samples that they are searched on
# What is tried in turn, each with the best of what was tried before, see ``range_of``. On a captcha reader's LSTM of
# 512 values (both directions, AVX2 without VNNI) the first of each left 26.8 and 23.3 dB, the best 31.1 and 29.7 dB.
POWERS = (DIVIDED, 0.5, 0.25)
SHARES = (1.0, 0.85, 0.7, 0.5)


def measured_recurrent(job: Job, model: ov.Model, plan: QuantizationPlan) -> QuantizationPlan:
    """Return the plan with those recurrent layers that run in INT8, and the others with the reason why not.

    Args:
        job: Run with its samples.
        model: Floating-point network.
        plan: Plan whose recurrent layers are left out so far.
    """
    names = [one.name for one in plan.skipped if one.reason == MEASURED]
    if not names:
        return plan
    try:
        ranges = _searched(job, model, names)
        errors, primitives = _errors(job, model, ranges)
    except FAILURES as error:
        return _said(plan, dict.fromkeys(names, f"OpenVINO can't run its INT8 form: {said(error)}"))
    kept: list[RecurrentRange] = []
    reasons: dict[str, str] = {}
    for one in ranges:
        found, rival = errors[one.name]
        floor = -math.inf if job.settings.has_budget else min(FLOOR_DB, rival)
        beside = f" ({job.reduced_precision} {rival:.1f})" if job.reduced_precision else ""
        figure = f"in INT8 its outputs over time have {found:.1f} dB{beside} on held-out sequences"
        if not primitives[one.name].lower().endswith("i8"):
            reasons[one.name] = f"OpenVINO ran its INT8 form as {primitives[one.name] or 'other operations'}"
        elif found < floor:
            reasons[one.name] = f"{figure}, and at least {floor:.1f} dB are asked for"
        else:
            kept.append(replace(one, reason=figure))
    return _with_layers(_said(plan, reasons), kept)


def _with_layers(plan: QuantizationPlan, kept: Sequence[RecurrentRange]) -> QuantizationPlan:
    """Return the plan with these recurrent layers among its layers."""
    names = {one.name for one in kept}
    added = tuple(QuantizableNode(one.name, one.type, (0,)) for one in plan.skipped if one.name in names)
    left = tuple(one for one in plan.skipped if one.name not in names)
    return replace(plan, layers=plan.layers + added, skipped=left, recurrent=tuple(kept))


def _said(plan: QuantizationPlan, reasons: Mapping[str, str]) -> QuantizationPlan:
    """Return the plan with these reasons for layers that are left out."""
    skipped = (Skipped(one.name, one.type, reasons.get(one.name, one.reason)) for one in plan.skipped)
    return replace(plan, skipped=tuple(skipped))


def _searched(job: Job, model: ov.Model, names: Sequence[str]) -> list[RecurrentRange]:
    """Return the levels of each layer: by the largest magnitudes over samples, then by the error over time."""
    session = Session(expose(model, lambda view: [one for name in names for one in reaches(view, name)], own=False))
    highest = np.max([np.stack(outputs) for outputs in session.each(job.feeds(job.all_ids[:RANGED]))], axis=0)
    levels = [FULL_RANGE] if job.exact_int8 else [HALF_RANGE]
    if job.chooses_levels:
        levels = [HALF_RANGE, THREE_QUARTERS, FULL_RANGE]
    view, rows = GraphView(model), highest.reshape(len(names), -1).tolist()
    return [_best_range(job, model, view, name, row, levels) for name, row in zip(names, rows, strict=True)]


def _best_range(
    job: Job, model: ov.Model, view: GraphView, name: str, reached: Sequence[float], levels: Sequence[int]
) -> RecurrentRange:
    """Return the levels of a layer with the least error over time, by itself and on what it reads in f32.

    Its power, levels of weights and share are chosen one after the other, and the power again, not all together.

    Args:
        job: Run.
        model: Floating-point network.
        view: View of it.
        name: Name of the layer.
        reached: Largest magnitudes, see :func:`range_of`.
        levels: Numbers of levels of its weights to try.
    """
    read = given_to(view, name)
    session = Session(expose(model, lambda clone: [clone.output(tensor) for tensor in read], own=False))
    feeds = list(session.each(job.feeds(job.ids[:SEARCHED])))
    exact = list(Session(alone(view, name)).each(feeds))
    known: dict[RecurrentRange, float] = {}

    def error(one: RecurrentRange) -> float:
        if one not in known:
            outputs = Session(alone(view, name, one)).each(feeds)
            known[one] = sum(_pair(y, other)[1] for (y,), (other,) in zip(exact, outputs, strict=True))
        return known[one]

    best: dict[str, Any] = {"levels": levels[0], "power": POWERS[0], "share": SHARES[0]}
    steps: list[tuple[str, Sequence[Any]]] = [
        ("power", POWERS),
        ("levels", levels),
        ("share", SHARES),
        ("power", POWERS),
    ]
    for key, values in steps:
        best[key] = min(values, key=lambda value: error(range_of(name, reached, **{**best, key: value})))
    return range_of(name, reached, **best)


def _errors(
    job: Job, model: ov.Model, ranges: Sequence[RecurrentRange]
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Return layer → SQNR in dB of its outputs over time in INT8 and in the default precision, and its primitive."""
    names, own = [one.name for one in ranges], len(model.outputs)
    quantized = tapped_model(quantize_recurrent(model, ranges), names)
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
