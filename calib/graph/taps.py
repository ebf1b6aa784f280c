"""Instrument a model: reductions after the tensors of interest, returned as one flat output.

::

    tensor ─┬─▶ consumers (untouched)
            ├─▶ ReduceMax ─┐
            ├─▶ ReduceMin ─┤
            ├─▶ ReduceSum ─┼─▶ Concat [high₀, low₀, check₀, values₀, high₁, …] ─▶ Result 0, before the model's own
            └─▶ Slice ─────┘

Results decide the order of execution. The taps' Result comes first and interleaves the tensors in topological order,
so each reduction runs right after its producer: it reads from the cache, and the tensor is freed when the network
itself no longer needs it. After the other Results, the same taps would keep every tensor alive (twice the memory of a
large U-Net). One Concat costs a fraction of one Result per value.

Tensors inside bodies of If, Loop and TensorIterator are tapped there, see :mod:`calib.graph.body_taps`.

Values that can be proved are not computed: the minimum of a tensor that is never negative, and the finiteness sum of
one that can't hold NaN (ReduceMax swallows NaN, and Relu and Clamp turn it into a bound).

A small tensor leaves the model as a whole, without reductions: each of them costs as much as a few thousand numbers.
Its extremes are taken on the host.

A deep network is divided into pieces, see ``graph/pieces.py``, each with a few Concats of its own taps: OpenVINO goes
through all inputs of a Concat whenever one of them is reached, so that one of thousands takes minutes to compile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from math import prod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from calib.errors import StatisticsError
from calib.graph.insert import clone_model, output_node
from calib.graph.pieces import Piece, cut, divided
from calib.graph.taken import copied, int_vector, spread, taken
from calib.graph.view import UNKNOWN, Body, GraphView, Sign, all_nodes, runs_of, signs
from calib.runtime.session import make_model, ov
from calib.values.plan import TensorId

op = ov.opset13

# Values of a tensor that leaves the model as a whole: about what a reduction costs; four times as many if they are
# counted in a histogram, since then they leave it anyway.
SMALL, SMALL_COUNTED = 1 << 12, 1 << 14
# Parts of a Concat, see above.
JOINED = 32


@dataclass(frozen=True)
class Need:
    """Statistics to collect of a tensor besides its exact extremes.

    Attributes:
        histogram: Whether to collect a histogram of its values.
        channels: Whether to collect the extremes of every channel.
        channel_axis: Axis of the channels: 1 after convolutions, -1 before a MatMul.
        of: Tensor of the model that it is made from; None for the tensor of the need's own name.
        factors: Factor of each channel along ``channel_axis`` that it is multiplied with; none to take it as it is.
    """

    histogram: bool = False
    channels: bool = False
    channel_axis: int = 1
    of: TensorId | None = None
    factors: tuple[float, ...] = ()


class Kind(StrEnum):
    """Kind of values in a segment of the flat output."""

    HIGH = "high"  # maximum, one value or one a channel
    LOW = "low"  # minimum, likewise; absent where the tensor is never negative
    CHECK = "check"  # a sum that is finite if the tensor is; absent where NaN is impossible
    VALUES = "values"  # raw values for a histogram
    WHOLE = "whole"  # all values of a small tensor, without a histogram


@dataclass(frozen=True)
class Segment:
    """A run of values in the flat output.

    Attributes:
        tensor: Index into ``Taps.tensors``.
        size: Number of values; -1 if it depends on the sample, in which case their count comes first as one more value.
        per_channel: Whether there is one value per channel.
    """

    tensor: int
    kind: Kind
    size: int
    per_channel: bool = False


@dataclass(frozen=True)
class Taps:
    """Description of the flat output of the instrumented model.

    Attributes:
        tensors: Tapped tensors in topological order.
        segments: What leaves the model, followed by what is taken from that on the host.
        whole: Segment of all values → position of the segments with their maximum and their minimum, if it is needed.
    """

    tensors: tuple[TensorId, ...]
    segments: tuple[Segment, ...]
    whole: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])

    def completed(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one sample's output with the extremes of small tensors, which are taken on the host, at its end."""
        if not self.whole:
            return flat
        starts = self.starts(flat)
        ends = [position + offset for position in self.whole for offset in (0, 1)]
        places = starts[ends].reshape(-1, 2)
        # reduceat takes the last stretch up to the end, and no place behind it
        edges = places.reshape(-1)[: -1 if places[-1, 1] == len(flat) else None]
        result = np.empty(starts[-1], np.float32)
        result[: len(flat)] = flat
        high, low = (kind.reduceat(flat, edges)[::2] for kind in (np.maximum, np.minimum))
        for number, targets in enumerate(self.whole.values()):
            for target, found in zip(targets, (high, low), strict=False):
                result[starts[target]] = found[number]
        return result

    def starts(self, flat: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the start of each segment in one sample's output, followed by the end of the last one."""
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
    def values(self) -> tuple[int, ...]:
        """Positions of the segments of values for histograms, in order."""
        return tuple(place for place, segment in enumerate(self.segments) if segment.kind == Kind.VALUES)

    @cached_property
    def _fixed(self) -> NDArray[np.int64] | None:
        sizes = [segment.size for segment in self.segments]
        return None if -1 in sizes else np.cumsum([0, *sizes])


def tap(
    model: ov.Model, needs: Mapping[TensorId, Need], cuts: Mapping[TensorId, int], streams: int = 1
) -> tuple[tuple[Piece, ...], Taps]:
    """Return a clone of ``model`` in one or more pieces that put out f32 values, and the description of all of these.

    The added outputs of each piece come before its others. The model itself is not changed. Sinks are kept, so a
    stateful model keeps its state updates.

    Args:
        model: Model to instrument.
        needs: Statistics to collect of each tensor.
        cuts: Approximate number of values of each tensor to return for histograms.
        streams: Number of samples that are to run at the same time.

    Raises:
        StatisticsError: A tensor isn't in the model.
    """
    clone = model.clone()
    ordered = list(all_nodes(clone))
    names = {node.get_friendly_name(): index for index, (node, _) in enumerate(ordered)}
    sources = {tensor: need.of or tensor for tensor, need in needs.items()}
    missing = [str(source) for source in sources.values() if source.node not in names]
    if missing:
        raise StatisticsError(
            f"statistics were asked for {missing[0]}, which is not a tensor of model {model.get_friendly_name()!r}"
        )
    known = signs([node for node, _ in ordered])
    nodes = {name: ordered[index][0] for name, index in names.items()}
    stateful = bool(model.get_sinks())
    builder, inner = Builder(stateful=stateful), dict[Body, Builder]()
    own = [node for node, body in ordered if body is None]
    bodies = any(ordered[names[source.node]][1] is not None for source in sources.values())
    pieces = (
        divided(clone, own, {source.node for source in sources.values()}, streams) if not bodies else [0] * len(own)
    )
    piece_of = {node.get_friendly_name(): piece for node, piece in zip(own, pieces, strict=True)}
    for tensor in sorted(needs, key=lambda t: (names[sources[t].node], sources[t].output, bool(needs[t].factors))):
        source = sources[tensor]
        node, body = ordered[names[source.node]]
        output = node.output(source.output)
        if not _tappable(output):
            continue
        output = _scaled(output, needs[tensor])
        taps = builder.at(piece_of[source.node]) if body is None else inner.setdefault(body, Builder(fixed=True))
        values = max(1, cuts[tensor] // runs_of(body, nodes)) if tensor in cuts else None
        taps.add(tensor, output, needs[tensor], known.get(source.node, UNKNOWN), values)
    if inner:
        from calib.graph.body_taps import add_rows  # here: few models have bodies

        add_rows(builder.at(0), inner, nodes)
    return cut(clone, own, pieces, builder.joined()), builder.taps()


def _scaled(output: ov.Output, need: Need) -> ov.Output:
    """Return a tensor times the positive factors of its channels, itself without any."""
    if not need.factors:
        return output
    rank = output.get_partial_shape().rank.get_length()
    shape = [len(need.factors) if axis == need.channel_axis % rank else 1 for axis in range(rank)]
    return op.multiply(output, op.constant(np.array(need.factors, np.float32).reshape(shape))).output(0)


def _tappable(output: ov.Output) -> bool:
    """Return whether statistics of a tensor can be collected: it is f32 and its rank is static."""
    return output.get_element_type() == ov.Type.f32 and output.get_partial_shape().rank.is_static


class Builder:
    """Collects the taps of one model or body; reduction axes are shared constants.

    Args:
        fixed: Whether every segment has to have the same size in all samples, as in a body, whose runs are joined.
        stateful: Whether the model keeps state. OpenVINO 2026.4 lets a Concat share the memory of a tensor that a state
            takes over, and the tensor is overwritten: such a Concat reads extremes, and values behind an operation.
    """

    def __init__(self, *, fixed: bool = False, stateful: bool = False) -> None:
        self.tensors: list[TensorId] = []
        self.segments: list[Segment] = []
        self.parts: list[ov.Output] = []
        self._fixed = fixed
        self._stateful = stateful
        self._firsts: dict[int, int] = {}  # piece → its first part
        self._whole: dict[int, tuple[Segment, ...]] = {}
        self._constants: dict[tuple[int, ...], ov.Node] = {}

    def at(self, piece: int) -> Self:
        """Go on with the taps of a piece; pieces ascend."""
        self._firsts.setdefault(piece, len(self.parts))
        return self

    def add(self, tensor: TensorId, output: ov.Output, need: Need, sign: Sign, values: int | None) -> None:
        """Tap a tensor: all of its values if it is small, else its extremes and if asked for some of its values."""
        self.tensors.append(tensor)
        if not (self._fixed or self._stateful) and _leaves_whole(output, need, values):
            self._cut(Kind.WHOLE if values is None else Kind.VALUES, output, SMALL_COUNTED, need.channel_axis)
            kinds = [Kind.HIGH] if sign.positive else [Kind.HIGH, Kind.LOW]
            index = len(self.tensors) - 1
            self._whole[len(self.segments) - 1] = tuple(Segment(index, kind, 1) for kind in kinds)
            return
        channels, axis = _channels(output.get_partial_shape(), need.channel_axis)
        per_channel = channels if need.channels else 0
        self._reduce(Kind.HIGH, op.reduce_max, output, per_channel, axis)
        if not sign.positive:
            self._reduce(Kind.LOW, op.reduce_min, output, per_channel, axis)
        if not sign.clean:
            self._reduce(Kind.CHECK, op.reduce_sum, output, 0, axis)
        if values is not None:
            self._cut(Kind.VALUES, output, values, need.channel_axis)

    def _cut(self, kind: Kind, output: ov.Output, values: int, channel_axis: int) -> None:
        """Append about ``values`` values of the last tensor of ``tensors``."""
        if self._stateful:
            output = copied(output)
        dynamic = self._fixed and output.get_partial_shape().is_dynamic
        flat, size = (spread(output, values), values) if dynamic else taken(output, values, channel_axis)
        self.values(len(self.tensors) - 1, flat, size, kind)

    def values(self, tensor: int, flat: ov.Node, size: int, kind: Kind = Kind.VALUES) -> None:
        """Append values of a tensor; a size of -1 depends on the sample."""
        if size < 0:
            count = op.convert(op.shape_of(flat, "i64"), "f32")  # at most 2^24 values: exact
            self.parts.append(count.output(0))
        self.parts.append(flat.output(0))
        self.segments.append(Segment(tensor, kind, size))

    def joined(self) -> dict[int, list[ov.Output]]:
        """Return the outputs to add to each piece."""
        ends = [*list(self._firsts.values())[1:], len(self.parts)] if self._firsts else []
        return {
            piece: [op.concat(self.parts[i : min(i + JOINED, end)], 0).output(0) for i in range(first, end, JOINED)]
            for (piece, first), end in zip(self._firsts.items(), ends, strict=True)
        }

    def taps(self) -> Taps:
        """Return the description of what these outputs hold."""
        segments, whole = list(self.segments), dict[int, tuple[int, ...]]()
        for position, derived in self._whole.items():
            whole[position] = tuple(range(len(segments), len(segments) + len(derived)))
            segments += derived
        return Taps(tuple(self.tensors), tuple(segments), whole)

    def _reduce(self, kind: Kind, reduce: Callable[..., ov.Node], output: ov.Output, channels: int, axis: int) -> None:
        """Append a reduction over all axes, or over all but the channel axis."""
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
        self.parts.append(reduced.output(0))
        self.segments.append(Segment(len(self.tensors) - 1, kind, channels or 1, channels > 0))

    def _constant(self, *values: int) -> ov.Node:
        if values not in self._constants:
            self._constants[values] = op.constant(np.array(values, np.int64))
        return self._constants[values]


def _leaves_whole(output: ov.Output, need: Need, values: int | None) -> bool:
    """Say whether all values of a tensor leave the model instead of its extremes."""
    shape = output.get_partial_shape()
    if shape.is_dynamic or need.channels:
        return False
    return 0 < prod(shape.to_shape()) <= (SMALL if values is None else min(values, SMALL_COUNTED))


def _channels(shape: ov.PartialShape, axis: int) -> tuple[int, int]:
    """Return the number of channels (0 if unknown) and their axis counted from the front."""
    if len(shape) < 2:
        return 0, 0
    axis = axis % len(shape)
    return (shape[axis].get_length() if shape[axis].is_static else 0), axis


def expose(model: ov.Model, choose: Callable[[GraphView], Sequence[ov.Output]], *, own: bool = True) -> ov.Model:
    """Return a clone whose outputs are those that ``choose`` takes from it or adds to it, and then its own.

    Args:
        model: Model with unique friendly names.
        choose: Function from the view of the clone to its new outputs.
        own: Whether to keep the model's own outputs; without them, what nothing else needs does not run.
    """
    clone = clone_model(model)
    results = [op.result(output) for output in choose(GraphView(clone))]
    results += clone.get_results() if own else []
    return make_model(results, clone.get_parameters(), clone.get_sinks(), clone.get_friendly_name())


def tapped_model(model: ov.Model, names: Sequence[str]) -> ov.Model:
    """Return a clone whose outputs are the model's own, then those of the named layers."""
    clone = model.clone()
    nodes = {node.get_friendly_name(): node for node in clone.get_ordered_ops()}
    # also where there is a Result already
    results = [op.result(nodes[output_node(nodes, name)].output(0)) for name in names]
    results = [*clone.get_results(), *results]
    return make_model(results, clone.get_parameters(), clone.get_sinks(), clone.get_friendly_name())


def channel_moments(x: ov.Output, axis: int) -> ov.Output:
    """Return an output with the minimum, maximum and mean square of every channel of a tensor, ``(3 * channels,)``."""
    others = int_vector(*(other for other in range(x.get_partial_shape().rank.get_length()) if other != axis))
    parts = [op.reduce_min(x, others), op.reduce_max(x, others), op.reduce_mean(op.multiply(x, x), others)]
    return op.concat(parts, 0).output(0)
