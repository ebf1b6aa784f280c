"""Outputs of detectors that find the common places of ``checked_data``, in the form of each family, for the benchmarks.

Every box is found once, with a confidence and a class, so that precision is neither 0 nor 1 whatever the family.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from checked_data import PLACES

COUNT = len(PLACES)
CONFIDENCE = np.random.default_rng(11).uniform(0.3, 0.95, COUNT)


KINDS = 3  # classes of boxes in the annotations


def labels(classes: int = KINDS) -> np.ndarray:
    """Return the class of each place; every fifth is another one than in the annotations."""
    numbers = np.arange(COUNT)
    return np.where(numbers % 5 == 4, numbers + 1, numbers) % classes


def ssd_rows(classes: int, shift: int) -> np.ndarray:
    """Return rows of DetectionOutput and the row that ends them; classes start at ``shift``."""
    rows = np.column_stack([np.zeros(COUNT), labels(classes) + shift, CONFIDENCE, PLACES])
    return np.concatenate([rows, -np.ones((1, 7))])[None, None].astype(np.float32)


def agnostic_rows(scale: Sequence[float] = (1.0, 1.0)) -> np.ndarray:
    """Return corners and confidences; corners are shares of the image, divided by the scale that is given."""
    return np.column_stack([PLACES / np.tile(scale, 2), CONFIDENCE]).astype(np.float32)


def grid(
    anchors: Sequence[float],
    divisor: tuple[float, float],
    cells: tuple[int, int],
    classes: int,
    raw: bool,
    part: slice = slice(None),
) -> np.ndarray:
    """Return a grid of YOLO v2 or v3 that holds some of the places, ``(1, anchors · (5 + classes), rows, columns)``.

    Args:
        anchors: Width and height of each anchor, one behind the other.
        divisor: Height and width that anchors are divided by.
        cells: Rows and columns.
        classes: Number of classes, `KINDS` at least.
        raw: Whether probabilities and centres are given as logits, and not as RegionYolo gives them.
        part: Places that it holds.
    """
    pairs = np.reshape(anchors, (-1, 2))
    values = np.zeros((len(pairs), 5 + classes, *cells))
    values[:, 4] = 0.0005
    values[:, :2], values[:, 5:] = 0.5, 0.1
    for number in range(COUNT)[part]:
        x1, y1, x2, y2 = PLACES[number]
        across, down = (x1 + x2) / 2 * cells[1], (y1 + y2) / 2 * cells[0]
        anchor = number % len(pairs)
        cell = values[anchor, :, int(down), int(across)]
        width, height = (x2 - x1) * divisor[1], (y2 - y1) * divisor[0]
        cell[:4] = across % 1, down % 1, *np.log(np.array([width, height]) / pairs[anchor])
        cell[4], cell[5 + labels()[number]] = CONFIDENCE[number], 0.9
    if raw:
        bounded = [0, 1, *range(4, 5 + classes)]
        shares = np.clip(values[:, bounded], 1e-4, 1 - 1e-4)
        values[:, bounded] = np.log(shares / (1 - shares))
    return values.reshape(1, -1, *cells).astype(np.float32)


def yolox_rows(size: tuple[int, int], classes: int) -> np.ndarray:
    """Return rows of YOLOX for an input of this height and width, with the places in the cells of three strides."""
    levels = []
    for level, stride in enumerate((8, 16, 32)):
        rows, columns = size[0] // stride, size[1] // stride
        values = np.zeros((rows, columns, 5 + classes))
        for number in range(COUNT)[level::3]:
            x1, y1, x2, y2 = PLACES[number] * np.tile(size[::-1], 2) / stride
            across, down = (x1 + x2) / 2, (y1 + y2) / 2
            cell = values[int(down), int(across)]
            cell[:5] = across % 1, down % 1, np.log(x2 - x1), np.log(y2 - y1), CONFIDENCE[number]
            cell[5 + labels()[number]] = 0.9
        levels.append(values.reshape(-1, 5 + classes))
    return np.concatenate(levels)[None].astype(np.float32)


def steps(text: str, letters: str, blank: int, first: int = 0) -> np.ndarray:
    """Return scores of classes at each step, (T, C), whose best ones spell a text with a blank between letters."""
    classes = [one for letter in text for one in (letters.index(letter) + first, blank)]
    return 2.5 * np.eye(len(letters) + 1)[classes]
