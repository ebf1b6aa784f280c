"""Find where else the output of a layer can be looked at: at the end of what runs in the layer's own kernel.

::

    Convolution → Add(bias) → Relu → FakeQuantize → consumers
        ▲ the layer's output              ▲ behind its quantizer

OpenVINO runs such a chain as one kernel. A Result at the layer's own output breaks the chain up, and the kernels that
are chosen then can compute other numbers. A Result at the end of the chain leaves it whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.graph.insert import clone_model, output_node
from calib.graph.view import GraphView
from calib.runtime.session import make_model, ov
from calib.values.plan import Port, QuantizableNode

DATA = "calib/data"
LENGTH = 16

# Element-wise operations on one tensor that keep its shape, and so the axis of its channels.
FUSED = frozenset(
    {"Add", "Subtract", "Multiply", "Divide", "Relu", "PRelu", "Clamp", "Elu", "Sigmoid", "Tanh", "Gelu", "Swish"}
    | {"HSwish", "HSigmoid", "Mish", "SoftPlus"}
)


def behind_quantizers(
    models: tuple[ov.Model, ov.Model], names: tuple[Sequence[str], Sequence[str]]
) -> tuple[list[str], list[str]]:
    """Return, for layers of two models, the nodes whose outputs are the same tensor at the end of each layer's chain.

    A chain goes on as far as it does in both models, and past a FakeQuantize at its end in either.

    Args:
        models: Two forms of a network with unique friendly names.
        names: Layers of each, which belong together by their position.
    """
    nodes = tuple({node.get_friendly_name(): node for node in model.get_ordered_ops()} for model in models)
    ends: tuple[list[str], list[str]] = ([], [])
    for pair in zip(*names, strict=True):
        chains = [_chain(known[output_node(known, name)]) for known, name in zip(nodes, pair, strict=True)]
        types = [[node.get_type_name() for node in chain if not _quantizes(node)][1:] for chain in chains]
        shared = next((i for i, (a, b) in enumerate(zip(*types, strict=False)) if a != b), min(map(len, types)))
        for chain, end in zip(chains, ends, strict=True):
            behind = chain[shared + 1 : shared + 2]
            quantized = bool(behind) and _quantizes(behind[0])
            end.append((behind[0] if quantized else chain[shared]).get_friendly_name())
    return ends


def cut_out(model: ov.Model, layer: QuantizableNode) -> ov.Model:
    """Return a model of one layer and the element-wise operations behind it, with one input named ``DATA``.

    Axes that are dynamic get a length: 1 in front, ``LENGTH`` elsewhere.
    """
    clone = clone_model(model)
    view = GraphView(clone)
    (end,), _ = behind_quantizers((clone, clone), ([layer.name], [layer.name]))
    port = Port(layer.name, layer.activations[0])
    known = view.shape(view.tensor(port)) or ()
    shape = [(LENGTH if axis else 1) if size is None else size for axis, size in enumerate(known)]
    data = ov.opset13.parameter(shape, np.float32, name=DATA)
    view.nodes[port.node].input(port.input).replace_source_output(data.output(0))
    alone = make_model([ov.opset13.result(view.nodes[end].output(0))], [data])
    alone.validate_nodes_and_infer_types()
    return alone


def _chain(node: ov.Node) -> list[ov.Node]:
    """Return a node and the element-wise operations that alone read it, up to a FakeQuantize."""
    chain = [node]
    while not _quantizes(chain[-1]):
        readers = [port.get_node() for port in chain[-1].output(0).get_target_inputs()]
        if len(readers) != 1 or not (_quantizes(readers[0]) or _on_one_tensor(readers[0], chain[-1])):
            break
        chain.append(readers[0])
    return chain


def _quantizes(node: ov.Node) -> bool:
    return node.get_type_name() == "FakeQuantize"


def _on_one_tensor(node: ov.Node, source: ov.Node) -> bool:
    """Say whether a node changes the values of one tensor only, and neither its shape nor its axes."""
    others = [value.get_node() for value in node.input_values()]
    others = [other for other in others if other.get_friendly_name() != source.get_friendly_name()]
    return (
        node.get_type_name() in FUSED
        and all(_constant(other) for other in others)
        and node.output(0).get_partial_shape() == source.output(0).get_partial_shape()
    )


def _constant(node: ov.Node) -> bool:
    """Say whether a node is a Constant, or one in half precision that is converted."""
    kind = node.get_type_name()
    return kind == "Constant" or (kind == "Convert" and _constant(node.input_value(0).get_node()))
