"""A dataset that keeps its samples once they were loaded, as long as they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from calib.samples.sample import Dataset, Sample

LIMIT = 512 << 20  # bytes of feeds; a search reads the same samples many times


class InMemory:
    """Wraps a dataset; what does not fit in the limit is loaded anew each time."""

    def __init__(self, dataset: Dataset, limit: int = LIMIT):
        self._dataset = dataset
        self._left = limit
        self._kept: dict[str, Sample] = {}

    @property
    def source(self) -> str:
        """What it was made from."""
        return self._dataset.source

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._dataset)

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Choose as the dataset does."""
        return self._dataset.choose(count, salt)

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order."""
        fresh = self._dataset.load([name for name in ids if name not in self._kept])
        for name in ids:
            sample = self._kept.get(name)
            if sample is None:
                sample = next(fresh)
                size = sum(np.asarray(array).nbytes for array in sample.feed)
                if size <= self._left:
                    self._kept[name] = sample
                    self._left -= size
            yield sample
