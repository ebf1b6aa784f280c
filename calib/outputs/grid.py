"""Grids of cells that raw YOLO heads predict boxes in: anchors, cells, and functions on their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.values.compared import Window

Floats = NDArray[np.float64]

# Widths and heights of the anchors of the published networks, in their configuration files: of v2 in cells of the grid
# (Redmon and Farhadi 2017), of v3 and v4 in pixels of the input (Redmon and Farhadi 2018; Bochkovskiy et al. 2020).
ANCHORS: dict[str, tuple[float, ...]] = {
    "yolo-v2": (0.57273, 0.677385, 1.87446, 2.06253, 3.33843, 5.47434, 7.88282, 3.52778, 9.77052, 9.16828),
    "yolo-v2-voc": (1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071),
    "tiny-yolo-v2": (1.08, 1.19, 3.42, 4.41, 6.63, 11.38, 9.42, 5.11, 16.62, 10.52),
    "yolo-v3": (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326),
    "tiny-yolo-v3": (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319),
    "yolo-v4": (12, 16, 19, 36, 40, 28, 36, 75, 76, 55, 72, 146, 142, 110, 192, 243, 459, 401),
}


def anchors_of(given: str, default: str) -> Floats:
    """Return anchors ``(A, 2)`` as width, height from a name of `ANCHORS` or from numbers with commas.

    Args:
        given: What the user wrote; "" for the default.
        default: Name in `ANCHORS`.

    Raises:
        UsageError: It is neither, or an odd number of numbers.
    """
    text = given or default
    try:
        values = ANCHORS[text] if text in ANCHORS else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"decode: anchors are numbers with commas or one of {', '.join(ANCHORS)}, got {text!r}") from (
            error
        )
    if len(values) % 2 or not all(np.isfinite(values)):
        raise UsageError(f"decode: anchors are pairs of width and height, got {len(values)} numbers")
    return np.array(values, np.float64).reshape(-1, 2)


def sigmoid(values: NDArray[Any]) -> Floats:
    """Return 1 / (1 + exp(−x)) without overflow; NaN stays NaN."""
    half = np.tanh(np.asarray(values, np.float64) / 2)
    return (1 + half) / 2


def softmax(values: NDArray[Any], axis: int = -1) -> Floats:
    """Return exp(x) / Σ exp(x) along an axis, without overflow; NaN stays NaN."""
    wide = np.asarray(values, np.float64)
    powers = np.exp(wide - wide.max(axis=axis, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=axis, keepdims=True)


def growth(values: NDArray[Any]) -> Floats:
    """Return exp(x), at most e^30: a side longer than any image, and a number that products stay finite with."""
    return np.exp(np.minimum(np.asarray(values, np.float64), 30.0))


def corners(centres: Floats, sides: Floats) -> Floats:
    """Return x1, y1, x2, y2 of boxes from centres and sides, each ``(…, 2)`` as x, y."""
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=-1)


def best_class(scores: NDArray[Any], several: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Return rows, labels and scores of the classes of boxes, ``(N, C)``: the best class of each row, or all of them.

    Args:
        scores: Score of each class.
        several: Whether each class of a row is a detection of its own.
    """
    wide = np.asarray(scores, np.float64)
    count, classes = wide.shape
    if several:
        rows, labels = np.divmod(np.arange(count * classes), max(classes, 1))
        return rows, labels, wide.ravel()
    rows = np.arange(count)
    labels = wide.argmax(axis=1) if classes else np.zeros(count, np.int64)
    return rows, labels, wide[rows, labels] if classes else np.zeros(count)


def cells(height: int, width: int) -> Floats:
    """Return x, y of the top left corner of each cell, ``(height, width, 2)``."""
    ys, xs = np.mgrid[:height, :width]
    return np.stack([xs, ys], axis=-1).astype(np.float64)


def centres_and_strides(size: tuple[int, int], strides: Sequence[int]) -> tuple[Floats, Floats]:
    """Return the corner of each cell of all levels in cells, ``(N, 2)``, and its stride in pixels, ``(N, 1)``."""
    grids, widths = [], []
    for stride in strides:
        grid = cells(size[0] // stride, size[1] // stride).reshape(-1, 2)
        grids.append(grid)
        widths.append(np.full((len(grid), 1), float(stride)))
    return np.concatenate(grids), np.concatenate(widths)


def cell_count(size: tuple[int | None, int | None], strides: Sequence[int]) -> int | None:
    """Return the number of cells of all levels; None if the size is unknown."""
    height, width = size
    if height is None or width is None:
        return None
    return sum((height // stride) * (width // stride) for stride in strides)


def by_anchor(array: NDArray[Any], anchors: int, size: tuple[int, int], family: str) -> NDArray[Any]:
    """Return a head as ``(anchors, height, width, 5 + classes)``.

    It may be ``[1, A·(5+C), H, W]``, ``[1, H, W, A·(5+C)]``, ``[1, A, H, W, 5+C]``, or flattened as RegionYolo with a
    softmax gives it, whose grid then has the stride 32.

    Raises:
        MetricError: It is none of these.
    """
    if array.ndim == 5 and array.shape[:2] == (1, anchors):
        return array[0]
    if array.ndim <= 2:
        height, width = size[0] // 32, size[1] // 32
        if array.size % max(anchors * height * width, 1):
            raise _odd(array, anchors, family)
        array = array.reshape(1, -1, height, width)
    if array.ndim != 4 or array.shape[0] != 1:
        raise _odd(array, anchors, family)
    planes = array[0] if _planes_first(array.shape, anchors, size) else np.moveaxis(array[0], -1, 0)
    channels, height, width = planes.shape
    if channels % anchors or channels // anchors < 6:
        raise _odd(array, anchors, family)
    return planes.reshape(anchors, channels // anchors, height, width).transpose(0, 2, 3, 1)


def boxes_and_scores(
    place: int, shape: Sequence[int | None], anchors: int, planes_first: bool
) -> list[tuple[int, Window]]:
    """Return the positions of boxes and those of scores in a head; none if its channels are not those of the anchors.

    Args:
        place: Number of the output.
        shape: Its shape, of four axes, or of five with the anchors apart and the numbers of a box last.
        anchors: Number of anchors of a cell.
        planes_first: Whether channels are the second of four axes, and not the last.
    """
    axis = 4 if len(shape) == 5 else 1 if planes_first else 3
    channels = shape[axis] if axis < len(shape) else None
    each = 0 if channels is None else channels if axis == 4 else channels // max(anchors, 1)
    if channels is None or each < 6 or channels % each:
        return []
    return [(place, Window(axis, 0, 4, each)), (place, Window(axis, 4, None, each))]


def _planes_first(shape: tuple[int, ...], anchors: int, size: tuple[int, int]) -> bool:
    """Tell [1, channels, H, W] from [1, H, W, channels]: the grid has the proportions of the input."""
    _, first, middle, last = shape
    fits = first % anchors == 0 and abs(middle * size[1] - last * size[0]) < max(size)
    other = last % anchors == 0 and abs(first * size[1] - middle * size[0]) < max(size)
    return fits or not other


def _odd(array: NDArray[Any], anchors: int, family: str) -> MetricError:
    return MetricError(
        f"decode {family}: reads [1, A·(5+C), H, W] or [1, H, W, A·(5+C)] with {anchors} anchors a cell, the output is "
        f"{list(array.shape)}. Give others with ?anchors=W,H,W,H… (and ?masks= for several outputs)"
    )
