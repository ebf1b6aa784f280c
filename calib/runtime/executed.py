"""Look up the primitive and precision that a compiled model executes for each layer of the IR."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calib.runtime.session import ov

FLOATS = frozenset({"f32", "bf16", "f16"})

# Executed kinds that can stand for a Convolution or MatMul of the IR.
COMPUTING = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul", "Subgraph", "RNNSeq", "RNNCell"})

# Low-precision transformations move the scales behind a layer; where they are fused into it, it runs under their name.
DEQUANTIZED = "/DequantizationMultiply"


@dataclass(frozen=True)
class Executed:
    """One node of the executed graph.

    Attributes:
        kind: Type of the executed layer in OpenVINO (Convolution, FullyConnected, Subgraph…).
        primitive: Name of the primitive in OpenVINO, such as ``brgconv_avx512_core_amx_I8``.
        precision: See :func:`executed_precision`; "" if it is unknown.
        constants: Names of the constants that it reads.
        output: Element type of its first output, such as u8; "" if it is unknown.
    """

    name: str
    kind: str
    primitive: str
    precision: str
    originals: tuple[str, ...]
    constants: tuple[str, ...] = ()
    output: str = ""

    @property
    def int8(self) -> bool:
        """Whether the executed primitive is an INT8 one."""
        return self.precision == "i8"


def _text(info: Any, key: str) -> str:
    value = info[key] if key in info else ""  # noqa: SIM401  # RTMap has no get
    return str(getattr(value, "value", value))


@dataclass(frozen=True)
class Ran:
    """What a layer executed as with one thread for an inference, and with two.

    They differ for small MatMuls: a chain of them is ``brgemm_avx512_I8`` each with two threads or more, which is
    OpenVINO's default and what LATENCY gives, and one f32 Subgraph with one, which is what THROUGHPUT gives.

    Attributes:
        one: Node with one thread; None if the layer was not found.
        two: Node with two threads; None if the layer was not found, or the machine gives one thread only.
    """

    one: Executed | None
    two: Executed | None = None

    @property
    def int8(self) -> bool:
        """Whether it executes in INT8 with one thread, with two or with both."""
        return any(node.int8 for node in (self.one, self.two) if node)

    @property
    def usual(self) -> Executed | None:
        """Node with two threads, or with one where there are no two."""
        return self.two or self.one

    @property
    def differs(self) -> bool:
        """Whether it executes in another precision with one thread than with two, or was not found with one."""
        return self.two is not None and (self.one is None or self.one.precision != self.two.precision)


def executed_precision(primitive: str, runtime: str) -> str:
    """Return the precision that a node executes in; "" if neither name tells it.

    The run-time precision alone lies: it is i8 for a weight-only FullyConnected (``brgemm_avx512_f32``), for a
    deconvolution of stride 4 (``brgconv_avx2_f32``) and for a depthwise 3-D convolution of asymmetric levels
    (``brgconv_avx2_dw_f32``). So INT8 is only what the primitive's name says, and so is what it says of floating point.

    Args:
        primitive: Name that OpenVINO gives to the primitive; it ends in the precision of the first input.
        runtime: Run-time precision in OpenVINO, the highest of those of the inputs.
    """
    if primitive.lower().endswith("i8"):
        return "i8"
    named = re.search(r"_((?:bf|f|i|u)\d+)$", primitive.lower())
    return named[1] if named else runtime if runtime in FLOATS else ""


def executed_nodes(compiled: ov.CompiledModel) -> list[Executed]:
    """List the nodes of the executed graph in execution order."""
    found = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        primitive = _text(info, "primitiveType")
        precision = executed_precision(primitive, _text(info, "runtimePrecision"))
        originals = tuple(n.strip().removesuffix("_original") for n in _text(info, "originalLayersNames").split(","))
        found.append(
            Executed(
                op.get_friendly_name(),
                _text(info, "layerType"),
                primitive,
                precision,
                originals,
                tuple(v.get_node().get_friendly_name() for v in op.input_values() if not v.get_node().input_values()),
                _text(info, "outputPrecisions").partition(",")[0],
            )
        )
    return found


def executed_layers(
    compiled: ov.CompiledModel, aliases: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Executed]:
    """Return layer name → executed node, also for layers that were fused into one.

    Args:
        compiled: Compiled model.
        aliases: Mapping from layer to names that may stand for it, nearest first: its INT8 weights, and the nodes after
            it that may have been fused into it (a MatMul with a bias runs under the name of its Add).
    """
    layers: dict[str, Executed] = {}
    for node in executed_nodes(compiled):
        if node.kind in COMPUTING:
            for original in (*node.originals, *node.constants):
                layers.setdefault(original.removesuffix(DEQUANTIZED), node)
    for layer, names in (aliases or {}).items():
        match = next((layers[name] for name in (layer, *names) if name in layers), None)
        if match is not None:
            layers[layer] = match
    return layers
