"""The judge of benchmarks/truth.py: what a written INT8 file does, found without any code of calib.

    python benchmarks/truth_judge.py FOLDER

FOLDER holds ``case.json`` (paths of both models, the layers that the report calls INT8, and the names of the outputs,
parts of outputs and inner tensors that it gives an SQNR of), and samples in ``named.npz`` and ``unseen.npz``, with a
key ``sample.frame.input`` for each array. Prints one JSON object.

The reference is the file as OpenVINO reads it, compiled with an f32 hint; an ONNX file also runs in onnxruntime. Both
models run on the same samples, in f32 and in the plug-in's default configuration. State is reset before each sample.
For each output and sample it prints the two energies that an SQNR is made of::

    SQNR = 10 log10 (sum over samples of sum y² / sum over samples of sum (y_q - y)²)

An output of integers has the number of elements and of those that differ instead. What ran in INT8 is read from the
runtime graphs at one thread, at two and in the default configuration: a layer ran in INT8 if the name of the primitive
of the node that stands for it ends in i8 in one of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import numpy as np


class _NoCalib(MetaPathFinder):
    """Refuses to import what is judged."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname.partition(".")[0] == "calib":
            raise ImportError(f"the judge shares no code with calib, and something imports {fullname}")


if __name__ == "__main__":
    sys.meta_path.insert(0, _NoCalib())
    # OpenVINO's telemetry would start a process of its own.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402

F32 = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "one thread": {"INFERENCE_NUM_THREADS": 1},
    "two threads": {"INFERENCE_NUM_THREADS": 2},
}
# Nodes of the runtime graph that multiply and add; a Gather of INT8 rows executes i8 as well.
COMPUTING = {"Convolution", "Deconvolution", "FullyConnected", "MatMul", "Subgraph", "RNNSeq", "RNNCell", "Gather"}
COMPUTING |= {"ScaledDotProductAttention", "ScaledDotProductAttentionWithKVCache"}
SELECTS = {"TopK", "NonMaxSuppression", "MatrixNms", "MulticlassNms", "DetectionOutput", "CTCGreedyDecoder"}
SELECTS |= {"CTCGreedyDecoderSeqLen", "NonZero"}

Frames = list[list[np.ndarray]]  # a sample: its frames, each the arrays of all inputs
Outputs = list[list[np.ndarray]]  # of a sample: for each output the arrays of all frames


def samples_of(path: Path) -> list[Frames]:
    """Read the samples of a file, in order."""
    found: dict[int, dict[int, dict[int, np.ndarray]]] = {}
    with np.load(path) as data:
        for key in data.files:
            sample, frame, position = map(int, key.split("."))
            found.setdefault(sample, {}).setdefault(frame, {})[position] = data[key]
    return [
        [[frame[position] for position in sorted(frame)] for _, frame in sorted(frames.items())]
        for _, frames in sorted(found.items())
    ]


def run(compiled: ov.CompiledModel, samples: Sequence[Frames]) -> list[Outputs]:
    """Return the outputs of each sample, of each frame of it."""
    request, results = compiled.create_infer_request(), []
    for frames in samples:
        request.reset_state()
        outputs: Outputs = [[] for _ in compiled.outputs]
        for feed in frames:
            request.infer(dict(enumerate(feed)))
            for position in range(len(outputs)):
                outputs[position].append(np.array(request.get_output_tensor(position).data))
        results.append(outputs)
    return results


def part_of(array: np.ndarray, positions: str) -> np.ndarray:
    """Return the part of an output at positions in numpy's notation, such as ``[:, 4:]``; "" for all of it."""
    if not positions:
        return array
    ends = [text.strip().split(":") for text in positions.strip("[]").split(",")]
    return array[tuple(slice(*(int(end) if end else None for end in pair)) for pair in ends)]


class Part:
    """What the report gives an SQNR of, by its name: an output or a part of one, or a tensor inside.

    Attributes:
        positions: Positions in the tensor; "" for all of it.
        output: Position among the outputs; None for a tensor inside.
        node: Name of the node inside, and number of its output.
    """

    def __init__(self, name: str, model: ov.Model):
        self.name = name
        at = name.rfind("[") if name.endswith("]") else len(name)
        known = {one: place for place, port in enumerate(model.outputs) for one in _output_names(port, place)}
        whole = name if name in known else name[:at]
        self.positions = "" if whole == name else name[at:]
        self.output = known.get(whole)
        self.node = (whole, 0)

    def inside(self, model: ov.Model) -> ov.Output | None:
        """Return the port inside a model, None if it has none of that name."""
        nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
        name, number = self.node
        if name not in nodes and "." in name and name.rpartition(".")[2].isdigit():
            name, number = name.rpartition(".")[0], int(name.rpartition(".")[2])
        if name not in nodes or number >= nodes[name].get_output_size():
            return None
        return nodes[name].output(number)


