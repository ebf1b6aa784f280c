"""The error of each layer's output, taken only where the models compute what they compute without being looked at.

To see a layer's output it has to become an output of the model, and OpenVINO then runs other kernels. With 2026.4 on a
CPU with AVX2, an INT8 network of three convolutions was at 34.1 dB, and at 14.7 dB once the output of its first
convolution was exposed: figures from such a model blame a layer for what looking at it did. So the outputs of both
models with exposed layers are compared with those without, on a few samples, and another form is taken where they
differ: behind the quantizers, in a simulation, fewer layers at a time. Where none computes the same, there is no
figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.layer_error import LayerError
from calib.graph.layer_taps import behind_quantizers
from calib.graph.layers import LAYERS, channel_axis
from calib.graph.taps import tapped_model
from calib.graph.view import GraphView
from calib.runtime.failures import FAILURES
from calib.runtime.session import F32, SIMULATED, Session, ov
from calib.samples.feed import Arrays
from calib.samples.sample import Frames
from calib.values.plan import TensorId
from calib.values.sqnr import decibel, squared_error

# Compiling element-wise chains to code of their own takes a third of a tapped FP32 model's compilation. A tapped INT8
# model is computed wrongly without (OpenVINO 2026.4: Convolution -> Add, Result with a FakeQuantize behind).
QUICK = {**F32, "SNIPPETS_MODE": "DISABLE"}
TAPPED_BYTES = 128 << 20  # of layer outputs at a time; larger networks take several passes
KNOWN = 4  # samples on which the outputs with exposed layers are compared with those without

PASSES = 32  # at most, where looking at fewer layers at a time; each compiles both models

# How far the outputs may move when layers are exposed: 10 dB below the error that is to be explained. 60 dB below the
# signal is what the order of sums does in f32 (measured: 148 dB and more), and no layer can be blamed for it.
MOVED_SHARE = 0.1
MOVED_SIGNAL = 1e-6

Outputs = tuple[Sequence[NDArray[Any]], Sequence[NDArray[Any]]]
"""Outputs of the first and of the second model for one sample."""


@dataclass(frozen=True)
class Form:
    """One way to look at the outputs of layers.

    Attributes:
        taken: End of the sentence "the outputs of layers were taken …"; empty for the layers' own outputs in the model.
        behind: Whether they are taken behind the quantizers.
        config: Properties that both models are compiled with; None for the caller's.
    """

    taken: str
    behind: bool = False
    config: Mapping[str, Any] | None = None


EXPOSED = Form("")
BEHIND = Form("behind the activations and quantizers that follow them", behind=True)
SIMULATION = Form("from a simulation of INT8 in f32, which gives the same outputs as INT8", config=SIMULATED)


@dataclass(frozen=True)
class LayerErrors:
    """Errors of the layers that could be looked at.

    Attributes:
        errors: Mapping from layer to its error.
        notes: Sentences on layers that were looked at in another form, or have no figure.
    """

    errors: dict[str, LayerError]
    notes: list[str]


class Reproduction:
    """Compares the outputs of two models with exposed layers with those of the same models without.

    Attributes:
        samples: Number of samples compared.
    """

    def __init__(self):
        self.samples = 0
        self._sums: NDArray[np.float64] = np.zeros((0, 4))
        self._same_shape = True

    def add(self, known: Outputs, seen: Outputs) -> None:
        """Add one sample's outputs without exposed layers, and with them."""
        rows: list[tuple[float, float, float, float]] = []
        for before, after, seen_before, seen_after in zip(*known, *seen, strict=True):
            self._same_shape &= seen_before.shape == before.shape and seen_after.shape == after.shape
            signal, noise = squared_error(before, after)
            moved = squared_error(before, seen_before)[1], squared_error(after, seen_after)[1]
            rows.append((signal, noise, float(np.max(moved)), squared_error(before, seen_after)[1]))
        self._sums = np.array(rows) if not self.samples else self._sums + np.array(rows)
        self.samples += 1

    @property
    def holds(self) -> bool:
        """Whether every output moves by less than the error that layers are to explain."""
        return self._same_shape and bool(np.all(self._excess <= 1))

    @property
    def sqnr_db(self) -> tuple[float, float]:
        """SQNR of the second model against the first without exposed layers and with them, of the worst output."""
        signal, noise, _, seen = self._sums[int(np.argmax(self._excess))]
        return decibel(signal, noise), decibel(signal, seen)

    @property
    def _excess(self) -> NDArray[np.float64]:
        """How far each output moves, in terms of how far it may; infinite where it is no number."""
        signal, noise, moved, _ = self._sums.T
        allowed = np.maximum(MOVED_SHARE * noise, MOVED_SIGNAL * signal)
        return np.nan_to_num(moved / np.maximum(allowed, np.finfo(np.float64).tiny), nan=np.inf)


@dataclass(frozen=True)
class LayerPair:
    """A layer by its name in each of the two models."""

    before: str
    after: str


