"""Look up the primitive and precision that a compiled model executes for each layer of the IR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calib.runtime.session import ov

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
        precision: ``i8`` if the primitive says so, else the run-time precision (f32, bf16, f16).
        constants: Names of the constants that it reads.
    """

    name: str
    kind: str
    primitive: str
    precision: str
    originals: tuple[str, ...]
    constants: tuple[str, ...] = ()

    @property
    def int8(self) -> bool:
        """Whether the executed primitive is an INT8 one."""
        return self.precision == "i8"


def _text(info: Any, key: str) -> str:
    value = info[key] if key in info else ""  # noqa: SIM401  # RTMap has no get
    return str(getattr(value, "value", value))


def executed_nodes(compiled: ov.CompiledModel) -> list[Executed]:
    """List the nodes of the executed graph in execution order."""
    found = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        primitive = _text(info, "primitiveType")
        # runtimePrecision alone lies: a weight-only FullyConnected says i8 while an f32 kernel runs.
        precision = "i8" if primitive.lower().endswith("i8") else _text(info, "runtimePrecision")
        originals = tuple(n.strip().removesuffix("_original") for n in _text(info, "originalLayersNames").split(","))
        found.append(
            Executed(
                op.get_friendly_name(),
                _text(info, "layerType"),
                primitive,
                precision,
                originals,
                tuple(v.get_node().get_friendly_name() for v in op.input_values() if not v.get_node().input_values()),
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
