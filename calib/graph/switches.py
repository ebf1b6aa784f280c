"""Build one network in which each unit of layers is quantized or not, depending on a number fed to it.

For a layer of unit u, with m the network's extra input::

    x ──▶ layer          becomes    x + m[u]·(FakeQuantize(x) − x) ──▶ layer
    Constant(W) ──▶      becomes    Constant(W) + Constant(W_q − W)·m[u] ──▶
    layer ──▶            becomes    layer + Constant(delta)·m[u] ──▶          where its bias is corrected
    Gather(table) ──▶    becomes    Gather(table) + Gather(table_q − table)·m[u] ──▶
    LSTM ──▶             becomes    LSTM + m[u]·(LSTM_q − LSTM) ──▶

so measuring the sensitivity of all units takes one compilation, not one per unit. m[u] = 0 is the floating-point layer:
a convolution bit for bit; a fully connected layer up to the order of its sums, for which the plug-in takes another
kernel when weights are computed (measured: 1e-13 of the output's power). The form matters for speed: m comes from one
Split and is reshaped to the rank of what it scales (as a scalar it costs two to four times as much), and shapes are
static.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calib.errors import ExecutionError
from calib.graph.bodies import carry_in
from calib.graph.insert import BIASED, Edits, clone_model, fake_quantize, keep_conversions
from calib.graph.layers import channel_shape, weights_of
from calib.graph.view import Body, GraphView, replace_readers
from calib.ranges.affine import quantize_weights
from calib.runtime.session import ov
from calib.values.plan import ActivationQuantizer, Port, QuantizationPlan, RecurrentRange, TensorId, WeightQuantizer

op = ov.opset13

Shapes = Sequence[tuple[int, ...]]

# The difference of the weights in the model and in the plug-in, and the switched weights while a layer runs. Measured,
# with activations: 2.1 times the weights on EfficientNet-Lite0, 3.4 times on a text recognizer of 11 MB.
COPIES = 3


def switch_model(
    model: ov.Model,
    plan: QuantizationPlan,
    edits: Edits,
    units: Sequence[frozenset[str]],
    shapes: Shapes | None = None,
) -> ov.Model:
    """Return a clone with one more input at the end, f32 ``(len(units),)``: 1 quantizes a unit, 0 does not.

    A layer gets its quantizer at its own port, wherever the plan has it: operations in between only select values.
    Layers of the plan that are in no unit stay in floating point. Sinks are carried.

    Args:
        model: Floating-point model with unique friendly names.
        plan: Plan with ranges.
        edits: Edits of weights and biases.
        units: Sets of layer names that change together.
        shapes: Shapes of the inputs of a model with dynamic ones; if it can't be reshaped they stay dynamic.

    Raises:
        ExecutionError: There is no unit, a quantizer has no range, or a layer is in two units.
    """
    clone = clone_model(static(model, shapes))
    view = GraphView(clone)
    members = _members(units)
    switches = _Switches(view, len(units))
    fakes: dict[tuple[TensorId, TensorId], ov.Output] = {}
    for port, quantizer in plan.input_quantizers().items():
        if port.node in members:
            _switch_activation(view, port, quantizer, switches, members[port.node], fakes)
    switched: dict[tuple[object, ...], ov.Output] = {}
    tables = {layer.name for layer in plan.layers if layer.is_table}
    for weight in plan.weights:
        if weight.port.node in tables & members.keys():
            _switch_table(view, weight, switches, members[weight.port.node])
        elif weight.port.node in members:
            _switch_weight(view, weight, edits, switches, members[weight.port.node], switched)
    for layer, delta in edits.biases.items():
        if layer in members:
            _switch_bias(view, layer, delta, switches, members[layer])
    for one in plan.recurrent:
        if one.name in members:
            _switch_recurrent(view, one, switches, members[one.name])
    keep_conversions(view)
    clone.add_parameters([switches.parameter])
    clone.validate_nodes_and_infer_types()
    return clone


def static(model: ov.Model, shapes: Shapes | None) -> ov.Model:
    """Return the model with these input shapes; the model itself if they are static already or can't be set."""
    if shapes is None or all(port.get_partial_shape().is_static for port in model.inputs):
        return model
    shaped = clone_model(model)
    try:
        shaped.reshape({port: ov.PartialShape(list(s)) for port, s in zip(shaped.inputs, shapes, strict=True)})
    except RuntimeError:  # slower with dynamic shapes, but the same numbers
        return model
    return shaped


def added_bytes(model: ov.Model, plan: QuantizationPlan, units: Sequence[frozenset[str]]) -> list[int]:
    """Estimate the bytes that the switches of each unit add to the model: ``COPIES`` times its weights."""
    view = GraphView(model)
    members = _members(units)
    sizes = [0] * len(units)
    ports = [weight.port for weight in plan.weights]
    if plan.recurrent:
        from calib.graph.recurrent import MATRICES  # here: few plans have any

        ports += [Port(one.name, port) for one in plan.recurrent for port in MATRICES[view.types[one.name]]]
    for port in ports:
        if port.node in members:
            shape = view.shape(view.tensor(port)) or ()
            sizes[members[port.node]] += COPIES * 4 * int(np.prod([axis or 1 for axis in shape]))
    return sizes