def _output_names(port: ov.Output, place: int) -> set[str]:
    """Return the names that an output may have in a report: those of its tensor, or of what it comes from."""
    names = set(port.get_names()) | {port.get_node().get_friendly_name(), f"output {place}"}
    return names | {port.get_node().input_value(0).get_node().get_friendly_name()}


def energies(reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> list[Any]:
    """Return, for each output, ``[energy, energy of the error]`` of each sample in float64, over all of its frames."""
    table = []
    for position in range(len(reference[0]) if reference else 0):
        column = []
        for before, after in zip(reference, outputs, strict=True):
            pairs = zip(before[position], after[position], strict=True)
            column.append([sum(part) for part in zip(*(_energies(y, q) for y, q in pairs), strict=True)])
        table.append(column)
    return table


def _energies(y: np.ndarray, q: np.ndarray) -> tuple[float, float]:
    """Return the energy of an array and that of the error of another.

    Elements where the reference is not finite are left out; values that are not finite only in the other array make an
    infinite error. Another shape is wholly wrong. Integers count elements and differences.
    """
    if y.dtype.kind != "f":
        return float(y.size), float((y != q).sum()) if y.shape == q.shape else float(y.size)
    finite = np.isfinite(y)
    y = np.where(finite, y, 0).astype(np.float64)
    power = float((y**2).sum())
    if y.shape != q.shape:
        return power, power
    error = float((np.where(finite, q.astype(np.float64) - y, 0) ** 2).sum())
    return power, error if np.isfinite(error) else float("inf")


def onnxruntime_outputs(path: str, samples: Sequence[Frames]) -> list[Outputs] | str:
    """Return the outputs of an ONNX file in onnxruntime, which takes no frames of a sequence, or why not."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except NoKernel as error:
        return " ".join(str(error).split())[-200:]
    names = [port.name for port in session.get_inputs()]
    runs = [session.run(None, dict(zip(names, frames[0], strict=True))) for frames in samples]
    return [[[np.asarray(array)] for array in outputs] for outputs in runs]


def runtime_nodes(compiled: ov.CompiledModel) -> list[dict[str, Any]]:
    """List the nodes of a runtime graph that compute: type, primitive, and the names of what they stand for."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, primitive, originals = (_text(info, key) for key in ("layerType", "primitiveType", "originalLayersNames"))
        if kind in COMPUTING:
            names = {name.strip().removesuffix("_original") for name in originals.split(",")}
            names |= {
                value.get_node().get_friendly_name() for value in node.input_values() if not value.get_node().inputs()
            }
            names = {name.removesuffix("/DequantizationMultiply") for name in names}
            found.append({"kind": kind, "primitive": primitive, "names": names - {""}})
    return found


def _text(info: Any, key: str) -> str:
    if key not in info:
        return ""
    value = info[key]
    return str(getattr(value, "value", value))


def is_int8(primitive: str) -> bool:
    return primitive.lower().endswith("i8")


def stands_for(model: ov.Model, name: str) -> list[str]:
    """Return the names under which a layer may appear in a runtime graph, nearest first.

    These are its own, those of the constants that only it reads, and those of the operations behind it as long as each
    has one reader: a bias, an activation or a FakeQuantize is fused into the layer.
    """
    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    if name not in nodes:
        return []
    names, node = [name], nodes[name]
    for value in node.input_values()[1:]:
        source = value.get_node()
        while source.get_type_name() in ("Multiply", "Convert", "Reshape", "FakeQuantize", "Transpose"):
            names.append(source.get_friendly_name())
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Constant" and len(source.output(0).get_target_inputs()) == 1:
            names.append(source.get_friendly_name())
    for _ in range(6):
        readers = list(node.output(0).get_target_inputs())
        if len(readers) != 1 or readers[0].get_node().get_type_name() in ("Result", "Convolution", "MatMul"):
            break
        node = readers[0].get_node()
        names.append(node.get_friendly_name())
    return names


def claims(
    model: ov.Model, layers: Sequence[str], graphs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, dict[str, str]]:
    """Return layer → configuration → primitive of the node that stands for it, "" where none was found."""
    found: dict[str, dict[str, str]] = {}
    for layer in layers:
        names = stands_for(model, layer)
        found[layer] = {}
        for configuration, nodes in graphs.items():
            match = next((node for name in names for node in nodes if name in node["names"]), None)
            found[layer][configuration] = match["primitive"] if match else ""
    return found


def selected(port: ov.Output) -> bool:
    """Say whether a TopK, NMS or the like stands anywhere before an output."""
    seen: set[str] = set()
    stack = [port.get_node()]
    while stack:
        node = stack.pop()
        if node.get_type_name() in SELECTS:
            return True
        for value in node.input_values():
            source = value.get_node()
            if source.get_friendly_name() not in seen:
                seen.add(source.get_friendly_name())
                stack.append(source)
    return False


def interface(model: ov.Model) -> list[list[Any]]:
    """Return names, shape and type of each input and output."""
    ports = [*model.inputs, *model.outputs]
    return [[sorted(p.get_names()), str(p.get_partial_shape()), p.get_element_type().get_type_name()] for p in ports]


def interfaces(before: ov.Model, after: ov.Model) -> list[list[list[Any]]]:
    """Return names, shapes and types of both files; of outputs a shape with closer bounds, as inferred, is the same."""
    found = [interface(before), interface(after)]
    for place, (one, other) in enumerate(zip(before.outputs, after.outputs, strict=False), start=len(before.inputs)):
        if place < len(found[1]) and other.get_partial_shape().refines(one.get_partial_shape()):
            found[1][place][1] = found[0][place][1]
    return found


def judged(folder: Path) -> dict[str, Any]:
    """Return everything that the judge finds."""
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    core = ov.Core()
    before, after = core.read_model(case["model"]), core.read_model(case["int8"])
    found: dict[str, Any] = {
        "names": [sorted(port.get_names()) or [f"output {n}"] for n, port in enumerate(before.outputs)],
        "floats": [port.get_element_type().is_real() for port in before.outputs],
        "selected": [selected(port) for port in before.outputs],
        "default precision": core.get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name(),
        "interface": interfaces(before, after),
    }
    graphs = {name: runtime_nodes(core.compile_model(after, "CPU", config)) for name, config in CONFIGURATIONS.items()}
    found["claims"] = claims(after, case["int8 layers"], graphs)
    found["int8 nodes"] = {
        name: sorted(node["primitive"] for node in nodes if is_int8(node["primitive"]))
        for name, nodes in graphs.items()
    }
    samples = {kind: samples_of(folder / f"{kind}.npz") for kind in ("named", "unseen")}
    compiled = {name: core.compile_model(model, "CPU", config) for name, model, config in _forms(before, after)}
    outputs = {
        kind: {name: run(one, some) for name, one in compiled.items() if kind == "named" or "default" not in name}
        for kind, some in samples.items()
    }
    found |= {kind: _by_form(forms) for kind, forms in outputs.items()}
    if case["model"].endswith(".onnx") and all(len(frames) == 1 for frames in samples["named"]):
        reader = onnxruntime_outputs(case["model"], samples["named"])
        if isinstance(reader, str):
            found["not read"] = reader
        else:
            found["reader"] = energies(reader, outputs["named"]["fp32"])
    found["parts"] = {}
    parts = [Part(name, before) for name in case["parts"]]
    within = _inside(before, after, [part for part in parts if part.output is None])
    for part in parts:
        if part.output is not None:
            found["parts"][part.name] = {
                kind: _by_form({form: _cut(rows, part.output, part.positions) for form, rows in forms.items()})
                for kind, forms in outputs.items()
            }
    if within:
        found["parts"] |= _judged_inside(core, before, after, within, samples)
    return found


def _forms(before: ov.Model, after: ov.Model) -> list[tuple[str, ov.Model, dict[str, Any]]]:
    return [("fp32", before, F32), ("fp32 default", before, {}), ("int8", after, F32), ("int8 default", after, {})]


def _by_form(outputs: Mapping[str, list[Outputs]]) -> dict[str, list[Any]]:
    """Return the energies of each form of the model against FP32 in f32."""
    return {name: energies(outputs["fp32"], rows) for name, rows in outputs.items() if name != "fp32"}


def _cut(samples: list[Outputs], output: int, positions: str) -> list[Outputs]:
    return [[[part_of(array, positions) for array in outputs[output]]] for outputs in samples]


def _inside(before: ov.Model, after: ov.Model, parts: Sequence[Part]) -> list[Part]:
    """Return the parts of tensors inside that both files have under the name that the report gives."""
    return [part for part in parts if part.inside(before) is not None and part.inside(after) is not None]


def _judged_inside(
    core: ov.Core, before: ov.Model, after: ov.Model, parts: Sequence[Part], samples: Mapping[str, Sequence[Frames]]
) -> dict[str, Any]:
    """Return the energies of tensors inside, of both models with these as further outputs."""
    count, tensors = len(before.outputs), list(dict.fromkeys(part.node for part in parts))
    first = {part.node: part for part in reversed(parts)}  # one of each tensor, which may have several parts
    for model in (before, after):
        model.add_outputs([port for tensor in tensors if (port := first[tensor].inside(model)) is not None])
    compiled = {name: core.compile_model(model, "CPU", config) for name, model, config in _forms(before, after)}
    found: dict[str, Any] = {part.name: {} for part in parts}
    for kind, some in samples.items():
        outputs = {name: run(one, some) for name, one in compiled.items() if kind == "named" or "default" not in name}
        for part in parts:
            place = count + tensors.index(part.node)
            found[part.name][kind] = _by_form(
                {form: _cut(rows, place, part.positions) for form, rows in outputs.items()}
            )
    return found


def main(arguments: Sequence[str]) -> int:
    result = judged(Path(arguments[0]))
    loaded: Iterator[str] = (name for name in sys.modules if name.partition(".")[0] == "calib")
    if (name := next(loaded, "")) != "":
        raise SystemExit(f"the judge has imported {name}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
