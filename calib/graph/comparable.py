"""Which tensors tell how far two runs of a network lie apart: real-valued outputs, or what others are decided from."""

from __future__ import annotations

from calib.errors import ModelError
from calib.runtime.session import ov

op = ov.opset13

REAL = ("f32", "f16", "bf16", "f64")


def comparable(model: ov.Model) -> ov.Model:
    """Return the model with only outputs whose differences have a size; its nodes are shared, not copied.

    Indices, labels and counts have no unit, and outputs whose length depends on the data (behind NonMaxSuppression)
    don't line up. Where a model has only such outputs (TopK, NMS), the nearest real-valued tensors before them are
    taken instead. Sinks and parameters stay.

    Raises:
        ModelError: there is no such tensor.
    """
    fixed = all(port.get_partial_shape().is_static for port in model.inputs)
    results = [result for result in model.get_results() if _real(result.input_value(0), fixed)]
    if not results:
        results = [op.result(tensor) for tensor in _deciding(model, fixed)]
    if not results:
        raise ModelError(
            f"model {model.get_friendly_name()!r} has no real-valued output, nor such a tensor before "
            "them; there is nothing to compare the quantized model by"
        )
    return ov.Model(results, model.get_sinks(), model.get_parameters(), model.get_friendly_name())


def _real(tensor: ov.Output, fixed: bool) -> bool:
    if tensor.get_element_type().get_type_name() not in REAL:
        return False
    if fixed and tensor.get_partial_shape().is_dynamic:
        return False
    node = tensor.get_node()
    if node.get_type_name() == "Convert":  # an index in a float's clothes
        return node.input_value(0).get_element_type().get_type_name() in REAL
    return True


def _deciding(model: ov.Model, fixed: bool) -> list[ov.Output]:
    """List the nearest real-valued tensors above the results, in the order of a breadth-first walk."""
    found: list[ov.Output] = []
    queue = [result.input_value(0) for result in model.get_results()]
    seen = {_key(tensor) for tensor in queue}
    for tensor in queue:  # grows as it is walked
        node = tensor.get_node()
        if node.get_type_name() in ("Constant", "Parameter", "ShapeOf"):
            continue
        if _real(tensor, fixed):
            found.append(tensor)
            continue
        for source in node.input_values():
            if _key(source) not in seen:
                seen.add(_key(source))
                queue.append(source)
    return found


def _key(tensor: ov.Output) -> tuple[str, int]:
    return tensor.get_node().get_name(), tensor.get_index()
