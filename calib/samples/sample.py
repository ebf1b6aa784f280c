"""Samples, and the interface of data formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Feed = NDArray[Any] | tuple[NDArray[Any], ...] | Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Sample:
    """One item of a dataset.

    Attributes:
        feed: Array (for one input), tuple in input order, or dict by input name.
        target: Value that the metric compares with (label, mask, text, boxes…); None if there is none.
        id: Stable identity: the path relative to the dataset, or a hash of the contents for arrays. It does not depend
            on the order of a listing.
        where: Name in messages, such as "row 12 of data.npz" or "cats/3.png".
    """

    feed: Feed
    target: Any = None
    id: str = ""
    where: str = ""


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

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Return the sorted ids of ``count`` samples, or all for None, with the smallest ``hash(salt + id)``."""
        ...

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order."""
        ...
