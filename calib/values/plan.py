"""The quantization plan as data: frozen values on numpy only, which can be applied again to a retrained IR.

A quantizer sits on a tensor and serves routes. A route starts at a consumer port of that tensor, leads
through operations that carry INT8 along (MaxPool, Reshape, …) and ends at an input port of a quantized
layer. Reverting a layer removes its routes and what is fused with it; a quantizer without routes is removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Scheme(StrEnum):
    """Position of a quantizer's levels relative to zero."""

    UNSIGNED = "unsigned"  # [0, high], zero point 0
    ASYMMETRIC = "asymmetric"  # [low, high] with a zero point on a level
    SYMMETRIC = "symmetric"  # [-high, high], signed, zero point 0


@dataclass(frozen=True, order=True)
class TensorId:
    """An output of a node: the producer's stable name and the output's index."""

    node: str
    output: int = 0

    def __str__(self) -> str:
        return f"{self.node}:{self.output}"

    @classmethod
    def parse(cls, text: str) -> TensorId:
        """Return the tensor of ``str(tensor)``."""
        node, _, output = text.rpartition(":")
        return cls(node, int(output))


@dataclass(frozen=True, order=True)
class Port:
    """An input of a node."""

    node: str
    input: int


@dataclass(frozen=True)
class Range:
    """Range of real numbers that the levels of a quantizer cover, and why it was chosen."""

    low: float
    high: float
    estimator: str = ""  # the table name of the estimator that chose it
    reason: str = ""  # one plain sentence


@dataclass(frozen=True, order=True)
class Route:
    """Way from a consumer port of the quantized tensor to the layer port that it serves."""

    entry: Port
    layer: Port


@dataclass(frozen=True, order=True)
class Fused:
    """A port of an Add or a mean that reads the quantized tensor too, so that the operation runs inside INT8 layers.

    Attributes:
        layers: Names of the layers, sorted, that all have to be quantized for that.
        reason: Why it helps.
    """

    port: Port
    layers: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class ActivationQuantizer:
    """A FakeQuantize on a tensor.

    Attributes:
        unify: Key of quantizers that must share one range, such as a Concat's inputs; empty for none.
        range: Range; None until estimated.
        signed_only: Whether levels are signed even if the data has no negative values.
        per_channel: Whether it may have a range for each channel (axis 1), because it serves depthwise layers only.
        channel_ranges: Range of each channel as nested tuples, ``(channels, 2)``; empty if there is one range for all.
        fused: Ports that read it besides those of layers.
        padded: Whether a layer that it serves pads its input, where a zero point costs time.
        own: Name of a FakeQuantize on the tensor that the model has itself, which is read instead of a new one; empty
            for a new one.
    """

    tensor: TensorId
    routes: frozenset[Route]
    scheme: Scheme
    levels: int = 256
    unify: str = ""
    range: Range | None = None
    signed_only: bool = False
    per_channel: bool = False
    channel_ranges: tuple[tuple[float, float], ...] = ()
    fused: frozenset[Fused] = frozenset()
    padded: bool = False
    own: str = ""

    @property
    def consumers(self) -> frozenset[Port]:
        """Ports that read the quantized tensor; all others read the original one."""
        return frozenset(route.entry for route in self.routes) | {fused.port for fused in self.fused}

    @property
    def layers(self) -> frozenset[str]:
        """Names of the layers that it serves."""
        return frozenset(route.layer.node for route in self.routes)


FULL_RANGE, HALF_RANGE = 255, 127  # levels of weights; without VNNI, sums of products saturate in full range
THREE_QUARTERS = 191  # for [-95, 95], where few sums saturate unless large weights are neighbours


@dataclass(frozen=True)
class WeightQuantizer:
    """Symmetric per-channel quantization of a constant input.

    Attributes:
        scale_shape: Shape of the scale constant, of the weights' rank, with 1 on axes that share a scale.
        levels: Number of levels: 255 for [-127, 127]; 127 for [-63, 63] on CPUs whose INT8 sums saturate.
        clip: Share of each channel's largest magnitude that is kept, flat in the order of scales; empty to keep all.
    """

    port: Port
    scale_shape: tuple[int, ...]
    levels: int = FULL_RANGE
    clip: tuple[float, ...] = ()


@dataclass(frozen=True)
class QuantizableNode:
    """A layer to quantize: which of its inputs carry activations and which carry weights."""

    name: str
    type: str
    activations: tuple[int, ...]
    weights: tuple[int, ...] = ()
    depthwise: bool = False

    @property
    def is_table(self) -> bool:
        """Whether its weights are an embedding table, whose rows it picks: it sums nothing, and runs in f32."""
        return self.type == "Gather"


