"""The instrumented model: reductions behind the tensors of interest, leaving as one flat output.

::

    tensor ─┬─▶ consumers (untouched)
            ├─▶ ReduceMax ─┐
            ├─▶ ReduceMin ─┤
            ├─▶ ReduceSum ─┼─▶ Concat [high₀, low₀, check₀, values₀, high₁, …] ─▶ Result 0, before the model's own
            └─▶ Slice ─────┘

Results decide the order of execution. The taps' Result comes first and interleaves the tensors in topological order,
so each reduction runs right behind its producer: read from cache, and the tensor is freed when the network itself is
done with it. Appended after the Results, the same taps keep every tensor alive (twice the memory of a large U-Net).
One Concat costs a fraction of one Result a value.

What can be proved is not computed: the minimum of a tensor that is never negative, and the finiteness sum of one
that can't hold NaN (ReduceMax swallows NaN, and Relu and Clamp turn it into a bound).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calib.errors import StatisticsError
from calib.graph.cuts import take
from calib.graph.insert import settled
from calib.graph.view import UNKNOWN, Sign, signs
from calib.runtime.session import make_model, ov
from calib.values.plan import TensorId

op = ov.opset13


@dataclass(frozen=True)
class Need:
    """What is to be collected of a tensor, besides its exact extremes.

    Attributes:
        histogram: a histogram of its values.
        channels: extremes of every channel.
        channel_axis: where the channels lie: 1 behind convolutions, -1 in front of a MatMul.
    """

    histogram: bool = False
    channels: bool = False
    channel_axis: int = 1


class Kind(StrEnum):
    """What a segment of the flat output holds."""

    HIGH = "high"  # maximum, one value or one a channel
    LOW = "low"  # minimum, likewise; absent where the tensor is never negative
    CHECK = "check"  # a sum that is finite if the tensor is; absent where NaN is impossible
    VALUES = "values"  # raw values for a histogram


@dataclass(frozen=True)
class Segment:
    """A run of values in the flat output.

    Attributes:
        tensor: index into ``Taps.tensors``.
        size: number of values, -1 where it depends on the sample: their count then comes first, as one more value.
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
    """

    tensors: tuple[TensorId, ...]
    segments: tuple[Segment, ...]

    def starts(self, flat: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return where each segment starts in one sample's output, followed by where the last one stops."""
        if self._fixed is not None:
            return self._fixed
        position, found = 0, []
        for segment in self.segments:
            if segment.size < 0:
                size, position = int(flat[position]), position + 1
            else:
                size = segment.size
            found.append(position)
            position += size
        return np.array([*found, position])

    @cached_property
    def _fixed(self) -> NDArray[np.int64] | None:
        sizes = [segment.size for segment in self.segments]
        return None if -1 in sizes else np.cumsum([0, *sizes])


def tap(model: ov.Model, needs: Mapping[TensorId, Need], cuts: Mapping[TensorId, int]) -> tuple[ov.Model, Taps]:
    """Return a clone of ``model`` with a flat f32 output 0 put in front of its own, and the description of it.

    The model itself is not changed. Sinks are carried, so a stateful model keeps its state updates.

    Args:
        model: what to instrument.
        needs: what to collect of which tensor.
        cuts: about how many values of which tensors leave the model, for histograms.

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
    known = signs(ordered)
    builder = _Builder()
    for tensor in sorted(needs, key=lambda t: (names[t.node], t.output)):
        output = ordered[names[tensor.node]].output(tensor.output)
        if not _tappable(output):
            continue
        builder.tensors.append(tensor)
        builder.reduce(output, needs[tensor], known.get(tensor.node, UNKNOWN))
        if tensor in cuts:
            builder.cut(output, cuts[tensor], needs[tensor].channel_axis)
    if not builder.segments:
        return clone, Taps((), ())
    results = [op.result(builder.joined()), *clone.get_results()]
    tapped = make_model(results, clone.get_parameters(), clone.get_sinks(), clone.get_friendly_name())
    return tapped, Taps(tuple(builder.tensors), tuple(builder.segments))


def _tappable(output: ov.Output) -> bool:
    """Tell whether statistics can be collected of a tensor: of f32, its rank known before it runs."""
    return output.get_element_type() == ov.Type.f32 and output.get_partial_shape().rank.is_static


class _Builder:
    """Collects the taps of one model; reduction axes are shared constants."""

    def __init__(self) -> None:
        self.tensors: list[TensorId] = []
        self.segments: list[Segment] = []
        self._parts: list[ov.Output] = []
        self._constants: dict[tuple[int, ...], ov.Node] = {}

    def reduce(self, output: ov.Output, need: Need, sign: Sign) -> None:
        shape = output.get_partial_shape()
        channels, axis = _channels(shape, need.channel_axis)
        per_channel = need.channels and channels > 0
        self._reduce(Kind.HIGH, op.reduce_max, output, channels if per_channel else 0, axis)
        if not sign.positive:
            self._reduce(Kind.LOW, op.reduce_min, output, channels if per_channel else 0, axis)
        if not sign.clean:
            self._reduce(Kind.CHECK, op.reduce_sum, output, 0, axis)

    def cut(self, output: ov.Output, values: int, channel_axis: int) -> None:
        flat, size = take(output, values, channel_axis)
        if size < 0:
            count = op.convert(op.shape_of(flat, "i64"), "f32")  # at most 2^24 values: exact
            self._parts.append(count.output(0))
        self._parts.append(flat.output(0))
        self.segments.append(Segment(len(self.tensors) - 1, Kind.VALUES, size))

    def joined(self) -> ov.Node:
        return op.concat(self._parts, 0)

    def _reduce(self, kind: Kind, reduce: Callable[..., ov.Node], output: ov.Output, channels: int, axis: int) -> None:
        """Append a reduction over all axes, or over all but the channels'."""
        shape = output.get_partial_shape()
        if len(shape) == 0:
            flat = op.reshape(output, self._constant(-1), False)
            reduced = reduce(flat, self._constant(0), keep_dims=True)
        else:
            axes = [a for a in range(len(shape)) if not (channels and a == axis)]
            if channels:  # an axis of 1 costs a quarter more here, and nothing in a reduction over all axes
                axes = [a for a in axes if shape[a].is_dynamic or shape[a].get_length() != 1] or axes
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
    if len(shape) < 2:
        return 0, 0
    axis = axis % len(shape)
    return (shape[axis].get_length() if shape[axis].is_static else 0), axis


def tapped_model(model: ov.Model, names: Sequence[str]) -> ov.Model:
    """Return a clone whose outputs are the model's own, then those of the named layers."""
    clone = model.clone()
    nodes = {node.get_friendly_name(): node for node in clone.get_ordered_ops()}
    results = [
        ov.opset13.result(nodes[settled(nodes, name)].output(0)) for name in names
    ]  # also where there is a Result already
    return ov.Model(  # pyright: ignore[reportGeneralTypeIssues]  # the stubs know Model by two names
        [*clone.get_results(), *results], clone.get_sinks(), clone.get_parameters(), clone.get_friendly_name()
    )
