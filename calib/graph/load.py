"""Read an IR, an ONNX file or a model in memory, as a normalized private copy."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from calib.errors import ModelError
from calib.graph.normalize import normalize
from calib.graph.save import save_model
from calib.outcome import ModelFacts, TensorFacts
from calib.runtime.session import core, ov

__all__ = ["Loaded", "load_model", "require_float", "save_model"]

_COUNTED = re.compile(r"[A-Z][A-Za-z0-9]*_\d+")


@dataclass(frozen=True)
class Loaded:
    """A model, ready to work on.

    Attributes:
        model: a private copy, normalized unless it is quantized or weight-compressed already.
        facts: what the report says of it.
        rt_info: the file's ``model_info`` and ``calib`` sections, keys joined by "/".
        fp16_stored: names of the f32 constants that the file stored in half precision.
        path: the .xml or .onnx; None for a model from memory.
        quantized: holds FakeQuantize, or QuantizeLinear that became one.
        weight_compressed: holds integer weights behind Convert and Multiply.
    """

    model: ov.Model
    facts: ModelFacts
    rt_info: dict[str, str] = field(default_factory=dict)
    fp16_stored: frozenset[str] = frozenset()
    path: Path | None = None
    quantized: bool = False
    weight_compressed: bool = False


def load_model(model: str | Path | ov.Model) -> Loaded:
    """Return a normalized private copy of ``model`` and what is known of it."""
    if isinstance(model, ov.Model):
        kept = normalize(model, lambda node: bool(_COUNTED.fullmatch(node.get_friendly_name())))
        facts = ModelFacts(
            name=model.get_friendly_name(),
            format="memory",
            inputs=[_tensor(port) for port in kept.model.inputs],
            outputs=[_tensor(port) for port in kept.model.outputs],
            operations=len(kept.model.get_ops()),
            normalization=kept.sentences,
        )
        return Loaded(kept.model, facts, {}, kept.fp16_stored)
    path = Path(model)
    raw = core().read_model(str(path))
    normal = normalize(raw)
    inputs = [_tensor(port) for port in normal.model.inputs]
    outputs = [_tensor(port) for port in normal.model.outputs]
    digest = hashlib.sha256()
    for part in (path, path.with_suffix(".bin")):
        if part.exists():
            digest.update(part.read_bytes())
    facts = ModelFacts(
        name=path.stem,
        source=str(path),
        format="onnx" if path.suffix == ".onnx" else "ir",
        fingerprint=digest.hexdigest(),
        inputs=inputs,
        outputs=outputs,
        operations=len(normal.model.get_ops()),
        normalization=normal.sentences,
    )
    return Loaded(normal.model, facts, {}, normal.fp16_stored, path)


def require_float(loaded: Loaded) -> None:
    """Refuse a model that is quantized already."""
    if loaded.quantized or loaded.weight_compressed:
        raise ModelError(f"{loaded.facts.source}: already quantized")


def _tensor(port: ov.Output) -> TensorFacts:
    name = port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()
    return TensorFacts(name=name, shape=str(port.get_partial_shape()), type=port.get_element_type().get_type_name())
