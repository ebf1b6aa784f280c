"""Find the parts of a tensor that were joined from tensors of different meaning, such as boxes and scores.

The walk goes back from the tensor through what only moves, joins or splits values, and through arithmetic with
constants::

    boxes ─▶ ×, + grid ─┐
                        ├─▶ Concat ─▶ Transpose ─▶ Result        parts [:, :, :4] and [:, :, 4:]
    scores ─▶ Sigmoid ──┘

Neighbours that are computed alike, such as the levels of a pyramid or the steps of a sequence, stay one part, unless
they are joined along the channels of their layers: then they are other channels of other weights.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from math import prod

from calib.graph.layers import LAYERS
from calib.graph.operations import ELEMENTWISE
from calib.graph.view import GraphView
from calib.values.compared import Bound, Window
from calib.values.plan import TensorId

MOVING = ("Reshape", "Squeeze", "Unsqueeze", "Transpose")
BOUNDING = ("Softmax", "LogSoftmax", "Sigmoid")
PARTED = frozenset({*BOUNDING, "Concat"})  # in a model without any of these, each tensor is one plain part
# Behind a joint these leave each part in place and in its meaning; other functions make one thing of it: a feature map.
ARITHMETIC = frozenset({"Add", "Subtract", "Multiply", "Divide", "Convert", "Clamp", "Minimum", "Maximum"})
MOST_PARTS = 16  # more are not of different meaning: channel groups, steps, dense blocks
COMPARED_TYPES = 64  # of what computes two neighbours, nearest first: enough to tell one head from another


@dataclass(frozen=True)
class Joined:
    """A part of a tensor.

    Attributes:
        source: Tensor that the walk ended at.
        windows: Its positions in the tensor that the walk started from.
        computed: Whether any layer takes part in it.
    """

    source: TensorId
    windows: tuple[Window, ...] = ()
    bound: Bound | None = None
    computed: bool = True


class OutputParts:
    """Finds the parts of tensors of one model.

    Args:
        view: View of the model.
        computed: Names of the nodes that a layer takes part in.
    """

    def __init__(self, view: GraphView, computed: Set[str]):
        self._view, self._computed = view, computed

    def of(self, tensor: TensorId) -> list[Joined]:
        """Return the parts of a tensor in order; one without windows if it was not joined, or can't be told apart."""
        parts = self._of(tensor)
        return parts if len(parts) <= MOST_PARTS else [Joined(tensor)]

    def _of(self, tensor: TensorId) -> list[Joined]:
        whole = Joined(tensor, computed=tensor.node in self._computed)
        kind, reads = self._view.types[tensor.node], self._view.inputs[tensor.node]
        if not whole.computed:
            return [whole]
        if kind in BOUNDING:
            return [replace(whole, bound=self._bound(tensor.node))]
        if kind in MOVING:
            moved = [self._moved(tensor.node, part) for part in self._of(reads[0])]
            return [part for part in moved if part is not None] if None not in moved else [whole]
        if kind == "Concat":
            return self._concat(tensor.node) or [whole]
        if kind in ("Split", "VariadicSplit"):
            return self._piece(tensor) or [whole]
        if kind in ARITHMETIC and (source := self._only_computed(tensor)) is not None:
            parts = self._of(source)
            if kind == "Convert":
                return parts
            return [replace(part, bound=None) for part in parts] if _joined(parts) else [whole]
        return [whole]

    def _bound(self, node: str) -> Bound:
        kind, rank = self._view.types[node], self._rank(TensorId(node))
        if kind == "Sigmoid" or rank is None:
            return Bound(kind)
        return Bound(kind, self._view.attributes(node)["axis"] % rank)

    def _moved(self, node: str, part: Joined) -> Joined | None:
        """Return a part of a node's input as a part of its output; None if it has no place of its own there."""
        windows: list[Window] = []
        for window in part.windows:
            moved = self._axis_behind(node, window.axis)
            if moved is None:
                return None
            axis, factor = moved
            stop = None if window.stop is None else window.stop * factor
            windows.append(Window(axis, window.start * factor, stop))
        bound = part.bound
        if bound is not None and bound.axis is not None:
            moved = self._axis_behind(node, bound.axis)
            bound = replace(bound, axis=moved[0] if moved is not None and moved[1] == 1 else None)
        return replace(part, windows=tuple(windows), bound=bound)

    def _axis_behind(self, node: str, axis: int) -> tuple[int, int] | None:
        """Return the axis that an axis of a node's input becomes, and how many positions become of one there."""
        source = self._view.inputs[node][0]
        before, after = self._view.shape(source), self._view.shape(TensorId(node))
        if before is None or after is None:
            return None
        if self._view.types[node] == "Transpose":
            order = self._view.inputs[node][1]
            if not self._view.is_constant(order):
                return None
            axes = [int(value) for value in self._view.values(order).reshape(-1)] or list(range(len(before)))[::-1]
            return axes.index(axis), 1
        size = before[axis]
        for place, length in enumerate(after):
            if _size(after[:place]) != _size(before[:axis]):
                continue
            if length == size:
                return place, 1
            if size and length and length % size == 0:  # with the axes behind it
                return place, length // size
        return None

    def _concat(self, node: str) -> list[Joined]:
        """Return the parts that a Concat joins; empty if their positions depend on the sample."""
        reads, rank = self._view.inputs[node], self._rank(TensorId(node))
        if rank is None:
            return []
        axis = self._view.attributes(node)["axis"] % rank
        inner = [self._of(tensor) for tensor in reads]
        runs: list[list[int]] = []
        for place in range(len(reads)):
            if runs and self._alike(reads, inner, place, axis):
                runs[-1].append(place)
            else:
                runs.append([place])
        found: list[Joined] = []
        start: int | None = 0
        for run in runs:
            if start is None:
                return []
            stop = self._end(start, [reads[place] for place in run], axis)
            last = run is runs[-1]
            if len(run) > 1 and any(window.axis == axis for part in inner[run[0]] for window in part.windows):
                return []
            found += [_shifted(part, axis, start, None if last else stop, last) for part in inner[run[0]]]
            start = stop
        return [part for part in found if part.computed]

    def _end(self, start: int, tensors: list[TensorId], axis: int) -> int | None:
        lengths = [(self._view.shape(tensor) or (None,) * (axis + 1))[axis] for tensor in tensors]
        known = [length for length in lengths if length is not None]
        return start + sum(known) if len(known) == len(lengths) else None

    def _alike(self, reads: tuple[TensorId, ...], inner: list[list[Joined]], place: int, axis: int) -> bool:
        """Return whether an input of a Concat holds the same as the one before it, at other positions."""
        one, other = inner[place - 1], inner[place]
        if len(one) != len(other) or axis in (self._channels(reads[place]), self._channels(reads[place - 1])):
            return False
        return all(
            a.windows == b.windows
            and (a.bound, a.computed) == (b.bound, b.computed)
            and (a.bound is None or a.bound.axis != axis)
            and not any(window.axis == axis for window in a.windows)
            and self._signature(a.source) == self._signature(b.source)
            for a, b in zip(one, other, strict=True)
        )

    def _piece(self, tensor: TensorId) -> list[Joined]:
        """Return the parts of one output of a Split; empty if they can't be told."""
        source, along = self._view.inputs[tensor.node][:2]
        parts, rank = self._of(source), self._rank(source)
        if not _joined(parts) or rank is None or not self._view.is_constant(along):
            return []
        axis = int(self._view.values(along).reshape(-1)[0]) % rank
        start = self._end(0, [TensorId(tensor.node, index) for index in range(tensor.output)], axis)
        stop = None if start is None else self._end(start, [tensor], axis)
        if start is None or stop is None:
            return []
        pieces = [_cut(part, axis, start, stop) for part in parts]
        return [piece for piece in pieces if piece is not None]

    def _only_computed(self, tensor: TensorId) -> TensorId | None:
        """Return the input of an element-wise operation whose others are constants, if it has the output's shape."""
        reads = self._view.inputs[tensor.node]
        inner = [source for source in reads if source.node in self._computed]
        if self._view.types[tensor.node] not in ELEMENTWISE or len(inner) != 1:
            return None
        return inner[0] if self._view.shape(inner[0]) == self._view.shape(tensor) else None

    def _channels(self, tensor: TensorId) -> int | None:
        """Return the axis of a tensor with one entry for each channel of the layer that it comes from."""
        kind, rank = self._view.types[tensor.node], self._rank(tensor)
        if kind in LAYERS and rank is not None:
            return max(LAYERS[kind].weights.items())[1].channels % rank
        source = self._view.inputs[tensor.node][0] if kind in MOVING else self._only_computed(tensor)
        axis = None if source is None else self._channels(source)
        if axis is None or kind not in MOVING:
            return axis
        moved = self._axis_behind(tensor.node, axis)
        return moved[0] if moved is not None and moved[1] == 1 else None

    def _signature(self, tensor: TensorId) -> tuple[str, ...]:
        """Return the types of what computes a tensor from the layers before it, nearest first."""
        found: list[str] = []
        queue, seen = [tensor.node], {tensor.node}
        for node in queue:  # grows as it is walked
            kind = self._view.types[node]
            if kind not in MOVING:
                found.append(kind)
            if kind in LAYERS or len(found) >= COMPARED_TYPES:
                continue
            for source in self._view.inputs[node]:
                if source.node in self._computed and source.node not in seen:
                    seen.add(source.node)
                    queue.append(source.node)
        return tuple(found)

    def _rank(self, tensor: TensorId) -> int | None:
        shape = self._view.shape(tensor)
        return None if shape is None else len(shape)


