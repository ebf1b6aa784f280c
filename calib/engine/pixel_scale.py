"""Do images reach the network at the scale that it was made for? What the file itself tells of that.

A network fed with pixels of 0 to 255 where it was trained on normalized ones runs all the same, and every range is
made for values that it will never meet. What it was trained on is nowhere written, so these are doubts, each with what
it rests on:

- ``model_info`` in the file names a mean and a scale;
- constants that are subtracted from the input or multiplied with it, before the first layer;
- the biases of the first convolution, which are of the size of its sums in a trained network. Measured on six
  networks (classifiers with and without depthwise convolutions, text detection and recognition): sums of 0.96 to 4.2
  times the biases at the right scale, of 56 to 244 times at 58 times that scale, and of 0.004 to 0.016 at 1/255 of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from calib.graph.layers import LAYERS, following_bias, weights_of
from calib.graph.view import GraphView
from calib.values.plan import Port, TensorId

Interval = tuple[float, float]

# Sums of the first convolution over its biases, as root mean squares; the figures above lie on either side.
MOST_SUMS = 30.0
LEAST_SUMS = 1 / 30.0
_WIDE = 16.0  # normalized pixels span about 5, pixels 255
_NARROW = 0.25  # a span of 1 becomes .017 by a division by 58, and .0078 by one by 127.5
_GRID = 8  # positions along each side that the sums of the first convolution are taken at
_MOVES = frozenset({"Convert", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Pad"})  # no arithmetic
_ARITHMETIC = frozenset({"Add", "Subtract", "Multiply", "Divide"})
_NORMALIZES = frozenset(
    {"MVN", "NormalizeL2", "LRN", "BatchNormInference", "GroupNormalization", "ReduceMean", "ReduceL2", "RMSNorm"}
)


def against_model_info(interval: Interval, info: Mapping[str, Any]) -> Iterator[str]:
    """Say what ``model_info`` asks for instead, if its ``mean`` and ``scale`` make other values of pixels."""
    mean, scale = (np.asarray(info.get(key, usual), float) for key, usual in (("mean", 0.0), ("scale", 1.0)))
    low, high = (float(np.mean((end - mean) / scale)) for end in (0, 255))
    margin = 0.15 * (high - low)
    if abs(interval[0] - low) > margin or interval[1] > high + margin:
        yield (
            f"and the mean and scale in the file's model_info make {low:.3g} to {high:.3g} of pixels. Images in files "
            "get them by themselves; apply them to the arrays"
        )


def doubts(view: GraphView, parameter: str, images: Sequence[NDArray[Any]], raw: bool) -> Iterator[str]:
    """Say why the network speaks for images at another scale, if it does.

    Args:
        view: View of the model.
        parameter: Name of the Parameter that the images go into.
        images: A few images in the shape of the input, with the batch axis.
        raw: Whether their values are those of pixels, 0 to 255; else they are 0 to 1.
    """
    path = _way_to_the_first_layer(view, parameter)
    if path and path.affine:
        yield from _against_arithmetic(path, raw)
    elif path:
        yield from _against_biases(view, path, images, raw)


@dataclass(frozen=True)
class _Path:
    """The way from an input to the first layer.

    Attributes:
        layer: Name of the layer.
        affine: Constants on the way, each with the operation and whether the constant is its first argument.
        moves: Names of the operations that move values without computing.
    """

    layer: str
    affine: tuple[tuple[str, NDArray[np.float64], bool], ...]
    moves: tuple[str, ...]

    def interval(self, low: float, high: float) -> Interval:
        """Return what the constants make of an interval, averaged over the channels."""
        ends = [np.full(1, low), np.full(1, high)]
        for kind, constant, first in self.affine:
            ends = [_applied(kind, end, constant, first) for end in ends]
        one, other = (float(np.mean(end)) for end in ends)
        return min(one, other), max(one, other)


def _applied(kind: str, x: NDArray[np.float64], constant: NDArray[np.float64], first: bool) -> NDArray[np.float64]:
    a, b = (constant, x) if first else (x, constant)
    with np.errstate(all="ignore"):
        return {"Add": a + b, "Subtract": a - b, "Multiply": a * b, "Divide": a / b}[kind]


def _way_to_the_first_layer(view: GraphView, parameter: str) -> _Path | None:
    """Follow an input to the first layer; None where it goes several ways, or through other operations."""
    tensor, affine, moves = TensorId(parameter), list[tuple[str, NDArray[np.float64], bool]](), list[str]()
    while True:
        readers = view.value_consumers(tensor)
        if len(readers) != 1:
            return None
        port = readers[0]
        kind = view.types[port.node]
        if kind in LAYERS and port.input == 0:
            return _Path(port.node, tuple(affine), tuple(moves))
        if kind in _ARITHMETIC and view.is_constant(other := view.inputs[port.node][1 - port.input]):
            affine.append((kind, view.values(other).astype(np.float64).ravel(), port.input == 1))
        elif kind in _MOVES and port.input == 0:
            moves.append(port.node)
        else:
            return None
        tensor = TensorId(port.node)


def _against_arithmetic(path: _Path, raw: bool) -> Iterator[str]:
    """Compare what the constants make of the samples with what they would make of the other scale."""
    pixels, units = path.interval(0, 255), path.interval(0, 1)
    now, other = (pixels, units) if raw else (units, pixels)
    span, other_span = now[1] - now[0], other[1] - other[0]
    odd = span > _WIDE >= other_span if raw else span < _NARROW / 4 or not _about_zero(*now)
    if odd and _about_zero(*other) and other_span >= _NARROW:
        yield (
            f"its own arithmetic before the first layer makes {now[0]:.3g} to {now[1]:.3g} of them, and {other[0]:.3g} "
            f"to {other[1]:.3g} of {'0 to 1' if raw else '0 to 255'}"
        )


def _about_zero(low: float, high: float) -> bool:
    """Return whether zero is in the interval, or within half its width of it."""
    margin = (high - low) / 2
    return low - margin <= 0 <= high + margin


def _against_biases(view: GraphView, path: _Path, images: Sequence[NDArray[Any]], raw: bool) -> Iterator[str]:
    share = sums_over_biases(view, path.layer, [_moved(view, path.moves, image) for image in images])
    if share is not None and (share > MOST_SUMS if raw else share < LEAST_SUMS):
        yield (
            f"the sums of its first convolution, {path.layer!r}, are {share:.3g} times its biases, which "
            + ("then hardly count" if raw else "then drown them")
        )


def _moved(view: GraphView, moves: Sequence[str], image: NDArray[Any]) -> NDArray[Any]:
    """Return the image with its axes as the first layer sees them; other moves are left out."""
    for name in moves:
        if view.types[name] == "Transpose":
            image = image.transpose(view.values(view.inputs[name][1]).ravel().tolist())
    return image


def sums_over_biases(view: GraphView, layer: str, images: Sequence[NDArray[Any]]) -> float | None:
    """Return the root mean square of a convolution's sums over that of its biases; None where that says nothing.

    That is so for another operation, without a bias, or before a normalization, which makes up for any scale.

    Args:
        view: View of the model.
        layer: Name of the convolution.
        images: Images as it reads them, ``(1, channels, height, width)``.
    """
    bias = following_bias(view, layer) if view.types.get(layer) == "Convolution" else None
    port = Port(layer, 1)
    if bias is None or not view.is_constant(view.tensor(port)) or _normalized_behind(view, layer):
        return None
    weights = weights_of(view, port).astype(np.float64)
    biases = float(np.mean(np.square(bias[1], dtype=np.float64)))
    if weights.ndim != 4 or biases == 0:
        return None
    dilations = [int(step) for step in view.attributes(layer)["dilations"]]
    found = [_sums(image, weights, dilations) for image in images if _fits(image, weights, dilations)]
    return math.sqrt(float(np.mean(np.square(found))) / biases) if found else None


def _fits(image: NDArray[Any], weights: NDArray[np.float64], dilations: Sequence[int]) -> bool:
    window = [(size - 1) * step + 1 for size, step in zip(weights.shape[2:], dilations, strict=True)]
    return (
        image.ndim == 4
        and image.shape[1] == weights.shape[1]
        and all(have >= need for have, need in zip(image.shape[2:], window, strict=True))
    )


def _sums(image: NDArray[Any], weights: NDArray[np.float64], dilations: Sequence[int]) -> NDArray[np.float64]:
    """Return the sums of a convolution at a few positions, ``(positions, output channels)``."""
    window = [(size - 1) * step + 1 for size, step in zip(weights.shape[2:], dilations, strict=True)]
    patches = sliding_window_view(image[0], window, axis=(1, 2))[..., :: dilations[0], :: dilations[1]]
    rows, columns = (np.unique(np.arange(_GRID) * (size - 1) // (_GRID - 1)) for size in patches.shape[1:3])
    chosen = patches[:, rows][:, :, columns].astype(np.float64)  # (channels, rows, columns, height, width)
    return np.einsum("cyxhw,ochw->yxo", chosen, weights).reshape(-1, len(weights))


def _normalized_behind(view: GraphView, layer: str) -> bool:
    """Return whether a normalization follows before the next layer."""
    ahead, seen = [TensorId(layer)], set[str]()
    while ahead:
        for port in view.value_consumers(ahead.pop()):
            kind = view.types[port.node]
            if kind in _NORMALIZES:
                return True
            if kind not in LAYERS and port.node not in seen and len(seen) < 8:
                seen.add(port.node)
                ahead += [TensorId(port.node, index) for index in range(len(view.nodes[port.node].outputs()))]
    return False
