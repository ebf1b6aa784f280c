"""Check the two files of an IR before OpenVINO reads them, and write them completely or not at all.

OpenVINO maps the .bin into memory and trusts the XML, so an untrusted file is checked first: its XML is streamed, and
its constants must lie inside the .bin.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

import numpy as np

from calib.errors import ModelError, OutputError
from calib.graph.view import replace_readers
from calib.loading.normalize import walk
from calib.runtime.session import ov, values_of
from calib.runtime.temporary import temporary_path

SECTION = "calib"

# A network of 100,000 layers has an XML of about 50 MB; what is far beyond is no network.
_XML_BYTES = 1 << 30
_DEPTH = 200  # a body inside a body adds four levels; OpenVINO's parser recurses over them
_ATTRIBUTE_BYTES = 1 << 24  # model_info may hold a dictionary of some 100,000 words
_VERSIONS = ("10", "11")

# OpenVINO writes the control characters of a name as references (&#27;) and reads them back. XML 1.0 has no such
# characters, so expat refuses what OpenVINO takes.
_CONTROL = re.compile(rb"&#(?:0*(?:[1-8]|1[124-9]|2\d|3[01])|x0*(?:[1-8bcefBCEF]|1[\da-fA-F]));")
_BLOCK = 1 << 20
# Errors of expat at the end of a file of which more should follow.
_CUT_OFF = tuple(
    expat.errors.codes[text]
    for text in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
    )
)
_REFERENCE = 16  # no reference in _CONTROL that anything writes is longer


@dataclass
class _Graph:
    """Layers and edges of a net or body while it is read: port ids by layer id, the edges' ends."""

    inputs: dict[str, set[str]] = field(default_factory=dict)
    outputs: dict[str, set[str]] = field(default_factory=dict)
    edges: list[tuple[str, str, str, str]] = field(default_factory=list)


