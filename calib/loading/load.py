"""Read an IR, a file of another format that OpenVINO reads, or a model in memory as a normalized private copy."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from calib.errors import ModelError, UsageError
from calib.graph.view import is_custom, port_name
from calib.loading.find import find_model
from calib.loading.inputs import describe_preprocessing
from calib.loading.ir_file import SECTION, check_ir, save_model
from calib.loading.normalize import normalize, walk
from calib.loading.onnx_file import check_onnx
from calib.loading.quantized_already import quantization
from calib.runtime.session import core, layout_of, notice_memory, ov, read_model
from calib.runtime.temporary import temporary_folder
from calib.samples.sample import InputSpec
from calib.values.facts import ModelFacts, TensorFacts

__all__ = ["Loaded", "input_specs", "load_model", "output_name", "require_float", "save_model"]

# What OpenVINO calls an operation that was given no name; no two runs agree on the number.
_COUNTED = re.compile(r"[A-Z][A-Za-z0-9]*_\d+")
_COUNTED_MODEL = re.compile(r"Model_?\d+")
_NOT_IN_A_FILE_NAME = re.compile(r"[^\w. -]")
_COUNTED_PORT = re.compile(rb'names="(Parameter|Result)_\d+"')  # tensor names of inputs and outputs without a name
_KEPT_SECTIONS = ("model_info", SECTION)


@dataclass(frozen=True)
class Loaded:
    """A loaded model.

    Attributes:
        model: Private copy, normalized unless it is quantized or weight-compressed already.
        reference: Private copy of the model as it was read, before any transformation: only operations without a name
            of their own have one now. Every FP32 output that something is compared with is this model's. It is
            ``model`` itself if normalization changed nothing, and shares the memory of its constants otherwise.
        facts: Facts of the model for the report.
        rt_info: Sections ``model_info`` and ``calib`` of the file's runtime information, with keys joined by "/".
        fp16_stored: Names of the f32 constants that the file stores in half precision.
        path: Path of the model's file, or of a SavedModel; None for a model from memory.
        quantized: Whether it holds FakeQuantize (or QuantizeLinear, which becomes one).
        weight_compressed: Whether it holds integer weights before a Convert, without FakeQuantize.
    """

    model: ov.Model
    reference: ov.Model
    facts: ModelFacts
    rt_info: dict[str, str] = field(default_factory=dict)
    fp16_stored: frozenset[str] = frozenset()
    path: Path | None = None
    quantized: bool = False
    weight_compressed: bool = False


def load_model(model: Any) -> Loaded:
    """Return a normalized private copy of ``model`` with its facts.

    The same file gives the same names and bytes in every process. An ``ov.Model`` is not edited; names that come from a
    counter of OpenVINO (``Relu_17``) are replaced.

    Args:
        model: Path of a file that OpenVINO reads (an IR's .xml with its .bin, .onnx, .tflite, .pb, .pdmodel), of a
            TensorFlow SavedModel or of a folder that holds exactly one such file; or a model in memory: an
            ``ov.Model`` or what ``ov.convert_model`` takes, such as a module of PyTorch.

    Raises:
        ModelError: It can't be read, is damaged, or has another format.
        UsageError: It is None, or the path is empty.
    """
    if isinstance(model, ov.Model):
        return _from_memory(model)
    if model is None or (isinstance(model, str) and not model):
        what = "it is None" if model is None else "its path is empty"
        raise UsageError(f"there is no model: {what}. Give a model file, a folder that holds one, or a model in memory")
    if not isinstance(model, str | os.PathLike):
        return _from_memory(_converted(model))
    path = find_model(Path(model))
    suffix = path.suffix.lower()
    if suffix == ".xml":
        check_ir(path)
        return _loaded(path, "ir", [path, path.with_suffix(".bin")], lambda node: False)
    if suffix != ".onnx":
        from calib.loading.other_formats import files_of, format_of, invented_in  # here: most models are IR or ONNX

        files = files_of(path)
        return _loaded(path, format_of(path), files, invented_in(files[0], _COUNTED))
    onnx = check_onnx(path)

    def invented(node: ov.Node) -> bool:
        # A counted name can be the file's name of another operation; what the file names has a named output.
        named = any(port.get_names() for port in node.outputs()) or "/" in node.get_friendly_name()
        return not (named and onnx.owns(node.get_friendly_name()))

    return _loaded(path, "onnx", [path, *onnx.external], invented)


def _converted(model: Any) -> ov.Model:
    """Return a model of another framework, in memory, as ``ov.convert_model`` gives it.

    Raises:
        ModelError: It can't be converted.
    """
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    try:
        return ov.convert_model(model)
    except Exception as error:  # of the framework, which may be any
        raise ModelError(
            f"a model of {kind}: OpenVINO can't convert it: {_last_line(error)}. Give a path, an openvino.Model, or "
            "what ov.convert_model(model, example_input=…) returns"
        ) from error


def normalized_again(loaded: Loaded, apart: Collection[str] | None) -> Loaded:
    """Return the model normalized once more, from its reference.

    Args:
        loaded: Model without embedded preprocessing.
        apart: Operations that the transformations must leave as they are; None to run none at all.
    """
    in_f32 = not (loaded.quantized or loaded.weight_compressed)
    normal = normalize(loaded.reference, rewrite=apart is not None, in_f32=in_f32, apart=apart or ())
    facts = loaded.facts.model_copy(
        update={"operations": len(normal.model.get_ops()), "normalization": normal.sentences}
    )
    model = normal.model if normal.changed else loaded.reference
    return replace(loaded, model=model, facts=facts, fp16_stored=normal.fp16_stored)


def require_float(loaded: Loaded) -> Loaded:
    """Return a model; refuse one that holds quantized or compressed weights already.

    The rest of it can be quantized if that is asked for, see :func:`to_complete`.

    Raises:
        ModelError: The model is quantized or weight-compressed.
    """
    where = loaded.facts.source or loaded.facts.name
    if loaded.quantized:
        raise ModelError(
            f"{where}: already quantized: it holds FakeQuantize operations, or multiplies integers. Give the FP32 or "
            "FP16 model it was made from, or quantize the rest and keep what is there with --complete (in Python "
            "complete=True); `calib inspect` shows what its layers execute in"
        )
    if loaded.weight_compressed:
        raise ModelError(
            f"{where}: its weights are compressed to integers already. Give the FP32 or FP16 model it was made from, "
            "or keep these weights and quantize what they are multiplied with with --complete (in Python complete=True)"
        )
    return loaded


def to_complete(loaded: Loaded) -> Loaded:
    """Return a model that is quantized in part, normalized as floating-point models are; others as they are.

    The transformations keep levels and weights: QuantizeLinear and DequantizeLinear become FakeQuantize.
    """
    if not (loaded.quantized or loaded.weight_compressed):
        return loaded
    kept = "the model is quantized in part: what is there is kept, and every figure compares with the model as given"
    loaded = normalized_again(loaded, ())
    facts = loaded.facts.model_copy(update={"normalization": [*loaded.facts.normalization, kept]})
    return replace(loaded, facts=facts)


def input_specs(model: ov.Model) -> list[InputSpec]:
    """Return the properties that samples have to match, for each input of the model."""
    return [
        InputSpec(
            name=port_name(port),
            names=tuple(sorted(port.get_names())),
            shape=_shape(port.get_partial_shape()),
            dtype=np.dtype(port.get_element_type().to_dtype()),
            layout=_layout(port.get_node()),
        )
        for port in model.inputs
    ]


def output_name(port: ov.Output) -> str:
    """Return the name of an output for reports: its first tensor name, else the name of the node that feeds it."""
    return port_name(port)


def _from_memory(model: ov.Model) -> Loaded:
    """Describe a model from memory; its fingerprint is that of the bytes it would be saved as."""
    name = model.get_friendly_name()
    # The name becomes a file's: a hostile "../../x" must not leave the output folder.
    name = "model" if _COUNTED_MODEL.fullmatch(name) else _NOT_IN_A_FILE_NAME.sub("_", name).strip("._") or "model"
    own = [node for node in model.get_ordered_ops() if is_custom(node)]
    for kind in {type(node) for node in own if isinstance(node, ov.Op)}:  # classes of Python, which Core can be told of
        core().add_extension(kind)
    loaded = _describe(model, name, lambda node: bool(_COUNTED.fullmatch(node.get_friendly_name())))
    for one in (loaded.model, loaded.reference):
        one.set_friendly_name(name)
    with temporary_folder() as folder:
        xml = folder / "model.xml"
        save_model(loaded.model, xml, fp16_constants=loaded.fp16_stored)
        graph, _, _ = xml.read_bytes().rpartition(b"</edges>")  # what follows says where it was converted from
        graph = _COUNTED_PORT.sub(b"", graph)
        weights = xml.with_suffix(".bin").read_bytes()
        if own:
            _require_readable(xml, own[0], name)
    digest = hashlib.sha256(graph)
    digest.update(weights)
    facts = loaded.facts.model_copy(update={"fingerprint": digest.hexdigest(), "bytes_before": len(weights)})
    return replace(loaded, facts=facts)


def _require_readable(xml: Path, node: ov.Node, name: str) -> None:
    """Refuse a model with an operation of a library that was not given, before any work: its result could not be read.

    Raises:
        ModelError: OpenVINO can't read the model back.
    """
    try:
        read_model(xml)
    except RuntimeError as error:
        notice_memory(error)
        raise ModelError(
            f"{name}: {node.get_friendly_name()!r} ({node.get_type_name()}) is an operation of an extension, without "
            "whose library a written model can't be read. Give it: --extension LIBRARY (in Python: "
            "extensions=[library]), or write the operation in Python, as a class derived from openvino.Op"
        ) from error


def _readable(path: Path) -> bool:
    """Return whether a file can be read to its end, one block at a time."""
    try:
        with path.open("rb") as stream:
            while stream.read(1 << 20):
                pass
    except OSError:
        return False
    return True


def _loaded(path: Path, form: str, files: list[Path], invented: Callable[[ov.Node], bool]) -> Loaded:
    """Read a checked file and describe it."""
    try:
        raw = read_model(path)
    except (RuntimeError, ValueError) as error:
        notice_memory(error)
        if "Failed to read weights" in str(error) and _readable(path.with_suffix(".bin")):
            raise MemoryError(_last_line(error)) from error
        way_out = (
            "If it holds an operation of your own, give its library: --extension LIBRARY (in Python: "
            "extensions=[library]); else export or convert it again, with operations that OpenVINO supports"
        )
        raise ModelError(f"{path}: OpenVINO can't read it: {_last_line(error)}. {way_out}") from error
    if raw.get_friendly_name().endswith("_Frontend_IR"):  # OpenVINO's name for whatever it converts
        raw.set_friendly_name(path.stem)
    loaded = _describe(raw, path.stem, invented, path)
    present = [file for file in files if file.is_file()]
    digest = hashlib.sha256()
    for file in present:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    weights = [file for file in present if file.suffix.lower() != ".xml"]
    facts = loaded.facts.model_copy(
        update={
            "source": str(path),
            "format": form,
            "fingerprint": digest.hexdigest(),
            "bytes_before": sum(file.stat().st_size for file in weights),
        }
    )
    return replace(loaded, facts=facts, path=path)


def _describe(raw: ov.Model, name: str, invented: Callable[[ov.Node], bool], path: Path | None = None) -> Loaded:
    """Normalize a model, unless it is quantized, and return it with its facts."""
    _refuse_enormous(raw, str(path or name))
    quantized, compressed = quantization(raw)
    try:
        free = not (quantized or compressed)
        normal = normalize(raw, invented, rewrite=free, in_f32=free)
        reference = normal.model
        if normal.changed:
            reference = normalize(raw, invented, rewrite=False, in_f32=False).model
        inputs, outputs = ([_tensor(port) for port in side] for side in (normal.model.inputs, normal.model.outputs))
    except (RuntimeError, ValueError) as error:
        notice_memory(error)
        raise ModelError(f"{path or name}: OpenVINO can't transform it: {_last_line(error)}") from error
    rt_info = _strings(raw)
    facts = ModelFacts(
        name=name,
        format="memory",
        inputs=inputs,
        outputs=outputs,
        operations=len(normal.model.get_ops()),
        normalization=normal.sentences,
        preprocessing=describe_preprocessing(rt_info, input_specs(normal.model)),
    )
    return Loaded(normal.model, reference, facts, rt_info, normal.fp16_stored, path, quantized, compressed)


def _tensor(port: ov.Output) -> TensorFacts:
    shape = str(port.get_partial_shape())
    return TensorFacts(name=port_name(port), shape=shape, type=port.get_element_type().get_type_name())


def _shape(shape: ov.PartialShape) -> tuple[int | None, ...]:
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _layout(node: ov.Node) -> str:
    """Return a Parameter's declared layout as letters ("NCHW"); "" if it has none or one with gaps."""
    text = layout_of(node).strip("[]").replace(",", "")
    return text if text.isalpha() else ""


def _refuse_enormous(model: ov.Model, where: str) -> None:
    """Refuse a model with a tensor that is larger than the machine's memory, before anything is computed."""
    memory = psutil.virtual_memory().total
    for _, nodes in walk(model):
        for node in nodes:
            for port in node.outputs():
                shape = port.get_partial_shape()
                if shape.is_dynamic:
                    continue
                count = 1
                for size in shape:
                    count *= size.get_length()
                if count * max(1, port.get_element_type().bitwidth) > 8 * memory:
                    raise ModelError(
                        f"{where}: operation {node.get_friendly_name()!r} has an output of shape {shape}, which is "
                        f"more than this machine's memory ({memory / 2**30:.1f} GiB). Reshape the model to the size "
                        "that it is used with, or check where the file comes from"
                    )


def _strings(model: ov.Model) -> dict[str, str]:
    """Return the sections of runtime information that are kept, as strings under joined keys."""
    result: dict[str, str] = {}
    info = model.get_rt_info()
    for section in _KEPT_SECTIONS:
        if section in info:
            _flatten(info[section], section, result)
    return result


def _flatten(value: Any, key: str, result: dict[str, str]) -> None:
    if isinstance(value, Mapping):
        for name in sorted(value):
            _flatten(value[name], f"{key}/{name}", result)
        return
    try:
        result[key] = value.astype(str) if hasattr(value, "astype") else str(value)
    except RuntimeError:  # a value of a type that Python has no name for; it stays in the model
        result[key] = ""


def _last_line(error: Exception) -> str:
    """Return the useful part of OpenVINO's message: its last line that is not a place in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(("Exception from", "Check '", 'Check "'))]
    return (useful or lines or ["no reason given"])[-1].rstrip(".")
