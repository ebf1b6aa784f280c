"""Join the floating-point and the quantized network in one graph, where the first corrects the second as they run.

For each layer with weights, in topological order::

    delta = mean(y - y_q)            over the batch and all positions, one number per channel
    y_q'  = y_q + delta              what the next layers read

so a batch of samples gives sequential bias correction (each layer sees the already corrected layers before it) in a
single inference, where the usual way runs the network once for each layer.
"""

from __future__ import annotations

from collections.abc import Sequence

from calib.graph.insert import clone_model
from calib.graph.layers import channel_axis
from calib.graph.view import GraphView, replace_readers
from calib.runtime.session import make_model, ov
from calib.values.plan import QuantizationPlan

op = ov.opset13


def set_batch(model: ov.Model, batch: int) -> bool:
    """Reshape every input in place to ``batch`` samples; return False if that fails, leaving it unusable."""
    shapes = {}
    for port in model.inputs:
        axes = list(port.get_partial_shape())
        if not axes or (axes[0].is_static and axes[0].get_length() != 1):
            return False
        shapes[port] = ov.PartialShape([batch, *axes[1:]])
    try:
        model.reshape(shapes)
    except RuntimeError:  # a Reshape or a constant has the batch of 1 written into it
        return False
    return all(
        len(shape) > 0 and shape[0].is_static and shape[0].get_length() == batch
        for shape in (port.get_partial_shape() for port in model.outputs)
    )


def side_by_side(
    model: ov.Model, quantized: ov.Model, plan: QuantizationPlan, batch: int
) -> tuple[ov.Model, list[str]] | None:
    """Return the model that holds both, whose outputs are the deltas ``(channels,)`` of the named layers.

    Args:
        model: Floating-point network.
        quantized: The same network with the plan inserted; its layers keep their names.
        plan: Plan whose layers with weights are corrected.
        batch: Number of samples that run at once.

    Returns:
        The model and the names of its layers; None if the network can't be batched, has state, or has no layer with
        weights outside of bodies.
    """
    layers = [layer.name for layer in plan.layers if layer.weights and not layer.is_table]
    if not layers or model.get_sinks():
        return None
    plain, rough = clone_model(model), clone_model(quantized)
    if not set_batch(plain, batch) or not set_batch(rough, batch):
        return None
    one, other = GraphView(plain), GraphView(rough)
    layers = [layer for layer in layers if layer not in one.inside]  # those in bodies have no output outside
    if not layers:
        return None
    for mine, theirs in zip(plain.get_parameters(), rough.get_parameters(), strict=True):
        replace_readers(theirs.output(0), lambda _, mine=mine: mine)
    deltas = [_correct(one, other, layer) for layer in layers]
    return make_model([op.result(delta) for delta in deltas], plain.get_parameters(), name="side_by_side"), layers


def _correct(plain: GraphView, rough: GraphView, layer: str) -> ov.Node:
    y, y_q = plain.nodes[layer].output(0), rough.nodes[layer].output(0)
    rank = y.get_partial_shape().rank.get_length()
    axis = channel_axis(plain, layer) % rank
    others = [i for i in range(rank) if i != axis]
    corrected = replace_readers(y_q, lambda y_q: op.add(y_q, op.reduce_mean(op.subtract(y, y_q), others, True)))
    return op.reshape(corrected.input_value(1), [-1], special_zero=False)


def batchable(model: ov.Model, samples: Sequence[object]) -> int:
    """Return the number of samples that fit in one batch, with activations under about 512 MiB."""
    elements = 0
    for node in model.get_ordered_ops():
        for port in node.outputs():
            shape = port.get_partial_shape()
            if node.get_type_name() not in ("Constant", "Result") and shape.is_static:
                elements = max(elements, _size(shape))
    # The largest tensor, alive in both networks with its input and output, in float32.
    return max(1, min(len(samples), (512 << 20) // max(elements * 4 * 6, 1)))


def _size(shape: ov.PartialShape) -> int:
    size = 1
    for axis in shape:
        size *= axis.get_length()
    return size
