"""Ask whether two INT8 products in place of a sensitive layer are faster than the layer in floating point.

The input's levels give one product and what they leave over, quantized once more, a second one with the same weights::

    x ≈ x1 + x2,  x1 = FQ(x - step / 2),  x2 = FQ(x - x1)          W x ≈ W x1 + W x2

Three forms of the graph: two layers and an Add; one layer that reads x1 and 255 x2 stacked along the batch (a MatMul's
rows), whose halves are added up; and, for a convolution, one with two groups that reads them side by side. A fourth
adds what the levels of the weights leave over, V x1, for two products are no better than the weights allow. Each beside
the layer in f32, in the machine's default precision if that is another, and as one INT8 product. The layer stands
between two ReLUs that run in floating point, as a layer does that a budget returned. One value in a hundred of the
input is ten times as large as the others, as in layers that are sensitive. The time is CPU time of one thread,
interleaved, over that of f32, as median, lowest and highest over compilations; the SQNR that of the output against f32;
the primitives are those that the compiled model executes.

    python benchmarks/two_products.py [--seconds 0.3] [--compilations 5]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import record
from numpy.typing import NDArray
from peers import HALF_RANGE

from calib.ranges.affine import quantize_weights
from calib.runtime.executed import executed_nodes
from calib.runtime.session import F32, Session, compile_model, default_precision, ov
from calib.runtime.timing import TimedModel, time_models
from calib.values.sqnr import decibel, squared_error

op = ov.opset13
Array = NDArray[np.float32]
Node = Any
LEVELS = 127 if HALF_RANGE else 255
FINER = 255.0  # the levels of what is left over lie this much closer


class Layer:
    """One layer with random weights, in floating point or in INT8.

    Args:
        shape: Of the input.
        weights: Weights in floating point, outputs first.
        pads: Of a convolution; None for a MatMul.
    """

    def __init__(self, shape: tuple[int, ...], weights: Array, pads: int | None):
        self.shape, self._weights, self._pads = shape, weights, pads
        self.groups_allowed = pads is not None
        scales = (len(weights), *[1] * (weights.ndim - 1))
        self._quantized, self._scale = quantize_weights(weights, scales, LEVELS)
        left = weights - self._quantized * self._scale.astype(np.float32)
        self._rest = quantize_weights(left, scales, LEVELS)

    def exact(self, x: Node) -> Node:
        """Return the layer in floating point."""
        return self._product(x, op.constant(self._weights))

    def int8(self, x: Node) -> Node:
        """Return the layer with INT8 weights."""
        return self._product(x, self._constant(self._quantized, self._scale))

    def rest(self, x: Node) -> Node:
        """Return the layer with what INT8 weights leave over, in INT8."""
        return self._product(x, self._constant(*self._rest))

    def grouped(self, x: Node) -> Node:
        """Return a convolution of two groups with the same weights each."""
        quantized, scale = np.stack([self._quantized] * 2), np.stack([self._scale] * 2)
        ends = [self._pads] * 2
        return op.group_convolution(x, self._constant(quantized, scale), [1, 1], ends, ends, [1, 1])

    def _product(self, x: Node, weights: Node) -> Node:
        if self._pads is None:
            return op.matmul(x, weights, False, True)
        ends = [self._pads] * 2
        return op.convolution(x, weights, [1, 1], ends, ends, [1, 1])

    @staticmethod
    def _constant(quantized: NDArray[np.int8], scale: Array) -> Node:
        return op.multiply(op.convert(op.constant(quantized), "f32"), op.constant(scale.astype(np.float32)))


def levels(x: Node, low: float, high: float) -> Node:
    ends = [op.constant(np.float32(end)) for end in (low, high)]
    return op.fake_quantize(x, *ends, *ends, 256)


def parts(x: Node, top: float, finer: float = 1.0) -> tuple[Node, Node]:
    """Return the input at its levels, rounded down, and what they leave over at its own, times ``finer``.

    So both are at least 0, and neither needs a zero point, which costs time.
    """
    step = top / 255
    first = levels(op.subtract(x, op.constant(np.float32(step / 2))), 0.0, top)
    left = op.subtract(x, first)
    if finer != 1.0:
        left = op.multiply(left, op.constant(np.float32(finer)))
    return first, levels(left, 0.0, step * finer)


def two_layers(layer: Layer, x: Node, top: float) -> Node:
    first, second = parts(x, top)
    return op.add(layer.int8(first), layer.int8(second))


def three_layers(layer: Layer, x: Node, top: float) -> Node:
    first, second = parts(x, top)
    return op.add(op.add(layer.int8(first), layer.int8(second)), layer.rest(first))


def _together(run: Callable[[Node], Node], axis: int, x: Node, top: float) -> Node:
    """Run x1 and 255 x2, which have the same range, together along an axis, and add up the halves of the result."""
    one, other = op.split(run(op.concat([*parts(x, top, FINER)], axis)), op.constant(np.int64(axis)), 2).outputs()
    return op.add(one, op.multiply(other, op.constant(np.float32(1 / FINER))))


def stacked(layer: Layer, x: Node, top: float) -> Node:
    return _together(layer.int8, 0, x, top)


def side_by_side(layer: Layer, x: Node, top: float) -> Node:
    return _together(layer.grouped, 1, x, top)


def one_product(layer: Layer, x: Node, top: float) -> Node:
    return layer.int8(levels(x, 0.0, top))


FORMS: Mapping[str, Callable[[Layer, Node, float], Node]] = {
    "one product": one_product,
    "two layers": two_layers,
    "stacked": stacked,
    "two groups": side_by_side,
    "three layers": three_layers,
}
"""Name → what makes the layer of its input."""


def drawn(shape: tuple[int, ...], outputs: int, kernel: int | None, seed: int) -> Layer:
    rng = np.random.default_rng(seed)
    inputs = shape[-1] if kernel is None else shape[1]
    sizes = (outputs, inputs) if kernel is None else (outputs, inputs, kernel, kernel)
    weights = rng.normal(size=sizes) / np.sqrt(np.prod(sizes[1:]))
    return Layer(shape, weights.astype(np.float32), None if kernel is None else kernel // 2)


LAYERS: Mapping[str, Callable[[], Layer]] = {
    "3x3, 32 channels of 56x56": partial(drawn, (1, 32, 56, 56), 32, 3, 1),
    "3x3, 128 channels of 28x28": partial(drawn, (1, 128, 28, 28), 128, 3, 2),
    "1x1, 384 channels of 14x14": partial(drawn, (1, 384, 14, 14), 384, 1, 3),
    "MatMul, 64 rows of 256": partial(drawn, (64, 256), 256, None, 4),
    "MatMul, 197 rows of 384": partial(drawn, (197, 384), 1536, None, 5),
    "MatMul, 512 rows of 768": partial(drawn, (512, 768), 768, None, 6),
}


def inputs(shape: tuple[int, ...], seed: int) -> Array:
    rng = np.random.default_rng(seed)
    large = np.where(rng.random(shape) < 0.01, 10.0, 1.0)
    return (rng.normal(size=shape) * large).astype(np.float32)


def network(make: Callable[[Node], Node], shape: tuple[int, ...]) -> ov.Model:
    given = op.parameter(shape, np.float32, name="x")
    return ov.Model([op.relu(make(op.relu(given)))], [given], "network")


def primitives(model: ov.Model) -> list[str]:
    kinds = ("Convolution", "FullyConnected", "MatMul")
    return sorted(node.primitive for node in executed_nodes(compile_model(model)) if node.kind in kinds)


def measure(layer: Layer, seconds: float, compilations: int) -> dict[str, Any]:
    feeds = [[inputs(layer.shape, seed)] for seed in range(9, 13)]
    top = max(float(feed[0].max()) for feed in feeds)
    whole = network(layer.exact, layer.shape)
    forms = {n: f for n, f in FORMS.items() if f is not side_by_side or layer.groups_allowed}
    models = {name: network(partial(_made, form, layer, top), layer.shape) for name, form in forms.items()}
    every = {"f32": whole, **models}
    timed = [TimedModel(name, model, F32) for name, model in every.items()]
    if default_precision() != "f32":
        timed.append(TimedModel(default_precision(), whole, {}))
    over: dict[str, list[float]] = {one.name: [] for one in timed}
    for _ in range(compilations):
        times = time_models(timed, feeds, rounds=10_000, seconds=seconds)
        spent = {one.name: one.cpu_ms.value for one in times.models}
        for name in over:
            over[name].append(spent[name] / spent["f32"])
    found: dict[str, Any] = {}
    for name, ratios in over.items():
        model = every.get(name, whole)
        found[name] = {"time over f32": [round(one, 3) for one in (median(ratios), min(ratios), max(ratios))]}
        found[name]["primitives"] = primitives(model)
        if name in models:
            pairs = [squared_error(Session(whole)(feed)[0], Session(model)(feed)[0]) for feed in feeds]
            found[name]["sqnr_db"] = round(decibel(*np.sum(pairs, axis=0).tolist()), 2)
    return found


def _made(form: Callable[[Layer, Node, float], Node], layer: Layer, top: float, x: Node) -> Node:
    return form(layer, x, top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--compilations", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "two_products.json")
    arguments = parser.parse_args()
    settings = {"seconds": arguments.seconds, "compilations": arguments.compilations, "levels of weights": LEVELS}
    results = record.on_file(arguments.output, settings)
    for name, make in LAYERS.items():
        if name not in results:
            results[name] = measure(make(), arguments.seconds, arguments.compilations)
            record.write(arguments.output, settings, results)
        for form, row in results[name].items():
            middle, low, high = row["time over f32"]
            decibels = f"{row['sqnr_db']:.1f} dB" if "sqnr_db" in row else ""
            print(f"{name:<28}{form:<14}{middle:6.2f} [{low:.2f}, {high:.2f}] {decibels:>8}  {row['primitives']}")


if __name__ == "__main__":
    main()
