"""The one guard of all corrections: output error of the real INT8 model on calibration samples held out for it.

A few dozen samples have to tell recipes apart that differ by a decibel. The sum of squared errors over all of them
can't: where one sample's error is a hundred times another's, that sample decides alone, and behind a Softmax or Sigmoid
most samples show no error at all. On a text-angle classifier recipes at 28 to 32 dB on 100 samples were at 36 to 58 dB
on 20 others. So the score is of the typical sample, and of the logits where an output is probabilities::

    score = -20 log10 (mean over samples of the relative root mean square error)

There the same recipes were at 26 to 31 dB, and at 26 to 30 dB on the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.corrections.candidate import Arrays, Candidate
from calib.loading.load import output_name
from calib.runtime.session import compile_model, infer_all, ov
from calib.values.sqnr import decibel, squared_error


@dataclass(frozen=True)
class Scored:
    """A candidate as it was scored.

    Attributes:
        compiled: ``model`` compiled, so that who wants to know what ran need not compile it again.
        errors: output name → normalized error, over all samples.
        score: SQNR of the typical sample in dB, see :func:`typical_db`.
    """

    model: ov.Model
    compiled: ov.CompiledModel
    errors: dict[str, float]
    score: float


class Scorer:
    """Scores candidates by the SQNR of the network's outputs, of their logits where they are probabilities.

    Args:
        reference: the FP32 network as it came.
        held: samples that neither statistics nor corrections see.
        streams: how many samples run at the same time.
        outputs: of the reference on these samples, where another pass has run them already.

    Attributes:
        held: those samples.
        streams: as given.
        logits: what the outputs of the reference are compared by.
    """

    def __init__(
        self,
        reference: ov.Model,
        held: Sequence[Arrays],
        streams: int = 1,
        outputs: Sequence[list[NDArray[Any]]] | None = None,
    ):
        self.held = list(held)
        self.streams = streams
        self._names = output_names(reference)
        self._reference = self._run(self._compile(reference)) if outputs is None else list(outputs)
        self._bounds = [_bound(port) for port in reference.outputs]
        self.logits = self._unbounded(self._reference)

    @property
    def useful(self) -> bool:
        """Whether there is a floating-point output to compare."""
        return any(array.dtype.kind == "f" for sample in self._reference[:1] for array in sample)

    def __call__(self, candidate: Candidate) -> float:
        """Return the SQNR of the typical sample in dB."""
        return self.score(candidate.quantized()).score

    def errors(self, model: ov.Model) -> dict[str, float]:
        """Return output name → sum of squared errors over sum of squares, floating-point outputs only."""
        return self.score(model).errors

    def score(self, model: ov.Model) -> Scored:
        """Compile a model and score it."""
        compiled = self._compile(model)
        outputs = self._run(compiled)
        errors = normalized_errors(self._names, self._reference, outputs)
        return Scored(model, compiled, errors, typical_db(self.logits, self._unbounded(outputs)))

    def _unbounded(self, samples: Sequence[Arrays]) -> list[list[NDArray[Any]]]:
        return [[logits(y, bound) for y, bound in zip(sample, self._bounds, strict=True)] for sample in samples]

    def _compile(self, model: ov.Model) -> ov.CompiledModel:
        return compile_model(model, streams=self.streams)

    def _run(self, compiled: ov.CompiledModel) -> list[list[NDArray[Any]]]:
        feeds = (dict(enumerate(arrays)) for arrays in self.held)
        return [[output.copy() for output in outputs] for outputs in infer_all(compiled, feeds)]


@dataclass(frozen=True)
class Bound:
    """What an output went through last that hides errors near its ends.

    Attributes:
        kind: "Softmax" or "Sigmoid".
        axis: of a Softmax.
    """

    kind: str
    axis: int = -1


def _bound(output: ov.Output) -> Bound | None:
    """Return what bounds an output, None for nothing; what only moves values behind a Sigmoid is passed through."""
    node, moved = output.get_node().input_value(0).get_node(), False
    while (kind := node.get_type_name()) in ("Reshape", "Squeeze", "Unsqueeze", "Transpose"):
        node, moved = node.input_value(0).get_node(), True
    if kind == "Softmax" and not moved:
        return Bound(kind, node.get_attributes()["axis"])
    return Bound(kind) if kind == "Sigmoid" else None


def logits(y: NDArray[Any], bound: Bound | None) -> NDArray[Any]:
    """Return what made probabilities: ``log p`` less its mean along a Softmax's axis, ``log p / (1 - p)``.

    Probabilities that single precision can't tell from 0 or 1 are taken as the nearest that it can.
    """
    if bound is None or y.dtype.kind != "f":
        return y
    tiny, y = np.finfo(np.float32).tiny, y.astype(np.float32)
    if bound.kind == "Sigmoid":
        y = np.clip(y, tiny, 1 - np.finfo(np.float32).epsneg)
        return np.log(y) - np.log1p(-y)
    logs = np.log(np.maximum(y, tiny))
    return logs - logs.mean(axis=bound.axis, keepdims=True) if y.size else logs


def typical_db(reference: Sequence[Arrays], outputs: Sequence[Arrays]) -> float:
    """Return the SQNR of the typical sample: the amplitudes of errors averaged, not their squares.

    Each sample's squared error is taken relative to the output's mean power over the samples and averaged over the
    outputs. For samples that all are equally wrong it is the SQNR; one that is a hundred times as wrong as the others
    counts ten times as much as one of them, not a hundred times. Integer outputs are left out; one whose shape came
    out differently is all wrong.
    """
    parts = []
    for position in range(len(reference[0]) if reference else 0):
        pairs = [(y[position], y_q[position]) for y, y_q in zip(reference, outputs, strict=True)]
        if all(y.dtype.kind == "f" for y, _ in pairs):
            powers, errors = np.array([squared_error(y, y_q) for y, y_q in pairs]).T
            if (power := powers.mean()) > 0:
                parts.append(errors / power)
    return _relative_db(float(np.sqrt(np.mean(parts, axis=0)).mean()) ** 2 if parts else 0.0)


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
                one_power, one_wrong = squared_error(y, y_q)
                wrong, power = wrong + one_wrong, power + one_power
        if usable and power > 0:
            errors[name] = wrong / power
    return errors


def mean_db(errors: Mapping[str, float]) -> float:
    """Return the SQNR of averaged normalized errors in dB; -inf where they are not finite."""
    return _relative_db(sum(errors.values()) / len(errors) if errors else 0.0)


def _relative_db(error: float) -> float:
    """Return the SQNR of an error relative to the signal; one that is NaN is as bad as any."""
    return decibel(1.0, math.inf if math.isnan(error) else error)


def output_names(model: ov.Model) -> list[str]:
    """Return a name for each output, in order."""
    return [output_name(port) for port in model.outputs]
