"""A candidate for the INT8 model: a floating-point network, its plan and the edits of its weights and biases."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

from numpy.typing import NDArray

from calib.graph.insert import Edits, insert
from calib.graph.view import GraphView
from calib.runtime.session import ov
from calib.samples.sample import Frames
from calib.values.plan import QuantizationPlan
from calib.values.plan_file import plan_to_json
from calib.values.sqnr import decibel

Arrays = Sequence[NDArray[Any]]

Feed = Arrays | Frames
"""What a sample feeds: arrays in input order, or for a model that keeps state the frames of a sequence."""


class Refit(Protocol):
    """Function that computes edits again after layers that they depended on have left the plan."""

    mark: str
    """What it is computed from, besides the candidate: with the candidate's own contents it identifies every result."""

    def __call__(self, candidate: Candidate) -> Candidate:
        """Return the candidate with edits that belong to its plan."""
        ...


# Weights from which on a compiled candidate is not kept: compiling the one that is chosen once more costs less than the
# memory of two at a time.
LARGE = 64 << 20


@dataclass(frozen=True)
class Candidate:
    """A candidate for the INT8 model before anything is inserted.

    Attributes:
        model: Floating-point network, equalized if that helped.
        plan: Plan with ranges.
        edits: Edits of weights and biases.
        refit: Function that finds the edits again for a plan with fewer layers; None if the edits of each layer depend
            on that layer only, so that they stay valid.
    """

    model: ov.Model
    view: GraphView
    plan: QuantizationPlan
    edits: Edits
    refit: Refit | None = None

    def without(self, reasons: Mapping[str, str]) -> Candidate:
        """Return the candidate with layers back in floating point, as they are in the equalized network.

        Args:
            reasons: Mapping from layer to the reason.
        """
        plan = self.plan
        for reason in dict.fromkeys(reasons.values()):
            plan = plan.without([layer for layer in reasons if reasons[layer] == reason], reason)
        left = replace(self, plan=plan, edits=self.edits.without(frozenset(reasons)))
        return self.refit(left) if self.refit else left

    def quantized(self) -> ov.Model:
        """Return the network with the plan and the edits inserted."""
        return insert(self.model, self.plan, self.edits)

    def executable(self) -> ov.Model:
        """Return the same network in the form that runs fastest, with zero points folded into biases."""
        return insert(self.model, self.plan, self.edits, fold=True)


def weights_in(candidate: Candidate) -> int:
    """Return the number of weights that a candidate quantizes."""
    view = candidate.view
    sizes = (view.shape(view.tensor(weight.port)) or () for weight in candidate.plan.weights)
    return sum(prod(size or 1 for size in shape) for shape in sizes)


def identity_of(candidate: Candidate) -> str:
    """Return a hash of the model that the candidate makes: the same settings make others with other ranges."""
    digest = hashlib.sha256(plan_to_json(candidate.plan).encode())
    for port, (weights, scale) in sorted(candidate.edits.rounded.items(), key=lambda item: str(item[0])):
        digest.update(str(port).encode() + weights.tobytes() + scale.tobytes())
    for layer, delta in sorted(candidate.edits.biases.items()):
        digest.update(layer.encode("utf-8", "surrogatepass") + delta.tobytes())
    if candidate.refit is not None:  # then those of other plans come from more than the ones above
        digest.update(candidate.refit.mark.encode())
    return digest.hexdigest()


def rounded_db(signal: float, noise: float) -> float | None:
    """Return an SQNR in dB for a correction's facts; None if the signal is all zero."""
    return round(decibel(signal, noise), 3) if signal > 0 else None
