"""Analyse an ov.Model once: names, producers and consumers as plain dictionaries; and functions that rewrites share.

Calls into OpenVINO cost microseconds each, and a network needs tens of thousands, so the graph is read once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from calib.errors import ModelError
from calib.graph.operations import BODIES, CARRYING, SHAPE_ONLY
from calib.runtime.session import Given, attributes_of, body_of, in_order, ov, values_of
from calib.values.plan import Port, TensorId

PART_OF = "calib_part_of"
# What a body is called in names, by the operation that owns it and its index.
_LABELS = {"If": ("then", "else"), "Loop": ("body",), "TensorIterator": ("body",)}


@dataclass(frozen=True)
class Body:
    """A body of an If, Loop or TensorIterator.

    Attributes:
        owner: Friendly name of the operation that it is a body of.
        index: Index among the bodies of its owner: of an If, 0 is taken and 1 is not.
        label: What it is called in names: then, else or body.
        outer: Body that the owner is in itself; None if the owner is in no body.
    """

    owner: str
    index: int
    label: str
    outer: Body | None = None


class GraphView:
    """A read-only view of a model whose friendly names are unique, those in bodies of If, Loop and TensorIterator too.

    Attributes:
        nodes: Mapping from friendly name to node, in topological order; those of a body come right before its owner.
        types: Mapping from friendly name to operation type.
        inputs: Mapping from friendly name to the tensors it reads, in port order.
        consumers: Mapping from tensor to the ports that read it, in topological order.
        inside: Mapping from the friendly name of each node inside a body to that body.
    """

    def __init__(self, model: ov.Model):
        self.nodes: dict[str, ov.Node] = {}
        self.types: dict[str, str] = {}
        self.inputs: dict[str, tuple[TensorId, ...]] = {}
        self.consumers: dict[TensorId, list[Port]] = defaultdict(list)
        self.inside: dict[str, Body] = {}
        self._shapes: dict[TensorId, tuple[int | None, ...] | None] = {}
        for node, body in all_nodes(model):
            name = node.get_friendly_name()
            if body is not None:
                self.inside[name] = body
            if name in self.nodes:
                raise ModelError(f"two nodes are named {name!r}; names must be unique. Load the model with calib first")
            self.nodes[name] = node
            self.types[name] = node.get_type_name()
            read = []
            for index, value in enumerate(node.input_values()):
                tensor = TensorId(value.get_node().get_friendly_name(), value.get_index())
                read.append(tensor)
                self.consumers[tensor].append(Port(name, index))
            self.inputs[name] = tuple(read)

    def is_constant(self, tensor: TensorId) -> bool:
        """Return whether a tensor is a Constant."""
        return self.types[tensor.node] == "Constant"

    def value_consumers(self, tensor: TensorId) -> list[Port]:
        """Return the ports that read the tensor's values and not only its shape."""
        return [port for port in self.consumers.get(tensor, []) if self.types[port.node] not in SHAPE_ONLY]

    def tensor(self, port: Port) -> TensorId:
        """Return the tensor that a port reads."""
        return self.inputs[port.node][port.input]

    def output(self, tensor: TensorId) -> ov.Output:
        """Return the OpenVINO output of a tensor."""
        return self.nodes[tensor.node].output(tensor.output)

    def shape(self, tensor: TensorId) -> tuple[int | None, ...] | None:
        """Return the tensor's shape with None for each dynamic axis; None for a dynamic rank."""
        if tensor not in self._shapes:  # asked for a few dozen times a layer
            partial = self.output(tensor).get_partial_shape()
            sizes = None
            if not partial.rank.is_dynamic:
                sizes = tuple(None if axis.is_dynamic else axis.get_length() for axis in partial)
            self._shapes[tensor] = sizes
        return self._shapes[tensor]

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of a node by name, as its operation defines them."""
        return attributes_of(self.nodes[name])

    def part_of(self, name: str) -> tuple[str, str]:
        """Return name and type of the operation that a node is a part of since it was written out, else its own."""
        info = self.nodes[name].get_rt_info()
        if PART_OF not in info:
            return name, self.types[name]
        kind, _, whole = str(info[PART_OF].value).partition(" ")
        return whole, kind

    def values(self, tensor: TensorId) -> NDArray[Any]:
        """Return the numbers of a Constant."""
        return values_of(self.nodes[tensor.node])

    def runs(self, name: str) -> int:
        """Return how often a node runs in an inference, as far as that is fixed: a branch of an If counts once."""
        return runs_of(self.inside.get(name), self.nodes)

    @cached_property
    def positive(self) -> frozenset[str]:
        """Friendly names of the nodes whose outputs are proved never to be negative."""
        return frozenset(name for name, sign in signs(list(self.nodes.values())).items() if sign.positive)

    @cached_property
    def quantizes(self) -> bool:
        """Whether the model may hold quantized layers: it has FakeQuantize, or constants of few bits."""
        few = ("i4", "i8", "u4", "u8")
        return any(
            kind.startswith("Fake")
            or (kind == "Constant" and self.nodes[name].get_output_element_type(0).get_type_name() in few)
            for name, kind in self.types.items()
        )

    @cached_property
    def order(self) -> dict[str, int]:
        """Friendly name → position in topological order."""
        return {name: index for index, name in enumerate(self.nodes)}


def sized(model: ov.Model, view: GraphView, sample: Given) -> GraphView:
    """Return a view of a model with the shapes of a sample where its own are dynamic, so that work can be counted.

    Args:
        model: Model.
        view: View of it, which is returned where no shape is dynamic, or the model does not take the sample's.
        sample: The sample; of a sequence, its first frame.
    """
    if not model.is_dynamic():
        return view
    fixed = model.clone()
    try:
        fixed.reshape({index: ov.PartialShape(list(array.shape)) for index, array in in_order(sample)[0].items()})
    except RuntimeError:
        return view
    return GraphView(fixed)


@dataclass(frozen=True)
class Sign:
    """Known signs of a node's outputs.

    Attributes:
        positive: Whether they are never negative.
        clean: Whether they are never negative and never NaN, whatever goes in. They may be infinite.
    """

    positive: bool = False
    clean: bool = False


UNKNOWN = Sign()

# They can't return a negative number, whatever they are given.
_POSITIVE = frozenset(
    {"Relu", "Sigmoid", "Softmax", "Abs", "Exp", "Sqrt", "SoftPlus", "HSigmoid", "ReduceL1", "ReduceL2"}
)
# They return what they are given, or sums and means of it: inputs that are never negative stay so, and no NaN is made
# (a sum of such inputs that overflows is inf, which the maximum shows).
_KEEP_FIRST = frozenset(
    {"MaxPool", "AvgPool", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Split", "VariadicSplit", "Slice"}
    | {"StridedSlice", "ShuffleChannels", "SpaceToDepth", "DepthToSpace", "ReduceMean", "ReduceMax", "ReduceSum"}
)
_KEEP_ALL = frozenset({"Concat", "Add"})


def signs(ordered: Sequence[ov.Node]) -> dict[str, Sign]:
    """Return friendly name → sign of the nodes whose outputs are never negative; ``ordered`` is topological."""
    found: dict[str, Sign] = {}
    for node in ordered:
        sign = _sign(node, node.get_type_name(), found)
        if sign.positive:
            found[node.get_friendly_name()] = sign
    return found


def _sign(node: ov.Node, kind: str, found: dict[str, Sign]) -> Sign:
    if kind in _POSITIVE:
        return Sign(positive=True, clean=kind == "Relu")  # Relu(NaN) is 0 on the CPU
    if kind == "Clamp":
        bounded = attributes_of(node)["min"] >= 0
        return Sign(positive=bounded, clean=bounded)  # Clamp(NaN) is its lower bound
    if kind == "Interpolate":
        # Nearest copies; linear weights are never negative, but 0 · inf is NaN; cubic undershoots.
        mode = str(attributes_of(node).get("mode", "cubic"))
        given = found.get(node.input_value(0).get_node().get_friendly_name(), UNKNOWN)
        return UNKNOWN if "cubic" in mode else Sign(given.positive, given.clean and mode == "nearest")
    if kind in _KEEP_FIRST or kind in _KEEP_ALL:
        count = node.get_input_size() if kind in _KEEP_ALL else 1
        given = [found.get(node.input_value(i).get_node().get_friendly_name(), UNKNOWN) for i in range(count)]
        return Sign(all(sign.positive for sign in given), all(sign.clean for sign in given))
    return UNKNOWN


def bodies(node: ov.Node) -> list[ov.Model]:
    """Return the bodies of an If, Loop or TensorIterator; empty for other operations."""
    kind = node.get_type_name()
    return [body_of(node, index) for index in range(len(_LABELS[kind]))] if kind in BODIES else []


def body_labels(node: ov.Node) -> tuple[str, ...]:
    """Return what the bodies of an If, Loop or TensorIterator are called in names; empty for other operations."""
    return _LABELS.get(node.get_type_name(), ())


def all_nodes(model: ov.Model, inside: Body | None = None) -> Iterator[tuple[ov.Node, Body | None]]:
    """Yield every node with the body that it is in, in topological order; those of a body right before its owner."""
    for node in model.get_ordered_ops():
        if node.get_type_name() in BODIES:
            for index, (label, body) in enumerate(zip(body_labels(node), bodies(node), strict=True)):
                yield from all_nodes(body, Body(node.get_friendly_name(), index, label, inside))
        yield node, inside


def all_bodies(model: ov.Model) -> Iterator[ov.Model]:
    """Yield every body of the model's operations, and the bodies inside those."""
    for node in model.get_ordered_ops():
        for body in bodies(node):
            yield body
            yield from all_bodies(body)


