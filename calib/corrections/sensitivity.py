"""Measure how sensitive the network's outputs are to quantizing each unit of layers alone, with one compiled model.

Where INT8 sums saturate that model, a simulation, does not show it, and the INT8 models themselves have to be run.

Quantizing one unit and leaving the rest in floating point ranks units as their share in the drop does (Spearman 0.96 to
0.99 with four unlabelled samples). Leaving one unit out of the INT8 model does not (0.2 to 0.4), because the error of a
model that is already broken saturates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from calib.corrections.candidate import Candidate, Feed
from calib.graph.comparable import compared_form, compared_outputs
from calib.graph.switches import added_bytes, switch_model
from calib.runtime.session import F32, SIMULATED, compile_model, infer_all, ov
from calib.samples.sample import Frames
from calib.values.compared import ComparedOutputs
from calib.values.sqnr import squared_error

# Frames of sequences, all together: each runs once for every unit. The first ones, for their state has to be true.
FRAMES = 256
# Most INT8 models that are compiled to rank, and samples that each runs on: they cost more than the simulation.
EXECUTED_MODELS, EXECUTED_SAMPLES = 64, 4
# Outputs as executed and as simulated differ by at most this share of the error of the simulation where sums are exact.
# (Six trained networks on AVX2, effort fast: 0 to .12 with weights in half range; in full range 1.3 to 28 on five, and
# 0 on one whose sums do not saturate.)
UNEXPLAINED = 0.5


def sensitivities_of(
    candidate: Candidate,
    units: Sequence[frozenset[str]],
    samples: Sequence[Feed],
    *,
    memory_limit: int | None = None,
    streams: int = 1,
    compared: ComparedOutputs | None = None,
) -> dict[frozenset[str], float]:
    """Return unit → ``sum (y - y_u)² / sum y²`` over the samples, averaged over the parts that are compared.

    y is the output of the floating-point network, y_u the same with only this unit quantized. Outputs are compared in
    parts, probabilities by their logits, and outputs behind a selection before it; see :mod:`calib.graph.comparable`.
    Without the logits, one position where two scores are close outweighs every other error: a text recognizer's layers,
    ordered by the error of its probabilities on 20 samples, agreed with the order by probabilities on four others at a
    Spearman correlation of .61 to .78, the order by scores at .81 to .83. A unit that gives infinities or NaN has
    sensitivity inf. The same samples give the same bits, whatever the number of streams. If there is nothing to
    compare, every unit has sensitivity 0, and the notes of what is compared say so.

    Args:
        candidate: Model, its plan with ranges and its edits.
        units: Units of the plan.
        samples: Inputs in input order, or sequences, of which the frames up to another shape count, :data:`FRAMES` of
            all together; four to eight samples are enough.
        memory_limit: Bytes that the switches may add; above it, units are measured in several groups, each with a
            compilation of its own. A quarter of the free memory by default.
        streams: Number of samples that run at the same time.
        compared: What is compared of the model; None to find it in the model.
    """
    compared = compared or compared_outputs(candidate.model, candidate.view)
    if not compared.parts:
        return dict.fromkeys(units, 0.0)
    limit = psutil.virtual_memory().available // 4 if memory_limit is None else memory_limit
    sums = {unit: _Sums() for unit in units}
    for alike in _by_shapes(samples):
        for group in groups_of(candidate, units, limit):
            for unit, errors in zip(group, _ask(candidate, group, alike, streams, compared), strict=True):
                sums[unit].add(errors)
    return {unit: total.sensitivity() for unit, total in sums.items()}


def executes_as_simulated(
    candidate: Candidate,
    samples: Sequence[Feed],
    *,
    whole: tuple[ov.Model, ov.CompiledModel | None],
    streams: int = 1,
    compared: ComparedOutputs | None = None,
) -> bool:
    """Say whether the whole INT8 model as it executes gives about the outputs of its simulation.

    It does if they differ by at most `UNEXPLAINED` of the error of the simulation. Then sums that can saturate hardly
    do, and `executed_sensitivities`, of up to `EXECUTED_MODELS` compilations, would find the same order. The sizes of
    the two errors do not show it: with six layers of text detection that saturate, the model as executed had a smaller
    error than simulated (.00055 against .00069), and the outputs of the two differed by .00077. This costs two passes
    of a few samples, and the compilation of the floating-point network and of the simulation.

    Args:
        candidate: As for `sensitivities_of`.
        samples: As for `sensitivities_of`; the first `EXECUTED_SAMPLES` are run.
        whole: INT8 model of the candidate, and the same compiled, used if its own outputs are compared.
        streams: As for `sensitivities_of`.
        compared: Likewise.
    """
    compared = compared or compared_outputs(candidate.model, candidate.view)
    if not compared.parts:
        return True
    (model, compiled), few = whole, samples[:EXECUTED_SAMPLES]
    plain = _logits(candidate.model, few, streams, compared)
    simulated = _logits(candidate.quantized(), few, streams, compared, config=SIMULATED)
    executed = _logits(model, few, streams, compared, compiled)
    return _error(simulated, executed) <= UNEXPLAINED * _error(plain, simulated)


def executed_sensitivities(
    candidate: Candidate,
    simulated: Mapping[frozenset[str], float],
    samples: Sequence[Feed],
    *,
    streams: int = 1,
    compared: ComparedOutputs | None = None,
) -> dict[frozenset[str], float]:
    """Return the sensitivities with what executing adds to them, for CPUs whose INT8 sums saturate.

    Each unit's INT8 model is compiled and run, with the rest in floating point. Of more than `EXECUTED_MODELS` units,
    neighbours in the order of their sensitivities share a model, and what executing adds to their sum is divided
    evenly. (Text detection on AVX2 without VNNI: with the 43 of 64 units reverted that the simulation took for the most
    sensitive, the relative error was .041, with 47 of them .017.)

    Args:
        candidate: As for `sensitivities_of`.
        simulated: Mapping from unit to its sensitivity in simulation.
        samples: As for `sensitivities_of`; the first `EXECUTED_SAMPLES` are run.
        streams: Likewise.
        compared: Likewise.
    """
    compared = compared or compared_outputs(candidate.model, candidate.view)
    if not compared.parts:
        return dict(simulated)
    units = sorted(simulated, key=lambda unit: -simulated[unit])
    size = math.ceil(len(units) / EXECUTED_MODELS)
    groups = [units[first : first + size] for first in range(0, len(units), size)]
    few, bare = samples[:EXECUTED_SAMPLES], replace(candidate, refit=None)  # biases corrected again change little
    plain = _logits(candidate.model, few, streams, compared)
    found: dict[frozenset[str], float] = {}
    for group in groups:
        own = frozenset[str]().union(*group)
        others = {layer.name: "reverted" for layer in candidate.plan.layers if layer.name not in own}
        executed = _error(plain, _logits(bare.without(others).executable(), few, streams, compared))
        known = sum(simulated[unit] for unit in group)
        more = max(executed - known, 0.0) / len(group) if math.isfinite(known) else 0.0
        found |= {unit: simulated[unit] + more for unit in group}
    return {unit: found[unit] for unit in simulated}


def _logits(
    model: ov.Model,
    samples: Sequence[Feed],
    streams: int,
    compared: ComparedOutputs,
    compiled: ov.CompiledModel | None = None,
    config: Mapping[str, Any] = F32,
) -> list[list[NDArray[Any]]]:
    """Return what is compared of a model, perhaps compiled already, for each sample, or frame, in their order."""
    form = compared_form(model, compared)
    if compiled is None or form is not model:
        compiled = compile_model(form, config, streams=streams)
    return [[part.copy() for part in compared.logits(outputs)] for outputs in infer_all(compiled, samples)]


def _error(plain: Sequence[Sequence[NDArray[Any]]], other: Sequence[Sequence[NDArray[Any]]]) -> float:
    """Return the error of outputs, as a sensitivity."""
    sums = _Sums()
    for before, after in zip(plain, other, strict=True):
        sums.add(np.array([squared_error(y, y_q) for y, y_q in zip(before, after, strict=True)]))
    return sums.sensitivity()


def groups_of(
    candidate: Candidate, units: Sequence[frozenset[str]], memory_limit: int
) -> list[tuple[frozenset[str], ...]]:
    """Split the units, in order, into groups whose switches fit ``memory_limit`` bytes; each has at least one."""
    groups: list[list[frozenset[str]]] = []
    used = 0
    for unit, size in zip(units, added_bytes(candidate.model, candidate.plan, units), strict=True):
        if not groups or used + size > memory_limit:
            groups.append([])
            used = 0
        groups[-1].append(unit)
        used += size
    return [tuple(group) for group in groups]


class _Sums:
    """Power and squared error of each part, ``(parts, 2)``, summed in a fixed order."""

    def __init__(self) -> None:
        self.total: NDArray[np.float64] | None = None

    def add(self, errors: NDArray[np.float64]) -> None:
        self.total = errors if self.total is None else self.total + errors

    def sensitivity(self) -> float:
        """Return the mean of the ratios over the parts that aren't all zero."""
        if self.total is None:
            return 0.0
        ratios = [wrong / power for power, wrong in self.total.tolist() if power > 0]
        sensitivity = sum(ratios) / len(ratios) if ratios else 0.0
        return sensitivity if math.isfinite(sensitivity) else math.inf


