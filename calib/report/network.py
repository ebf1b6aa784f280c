"""The layers of a report as a graph in blocks, as plain data; ``page/network.js`` draws what is unfolded."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from calib.values.facts import Report

# Most members of a block; more are divided into runs of about as many as there are runs.
MOST_MEMBERS = 40
# Segments of a name that blocks are made from; the rest of a longer name is one segment.
MOST_SEGMENTS = 12


def network_data(report: Report) -> dict[str, Any] | None:
    """Return the graph for JSON; None if the report does not say how layers follow each other.

    ``blocks`` are ``[label, place of the block around it or -1]``, outer ones first; ``of`` is the block of each node,
    -1 for none. Nodes are the layers, in the order of their table, and then the ``joins`` as ``[name, type]``;
    ``follows`` holds the nodes before each, and ``order`` all nodes in topological order.
    """
    follows = [list(one.follows) for one in (*report.layers, *report.joins)]
    if not any(follows):
        return None
    order = _topological(follows, len(report.layers))
    names = [one.name for one in (*report.layers, *report.joins)]
    blocks, of = blocks_of([names[node] for node in order])
    places = dict(zip(order, of, strict=True))
    return {
        "blocks": blocks,
        "of": [places[node] for node in range(len(names))],
        "joins": [[join.name, join.type] for join in report.joins],
        "follows": follows,
        "order": order,
    }


def _topological(follows: Sequence[Sequence[int]], layers: int) -> list[int]:
    """Return the nodes in topological order, merged from layers and joins, each of which are in that order."""
    heads, ends, order, seen = [0, layers], [layers, len(follows)], list[int](), set[int]()
    while len(order) < len(follows):
        open_ends = [side for side in (0, 1) if heads[side] < ends[side]]
        ready = (side for side in open_ends if seen.issuperset(follows[heads[side]]))
        side = next(ready, open_ends[0])  # of layers in bodies the order is not known
        order.append(heads[side])
        seen.add(heads[side])
        heads[side] += 1
    return order


def blocks_of(names: Sequence[str]) -> tuple[list[list[Any]], list[int]]:
    """Return blocks as ``[label, outer block]`` and the innermost block of each name, from what names share.

    Names are divided at ``/`` and ``.``: a beginning that several names have is a block, if it tells them from others.
    Where names tell nothing, as in ``Convolution_17``, nodes that follow each other are put together.
    """
    paths = [_path(name) for name in names]
    blocks: list[list[Any]] = []
    of = [-1] * len(names)

    def divide(nodes: list[int], depth: int, outer: int, label: str) -> None:
        groups: dict[str, list[int]] = {}
        for node in nodes:
            path = paths[node]
            groups.setdefault(path[depth] if depth < len(path) else f"\0{node}", []).append(node)
        if len(groups) == 1 and len(nodes) > 1:
            (name,) = groups
            divide(nodes, depth + 1, outer, f"{label}{name}.")
            return
        members = list(groups.items())
        for chosen, around in _runs(members, blocks, outer):
            for name, inner in chosen:
                if len(inner) == 1:
                    of[inner[0]] = around
                    continue
                blocks.append([f"{label}{name}", around])
                divide(inner, depth + 1, len(blocks) - 1, "")

    if names:
        divide(list(range(len(names))), 0, -1, "")
    return blocks, of


def _runs(members: list[Any], blocks: list[list[Any]], outer: int) -> list[tuple[list[Any], int]]:
    """Return members with the block around them; of too many, runs in blocks of their own, which are added."""
    if len(members) <= MOST_MEMBERS:
        return [(members, outer)]
    size = max(MOST_MEMBERS // 2, math.isqrt(len(members)))
    found: list[tuple[list[Any], int]] = []
    for first in range(0, len(members), size):
        run = members[first : first + size]
        blocks.append([f"{first + 1} to {first + len(run)} of {len(members)}", outer])
        found.append((run, len(blocks) - 1))
    return found


def _path(name: str) -> list[str]:
    """Return the segments of a name that may be blocks: all but the last."""
    return re.split(r"[/.]+", name.strip("/."), maxsplit=MOST_SEGMENTS)[:-1]