@dataclass
class LayerComparer:
    """Finds the error of layers in one form after the other.

    Attributes:
        models: Model to compare with, and another form of it.
        view: View of the first.
        feeds: Function that gives the samples; it is called for each pass.
        known: Outputs of both models without exposed layers, for the first samples, or frames.
        update: Function that is told of each sample that was run.
        configs: Properties that the models are compiled with.
    """

    models: tuple[ov.Model, ov.Model]
    view: GraphView
    feeds: Callable[[], Iterable[Arrays | Frames]]
    known: Sequence[Outputs]
    update: Callable[[int], None] = lambda count: None
    configs: tuple[Mapping[str, Any], Mapping[str, Any]] = (F32, F32)
    _moved: Reproduction | None = field(default=None, init=False)
    _taken: dict[str, int] = field(default_factory=dict[str, int], init=False)
    _lost: list[str] = field(default_factory=list[str], init=False)
    _passes: int = field(default=0, init=False)

    def errors(self, pairs: Sequence[LayerPair], *, halves: bool = False) -> LayerErrors:
        """Return the error of every layer that can be looked at, in passes whose outputs fit ``TAPPED_BYTES``.

        Args:
            pairs: Layers in topological order.
            halves: Whether to go on where the first two forms change the outputs: with a simulation, and with ever
                fewer layers at a time, until ``PASSES`` were made.
        """
        errors: dict[str, LayerError] = {}
        for chunk in _chunks(self.view, pairs):
            errors |= self._of(chunk, halves)
        return LayerErrors(errors, self._notes(len(pairs)))

    def _of(self, chunk: Sequence[LayerPair], halves: bool) -> dict[str, LayerError]:
        for form in (EXPOSED, BEHIND, SIMULATION) if halves else (EXPOSED, BEHIND):
            found = self._in(form, chunk)
            if found is not None:
                self._taken[form.taken] = self._taken.get(form.taken, 0) + len(chunk)
                return found
        if halves and len(chunk) > 1 and self._passes < PASSES:
            middle = len(chunk) // 2
            return self._of(chunk[:middle], halves) | self._of(chunk[middle:], halves)
        self._lost += [pair.before for pair in chunk]
        return {}

    def _in(self, form: Form, chunk: Sequence[LayerPair]) -> dict[str, LayerError] | None:
        """Return the errors of layers in one form; None if its models do not compute what they do otherwise."""
        self._passes += 1
        names = [pair.before for pair in chunk], [pair.after for pair in chunk]
        ends = behind_quantizers(self.models, names) if form.behind else names
        configs = (form.config,) * 2 if form.config is not None else self.configs
        try:
            sessions = [
                Session(tapped_model(model, end), config)
                for model, end, config in zip(self.models, ends, configs, strict=True)
            ]
        except FAILURES:
            if form is EXPOSED:
                raise
            return None  # one form fewer, which the notes say if there is no other
        errors = {pair.before: LayerError(channel_axis(self.view, pair.before)) for pair in chunk}
        reproduction, own = Reproduction(), len(self.models[0].outputs)
        for feed in self.feeds():
            for before, after in zip(*(session.each([feed]) for session in sessions), strict=True):
                if reproduction.samples < len(self.known):
                    reproduction.add(self.known[reproduction.samples], (before[:own], after[:own]))
                    if not reproduction.holds:
                        self._moved = self._moved or reproduction
                        return None
                for error, a, b in zip(errors.values(), before[own:], after[own:], strict=True):
                    if a.shape == b.shape:
                        error.add(a, b)
            self.update(1)
        return errors

    def _notes(self, count: int) -> list[str]:
        """Return why layers were looked at in another form, and which have no figure."""
        if self._moved is None:
            return []
        known, seen = self._moved.sqnr_db
        why = (
            "exposing the outputs of layers changes what OpenVINO computes: the network's output is at "
            f"{seen:.1f} dB with them, and at {known:.1f} dB without"
        )
        notes: list[str] = []
        for taken, layers in self._taken.items():
            if taken:
                notes.append(f"The outputs of {layers} of {count} layers were taken {taken}, since {why}.")
        fewer = self._taken.get("", 0)
        if fewer:
            notes.append(f"The outputs of {fewer} of {count} layers were taken in several passes, since {why}.")
        if self._lost:
            first = "" if len(self._lost) == count else f", {self._lost[0]!r} first,"
            notes.append(f"There is no figure for {len(self._lost)} of {count} layers{first} since {why}.")
        return notes


def known_outputs(first: Iterable[Sequence[NDArray[Any]]], second: Iterable[Sequence[NDArray[Any]]]) -> list[Outputs]:
    """Return the outputs of two models for the first samples, or frames of them, of those for all."""
    return [*islice(zip(first, second, strict=True), KNOWN)]


def layer_sqnr(
    before: ov.Model, view: GraphView, after: ov.Model, feeds: Sequence[Arrays | Frames], known: Sequence[Outputs]
) -> tuple[dict[str, float], list[str]]:
    """Return layer → SQNR in dB of its output in the second model, with the error of all layers before it, and notes.

    Args:
        before: Model to compare with.
        view: View of that model.
        after: Another form of the model, whose layers have the same names.
        feeds: A few samples.
        known: Outputs of both models for these samples, or for the first of them.
    """
    types = GraphView(after).types
    shown = {name: kind for name, kind in view.types.items() if kind in LAYERS and name not in view.inside}
    pairs = [LayerPair(name, name) for name, kind in shown.items() if types.get(name) == kind]
    found = LayerComparer((before, after), view, lambda: feeds, known, configs=(QUICK, F32)).errors(pairs)
    return {name: error.sqnr_db for name, error in found.errors.items()}, found.notes


def _chunks(view: GraphView, pairs: Sequence[LayerPair]) -> Iterator[list[LayerPair]]:
    """Split the layers into chunks whose outputs in f32 stay below ``TAPPED_BYTES``; no chunk for no layers."""
    chunk: list[LayerPair] = []
    used = 0
    for pair in pairs:
        size = 4
        for length in view.shape(TensorId(pair.before)) or ():
            size *= length or 1
        if chunk and used + size > TAPPED_BYTES:
            yield chunk
            chunk, used = [], 0
        chunk.append(pair)
        used += size
    if chunk:
        yield chunk
