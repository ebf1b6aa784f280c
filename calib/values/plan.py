"""What is to be quantized, as data: frozen values, numpy only, replayable on a retrained IR.

A quantizer sits on a tensor and serves routes. A route starts at a consumer port of that tensor, leads
through operations that carry INT8 along (MaxPool, Reshape, …) and ends at an input port of a quantized
layer. Reverting a layer removes its routes and what is fused with it; a quantizer that serves nothing is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Scheme(StrEnum):
    """How the levels of a quantizer lie around zero."""

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
        """Read back ``str(tensor)``."""
        node, _, output = text.rpartition(":")
        return cls(node, int(output))


@dataclass(frozen=True, order=True)
class Port:
    """An input of a node."""

    node: str
    input: int


@dataclass(frozen=True)
class Range:
    """Real numbers that the levels of a quantizer have to cover, and why these."""

    low: float
    high: float
    estimator: str = ""  # the table name of the estimator that chose it
    reason: str = ""  # one plain sentence


@dataclass(frozen=True, order=True)
class Route:
    """From a consumer port of the quantized tensor to the layer port that it serves."""

    entry: Port
    layer: Port


@dataclass(frozen=True, order=True)
class Fused:
    """A port of an Add or a mean that reads the quantized tensor too, so that the operation runs inside INT8 layers.

    Attributes:
        layers: sorted; all of them have to be quantized for that.
        reason: why it pays.
    """

    port: Port
    layers: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class ActivationQuantizer:
    """A FakeQuantize on a tensor.

    Attributes:
        unify: quantizers with the same non-empty key must share one range (a Concat's inputs).
        range: None until estimated.
        signed_only: levels are signed even where the data has no negative values.
        per_channel: whether it may have a range for each channel (axis 1): it serves depthwise layers only.
        channel_ranges: ``(channels, 2)`` as nested tuples where it has one for each channel, else empty.
        fused: what reads it besides layers.
        padded: a layer that it serves pads its input: there a zero point costs time.
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

    @property
    def consumers(self) -> frozenset[Port]:
        """The ports that read the quantized tensor; all others read the bare one."""
        return frozenset(route.entry for route in self.routes) | {fused.port for fused in self.fused}

    @property
    def layers(self) -> frozenset[str]:
        """The names of the layers that it serves."""
        return frozenset(route.layer.node for route in self.routes)


FULL_RANGE, HALF_RANGE = 255, 127  # levels of weights; without VNNI, sums of products saturate in full range


@dataclass(frozen=True)
class WeightQuantizer:
    """Symmetric per-channel quantization of a constant input.

    Attributes:
        scale_shape: shape of the scale constant, rank of the weights, 1 where shared.
        levels: 255 for [-127, 127]; 127 for [-63, 63] on CPUs whose INT8 sums saturate.
        clip: share of each channel's largest magnitude that is kept (flat, in scale order), empty for all of it.
    """

    port: Port
    scale_shape: tuple[int, ...]
    levels: int = FULL_RANGE
    clip: tuple[float, ...] = ()


@dataclass(frozen=True)
class QuantizableNode:
    """A layer that is to be quantized: which of its inputs carry activations and which weights."""

    name: str
    type: str
    activations: tuple[int, ...]
    weights: tuple[int, ...] = ()
    depthwise: bool = False


@dataclass(frozen=True)
class Scaling:
    """An equalized tensor: each channel is divided by its factor where it is written, multiplied where it is read."""

    tensor: TensorId
    factors: tuple[float, ...]


@dataclass(frozen=True)
class Skipped:
    """A layer that stays in floating point, and why."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True)
class QuantizationPlan:
    """Everything that insertion needs to know.

    Attributes:
        scalings: what equalization did before the ranges were measured; layers that are reverted keep it.
        groups: sets of layer names that can only change together (a fused Add and its layers).
    """

    layers: tuple[QuantizableNode, ...]
    activations: tuple[ActivationQuantizer, ...]
    weights: tuple[WeightQuantizer, ...]
    skipped: tuple[Skipped, ...] = ()
    groups: tuple[frozenset[str], ...] = ()
    scalings: tuple[Scaling, ...] = ()

    @property
    def has_ranges(self) -> bool:
        """Whether every quantizer has its range: a plan of a dry run has none yet."""
        return all(quantizer.range is not None for quantizer in self.activations)

    def input_quantizers(self) -> dict[Port, ActivationQuantizer]:
        """Return layer port → its quantizer; the inputs of a Concat share one range, so the first of theirs will do."""
        found: dict[Port, ActivationQuantizer] = {}
        for quantizer in self.activations:
            for route in sorted(quantizer.routes):
                found.setdefault(route.layer, quantizer)
        return found

    def units(self) -> tuple[frozenset[str], ...]:
        """The smallest sets of layers that can be reverted, in layer order: groups and single layers."""
        found: list[frozenset[str]] = []
        for layer in self.layers:
            unit = next((g for g in self.groups if layer.name in g), frozenset({layer.name}))
            if unit not in found:
                found.append(unit)
        return tuple(found)

    def without(self, nodes: Iterable[str], reason: str = "reverted") -> QuantizationPlan:
        """Return the plan with these layers back in floating point."""
        gone = frozenset(nodes)
        kept = []
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
            skipped=self.skipped + tuple(Skipped(n.name, n.type, reason) for n in self.layers if n.name in gone),
            groups=tuple(g for g in (group - gone for group in self.groups) if len(g) > 1),
        )
