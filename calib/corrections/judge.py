"""The one guard of all corrections: output error of the real INT8 model on calibration samples held out for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calib.graph.insert import Edits, insert
from calib.graph.load import output_name
from calib.graph.view import GraphView
from calib.plan import QuantizationPlan
from calib.runtime.session import compile_model, infer_all, ov

Arrays = Sequence[NDArray[Any]]


class Settle(Protocol):
    """Computes anew what depended on layers that have left the plan."""

    mark: str
    """What it is computed from, besides the draft: with the draft's own contents it identifies every result."""

    def __call__(self, draft: Draft) -> Draft:
        """Return the draft with edits that belong to its plan."""
        ...


@dataclass(frozen=True)
class Draft:
    """A model on its way to INT8.

    Attributes:
        model: the floating-point network, equalized if that helped.
        plan: with ranges.
        edits: of weights and biases.
        settle: finds the edits again for a plan with fewer layers; None where each layer's depend on nothing but
            itself, and those of the layers that stay are as good as before.
    """

    model: ov.Model
    view: GraphView
    plan: QuantizationPlan
    edits: Edits
    settle: Settle | None = None

    def without(self, reasons: Mapping[str, str]) -> Draft:
        """Return the draft with layers back in floating point, as they are in the equalized network.

        Args:
            reasons: layer → why.
        """
        plan = self.plan
        for reason in dict.fromkeys(reasons.values()):
            plan = plan.without([layer for layer in reasons if reasons[layer] == reason], reason)
        left = replace(self, plan=plan, edits=self.edits.without(frozenset(reasons)))
        return self.settle(left) if self.settle else left

    def quantized(self) -> ov.Model:
        """Insert the plan and the edits."""
        return insert(self.model, self.plan, self.edits)

    def executable(self) -> ov.Model:
        """Insert them in the form that runs fastest: the same numbers, zero points folded into biases."""
        return insert(self.model, self.plan, self.edits, fold=True)


@dataclass(frozen=True)
class Trial:
    """A draft as it was scored.

    Attributes:
        compiled: ``model`` compiled, so that who wants to know what ran need not compile it again.
        errors: output name → normalized error.
    """

    model: ov.Model
    compiled: ov.CompiledModel
    errors: dict[str, float]


class Judge:
    """Scores drafts by the SQNR of the network's outputs.

    Args:
        reference: the FP32 network as it came.
        held: samples that neither statistics nor corrections see.
        streams: how many samples run at the same time.
        outputs: of the reference on these samples, where another pass has run them already.

    Attributes:
        held: those samples.
    """

    def __init__(
        self,
        reference: ov.Model,
        held: Sequence[Arrays],
        streams: int = 1,
        outputs: Sequence[list[NDArray[Any]]] | None = None,
    ):
        self.held = list(held)
        self._streams = streams
        self._names = output_names(reference)
        self._reference = self._run(self._compile(reference)) if outputs is None else list(outputs)

    @property
    def useful(self) -> bool:
        """Whether there is a floating-point output to compare."""
        return any(array.dtype.kind == "f" for sample in self._reference[:1] for array in sample)

    def __call__(self, draft: Draft) -> float:
        """Return the SQNR in dB: the errors, normalized for each output, averaged over the outputs."""
        return decibel(self.errors(draft.quantized()))

    def errors(self, model: ov.Model) -> dict[str, float]:
        """Return output name → sum of squared errors over sum of squares, floating-point outputs only."""
        return self.trial(model).errors

    def trial(self, model: ov.Model) -> Trial:
        """Compile a model and score it."""
        compiled = self._compile(model)
        return Trial(model, compiled, normalized_errors(self._names, self._reference, self._run(compiled)))

    def _compile(self, model: ov.Model) -> ov.CompiledModel:
        return compile_model(model, streams=self._streams)

    def _run(self, compiled: ov.CompiledModel) -> list[list[NDArray[Any]]]:
        results: list[list[NDArray[Any]]] = [[] for _ in self.held]

        def receive(index: int, outputs: list[NDArray[Any]]) -> None:
            results[index] = [output.copy() for output in outputs]

        infer_all(compiled, (dict(enumerate(a)) for a in self.held), receive)
        return results


def normalized_errors(names: Sequence[str], reference: Sequence[Arrays], outputs: Sequence[Arrays]) -> dict[str, float]:
    """Return output name → ``sum (y - y_q)² / sum y²`` over all samples, in sample order, float64.

    Integer and index outputs are left out: their differences have no unit. So is an output whose shape depends on
    the data and came out differently.
    """
    errors: dict[str, float] = {}
    for position, name in enumerate(names):
        wrong, power, usable = 0.0, 0.0, True
        for before, after in zip(reference, outputs, strict=True):
            y, y_q = before[position], after[position]
            usable = usable and y.dtype.kind == "f" and y.shape == y_q.shape
            if usable and y.size:
                finite = np.isfinite(y)
                y64 = np.where(finite, y, 0).astype(np.float64)
                wrong += float(((y64 - np.where(finite, y_q, 0)) ** 2).sum())
                power += float((y64**2).sum())
        if usable and power > 0:
            errors[name] = wrong / power
    return errors


def decibel(errors: dict[str, float]) -> float:
    """Return the SQNR of averaged normalized errors; 200 dB for none at all."""
    mean = sum(errors.values()) / len(errors) if errors else 0.0
    if not math.isfinite(mean):
        return -200.0
    return min(200.0, -10 * math.log10(mean)) if mean > 0 else 200.0


def output_names(model: ov.Model) -> list[str]:
    """Return a name for each output, in order."""
    return [output_name(port) for port in model.outputs]
