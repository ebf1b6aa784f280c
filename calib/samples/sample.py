"""A sample, and what every data format hands over."""

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
        feed: an array (one input), a tuple in input order, or a dict by input name.
        target: whatever the metric compares with (label, mask, text, boxes…); None where there is none.
        id: stable identity: the path relative to the dataset, or a hash of the contents for arrays. It does not
            depend on the order of a listing.
        where: for messages: "row 12 of data.npz", "cats/3.png".
    """

    feed: Feed
    target: Any = None
    id: str = ""
    where: str = ""


@dataclass(frozen=True)
class InputSpec:
    """One input of the model, as far as samples have to fit it.

    Attributes:
        name: what messages call it, and the first name looked for in dicts and .npz files.
        names: all its tensor names; empty for an unnamed input.
        shape: with the batch axis first; None for a dynamic dimension.
        dtype: what a feed is cast to, where nothing is lost by it.
        layout: "NCHW", "NHWC"… where the model declares one; "" where it does not.
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
    """A re-iterable set of samples, loaded one at a time."""

    @property
    def source(self) -> str:
        """What it was made from, for messages and reports."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Return the ids of ``count`` samples (all for None) with the smallest ``hash(salt + id)``, in id order."""
        ...

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order."""
        ...
