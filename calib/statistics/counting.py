"""How many values of which tensor are counted for histograms, and the counting itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from calib.graph.taps import Kind, Need, Taps
from calib.statistics.accumulators import CodeCounts
from calib.values.plan import TensorId
from calib.values.summary import TensorSummary

# Values that leave the model for one sample: 16 MiB a stream, for any number of tensors.
PASS_VALUES = 1 << 22
# Values of a tensor to be counted over the dataset: 100 of them lie above the 99.99th percentile. Fewer from more
# samples beat more from fewer: neighbours in one image resemble each other.
ENOUGH = 1 << 20
# No sample contributes more than this, nor less (where the tensor has as many).
MOST, LEAST = 1 << 18, 1 << 12
# From 64 samples a tensor on, not every sample is counted for every tensor: a quarter at least.
SAMPLES, TURNS = 64, 4


def turns(samples: int | None) -> int:
    """Return the period in which tensors take turns at being counted; 1 where every sample counts for all."""
    return 1 if samples is None else max(1, min(TURNS, samples // SAMPLES))


def turn(sample_id: str, occurrence: int, period: int) -> int:
    """Return which tensors a sample is counted for: from its id, so that order can't matter.

    Args:
        sample_id: the sample's id.
        occurrence: how many samples with this id came before (equal ids are equal samples).
        period: see ``turns``.
    """
    text = sample_id if occurrence == 0 else f"{sample_id}\0{occurrence}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") % period


def sampled(needs: Mapping[TensorId, Need], samples: int | None) -> dict[TensorId, int]:
    """Return about how many values of one sample are counted, for every tensor that needs a histogram."""
    wanted = [tensor for tensor, need in needs.items() if need.histogram]
    if not wanted:
        return {}
    counted = MOST if samples is None else ENOUGH * turns(samples) // max(samples, 1)
    values = min(max(counted, LEAST), MOST, PASS_VALUES // len(wanted))
    return dict.fromkeys(wanted, max(values, 1))


class Counting:
    """Histograms of tensors, independent of the order in which samples are added.

    Attributes:
        period: in how many turns the tensors are counted.
    """

    def __init__(self, period: int):
        self.period = period
        self._counts: dict[TensorId, CodeCounts] = {}
        self._samples: dict[TensorId, int] = {}

    def add(self, taps: Taps, flat: NDArray[np.float32], whose: int) -> None:
        """Count a sample's values for the tensors whose turn it is.

        Args:
            taps: what ``flat`` holds.
            flat: the first output of the instrumented model.
            whose: the sample's turn.
        """
        starts = taps.starts(flat)
        rank = -1
        for position, segment in enumerate(taps.segments):
            if segment.kind != Kind.VALUES:
                continue
            rank += 1
            if rank % self.period != whose:
                continue
            tensor = taps.tensors[segment.tensor]
            start = starts[position]
            size = segment.size if segment.size >= 0 else int(flat[start - 1])
            if size:
                self._counts.setdefault(tensor, CodeCounts()).add(flat[start : start + size])
                self._samples[tensor] = self._samples.get(tensor, 0) + 1

    def added_to(self, summary: TensorSummary) -> TensorSummary:
        """Return the summary with its histogram, if its tensor was counted."""
        counts = self._counts.get(summary.tensor)
        if counts is None:
            return summary
        return replace(summary, histogram=counts.histogram(), histogram_samples=self._samples[summary.tensor])
