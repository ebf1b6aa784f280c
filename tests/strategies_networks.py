"""Random valid networks: convolutions of all kinds, MatMul forms, joins, branches, states, dynamic dimensions.

A network is a list of choices, so the same builder serves hypothesis, which shrinks them, and a long seeded run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from building import Net, op, shape_of
from hypothesis import strategies as st
from network_steps import TABLES, WIDER_TABLES
from numpy.typing import NDArray

from calib.runtime.session import ov

Pick = Callable[[Sequence[Any]], Any]
Tables = Mapping[int, Mapping[str, Callable[..., Any]]]  # number of axes → name → step
# The first seed that chooses from all steps: earlier ones found faults, and have to build the same networks again.
WIDER = 2000

# Each layer rounds its input and its weights to 255 levels: at most half a level, 1/510 of the largest value. With a
# largest value of 8 times the root mean square that is 2 · 8 / (510 · √3) = 1.8 % of the signal's power a layer, and
# layers add up. Differences of nearly equal numbers (Subtract, LayerNorm of a constant) raise it: five times as much.
PER_LAYER = 5 * 0.018


@dataclass
class Generated:
    """A network, samples that fit it, and the steps that built it."""

    model: ov.Model
    feeds: list[list[NDArray[np.float32]]]
    steps: list[str] = field(default_factory=list)

    def distance(self, layers: int) -> float:
        """Return how far INT8 of so many layers may be from FP32, as a share of the signal.

        Without a limit where a TopK chooses which rows go on: nearly equal scores change places.
        """
        return np.inf if "chosen rows" in self.steps else 1e-5 + PER_LAYER * layers


@st.composite
def networks(draw: Any) -> Generated:
    """Draw a network."""
    return build(lambda options: draw(st.sampled_from(list(options))), wider=True)


def seeded_network(seed: int) -> Generated:
    """Return the network of a seed."""
    return build(Random(seed).choice, wider=seed >= WIDER)


class Builder:
    """A network that grows by one step at a time; ``pool`` holds what later steps may read."""

    def __init__(self, pick: Pick, tables: Tables):
        self.pick = pick
        self.tables = tables
        self.net = Net(pick(range(8)))
        self.sinks: list[ov.Node] = []
        self.steps: list[str] = []
        self.shared: dict[tuple[int, ...], ov.Node] = {}
        self.pool: list[Any] = []

    def start(self) -> None:
        """Make one or two inputs, images or sequences."""
        image = self.pick([True, True, False])
        shape = (1, self.pick([3, 8]), 8, 8) if image else (1, 6, 16)
        self.pool += [self.net.input(*shape) for _ in range(self.pick([1, 1, 2]))]

    def step(self) -> None:
        """Apply one operation that fits a tensor of the pool; the newest is read most often."""
        x = self.pick([self.pool[-1], self.pool[-1], *self.pool])
        table = self.tables.get(len(shape_of(x)), {})
        if not table:
            return
        name = self.pick(sorted(table))
        try:
            made = table[name](self, x)
        except RuntimeError:  # shapes that don't fit
            return
        made = made if isinstance(made, list) else [made]
        if made[0] is not None and all(min(shape_of(y)) > 0 for y in made):
            self.steps.append(name)
            self.pool.extend(made)

    def weights(self, *shape: int) -> ov.Node:
        """Return a new constant, or one that another layer has already; some are stored in half precision."""
        if shape in self.shared and self.pick([True, False]):
            return self.shared[shape]
        made = self.net.weights(*shape)
        if self.tables is not TABLES and self.pick([False] * 4 + [True]):
            made = op.convert(op.constant(made.data.astype(np.float16)), np.float32)
        self.shared[shape] = made
        return made

    def partners(self, x: Any, axis: int | None = None) -> list[Any]:
        """Return tensors of the pool with x's shape, but for one axis."""

        def rest(t: Any) -> list[int]:
            return [size for i, size in enumerate(shape_of(t)) if i != axis]

        return [t for t in self.pool if len(shape_of(t)) == len(shape_of(x)) and rest(t) == rest(x)]


def build(pick: Pick, *, wider: bool) -> Generated:
    """Build a network from choices: ``pick`` returns one of the options it is given."""
    builder = Builder(pick, WIDER_TABLES if wider else TABLES)
    builder.start()
    for _ in range(pick(range(2, 10))):
        builder.step()
    pool = builder.pool
    outputs = [pool[-1], *(t for t in pool[:-1] if pick([False] * 5 + [True]))]
    model = builder.net.model(*outputs, sinks=builder.sinks)
    rng = np.random.default_rng(1)
    shapes = [shape_of(x) for x in builder.net.inputs]
    feeds = [[rng.standard_normal(shape).astype(np.float32) for shape in shapes] for _ in range(3)]
    if pick([False, False, True]):
        _make_dynamic(model, pick)
    return Generated(model, feeds, builder.steps)


def _make_dynamic(model: ov.Model, pick: Pick) -> None:
    """Make axes of the inputs dynamic where the network allows it."""
    before = {i: port.get_partial_shape() for i, port in enumerate(model.inputs)}
    free = pick([(0,), (2,), (0, 2)])
    try:
        model.reshape({i: ov.PartialShape([-1 if a in free else s for a, s in enumerate(shape_of(p))])
                       for i, p in enumerate(model.inputs)})  # fmt: skip
    except RuntimeError:  # a constant shape inside holds the axis fixed
        model.reshape(before)
