"""Samples, and the interface of data formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as AnySequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calib.values.detections import ImageGeometry

Arrays = tuple[NDArray[Any], ...]
Feed = NDArray[Any] | Arrays | Mapping[str, NDArray[Any]]


class Frames(tuple[Arrays, ...]):
    """The feeds of a sequence, each a tuple in input order: the model keeps its state from one to the next."""

    __slots__ = ()


class FrameTargets(tuple[Any, ...]):
    """One target for each frame of a sequence, where a target of another type belongs to the whole sequence."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Sequence:
    """A sample of a model that keeps state: frames that run in order, with the state reset before the first only.

    A target of the whole sequence is given like that of any sample, ``(Sequence(frames), target)``, and compared with
    the outputs after the last frame; with ``targets`` each frame is measured.

    Attributes:
        frames: Feeds of the frames in order, as a list; or one feed (array, dict by input name) whose arrays have the
            frames along a new first axis.
        targets: One target for each frame; None if there are none.
    """

    frames: Iterable[Feed] | Feed
    targets: AnySequence[Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.frames, Iterator):  # it can be read once, and samples are read more often
            object.__setattr__(self, "frames", list(self.frames))


@dataclass(frozen=True)
class Sample:
    """One item of a dataset.

    Attributes:
        feed: Array (for one input), tuple in input order, dict by input name, or a sequence of such feeds.
        target: Value that the metric compares with (label, mask, text, boxes…); None if there is none.
        id: Stable identity: the path relative to the dataset, or a hash of the contents for arrays. It does not depend
            on the order of a listing.
        where: Name in messages, such as "row 12 of data.npz" or "cats/3.png".
        geometry: How the image became the feed, which takes boxes and masks back to the original image; None if the
            sample is no image, or nothing is known of it.
    """

    feed: Feed | Sequence | Frames
    target: Any = None
    id: str = ""
    where: str = ""
    geometry: ImageGeometry | None = None


@dataclass(frozen=True)
class InputSpec:
    """The properties of a model input that samples have to match.

    Attributes:
        name: Name in messages, and the first name looked up in dicts and .npz files.
        names: All tensor names of the input; empty if it is unnamed.
        shape: Shape with the batch axis first; None for a dynamic dimension.
        dtype: Type that a feed is cast to if no value changes.
        layout: Layout that the model declares, such as "NCHW" or "NHWC"; "" if none.
    """

    name: str
    names: tuple[str, ...]
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    layout: str = ""

    def __str__(self) -> str:
        shape = ",".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name!r} [{shape}] {self.dtype}"


class Dataset(Protocol):
    """A set of samples that can be iterated more than once, loaded one at a time."""

    @property
    def source(self) -> str:
        """Description of the data, for messages and reports."""
        ...

    @property
    def class_folders(self) -> Mapping[str, int]:
        """Mapping from the name of each class folder to its class, where that follows from the names alone."""
        ...

    @property
    def notes(self) -> AnySequence[str]:
        """Sentences for the report: which class has which number, and what was left out."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def choose(self, count: int | None, salt: str = "") -> AnySequence[str]:
        """Return the sorted ids of ``count`` samples, or all for None, with the smallest ``hash(salt + id)``."""
        ...

    def reading_order(self, ids: AnySequence[str]) -> AnySequence[str]:
        """Return the ids in the order in which they can be read one by one, so that none has to wait for another."""
        ...

    def load(self, ids: AnySequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order."""
        ...