def _ask(
    candidate: Candidate,
    units: Sequence[frozenset[str]],
    samples: Sequence[Frames],
    streams: int,
    compared: ComparedOutputs,
) -> list[NDArray[np.float64]]:
    """Return power and squared error for each unit, ``(parts, 2)``, summed over the samples in their order."""
    shapes = _shapes(samples[0][0])
    model = switch_model(candidate.model, candidate.plan, candidate.edits, units, shapes)
    # with switches in between no layer would run in INT8, and the plug-in would still rewrite the quantizers
    compiled = compile_model(compared_form(model, compared), SIMULATED, streams=streams)
    off = (_switched(sample, np.zeros(len(units), np.float32)) for sample in samples)
    plain = [[part.copy() for part in compared.logits(outputs)] for outputs in infer_all(compiled, off)]
    first = [0, *itertools.accumulate(map(len, samples))]  # where the frames of each sample start in ``plain``
    runs = (
        (unit, first[number] + frame)
        for number, frames in enumerate(samples)
        for unit in range(len(units))
        for frame in range(len(frames))
    )
    sums = np.zeros((len(units), len(compared.parts), 2))
    for (unit, frame), outputs in zip(runs, infer_all(compiled, _jobs(samples, len(units))), strict=True):
        pairs = zip(plain[frame], compared.logits(outputs), strict=True)
        sums[unit] += [squared_error(y, y_u) for y, y_u in pairs]
    return list(sums)


def _switched(sample: Frames, switches: NDArray[np.float32]) -> Frames:
    return Frames((*frame, switches) for frame in sample)


def _jobs(samples: Sequence[Frames], units: int) -> Iterator[Frames]:
    single = np.eye(units, dtype=np.float32)
    return (_switched(sample, single[unit].copy()) for sample in samples for unit in range(units))


def _shapes(frame: Sequence[NDArray[Any]]) -> tuple[tuple[int, ...], ...]:
    return tuple(array.shape for array in frame)


def _by_shapes(samples: Sequence[Feed]) -> list[list[Frames]]:
    """Group samples by their shapes, which are fixed in a switch model; groups in order of appearance."""
    groups: dict[tuple[tuple[int, ...], ...], list[Frames]] = {}
    left = FRAMES
    for sample in samples:
        frames = sample if isinstance(sample, Frames) else Frames([tuple(sample)])
        first = _shapes(frames[0])
        if isinstance(sample, Frames):
            alike = itertools.takewhile(lambda frame, first=first: _shapes(frame) == first, sample)
            frames = Frames(itertools.islice(alike, left))
            left -= len(frames)
        if frames:
            groups.setdefault(first, []).append(frames)
    return list(groups.values())
