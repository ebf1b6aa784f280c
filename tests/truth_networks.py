"""Random networks with all kinds of operation, and samples of uneven size: what a report is held against.

One network for each seed. Samples are drawn after it, as many as are asked for, each from its own number: those that
calibration has never seen are simply later ones. Networks that keep state get sequences of frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from building import integer, op, shape_of
from network_kinds import ENDINGS, KINDS, RECURRENT, SELECTING
from numpy.typing import NDArray
from strategies_networks import Builder

from calib.runtime.session import core, ov

Feed = list[NDArray[Any]]
STARTS = {
    "image": (1, 3, 16, 16),
    "wide image": (1, 8, 8, 8),
    "sequence": (1, 12, 16),
    "sequence again": (1, 6, 16),
    "volume": (1, 2, 4, 8, 8),
    "rows": (1, 24),
}
FRAMES = 6
LARGER = 4  # how much longer a dynamic axis may be
TOKENS = 50
# The first step of a network is one of these, so that each kind of layer is seen often; by the number of axes.
CARRYING = {
    5: ("volume conv", "volume depthwise", "volume deconv"),
    4: ("conv", "residual", "depthwise", "deconv", "wide deconv", "gate"),
    3: (*RECURRENT, "einsum", "masked attention", "attention", "heads", "mlp", "conv", "dense", "long deconv"),
    2: ("dense rows",),
}


@dataclass
class TruthNetwork:
    """A network with its samples.

    Attributes:
        counts: Number of samples for calibration.
        spread: Standard deviation of the logarithm of a sample's size.
        free: Axes whose size changes from sample to sample, per input.
        frames: Number of frames of a sample, 0 for a network without state.
    """

    model: ov.Model
    seed: int
    shapes: list[tuple[int, ...]]
    integer: list[bool]
    counts: int
    spread: float
    steps: list[str]
    free: list[tuple[int, ...]] = field(default_factory=list)
    frames: int = 0

    @property
    def selects(self) -> bool:
        """Whether an output is what a TopK or NMS chooses: a small error may change it wholly."""
        return bool(SELECTING & set(self.steps)) or "chosen rows" in self.steps

    def samples(self, count: int, first: int = 0) -> list[list[Feed]]:
        """Return samples, each a list of feeds: one, or as many as it has frames."""
        return [self._sample(number) for number in range(first, first + count)]

    def _sample(self, number: int) -> list[Feed]:
        rng = np.random.default_rng((self.seed, number))
        size = np.exp(self.spread * rng.standard_normal())
        longer = int(rng.integers(0, LARGER + 1))
        return [self._feed(rng, size, longer) for _ in range(self.frames or 1)]

    def _feed(self, rng: np.random.Generator, size: float, longer: int) -> Feed:
        feed: Feed = []
        for shape, tokens, free in zip(self.shapes, self.integer, self.free or [()] * len(self.shapes), strict=True):
            actual = [s + longer if axis in free else s for axis, s in enumerate(shape)]
            if tokens:
                feed.append(rng.integers(0, TOKENS, actual))
            else:
                feed.append((size * rng.standard_normal(actual)).astype(np.float32))
        return feed


class _Builder(Builder):
    """A builder that chooses from all kinds of operation and inputs."""

    def start(self) -> None:
        """Make one or two inputs: images, sequences, volumes, rows or tokens."""
        kind = self.pick(["image", *STARTS, "tokens"])
        if kind == "tokens":
            tokens = self.net.input(1, 8, dtype=np.int64)
            self.pool.append(op.gather(self.net.weights(TOKENS, 16, fan_in=2), tokens, integer(0)))
        else:
            self.pool += [self.net.input(*STARTS[kind]) for _ in range(self.pick([1, 1, 1, 2]))]
        self.steps.append(kind)
        table, inputs = self.tables, len(self.pool)
        self.tables = {axes: {name: table[axes][name] for name in names} for axes, names in CARRYING.items()}
        while len(self.pool) == inputs:  # some steps decline some shapes
            self.step()
        self.tables = table


def truth_network(seed: int) -> TruthNetwork:
    """Return the network of a seed."""
    pick = Random(f"truth {seed}").choice
    builder = _Builder(pick, KINDS)
    builder.start()
    for _ in range(pick(range(3, 10))):
        builder.step()
    while len(shape_of(builder.pool[-1])) == 0:
        builder.pool.pop()
    outputs, ending = _outputs(builder, pick)
    model = builder.net.model(*outputs, sinks=builder.sinks)
    _name(model)
    floats = [port.get_element_type().is_real() for port in model.inputs]
    network = TruthNetwork(
        model,
        seed,
        [tuple(shape_of(port)) for port in builder.net.inputs],
        [not real for real in floats],
        pick([4, 10, 40, 40, 150]),
        pick([0.0, 0.3, 0.3, 0.8]),
        [*builder.steps, ending],
        frames=FRAMES if builder.sinks else 0,
    )
    if pick([False, False, True]):
        _make_dynamic(network, pick)
    return network


def _outputs(builder: Builder, pick: Any) -> tuple[list[Any], str]:
    """Return the outputs: an ending of the last tensor, and now and then another tensor beside it."""
    ending = pick(sorted(ENDINGS))
    try:
        outputs = ENDINGS[ending](builder, builder.pool[-1])
    except RuntimeError:  # shapes that don't fit
        ending, outputs = "nothing", [builder.pool[-1]]
    return [*outputs, *(t for t in builder.pool[:-1] if pick([False] * 7 + [True]))], ending


def _name(model: ov.Model) -> None:
    """Give inputs, outputs and nodes names of their own, as an exporter does."""
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name().lower()}.{number}")
    for number, port in enumerate(model.inputs):
        port.get_tensor().set_names({f"input{number}"})
    for number, port in enumerate(model.outputs):
        port.get_tensor().set_names({f"output{number}"})


def _make_dynamic(network: TruthNetwork, pick: Any) -> None:
    """Make axes dynamic where the network runs with other sizes there."""
    before = {i: ov.PartialShape(list(shape)) for i, shape in enumerate(network.shapes)}
    free = [tuple(a for a in pick([(0,), (1,), (2,), (2, 3), (0, 2)]) if a < len(s)) for s in network.shapes[:1]]
    free *= len(network.shapes)
    shapes = {i: [-1 if a in free[i] else s for a, s in enumerate(shape)] for i, shape in enumerate(network.shapes)}
    try:
        network.model.reshape({i: ov.PartialShape(shape) for i, shape in shapes.items()})
        network.free = [tuple(a for a in axes if a != 0) for axes in free]
        request = core().compile_model(network.model, "CPU").create_infer_request()
        for sample in network.samples(4):
            request.infer(dict(enumerate(sample[0])))
    except RuntimeError:  # a constant shape inside holds the axis fixed
        network.free = []
        network.model.reshape(before)