@dataclass(frozen=True)
class Scaling:
    """An equalized tensor: each channel is divided by its factor when written and multiplied when read.

    Attributes:
        ports: Ports that read the tensor through a Multiply, inserted in front of them, that divides; empty if the
            constants that the tensor is written with are divided.
    """

    tensor: TensorId
    factors: tuple[float, ...]
    ports: tuple[Port, ...] = ()

    @property
    def scaled(self) -> TensorId:
        """Tensor whose channels are divided: the Multiply's output if one is inserted."""
        return TensorId(f"{self.tensor}/scaled") if self.ports else self.tensor


@dataclass(frozen=True)
class RecurrentRange:
    """Levels of a recurrent layer: data, states and outputs share the range from -high to high.

    Attributes:
        reason: Why it runs in INT8, with its error.
        levels: Number of levels of its weights, as for other layers.
        divisor: What the data are divided by and their weights multiplied with, so that data and states are alike.
    """

    name: str
    high: float
    reason: str = ""
    levels: int = FULL_RANGE
    divisor: float = 1.0


@dataclass(frozen=True)
class Skipped:
    """A layer that stays in floating point, and why."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True)
class QuantizationPlan:
    """Everything that is needed to insert the quantizers.

    Attributes:
        scalings: Equalization applied before the ranges were measured; reverted layers keep it. Quantizers sit on the
            output of an inserted Multiply, see :meth:`rescaled`.
        groups: Sets of layer names that can only change together, such as a fused Add and its layers.
        corrections: Names of the corrections that were chosen with the ranges, in order; None if none were chosen yet.
        recurrent: Levels of the recurrent layers among the layers.
    """

    layers: tuple[QuantizableNode, ...]
    activations: tuple[ActivationQuantizer, ...]
    weights: tuple[WeightQuantizer, ...]
    skipped: tuple[Skipped, ...] = ()
    groups: tuple[frozenset[str], ...] = ()
    scalings: tuple[Scaling, ...] = ()
    corrections: tuple[str, ...] | None = None
    recurrent: tuple[RecurrentRange, ...] = ()

    def __repr__(self) -> str:
        ranges = "with ranges" if self.has_ranges else "without ranges"
        kept = f", {len(self.skipped)} in floating point" if self.skipped else ""
        return f"<QuantizationPlan {len(self.layers)} layers in INT8{kept}, {ranges}>"

    @property
    def has_ranges(self) -> bool:
        """Whether every quantizer has a range; in a plan of a dry run none has."""
        return all(quantizer.range is not None for quantizer in self.activations)

    def input_quantizers(self) -> dict[Port, ActivationQuantizer]:
        """Return layer port → quantizer; the inputs of a Concat share one range, so the first is taken."""
        found: dict[Port, ActivationQuantizer] = {}
        for quantizer in self.activations:
            for route in sorted(quantizer.routes):
                found.setdefault(route.layer, quantizer)
        return found

    def units(self) -> tuple[frozenset[str], ...]:
        """Return the smallest sets of layers that can be reverted, in layer order: groups and single layers."""
        groups: dict[str, frozenset[str]] = {}
        for group in self.groups:
            for name in group:
                groups.setdefault(name, group)
        return tuple(dict.fromkeys(groups.get(layer.name, frozenset({layer.name})) for layer in self.layers))

    def rescaled(self, scalings: tuple[Scaling, ...]) -> QuantizationPlan:
        """Return the plan for the network with these scalings instead of its own; a Multiply takes its quantizer."""
        moved = {one.scaled: one.tensor for one in self.scalings}
        to = {one.tensor: one.scaled for one in scalings}

        def at(tensor: TensorId) -> TensorId:
            bare = moved.get(tensor, tensor)
            return to.get(bare, bare)

        activations = tuple(replace(q, tensor=at(q.tensor)) for q in self.activations)
        return replace(self, activations=activations, scalings=scalings)

    def without(self, nodes: Iterable[str], reason: str = "reverted") -> QuantizationPlan:
        """Return the plan with these layers back in floating point."""
        gone = frozenset(nodes)
        kept: list[ActivationQuantizer] = []
        for quantizer in self.activations:
            routes = frozenset(r for r in quantizer.routes if r.layer.node not in gone)
            fused = frozenset(f for f in quantizer.fused if gone.isdisjoint(f.layers))
            if routes or fused:
                kept.append(replace(quantizer, routes=routes, fused=fused))
        return replace(
            self,
            layers=tuple(layer for layer in self.layers if layer.name not in gone),
            activations=tuple(kept),
            weights=tuple(w for w in self.weights if w.port.node not in gone),
            recurrent=tuple(one for one in self.recurrent if one.name not in gone),
            skipped=self.skipped + tuple(Skipped(n.name, n.type, reason) for n in self.layers if n.name in gone),
            groups=tuple(g for g in (group - gone for group in self.groups) if len(g) > 1),
        )