def _joined(parts: list[Joined]) -> bool:
    return len(parts) > 1 or any(part.windows for part in parts)


def _size(shape: tuple[int | None, ...]) -> tuple[int, int]:
    """Return the product of the lengths that are known, and the number of those that are not."""
    return prod(length for length in shape if length is not None), shape.count(None)


def _shifted(part: Joined, axis: int, start: int, stop: int | None, last: bool) -> Joined:
    """Return a part of an input of a Concat as a part of its output."""
    own = next((window for window in part.windows if window.axis == axis), None)
    if own is not None:
        end = own.stop
        window = Window(axis, start + own.start, stop if end is None else start + end)
    else:
        window = Window(axis, start, None if last else stop)
    others = tuple(other for other in part.windows if other.axis != axis)
    return replace(part, windows=others if window.whole else (*others, window))


def _cut(part: Joined, axis: int, start: int, stop: int) -> Joined | None:
    """Return what a part has within some positions, counted from the first of them; None if nothing."""
    own = next((window for window in part.windows if window.axis == axis), Window(axis, 0, None))
    first, end = max(own.start, start), stop if own.stop is None else min(own.stop, stop)
    if first >= end:
        return None
    window = Window(axis, first - start, None if end == stop else end - start)
    others = tuple(other for other in part.windows if other.axis != axis)
    return replace(part, windows=others if window.whole else (*others, window))
