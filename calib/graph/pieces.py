"""Divide a deep network into pieces that are compiled one by one and run one after the other.

::

    input ─▶ piece 0 ─▶ tensors that later pieces read ─▶ piece 1 ─▶ … ─▶ outputs

Compiling takes time that grows faster than the number of nodes: OpenVINO 2026.4 goes along the rest of a chain whenever
it fuses a node of it, and through all inputs of a Concat whenever one of them is reached. In pieces it grows with the
number of nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from calib.runtime.session import drawing, make_model, ov

op = ov.opset13

# Nodes that compute in a piece, at least, and at most three times as many. Measured of 1,000 convolutions with biases
# and ReLUs of 8x8x8 values: with taps the pieces together compile in 1.2 to 1.3 times what the network as a whole takes
# without; pieces a quarter of this size take 1.8 times, and the pass then 4 instead of 2 times.
NODES = 192
# Every piece has memory of its own for what it computes, for each stream. Of networks whose tensors are larger than
# this all together, the pass takes far longer than compiling.
BYTES = 64 << 20


@dataclass(frozen=True)
class Source:
    """Where an input of a piece comes from.

    Attributes:
        piece: Piece whose output it is; -1 for an input of the network.
        output: Position among that piece's outputs, or that of the network's input.
    """

    piece: int
    output: int


@dataclass(frozen=True)
class Piece:
    """A part of a network.

    Attributes:
        model: Its outputs are those that were added to it, then what later pieces read, then those of the network.
        sources: Where each of its inputs comes from.
        added: Number of outputs that were added to it.
    """

    model: ov.Model
    sources: tuple[Source, ...]
    added: int


def divided(model: ov.Model, ordered: Sequence[ov.Node], tapped: Collection[str], streams: int = 1) -> list[int]:
    """Return the piece of each node; all 0 if the network runs as a whole.

    It does if it is not deep, keeps state or draws random numbers, or if memory for each piece would be too much.

    Args:
        model: Network with unique friendly names.
        ordered: Its nodes in topological order.
        tapped: Names of the nodes whose outputs are to be looked at: these are where fused chains end.
        streams: Number of samples that run at the same time.
    """
    computing = _computing(ordered)
    whole = [0] * len(ordered)
    if sum(computing) <= 3 * NODES or model.get_sinks() or drawing(model):
        return whole
    sizes = [_size(node) if computes else 0 for node, computes in zip(ordered, computing, strict=True)]
    if None in sizes or streams * sum(size or 0 for size in sizes) > BYTES:
        return whole
    cuts = _cuts(ordered, computing, tapped)
    pieces, piece = [], 0
    for index in range(len(ordered)):
        piece += index in cuts
        pieces.append(piece)
    return pieces


def _computing(ordered: Sequence[ov.Node]) -> list[bool]:
    """Say of each node whether what it computes depends on an input of the network."""
    depends: dict[str, bool] = {}
    for node in ordered:
        sources = [value.get_node().get_friendly_name() for value in node.input_values()]
        constant = node.get_type_name() == "Constant"
        depends[node.get_friendly_name()] = not constant and (not sources or any(depends[name] for name in sources))
    return [depends[node.get_friendly_name()] for node in ordered]


def _size(node: ov.Node) -> int | None:
    """Return the bytes of a node's outputs; None if they depend on the sample."""
    if any(output.get_partial_shape().is_dynamic for output in node.outputs()):
        return None
    return sum(prod(output.get_shape()) * output.get_element_type().size for output in node.outputs())


def _cuts(ordered: Sequence[ov.Node], computing: Sequence[bool], tapped: Collection[str]) -> frozenset[int]:
    """Return the first node of each piece but the first: where the fewest tensors pass that are in a fused chain."""
    places = {node.get_friendly_name(): index for index, node in enumerate(ordered)}
    last = [max([index, *_readers(node, places)]) for index, node in enumerate(ordered)]
    ends: dict[int, list[int]] = {}
    inside, passing = 0, 0
    costs: list[tuple[int, int]] = []  # of a cut before each node
    for index, node in enumerate(ordered):
        costs.append((inside, passing))
        for weight in ends.pop(index, ()):
            inside, passing = inside - weight, passing - 1
        if computing[index] and last[index] > index and node.get_type_name() != "Parameter":
            weight = int(node.get_friendly_name() not in tapped)
            ends.setdefault(last[index], []).append(weight)
            inside, passing = inside + weight, passing + 1
    return frozenset(_cheapest(costs, computing))


