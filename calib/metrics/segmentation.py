"""Metrics of class maps against class maps: mean intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.scores import first_output

IGNORED = (-1, 255)


class MeanIoU:
    """Intersection over union of each class over all pixels of the set, averaged over the classes that occur."""

    name = "mean-iou"
    higher_is_better = True
    unit = "fraction"
    reads = (
        "first output: class scores [1, C, H, W], or an integer class map [1, H, W] or [1, 1, H, W]; target: class map "
        "[H, W], where −1 and 255 are ignored"
    )
    needs_target = True
    needs_reference = False
    takes = "class map"

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> list[list[int]]:
        """Return [class, pixels in both, pixels in either] for each class that occurs.

        Raises:
            MetricError: The output is not a class map, or the target has another size or values that are not classes.
        """
        got = self._map(first_output(outputs, self.name))
        want = np.asarray(target)
        if want.dtype.kind not in "iub" or want.size != got.size or want.shape[-2:] != got.shape:
            raise MetricError(
                f"{self.name}: the target is an integer class map {list(got.shape)} as the output, got "
                f"{list(want.shape)} {want.dtype}"
            )
        want = want.reshape(got.shape).astype(np.int64)
        kept = ~np.isin(want, IGNORED)
        got, want = got[kept], want[kept]
        if want.size and want.min() < 0:
            raise MetricError(f"{self.name}: {want.min()} is no class")
        length = int(max(got.max(initial=0), want.max(initial=0))) + 1
        both = np.bincount(want[got == want], minlength=length)
        either = np.bincount(got, minlength=length) + np.bincount(want, minlength=length) - both
        return [[int(c), int(both[c]), int(either[c])] for c in np.flatnonzero(either)]

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the classes that occur in a target or an output."""
        both: dict[int, int] = {}
        either: dict[int, int] = {}
        for part in parts:
            for label, shared, together in part:
                both[label] = both.get(label, 0) + shared
                either[label] = either.get(label, 0) + together
        if not either:
            raise MetricError(f"{self.name}: no pixel with a target to measure")
        return float(np.mean([both[label] / either[label] for label in sorted(either)]))

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None, because pixels are counted over the whole set."""
        return None

    def _map(self, output: NDArray[Any]) -> NDArray[np.int64]:
        if output.ndim == 4 and output.shape[0] == 1 and output.shape[1] > 1 and output.dtype.kind == "f":
            return output[0].argmax(0).astype(np.int64)
        if output.dtype.kind in "iu" and output.ndim in (3, 4) and int(np.prod(output.shape[:-2])) == 1:
            return output.reshape(output.shape[-2:]).astype(np.int64)
        raise MetricError(
            f"{self.name}: reads class scores [1, C, H, W] or an integer class map [1, H, W], the first output is "
            f"{list(output.shape)} {output.dtype}. For another form give a function: python:module:function"
        )
