"""The instrumented model: reductions behind the tensors of interest, leaving as one flat output.

::

    tensor ─┬─▶ consumers (untouched)
            ├─▶ ReduceMax ─┐
            ├─▶ ReduceMin ─┼─▶ Concat [high₀, low₀, check₀, high₁, …] ─▶ Result 0, the model's own Results behind it
            └─▶ ReduceSum ─┘

Results decide the order of execution. The taps' Result comes first and interleaves the tensors in topological order,
so each reduction runs right behind its producer: read from cache, and the tensor is freed when the network itself is
done with it. Appended after the Results, the same taps keep every tensor alive (twice the memory of a large U-Net).
One Concat costs a fraction of one Result a value.

What can be proved is not computed: the minimum of a tensor that is never negative, and the finiteness sum of one
that can't hold NaN (ReduceMax swallows NaN, and Relu and Clamp turn it into a bound).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from calib.errors import StatisticsError
from calib.plan import TensorId
from calib.runtime.session import ov

op = ov.opset13


@dataclass(frozen=True)
class Need:
    """What is to be collected of a tensor, besides its exact extremes.

    Attributes:
        histogram: a histogram of its values.
        channels: extremes of every channel.
        channel_axis: where the channels lie: 1 behind convolutions, -1 in front of a MatMul.
        channel_mean: the mean of every channel.
    """

    histogram: bool = False
    channels: bool = False
    channel_axis: int = 1
    channel_mean: bool = False


class Kind(StrEnum):
    """What a segment of the flat output holds."""

    HIGH = "high"  # maximum, one value or one a channel
    LOW = "low"  # minimum, likewise; absent where the tensor is never negative
    CHECK = "check"  # a sum that is finite if the tensor is; absent where NaN is impossible
    MEAN = "mean"  # mean of every channel; serves as the check too
    VALUES = "values"  # raw values for a histogram


@dataclass(frozen=True)
class Segment:
    """A run of values in the flat output.

    Attributes:
        tensor: index into ``Taps.tensors``.
        size: number of values.
        per_channel: whether they are one a channel.
    """

    tensor: int
    kind: Kind
    size: int
    per_channel: bool = False


@dataclass(frozen=True)
class Taps:
    """What the first output of the instrumented model holds.

    Attributes:
        tensors: what is tapped, in topological order.
        skipped: what can't be tapped, and why.
    """

    tensors: tuple[TensorId, ...]
    segments: tuple[Segment, ...]
    skipped: Mapping[TensorId, str]


def tap(model: ov.Model, needs: Mapping[TensorId, Need]) -> tuple[ov.Model, Taps]:
    """Return a clone of ``model`` with a flat f32 output 0 put in front of its own, and the description of it.

    The model itself is not changed. Sinks are carried, so a stateful model keeps its state updates.

    Raises:
        StatisticsError: a tensor isn't in the model.
    """
    clone = model.clone()
    ordered = clone.get_ordered_ops()
    names = {node.get_friendly_name(): index for index, node in enumerate(ordered)}
    missing = [str(tensor) for tensor in needs if tensor.node not in names]
    if missing:
        raise StatisticsError(
            f"statistics were asked for {missing[0]}, which is not a tensor of model {model.get_friendly_name()!r}"
        )
    signs = _signs(ordered)
    builder = _Builder()
    skipped: dict[TensorId, str] = {}
    for tensor in sorted(needs, key=lambda t: (names[t.node], t.output)):
        output = ordered[names[tensor.node]].output(tensor.output)
        reason = why_not(output)
        if reason:
            skipped[tensor] = reason
        else:
            builder.add(tensor, output, needs[tensor], signs.get(tensor.node, _Sign()))
    if not builder.tensors:
        return clone, Taps((), (), skipped)
    results = [op.result(builder.joined()), *clone.get_results()]
    tapped = ov.Model(results, clone.get_sinks(), clone.get_parameters(), clone.get_friendly_name())
    return tapped, Taps(tuple(builder.tensors), tuple(builder.segments), skipped)


def why_not(output: ov.Output) -> str:
    """Return why no statistics can be collected of a tensor; empty where they can."""
    kind = output.get_element_type()
    if kind != ov.Type.f32:
        return f"its values are {kind.get_type_name()}, and statistics are collected of f32 tensors only"
    return ""


class _Builder:
    """Collects the taps of one model; reduction axes are shared constants."""

    def __init__(self) -> None:
        self.tensors: list[TensorId] = []
        self.segments: list[Segment] = []
        self._parts: list[ov.Output] = []
        self._constants: dict[tuple[int, ...], ov.Node] = {}

    def add(self, tensor: TensorId, output: ov.Output, need: Need, sign: _Sign) -> None:
        self.tensors.append(tensor)
        shape = output.get_partial_shape()
        channels, axis = _channels(shape, need.channel_axis)
        per_channel = need.channels and channels > 0
        self._reduce(Kind.HIGH, op.reduce_max, output, channels if per_channel else 0, axis)
        if not sign.positive:
            self._reduce(Kind.LOW, op.reduce_min, output, channels if per_channel else 0, axis)
        if need.channel_mean and channels > 0:
            self._reduce(Kind.MEAN, op.reduce_mean, output, channels, axis)
        elif not sign.clean:
            self._reduce(Kind.CHECK, op.reduce_sum, output, 0, axis)

    def joined(self) -> ov.Node:
        return op.concat(self._parts, 0)

    def _reduce(self, kind: Kind, reduce: Callable[..., ov.Node], output: ov.Output, channels: int, axis: int) -> None:
        """Append a reduction over all axes, or over all but the channels'."""
        shape = output.get_partial_shape()
        if shape.rank.is_dynamic or len(shape) == 0:
            flat = op.reshape(output, self._constant(-1), False)
            reduced = reduce(flat, self._constant(0), keep_dims=True)
        else:
            axes = [a for a in range(len(shape)) if not (channels and a == axis)]
            # keep_dims: without it the CPU plugin reorders before it drops the axes
            reduced = reduce(output, self._constant(*axes), keep_dims=True)
            reduced = op.reshape(reduced, self._constant(-1), False)
        self._parts.append(reduced.output(0))
        self.segments.append(Segment(len(self.tensors) - 1, kind, channels or 1, channels > 0))

    def _constant(self, *values: int) -> ov.Node:
        if values not in self._constants:
            self._constants[values] = op.constant(np.array(values, np.int64))
        return self._constants[values]


