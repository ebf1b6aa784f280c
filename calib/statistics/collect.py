"""Collect the statistics of tensors that estimators and corrections need, in one pass over the samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError
from calib.graph.taps import Need, Taps, expose, tap
from calib.runtime.session import compile_model, infer_all, notice_memory, ov
from calib.statistics.totals import Counting, Extremes, counting_group, counting_groups, sampled
from calib.values.plan import TensorId
from calib.values.summary import TensorSummary

__all__ = ["Feed", "Need", "collect"]

Feed = tuple[str, str, Sequence[NDArray[Any]]]
"""A sample: its id, where it comes from (for messages), and its arrays in the order of the model's inputs."""


def collect(
    model: ov.Model,
    needs: Mapping[TensorId, Need],
    feeds: Iterable[Feed],
    *,
    streams: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[TensorId, TensorSummary]:
    """Run every sample through an instrumented clone of ``model`` and return a summary of each tensor.

    The result is the same to the last bit for any number of streams and any order of the samples. Each sample runs
    at the model's own batch, in f32, on one thread, from a fresh state.

    Args:
        model: Model with unique friendly names; it is not edited.
        needs: Statistics to collect of each tensor; extremes are always collected. A tensor that can't be tapped
            (because it is not f32), or was empty in every sample, is missing from the result.
        feeds: Samples, one at a time, at the model's own batch. If their number is unknown, histograms take more values
            of each sample.
        streams: Number of samples that run at the same time, on one thread each.
        progress: Function called with the number of samples finished so far.

    Raises:
        DataError: There are no samples, or a tensor is not finite (the message names the sample and the first tensor).
        StatisticsError: A tensor isn't in the model.
    """
    samples = len(feeds) if isinstance(feeds, Sized) else None
    tapped, taps = tap(model, needs, sampled(needs, samples))
    if not taps.segments:
        return {}
    counting, extremes = Counting(counting_groups(samples)), Extremes(taps)
    one_pass = _Pass(model, taps, feeds, counting, extremes, progress)
    try:
        for index, outputs in enumerate(infer_all(compile_model(tapped, streams=streams), one_pass)):
            one_pass.finished(index, outputs)
    except RuntimeError as error:  # what OpenVINO raises, such as for a size or a value that a layer can't take
        notice_memory(error)
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"the model can't run on the calibration samples: {reason}") from error
    one_pass.check_suspects()
    return _summaries(extremes, counting)


def _summaries(extremes: Extremes, counting: Counting) -> dict[TensorId, TensorSummary]:
    if extremes.samples == 0:
        raise DataError("statistics need at least one sample, got none: check the calibration dataset")
    return {summary.tensor: counting.added_to(summary) for summary in extremes.summaries()}


class _Pass:
    """One pass over the samples; iterating it starts them, and stops at one that is not finite."""

    def __init__(
        self,
        model: ov.Model,
        taps: Taps,
        feeds: Iterable[Feed],
        counting: Counting,
        extremes: Extremes,
        progress: Callable[[int], None] | None,
    ):
        self._model = model
        self._taps = taps
        self._feeds = feeds
        self._counting = counting
        self._extremes = extremes
        self._progress = progress
        self._done = 0
        self._running: dict[int, tuple[Feed, int]] = {}
        self._suspects: list[tuple[int, tuple[int, ...]]] = []

    def __iter__(self) -> Iterator[Mapping[int, NDArray[Any]]]:
        occurrences: Counter[str] = Counter()
        for index, feed in enumerate(self._feeds):
            self.check_suspects()
            name, where, arrays = feed
            for number, array in enumerate(arrays):
                if array.dtype.kind == "f" and np.isnan(array).any():
                    raise DataError(
                        f"{where}: input {_input_name(self._model, number)} holds NaN; repair it or leave it out"
                    )
            self._running[index] = feed, counting_group(name, occurrences[name], self._counting.period)
            occurrences[name] += 1
            yield dict(enumerate(arrays))

    def finished(self, index: int, outputs: list[NDArray[Any]]) -> None:
        """Add a sample that has finished to the totals; one that doesn't look finite is kept for ``check_suspects``."""
        flat = outputs[0]
        (name, _, _), group = self._running[index]
        suspects = self._extremes.add(flat, name)
        self._counting.add(self._taps, flat, group)
        if suspects:
            self._suspects.append((index, suspects))
        else:
            del self._running[index]
        self._done += 1
        if self._progress is not None:
            self._progress(self._done)

    def check_suspects(self) -> None:
        """Look at suspects closely: raise DataError if a tensor is really not finite.

        A sum of large finite numbers can overflow too; such a sample is accepted.
        """
        while self._suspects:
            index, tensors = self._suspects.pop()
            (_, where, arrays), _ = self._running.pop(index)
            for tensor in (self._taps.tensors[number] for number in tensors):
                values = _values(self._model, tensor, arrays)
                if not np.isfinite(values).all():
                    raise DataError(_complaint(self._model, tensor, where, values, arrays))


def _values(model: ov.Model, tensor: TensorId, arrays: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return one tensor of one sample by compiling the model for this tensor alone, which is slow."""
    request = compile_model(expose(model, lambda view: [view.output(tensor)])).create_infer_request()
    request.infer(dict(enumerate(arrays)))
    return np.array(request.get_output_tensor(0).data)


def _complaint(
    model: ov.Model, tensor: TensorId, where: str, values: NDArray[np.float32], arrays: Sequence[NDArray[Any]]
) -> str:
    bad = int(values.size - np.isfinite(values).sum())
    example = values[~np.isfinite(values)][0]
    text = f"{where}: tensor {tensor} is not finite ({bad} of {values.size} values, the first is {example}). "
    for number, array in enumerate(arrays):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return text + f"The sample itself is not: see input {_input_name(model, number)}. Repair it or leave it out"
    return (
        text + "All inputs are finite, so a layer up to this tensor made it: leave the sample out or ignore the layer"
    )


def _input_name(model: ov.Model, number: int) -> str:
    return f"{number} ({model.inputs[number].get_node().get_friendly_name()})"
