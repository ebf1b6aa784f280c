"""How a network's layers follow each other, for a drawing: layers and joins, and what reaches each of them.

A join is an operation where outputs of several layers meet (a residual Add, a Concat, a Multiply by a gate). Whatever
lies between layers and joins is left out, so that the drawing has about as many nodes as there are layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calib.graph.operations import SHAPE_ONLY
from calib.graph.view import GraphView


@dataclass(frozen=True)
class Flow:
    """Nodes of the drawing: the layers first, in the order given, then the joins in topological order.

    Attributes:
        joins: Friendly names of the joins.
        follows: For each node the places of those before it, ascending.
    """

    joins: tuple[str, ...]
    follows: tuple[tuple[int, ...], ...]


def flow_of(view: GraphView, layers: Sequence[str]) -> Flow:
    """Return how layers and joins follow each other, in one walk over the graph; what carries shapes is left out.

    Args:
        view: View of the model that has the layers.
        layers: Friendly names of the layers; of one that is not in the graph nothing is known.
    """
    places = {name: place for place, name in enumerate(layers)}
    reaching: dict[str, tuple[int, ...]] = {}  # node → places of the nearest nodes that its outputs come from
    before: dict[int, tuple[int, ...]] = {}
    joins: list[str] = []
    for name, inputs in view.inputs.items():
        if view.types[name] in SHAPE_ONLY:
            reaching[name] = ()
            continue
        sources = tuple(sorted({place for tensor in inputs for place in reaching.get(tensor.node, ())}))
        place = places.get(name)
        if place is None and len(sources) > 1:
            place = len(layers) + len(joins)
            joins.append(name)
        if place is not None:
            before[place] = sources
        reaching[name] = sources if place is None else (place,)
    return Flow(tuple(joins), tuple(before.get(place, ()) for place in range(len(layers) + len(joins))))