class _Switches:
    """The input m, split once in the model and once in each body; each switch is reshaped once per rank."""

    def __init__(self, view: GraphView, count: int):
        if not count:
            raise ExecutionError("a switch model needs at least one unit of layers; the plan has none")
        self.parameter = op.parameter([count], np.float32, name="calib/switches")
        self.parameter.output(0).get_tensor().set_names({"calib/switches"})
        self._view, self._count = view, count
        self._values: dict[Body | None, ov.Output] = {None: self.parameter.output(0)}
        self._parts: dict[Body | None, ov.Node] = {}
        self._made: dict[tuple[Body | None, int, int], ov.Node] = {}

    def __call__(self, node: str, unit: int, rank: int) -> ov.Node:
        """Return a unit's switch, of shape ``[1] * rank``, where a node is: in the model or in one of its bodies."""
        body = self._view.inside.get(node)
        key = (body, unit, rank)
        if key not in self._made:
            if body not in self._parts:
                self._parts[body] = op.split(self._value(body), op.constant(np.int64(0)), self._count)
            shape = op.constant(np.ones(rank, np.int64))
            self._made[key] = op.reshape(self._parts[body].output(unit), shape, special_zero=False)
        return self._made[key]

    def _value(self, body: Body | None) -> ov.Output:
        """Return m in a body."""
        if body not in self._values:
            assert body is not None
            self._values[body] = carry_in(self._view.nodes[body.owner], body, self._value(body.outer))
        return self._values[body]


def _members(units: Sequence[frozenset[str]]) -> dict[str, int]:
    members: dict[str, int] = {}
    for index, unit in enumerate(units):
        for layer in sorted(unit):
            if layer in members:
                raise ExecutionError(f"layer {layer!r} is in two units; a layer belongs to exactly one")
            members[layer] = index
    return members


def _switch_activation(
    view: GraphView,
    port: Port,
    quantizer: ActivationQuantizer,
    switches: _Switches,
    unit: int,
    fakes: dict[tuple[TensorId, TensorId], ov.Output],
) -> None:
    tensor = view.tensor(port)
    source = view.output(tensor)
    rank = source.get_partial_shape().rank.get_length()
    key = (tensor, quantizer.tensor)
    if key not in fakes:
        fakes[key] = op.subtract(fake_quantize(source, quantizer, rank), source).output(0)
    mixed = op.add(source, op.multiply(fakes[key], switches(port.node, unit, rank)))
    view.nodes[port.node].input(port.input).replace_source_output(mixed.output(0))


def _switch_weight(
    view: GraphView,
    weight: WeightQuantizer,
    edits: Edits,
    switches: _Switches,
    unit: int,
    made: dict[tuple[object, ...], ov.Output],
) -> None:
    tensor = view.tensor(weight.port)
    rounded = edits.rounded.get(weight.port)
    key = (tensor, unit, weight.scale_shape, weight.levels, weight.clip, None if rounded is None else weight.port)
    if key not in made:
        values = weights_of(view, weight.port)
        if rounded is None:
            rounded = quantize_weights(values, weight.scale_shape, weight.levels, weight.clip)
        quantized = rounded[0].astype(np.float32) * np.asarray(rounded[1], np.float32)
        difference = op.multiply(op.constant(quantized - values), switches(weight.port.node, unit, values.ndim))
        made[key] = op.add(view.output(tensor), difference).output(0)
    view.nodes[weight.port.node].input(weight.port.input).replace_source_output(made[key])


def _switch_table(view: GraphView, weight: WeightQuantizer, switches: _Switches, unit: int) -> None:
    """Add the rounding error of the rows that a Gather picks to what it gives, rather than that of the whole table."""
    gather, values = view.nodes[weight.port.node], weights_of(view, weight.port)
    quantized, scale = quantize_weights(values, weight.scale_shape, weight.levels, weight.clip)
    difference = op.constant(quantized.astype(np.float32) * scale - values)
    rank = gather.output(0).get_partial_shape().rank.get_length()
    error = op.gather(difference, gather.input_value(1), gather.input_value(2))
    switched = op.multiply(error, switches(weight.port.node, unit, rank))
    replace_readers(gather.output(0), lambda output: op.add(output, switched))


def _switch_recurrent(view: GraphView, one: RecurrentRange, switches: _Switches, unit: int) -> None:
    """Add the rounding error of a recurrent layer to what it gives; its state is rounded before the first step only."""
    from calib.graph.recurrent import twin  # here: few plans have any

    quantized = twin(view, one)
    for output, other in zip(view.nodes[one.name].outputs(), quantized.outputs(), strict=True):
        rank = output.get_partial_shape().rank.get_length()
        switch = switches(one.name, unit, rank)

        def mixed(y: ov.Output, y_q: ov.Output = other, m: ov.Node = switch) -> ov.Node:
            return op.add(y, op.multiply(op.subtract(y_q, y), m))

        replace_readers(output, mixed)


def _switch_bias(view: GraphView, layer: str, delta: NDArray[np.float32], switches: _Switches, unit: int) -> None:
    output = view.nodes[layer].output(0)
    rank = output.get_partial_shape().rank.get_length()
    values = delta.astype(np.float32).reshape(channel_shape(view, layer))
    moved = op.multiply(op.constant(values), switches(layer, unit, rank))
    replace_readers(output, lambda output: op.add(output, moved)).set_friendly_name(f"{layer}{BIASED}")