class _Scan:
    """Handlers of an expat parser that collect the constants and check layers and edges."""

    def __init__(self, path: Path, bin_size: int | None):
        self.path = path
        self.bin_size = bin_size
        self.stack: list[str] = []
        self.graphs: list[_Graph] = []
        self.layer = ""
        self.layer_id = ""
        self.layers: list[tuple[str, str]] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.EntityDeclHandler = self._doctype

    def refuse(self, what: str, way_out: str) -> ModelError:
        return ModelError(f"{self.path}: {what} (line {self.parser.CurrentLineNumber}). {way_out}")

    def _doctype(self, *_: object) -> None:
        raise self.refuse(
            "holds a DOCTYPE or an ENTITY, which no IR has and which can blow up a parser",
            "Don't trust this file; export the model again",
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.stack and tag != "net":
            raise self.refuse(
                f"is no OpenVINO IR: its root element is <{tag[:40]}>, not <net>", "Pass the model's .xml"
            )
        if not self.stack and attributes.get("version") not in _VERSIONS:
            raise self.refuse(
                f"is an IR of version {attributes.get('version', 'unknown')!r}; versions 10 and 11 can be read",
                "Convert the original model again: ovc MODEL",
            )
        if len(self.stack) >= _DEPTH:
            raise self.refuse(f"is nested deeper than {_DEPTH} elements", "Export the model again")
        parent = self.stack[-1] if self.stack else ""
        self.stack.append(tag)
        if attributes and max(map(len, attributes.values())) > _ATTRIBUTE_BYTES:
            raise self.refuse(
                f"an attribute of <{tag}> is longer than {_ATTRIBUTE_BYTES} characters", "Export it again"
            )
        if tag in ("net", "body", "then_body", "else_body"):
            self.graphs.append(_Graph())
        elif tag == "layer" and parent == "layers":
            self._layer(attributes)
        elif tag == "port" and parent in ("input", "output") and self.graphs:
            graph = self.graphs[-1]
            side = graph.inputs if parent == "input" else graph.outputs
            side.setdefault(self.layer_id, set()).add(attributes.get("id", ""))
        elif tag == "edge" and parent == "edges" and self.graphs:
            ends = [attributes.get(key, "") for key in ("from-layer", "from-port", "to-layer", "to-port")]
            self.graphs[-1].edges.append((ends[0], ends[1], ends[2], ends[3]))
        elif tag == "data" and parent == "layer" and self.layer == "Const":
            self._constant(attributes)

    def _end(self, tag: str) -> None:
        self.stack.pop()
        if tag in ("net", "body", "then_body", "else_body"):
            graph = self.graphs.pop()
            self._check_edges(graph)
            self._check_order(graph)

    def _layer(self, attributes: dict[str, str]) -> None:
        self.layer, self.layer_id = attributes.get("type", ""), attributes.get("id", "")
        graph = self.graphs[-1]
        if not self.layer or not self.layer_id:
            raise self.refuse("a layer has no id or no type", "The file is damaged; export the model again")
        if self.layer_id in graph.inputs:
            raise self.refuse(
                f"two layers have the id {self.layer_id!r}", "The file is damaged; export the model again"
            )
        graph.inputs[self.layer_id] = set()
        graph.outputs.setdefault(self.layer_id, set())
        self.layers.append((self.layer, attributes.get("name", "")))

    def _constant(self, attributes: dict[str, str]) -> None:
        """Check that the bytes of a constant lie inside the .bin."""
        name = self.layers[-1][1]
        try:
            offset, size = int(attributes.get("offset", "")), int(attributes.get("size", ""))
        except ValueError:
            raise self.refuse(
                f"constant {name!r} has offset {attributes.get('offset')!r} and size {attributes.get('size')!r}, "
                "which must be whole numbers",
                "The file is damaged; export the model again",
            ) from None
        if offset < 0 or size < 0:
            raise self.refuse(
                f"constant {name!r} has offset {offset} and size {size}, which can't be negative",
                "The file is damaged; export the model again",
            )
        if self.bin_size is None:
            weights = self.path.with_suffix(".bin")
            raise ModelError(
                f"{weights}: not found, and {self.path.name} keeps its constants there. Copy it next to the model"
            )
        if offset + size > self.bin_size:
            raise ModelError(
                f"{self.path.with_suffix('.bin')}: too short: constant {name!r} needs bytes {offset} to "
                f"{offset + size}, and the file has {self.bin_size}. It is truncated or belongs to another .xml; "
                "copy both files of the model again"
            )

    def _check_edges(self, graph: _Graph) -> None:
        for source, source_port, target, target_port in graph.edges:
            if source_port not in graph.outputs.get(source, ()) or target_port not in graph.inputs.get(target, ()):
                raise self.refuse(
                    f"an edge goes from layer {source!r} port {source_port!r} to layer {target!r} port "
                    f"{target_port!r}, and there is no such layer or port",
                    "The file is damaged; export the model again",
                )

    def _check_order(self, graph: _Graph) -> None:
        """Refuse a cycle, because OpenVINO's reader recurses along the edges."""
        waiting = dict.fromkeys(graph.inputs, 0)
        readers: dict[str, list[str]] = {}
        for source, _, target, _ in graph.edges:
            waiting[target] += 1
            readers.setdefault(source, []).append(target)
        ready: list[str] = []
        for layer, count in waiting.items():
            if not count:
                ready.append(layer)
        done = 0
        while ready:
            done += 1
            for reader in readers.get(ready.pop(), ()):
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready.append(reader)
        if done < len(waiting):
            raise self.refuse(
                f"{len(waiting) - done} layers form a cycle or hang on one", "The file is damaged; export it again"
            )


def _without_control(file: BinaryIO) -> Iterator[bytes]:
    """Yield the file with "?" for each reference to a control character, so that the rest can be checked."""
    held = b""
    while block := file.read(_BLOCK):
        text = held + block
        cut = text.rfind(b"&", max(0, len(text) - _REFERENCE))  # a reference that ends in the next block waits for it
        held = text[cut:] if cut >= 0 else b""
        yield _CONTROL.sub(b"?", text[: len(text) - len(held)])
    yield _CONTROL.sub(b"?", held)


def check_ir(path: Path) -> frozenset[str]:
    """Refuse an .xml that is not a valid IR, and return the names of its layers, bodies included.

    Raises:
        ModelError: It is not XML or not an IR, has a DOCTYPE, an old version, a cycle, or constants outside the .bin.
    """
    size = path.stat().st_size
    if not size:
        raise ModelError(f"{path}: empty file. Copy or export the model again")
    if size > _XML_BYTES:
        raise ModelError(f"{path}: {size} bytes of XML; at most {_XML_BYTES} are read. Export the model again")
    weights = path.with_suffix(".bin")
    scan = _Scan(path, weights.stat().st_size if weights.is_file() else None)
    try:
        with path.open("rb") as file:
            for block in _without_control(file):
                scan.parser.Parse(block, False)
            scan.parser.Parse(b"", True)
    except expat.ExpatError as error:
        if scan.stack and error.code in _CUT_OFF:
            raise ModelError(
                f"{path}: the file ends in the middle ({error}): it was not copied, downloaded or written to its end. "
                "Copy or export the model again"
            ) from error
        raise ModelError(
            f"{path}: is no OpenVINO IR: not well-formed XML ({error}). Pass the .xml of an IR, or an .onnx. If "
            "OpenVINO itself wrote it, a name holds a character that XML does not allow: rename that operation"
        ) from error
    if not scan.layers:
        raise ModelError(f"{path}: holds no layers. Export the model again")
    return frozenset(name for _, name in scan.layers)


def save_model(
    model: ov.Model,
    path_xml: str | Path,
    *,
    fp16_constants: frozenset[str] = frozenset(),
    rt_info: Mapping[str, str] | None = None,
) -> None:
    """Write ``path_xml`` and the .bin next to it; both appear complete, the .bin first.

    Args:
        model: Model, which is not edited.
        path_xml: Path to write to; its folder must exist (OpenVINO would make missing ones).
        fp16_constants: Names of f32 constants to store as f16 Constant → Convert.
        rt_info: Strings for the section "calib" of the file's runtime information.

    Raises:
        OutputError: The file can't be written; nothing is left on disk.
    """
    path = Path(path_xml)
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist. Create it, or choose another output")
    clone = model.clone()
    _compress(clone, fp16_constants)
    for key in sorted(rt_info or {}):
        clone.set_rt_info((rt_info or {})[key], [SECTION, key])
    xml = temporary_path(path.parent, ".xml")
    weights = xml.with_suffix(".bin")
    try:
        ov.serialize(clone, str(xml), str(weights))
        check_ir(xml)  # a full disk does not make serialize fail: the file is only shorter
        os.replace(weights, path.with_suffix(".bin"))
        os.replace(xml, path)
    except (OSError, RuntimeError, ModelError) as error:
        raise OutputError(
            f"{path}: the model can't be written ({str(error).splitlines()[-1]}). "
            "Check that the folder exists, is writable and has room, or choose another output"
        ) from error
    finally:
        xml.unlink(missing_ok=True)
        weights.unlink(missing_ok=True)


def _compress(model: ov.Model, names: frozenset[str]) -> None:
    """Turn, in place, each named f32 Constant into f16 Constant → Convert, as OpenVINO's own compression does."""
    from openvino import opset13 as opset

    if not names:
        return
    for node in [node for _, nodes in walk(model) for node in nodes]:
        name = node.get_friendly_name()
        if name not in names or node.get_type_name() != "Constant" or node.get_output_element_type(0) != ov.Type.f32:
            continue
        half = ov.op.Constant(values_of(node).astype(np.float16))
        half.set_friendly_name(f"{name}_compressed")
        convert = opset.convert(half, "f32")
        convert.set_friendly_name(name)
        convert.get_rt_info()["decompression_0"] = ""
        replace_readers(node.output(0), lambda _, convert=convert: convert)
