"""What decoders are told of a model: shapes and types of its outputs, what made them, and the size of its image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from calib.graph.output_parts import MOVING
from calib.graph.view import port_name
from calib.outputs.decoder import ModelFacts, OutputFact
from calib.runtime.session import ov
from calib.samples.sample import InputSpec

BOUNDS = {"Softmax": "Softmax", "LogSoftmax": "Softmax", "Sigmoid": "Sigmoid"}
PASSED = frozenset({*MOVING, "Convert", "FakeQuantize", "Concat", "Split", "VariadicSplit", "StridedSlice", "Slice"})


def model_facts(model: ov.Model, inputs: Sequence[InputSpec], rt_info: Mapping[str, str]) -> ModelFacts:
    """Return what decoders are told of a model.

    Args:
        model: The model.
        inputs: Its inputs.
        rt_info: Its runtime information with keys joined by "/".
    """
    info = {key.removeprefix("model_info/"): text for key, text in rt_info.items() if key.startswith("model_info/")}
    image = next((found for at, spec in enumerate(inputs) if (found := _image(at, spec)) is not None), None)
    size: tuple[int | None, int | None] = (None, None)
    if image is not None:
        shape = inputs[image[0]].shape
        size = (shape[2], shape[3]) if image[1] else (shape[1], shape[2])
    return ModelFacts(tuple(_output(port) for port in model.outputs), size, info, image)


def _image(position: int, spec: InputSpec) -> tuple[int, bool] | None:
    """Return the position of an input and whether its channels are the second axis; None if it is no image."""
    if len(spec.shape) != 4:
        return None
    if spec.layout in ("NCHW", "NHWC"):
        return position, spec.layout == "NCHW"
    return (position, spec.shape[1] in (1, 3)) if spec.shape[1] in (1, 3) or spec.shape[3] in (1, 3) else None


def _output(port: ov.Output) -> OutputFact:
    node = port.get_node()
    source = node.input_value(0) if node.get_type_name() == "Result" else port
    maker = source.get_node()
    partial = source.get_partial_shape()
    known = [] if partial.rank.is_dynamic else list(partial)
    names = (port_name(port), *sorted(port.get_names()), maker.get_friendly_name())
    return OutputFact(
        tuple(dict.fromkeys(names)),
        tuple(None if axis.is_dynamic else axis.get_length() for axis in known),
        source.get_element_type().to_dtype(),
        maker.get_type_name(),
        dict(maker.get_attributes()) if maker.get_type_name() == "RegionYolo" else {},
        _bound(source),
    )


def _bound(source: ov.Output) -> str:
    """Return the last function of all values of a tensor that makes probabilities; "" if they have none in common."""
    kinds: set[str] = set()
    queue = [source]
    for one in queue:  # grows as it is walked
        kind = one.get_node().get_type_name()
        if kind in PASSED and len(queue) < 64:
            node = one.get_node()
            queue += [node.input_value(i) for i in range(node.get_input_size() if kind == "Concat" else 1)]
        else:
            kinds.add(BOUNDS.get(kind, ""))
    return kinds.pop() if len(kinds) == 1 else ""
