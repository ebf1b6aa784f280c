"""Check an ONNX file before OpenVINO reads it, and collect the names in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from calib.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

# What OpenVINO's reader appends to a name in the file: for the first of two operations made of one node, and for the
# Result of an output.
_ENDINGS = re.compile(r"(/WithoutBiases|/sink_port_\d+)$")


@dataclass(frozen=True)
class OnnxFacts:
    """Names and weight files of an ONNX file.

    Attributes:
        names: Names of nodes, tensors and initializers, subgraphs included.
        external: Files next to it that hold its weights, sorted.
    """

    names: frozenset[str]
    external: tuple[Path, ...]

    def owns(self, name: str) -> bool:
        """Return whether an operation's name comes from the file and not from a counter of OpenVINO."""
        return _ENDINGS.sub("", name) in self.names


def check_onnx(path: Path) -> OnnxFacts:
    """Refuse a file that is not an ONNX model, or keeps weights outside its folder.

    Raises:
        ModelError: It is empty or not ONNX, or external data is missing, too short or outside the model's folder.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.stat().st_size:
        raise ModelError(f"{path}: empty file. Copy or export the model again")
    try:
        model: ModelProto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise ModelError(f"{path}: is no ONNX model, or truncated ({error}). Copy or export it again") from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"{path}: is no ONNX model: it has no graph. Export it again")
    names: set[str] = set()
    external: set[Path] = set()
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        _collect(graph, names)
        external.update(_external(path, tensor) for tensor in _stored_outside(graph))
        graphs.extend(_subgraphs(graph))
    return OnnxFacts(frozenset(names), tuple(sorted(external)))


def _collect(graph: GraphProto, names: set[str]) -> None:
    for node in graph.node:
        names.add(node.name)
        names.update(node.output)
    names.update(tensor.name for tensor in graph.initializer)
    names.update(value.name for value in graph.input)
    names.discard("")


def _subgraphs(graph: GraphProto) -> Iterable[GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _stored_outside(graph: GraphProto) -> Iterable[TensorProto]:
    from onnx import TensorProto

    constants = (a.t for node in graph.node for a in node.attribute if a.HasField("t"))
    for tensor in (*graph.initializer, *constants):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield tensor


def _external(path: Path, tensor: TensorProto) -> Path:
    """Return the file that holds a tensor, after checking that it is inside the folder and long enough."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = PurePosixPath(entries.get("location", "").replace("\\", "/"))
    file = path.parent / location
    if not location.name or location.is_absolute() or ".." in location.parts:
        raise ModelError(
            f"{path}: tensor {tensor.name!r} is stored in {str(location)!r}; weights are only read from the model's "
            "own folder. Export the model with its weights beside it"
        )
    if not file.is_file():
        raise ModelError(
            f"{file}: not found, and {path.name} keeps tensor {tensor.name!r} there. Copy it next to the model"
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError:
        offset = length = -1
    if min(offset, length) < 0 or offset + length > file.stat().st_size:
        raise ModelError(
            f"{file}: tensor {tensor.name!r} needs {entries.get('length')} bytes from {entries.get('offset', 0)} on, "
            f"and the file has {file.stat().st_size}. It is truncated; copy or export it again"
        )
    return file