def runs_of(body: Body | None, nodes: Mapping[str, ov.Node]) -> int:
    """Return how often a body runs in an inference, as far as that is fixed; 1 outside of bodies.

    Args:
        body: Body; None for the model.
        nodes: Mapping from friendly name to node, owners of bodies included.
    """
    count = 1
    while body is not None:
        count *= max(1, trips(nodes[body.owner]))
        body = body.outer
    return count


def trips(node: ov.Node) -> int:
    """Return how often a Loop or TensorIterator runs its body; -1 if that depends on the sample, 1 for others."""
    looped: Any = node
    return int(looped.get_num_iterations()) if node.get_type_name() in ("Loop", "TensorIterator") else 1


def over_state(tensor: ov.Output) -> bool:
    """Return whether the keys or values of attention come from a state of the model, a KV cache."""
    waiting, seen = [tensor.get_node()], set[int]()
    for node in waiting:
        kind = node.get_type_name()
        if kind == "ReadValue":
            return True
        if kind in CARRYING and node.get_instance_id() not in seen:
            seen.add(node.get_instance_id())
            waiting += [value.get_node() for value in node.input_values()]
    return False


def set_part_of(node: ov.Node, name: str, kind: str) -> None:
    """Note, in place, of which operation a node is a part; clones keep it, files do not."""
    node.get_rt_info()[PART_OF] = f"{kind} {name}"


def is_custom(node: ov.Node) -> bool:
    """Return whether an operation is none of OpenVINO's own, but of an extension."""
    return not node.get_type_info().version_id.startswith("opset")


def port_name(port: ov.Output) -> str:
    """Return a port's first tensor name, or the friendly name of the Parameter or of what feeds the Result."""
    names = port.get_names()
    if names:
        return min(names)
    node = port.get_node()
    return (node.input_value(0).get_node() if node.get_type_name() == "Result" else node).get_friendly_name()


def replace_readers(output: ov.Output, make: Callable[[ov.Output], ov.Node]) -> ov.Node:
    """Redirect all readers of an output, in place, to the output that ``make`` makes from it, and return that."""
    readers = list(output.get_target_inputs())  # before it is made: it reads the output itself
    made = make(output)
    for reader in readers:
        reader.replace_source_output(made.output(0))
    return made