def _channels(shape: ov.PartialShape, axis: int) -> tuple[int, int]:
    """Return the number of channels (0 where it isn't known) and their axis counted from the front."""
    if shape.rank.is_dynamic or len(shape) < 2:
        return 0, 0
    axis = axis % len(shape)
    return (shape[axis].get_length() if shape[axis].is_static else 0), axis


@dataclass(frozen=True)
class _Sign:
    """What is known of a node's outputs: never negative; and never NaN either."""

    positive: bool = False
    clean: bool = False


# They can't return a negative number, whatever they are given (Clamp: where its lower bound is not negative).
_POSITIVE = frozenset(
    {"Relu", "Sigmoid", "Softmax", "Abs", "Exp", "Sqrt", "SoftPlus", "HSigmoid", "ReduceL1", "ReduceL2"}
)
# They return what they are given, or sums of it: inputs that are never negative stay so, and no NaN is made (the
# only sum of such inputs that overflows is inf, which the maximum shows).
_KEEP_FIRST = frozenset(
    {"MaxPool", "AvgPool", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Split", "VariadicSplit", "Slice"}
    | {"StridedSlice", "ShuffleChannels", "SpaceToDepth", "DepthToSpace", "ReduceMean", "ReduceMax", "ReduceSum"}
)
_KEEP_ALL = frozenset({"Concat", "Add"})


def _signs(ordered: list[ov.Node]) -> dict[str, _Sign]:
    """Return by name the nodes whose outputs are never negative."""
    found: dict[str, _Sign] = {}
    unknown = _Sign()
    for node in ordered:
        kind = node.get_type_name()
        if kind in _POSITIVE:
            found[node.get_friendly_name()] = _Sign(True, kind == "Relu")
        elif kind == "Clamp":
            if node.get_attributes()["min"] >= 0:
                found[node.get_friendly_name()] = _Sign(True, True)
        elif kind in _KEEP_FIRST or kind in _KEEP_ALL or kind == "Interpolate":
            count = node.get_input_size() if kind in _KEEP_ALL else 1
            inputs = [found.get(node.input_value(i).get_node().get_friendly_name(), unknown) for i in range(count)]
            if all(sign.positive for sign in inputs) and (kind != "Interpolate" or _averages(node)):
                found[node.get_friendly_name()] = _Sign(True, all(sign.clean for sign in inputs))
    return found


def _averages(node: ov.Node) -> bool:
    """Say whether an Interpolate's weights are never negative (a cubic one undershoots)."""
    return "cubic" not in str(node.get_attributes().get("mode", "cubic"))
