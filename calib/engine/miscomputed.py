"""Leave out layers whose INT8 form this CPU executes otherwise than their quantizers say.

Where an INT8 model agrees badly with FP32, it is run as it executes and with its FakeQuantize operations computed in
f32. If the two differ by more than rounding does, and by more than the simulation differs from FP32, the layers are
found by bisection: the plan has heads, in topological order, and the shortest that differs ends with the first such
layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from calib.corrections.candidate import Candidate, Feed
from calib.corrections.half_range import in_half_range
from calib.engine.building import Int8Model, build, for_two_threads, median_db
from calib.graph.comparable import compared_form
from calib.graph.insert import Edits
from calib.runtime.session import F32, SIMULATED, Session, ov
from calib.values.compared import ComparedOutputs

MOST = 8  # layers that are looked for; with more it is the model that does not fit this CPU
REASON = (
    "this CPU executes its INT8 form otherwise than its simulation in f32 ({found:.1f} dB, at least {floor:.3g} dB are "
    "expected)"
)
# Execution and simulation each have the error of quantization. Where that is large, roundings that tip are as large: a
# face detector whose INT8 form is 8 dB from FP32 executed and simulated alike, and the two are 8 to 13 dB apart.
NOISE_DB = 5.0

Values = Sequence[Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Closeness:
    """The SQNR in dB of an execution against its simulation, and the least that is expected of right kernels."""

    found: float
    least: float

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return self.found >= self.least


def least_agreement(floor: float, reference: Values, simulated: Values) -> float:
    """Return the least SQNR in dB of an execution against its simulation if both are right.

    Args:
        floor: That of networks whose quantization makes small errors.
        reference: What is compared of the FP32 network on a few samples.
        simulated: The same of the simulated one.
    """
    return min(floor, median_db(reference, simulated) - NOISE_DB)


def without_miscomputed(
    built: Int8Model,
    feeds: Callable[[], Sequence[Feed]],
    compared: ComparedOutputs,
    floor: float,
    reference: Callable[[], Values],
    *,
    half: bool = False,
) -> Int8Model:
    """Return the model without the layers that make its execution differ from its simulation.

    It is returned as it is if the two agree, and if they still differ without eight layers.

    Args:
        built: Model.
        feeds: Function that loads a few samples.
        compared: What is compared of its outputs.
        floor: Least SQNR in dB of the execution against the simulation, if quantization makes small errors.
        reference: Function that returns what is compared of the FP32 outputs on these samples.
        half: Whether to look for them with weights in half of their range, whose sums do not saturate, and without
            corrections: for a model that is made for CPUs on which sums are exact, and looked at on another one.

    Raises:
        ModelError, RuntimeError: OpenVINO can't compile or run what shows it.
    """
    samples, whole, expected = feeds(), built.candidate, reference()
    if half:
        whole = replace(whole, plan=in_half_range(whole.plan), edits=Edits(), refit=None)

    def agreement(candidate: Candidate) -> Closeness:
        return _agreement(candidate.executable(), samples, compared, floor, expected)

    left, gone, found = whole, dict[str, str](), agreement(whole)
    while not found.holds and len(gone) < MOST:
        layer, differs = _first(left, agreement, found)
        gone[layer] = REASON.format(found=differs.found, floor=differs.least)
        left = whole.without(gone)
        found = agreement(left) if left.plan.layers else Closeness(math.inf, floor)
    return build(built.candidate.without(gone), feeds=feeds) if gone and found.holds else built


def _first(
    candidate: Candidate, agreement: Callable[[Candidate], Closeness], found: Closeness
) -> tuple[str, Closeness]:
    """Return the layer with which the shortest head of the plan that differs ends, and the agreement of that head."""
    names = [layer.name for layer in candidate.plan.layers]
    bare = replace(candidate, refit=None)  # biases decide nothing
    agrees, differs = 0, len(names)
    while differs - agrees > 1:
        middle = (agrees + differs) // 2
        seen = agreement(bare.without(dict.fromkeys(names[middle:], "not yet")))
        agrees, differs, found = (middle, differs, found) if seen.holds else (agrees, middle, seen)
    return names[differs - 1], found


def _agreement(
    model: ov.Model, feeds: Sequence[Feed], compared: ComparedOutputs, floor: float, reference: Values
) -> Closeness:
    """Return how an INT8 model agrees with its simulation on a typical sample, with one thread or two."""
    form = compared_form(model, compared)
    two = for_two_threads(form)
    simulated, *executed = (
        [compared.values(outputs) for outputs in session.each(feeds)]
        for session in (Session(form, SIMULATED), Session(form, F32), *([Session.of(two)] if two else []))
    )
    found = min(median_db(simulated, outputs) for outputs in executed)
    return Closeness(found, least_agreement(floor, reference, simulated))
