"""What travels from reader to metric: images with what was done to them, annotations and predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(eq=False)
class Boxes:
    """Boxes of an image, of its annotation or predicted; steps of postprocessing change them in place.

    Attributes:
        labels: Class of each, ``(N,)``.
        corners: x1, y1, x2, y2 of each, ``(N, 4)``.
        scores: Confidence of each, ``(N,)``; ones in an annotation.
        difficult: Whether each counts neither for nor against, ``(N,)``.
        crowd: Whether each stands for a crowd, ``(N,)``.
        facts: Further facts on each, by name.
    """

    labels: NDArray[Any]
    corners: NDArray[Any]
    scores: NDArray[Any]
    difficult: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    crowd: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    facts: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])

    def __post_init__(self) -> None:
        self.labels = np.asarray(self.labels).astype(np.int64).reshape(-1)
        self.corners = np.array(self.corners).reshape(-1, 4)
        self.scores = np.array(self.scores).reshape(-1)
        for name in ("difficult", "crowd"):
            flags = np.asarray(getattr(self, name), bool)
            setattr(self, name, flags if len(flags) else np.zeros(len(self.labels), bool))

    def __len__(self) -> int:
        return len(self.labels)

    def keep(self, kept: Any) -> None:
        """Keep the boxes at these indices, or where a mask is true, in their order."""
        index = np.asarray(kept)
        index = np.flatnonzero(index) if index.dtype == bool else np.sort(index.astype(np.int64))
        for name in ("labels", "corners", "scores", "difficult", "crowd"):
            setattr(self, name, getattr(self, name)[index])
        self.facts = {name: [values[i] for i in index] for name, values in self.facts.items()}

    def copy(self) -> Boxes:
        """Return a copy that can be changed."""
        arrays = (self.labels, self.corners, self.scores, self.difficult, self.crowd)
        return Boxes(*(array.copy() for array in arrays), facts=dict(self.facts))


@dataclass(eq=False)
class Picture:
    """A class map, scores of classes for each pixel, or an image.

    Attributes:
        values: ``(H, W)``, ``(C, H, W)`` for predicted class maps, or ``(H, W, C)`` for images.
    """

    values: NDArray[Any]

    def copy(self) -> Picture:
        """Return a copy that can be changed."""
        return Picture(self.values.copy())


@dataclass(eq=False)
class Scores:
    """Scores of classes, ``(C,)``, or as an annotation the class."""

    values: NDArray[Any]

    def copy(self) -> Scores:
        """Return a copy that can be changed."""
        return Scores(self.values.copy())


@dataclass(eq=False)
class Text:
    """A text, of an annotation or read off outputs."""

    values: str

    def copy(self) -> Text:
        """Return the text itself, which nothing changes."""
        return self


Value = Boxes | Picture | Scores | Text


@dataclass
class Seen:
    """An image on its way to the model, and what was done to it.

    Attributes:
        pixels: The image, ``(H, W, C)``.
        original: Height and width as it was read.
        operations: What was done, as ("resize" or "padding" or "crop", facts).
        info: Height and width after the last resize, and 1: what Faster R-CNN takes as image_info.
        preferable: Height and width that padding without a size fills; None if no resize said.
    """

    pixels: NDArray[Any]
    original: tuple[int, int]
    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    info: tuple[int, int, int] | None = None
    preferable: tuple[int, int] | None = None


@dataclass(eq=False)
class Judged:
    """Target of a sample: its annotation, and what postprocessing has to know of the image.

    Attributes:
        annotation: Annotation in pixels of the original image.
        seen: What was done to the image, without its pixels.
        network: Height and width of the model's input.
        labels: Classes of the data set.
    """

    annotation: Value
    seen: Seen
    network: tuple[int, int]
    labels: Labels

    def __repr__(self) -> str:
        parts: list[Any] = []
        for owner in (self.annotation, self.seen):
            for name, value in sorted(vars(owner).items()):
                exact = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
                parts.append((name, exact if isinstance(value, np.ndarray) and name != "pixels" else str(value)))
        return f"Judged({parts}, {self.network})"


Step = Callable[[Value, Value, Judged], None]
"""Step of postprocessing: it changes an annotation and a prediction in place; the third says what the image became."""


@dataclass(frozen=True)
class Labels:
    """Classes of a data set.

    Attributes:
        names: Number → name, in the order of the data set.
        background: Number of the class that stands for nothing; None if there is none.
        colors: Colour of each class in masks, in their order; empty if masks hold numbers.
        predicted: Number of a predicted class → that of the annotation; empty if they are the same.
    """

    names: dict[int, str]
    background: int | None = None
    colors: tuple[tuple[int, int, int], ...] = ()
    predicted: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def counted(self) -> list[int]:
        """Numbers of the classes without the background."""
        return [number for number in self.names if number != self.background]