def _readers(node: ov.Node, places: Mapping[str, int]) -> list[int]:
    """Return the places of the nodes of the network that read a node's outputs; taps have none."""
    names = (port.get_node().get_friendly_name() for output in node.outputs() for port in output.get_target_inputs())
    return [places[name] for name in names if name in places]


def _cheapest(costs: Sequence[tuple[int, int]], computing: Sequence[bool]) -> Iterator[int]:
    """Yield the cheapest cut within each stretch of ``NODES`` to three times as many nodes that compute."""
    total, seen, count, best = sum(computing), 0, 0, None
    for index, computes in enumerate(computing):
        if computes and count >= NODES and total - seen >= NODES:
            best = index if best is None or costs[index] < costs[best] else best
        if best is not None and (count >= 3 * NODES or costs[best] == (0, 1)):
            yield best
            count, best = sum(computing[best:index]), None
        count, seen = count + computes, seen + computes


def cut(
    model: ov.Model, ordered: Sequence[ov.Node], pieces: Sequence[int], added: Mapping[int, Sequence[ov.Output]]
) -> tuple[Piece, ...]:
    """Cut a network into its pieces, in place.

    Args:
        model: Network, which can't be used any more afterwards.
        ordered: Its nodes in topological order.
        pieces: Piece of each node, ascending.
        added: Outputs to add to each piece; they read nodes of that piece and are not of the network.
    """
    results = {piece: [op.result(output) for output in added.get(piece, ())] for piece in dict.fromkeys(pieces)}
    counts = {piece: len(found) for piece, found in results.items()}
    if len(results) == 1:
        whole = [*results[pieces[0]], *model.get_results()]
        made = make_model(whole, model.get_parameters(), model.get_sinks(), model.get_friendly_name())
        return (Piece(made, tuple(Source(-1, i) for i in range(len(made.inputs))), counts[pieces[0]]),)
    inputs = _Inputs(model)
    where = {node.get_friendly_name(): piece for node, piece in zip(ordered, pieces, strict=True)}
    for node, piece, computes in zip(ordered, pieces, _computing(ordered), strict=True):
        for output in node.outputs() if computes else ():
            later = _later(output, piece, where)
            source = inputs.network.get(node.get_friendly_name())
            if source is None and later:
                source = Source(piece, len(results[piece]))
                results[piece].append(op.result(output))
            if source is not None:
                inputs.connect(output, source, later)
    for result in model.get_results():
        results[where[result.get_friendly_name()]].append(result)
    name = model.get_friendly_name()
    return tuple(
        Piece(
            make_model(found, inputs.nodes[piece], (), f"{name} {piece}"), tuple(inputs.sources[piece]), counts[piece]
        )
        for piece, found in results.items()
    )


class _Inputs:
    """Inputs of the pieces, as they are found: the network's own belong to the first piece.

    Attributes:
        network: Name of each input of the network → where it comes from.
        nodes: Parameters of each piece.
        sources: Where each of them comes from.
    """

    def __init__(self, model: ov.Model):
        own = model.get_parameters()
        self.network = {node.get_friendly_name(): Source(-1, index) for index, node in enumerate(own)}
        self.nodes: defaultdict[int, list[ov.Node]] = defaultdict(list, {0: list(own)})
        self.sources: defaultdict[int, list[Source]] = defaultdict(list, {0: list(self.network.values())})

    def connect(self, output: ov.Output, source: Source, later: Mapping[int, Sequence[ov.Input]]) -> None:
        """Let the readers of an output in later pieces read an input of theirs."""
        for piece, ports in sorted(later.items()):
            parameter = op.parameter(output.get_partial_shape(), output.get_element_type())
            for port in ports:
                port.replace_source_output(parameter.output(0))
            self.nodes[piece].append(parameter)
            self.sources[piece].append(source)


def _later(output: ov.Output, piece: int, where: Mapping[str, int]) -> dict[int, list[ov.Input]]:
    """Return later piece → its ports that read an output."""
    found: dict[int, list[ov.Input]] = {}
    for port in output.get_target_inputs():
        reader = where.get(port.get_node().get_friendly_name(), piece)
        if reader != piece:
            found.setdefault(reader, []).append(port)
    return found
