"""Make a candidate's INT8 model run: leave out the layers whose quantization OpenVINO can't compile or run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from calib.corrections.candidate import Candidate
from calib.errors import ExecutionError
from calib.runtime.failures import FAILURES, said

Made = TypeVar("Made")


def without_failing(
    candidate: Candidate, attempt: Callable[[Candidate], Made], failure: Exception
) -> tuple[Candidate, Made]:
    """Return the candidate without the layers that make an attempt fail, and what the attempt returned then.

    Those layers are found by bisection, the first in order and then the next; each has what OpenVINO said as its
    reason in the plan.

    Args:
        candidate: Candidate with which the attempt failed.
        attempt: Function that compiles the candidate's INT8 model, and may run it.
        failure: What it raised, one of ``FAILURES``.

    Raises:
        ExecutionError: The attempt fails, whichever layers are left out.
        MemoryError: There is not enough memory.
    """
    for _ in range(8):
        reason = f"OpenVINO could not compile it in INT8: {said(failure)}"
        candidate = without(candidate, _first_failing(candidate, attempt), reason)
        try:
            return candidate, attempt(candidate)
        except FAILURES as error:
            failure = error
    raise ExecutionError(
        f"{candidate.model.get_friendly_name()}: OpenVINO can't compile the quantized model, even without eight of its "
        f"layers; leave more out with --ignore. It said: {said(failure)}"
    ) from failure


def _first_failing(candidate: Candidate, attempt: Callable[[Candidate], object]) -> list[str]:
    """Return the layer with which the shortest failing head of the plan ends; empty if the plan is."""
    names = [layer.name for layer in candidate.plan.layers]
    bare = replace(candidate, refit=None)  # biases decide nothing
    fits, breaks = 0, len(names)
    while breaks - fits > 1:
        middle = (fits + breaks) // 2
        try:
            attempt(without(bare, names[middle:]))
            fits = middle
        except FAILURES as error:
            said(error)  # memory that ran out is no layer's fault
            breaks = middle
    return names[breaks - 1 : breaks]


def without(candidate: Candidate, layers: Sequence[str], reason: str = "reverted") -> Candidate:
    """Return the candidate with layers back in floating point; corrections that depended on them are computed again."""
    return candidate.without(dict.fromkeys(layers, reason))
