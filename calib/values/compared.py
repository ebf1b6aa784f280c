"""What of a network's outputs is compared: its tensors in parts, each of one meaning; numpy only.

An output can hold several things: boxes in hundreds of pixels and scores below 1 in one tensor. One error over all of
it is that of the boxes. So a joined output is compared part by part, each relative to its own power, as if the parts
were outputs of their own. ``calib.graph.comparable`` finds the parts in a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.values.plan import TensorId


@dataclass(frozen=True)
class Bound:
    """The last function of a tensor, if it hides errors near its bounds.

    Attributes:
        kind: "Softmax", "LogSoftmax" or "Sigmoid".
        axis: Axis of a Softmax; None if a change of shape has dissolved it.
    """

    kind: str
    axis: int | None = None


@dataclass(frozen=True)
class Window:
    """A run of positions along one axis of a tensor.

    Attributes:
        stop: First position behind the run; None for the end of the axis.
        every: Number of positions after which the run comes again, as for each anchor of a head; 0 for a single run.
    """

    axis: int
    start: int
    stop: int | None
    every: int = 0

    @property
    def whole(self) -> bool:
        """Whether it holds every position."""
        return self.start == 0 and self.stop is None and not self.every

    def of(self, length: int) -> slice | NDArray[np.int64]:
        """Return the index of the positions on an axis of this length."""
        if not self.every:
            return slice(self.start, self.stop)
        places = np.arange(length) % self.every
        stop = self.every if self.stop is None else self.stop
        return np.flatnonzero((places >= self.start) & (places < stop))


@dataclass(frozen=True)
class ComparedPart:
    """A part of a tensor that is compared by itself.

    Attributes:
        name: Name for reports: that of the output or tensor, with the positions in numpy's notation if it is a part of
            it, such as ``output[:, 4:]``.
        output: Position of the tensor among the outputs of the model that is compared.
        windows: Positions of the part, at most one window for each axis; empty for the whole tensor.
        bound: Last function of the part, if it is one that hides errors.
        chosen: Whether layers compute it from what a selection chose: where INT8 chooses another, all of it differs.
    """

    name: str
    output: int
    windows: tuple[Window, ...] = ()
    bound: Bound | None = None
    chosen: bool = False

    def of(self, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the part of these outputs, a view if it is one run; an output of too few axes is returned whole."""
        array = outputs[self.output]
        index: list[slice | NDArray[np.int64]] = [slice(None)] * array.ndim
        for window in self.windows:
            if window.axis < array.ndim:
                index[window.axis] = window.of(array.shape[window.axis])
        return array[tuple(index)]


@dataclass(frozen=True)
class ComparedOutputs:
    """What is compared of two forms of a network, such as FP32 and INT8.

    Attributes:
        parts: Parts that are compared.
        extra: Tensors that the compared form has as further outputs, behind its own: those that decide outputs that
            can't be compared themselves.
        notes: Sentences for the report on outputs that are compared by other tensors, or not at all.
    """

    parts: tuple[ComparedPart, ...]
    extra: tuple[TensorId, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Name of each part."""
        return [part.name for part in self.parts]

    def values(self, outputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the parts of the outputs of one sample."""
        return [part.of(outputs) for part in self.parts]

    def logits(self, outputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the same with the logits of parts that hold probabilities."""
        return [logits(part.of(outputs), part.bound) for part in self.parts]


def logits(y: NDArray[Any], bound: Bound | None) -> NDArray[Any]:
    """Return the logits of probabilities: ``log p`` minus its mean along a Softmax's axis, or ``log p / (1 - p)``.

    Probabilities that single precision can't tell from 0 or 1 are replaced by the nearest that it can. Of a Softmax
    without an axis ``log p`` is returned.
    """
    if bound is None or y.dtype.kind != "f":
        return y
    tiny, y = np.finfo(np.float32).tiny, y.astype(np.float32)
    if bound.kind == "Sigmoid":
        y = np.clip(y, tiny, 1 - np.finfo(np.float32).epsneg)
        return np.log(y) - np.log1p(-y)
    logs = y if bound.kind == "LogSoftmax" else np.log(np.maximum(y, tiny))
    if bound.axis is None or bound.axis >= y.ndim or not y.size:
        return logs
    return logs - logs.mean(axis=bound.axis, keepdims=True)
