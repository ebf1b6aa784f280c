"""Collect the statistics of tensors that estimators and corrections need, in one pass over the samples."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError
from calib.graph.taps import Need, Taps, expose, tap
from calib.runtime.session import Session, notice_memory, ov
from calib.samples.sample import Frames
from calib.statistics.flat import InPieces
from calib.statistics.totals import Totals, counting_group, counting_groups, sampled
from calib.values.plan import TensorId
from calib.values.summary import Collected

__all__ = ["Feed", "Need", "collect"]

Feed = tuple[str, str, Sequence[NDArray[Any]] | Frames]
"""A sample: its id, where it comes from (for messages), and its arrays in the order of the model's inputs; for a model
that keeps state, the frames of a sequence of such arrays."""


def collect(
    model: ov.Model,
    needs: Mapping[TensorId, Need],
    feeds: Iterable[Feed],
    *,
    held: Collection[str] = (),
    streams: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Collected:
    """Run every sample through an instrumented clone of ``model`` and summarize each tensor with and without some.

    The result is the same to the last bit for any number of streams and any order of the samples. Each sample runs
    at the model's own batch, in f32, on one thread, from a fresh state; each frame of a sequence counts as a sample,
    and only the first one starts from a fresh state.

    Args:
        model: Model with unique friendly names; it is not edited.
        needs: Statistics to collect of each tensor; extremes are always collected. A tensor that can't be tapped
            (because it is not f32), or was empty in every sample, is missing from the result.
        feeds: Samples, one at a time, at the model's own batch. Their length is the number of inferences; if it is
            unknown, histograms take more values of each.
        held: Ids of the samples that count for the whole only.
        streams: Number of samples that run at the same time, on one thread each.
        progress: Function called with the number of samples finished so far.

    Raises:
        DataError: There are no samples, or a tensor is not finite (the message names the sample and the first tensor).
        StatisticsError: A tensor isn't in the model.
    """
    samples = len(feeds) if isinstance(feeds, Sized) else None
    pieces, taps = tap(model, needs, sampled(needs, samples), streams)
    if not taps.segments:
        return Collected({}, {})
    one_pass = _Pass(model, taps, feeds, counting_groups(samples), frozenset(held), progress)
    try:
        for flat in InPieces(pieces, streams).outputs(one_pass):
            one_pass.finished(taps.completed(flat))
    except RuntimeError as error:  # what OpenVINO raises, such as for a size or a value that a layer can't take
        notice_memory(error)
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"the model can't run on the calibration samples: {reason}") from error
    one_pass.check_suspects()
    return replace(one_pass.collected(), pieces=len(pieces))


@dataclass(frozen=True)
class _Run:
    """One inference: frame ``number`` of a sequence, or the only one of a sample.

    Attributes:
        sample: Id of the sample.
        where: Name in messages.
        group: Group of tensors that it is counted for.
        index: Number of the inference in the pass.
    """

    sample: str
    where: str
    frames: Frames
    number: int
    group: int
    index: int


class _Pass:
    """One pass over the samples; iterating it starts them, and stops at one that is not finite."""

    def __init__(
        self,
        model: ov.Model,
        taps: Taps,
        feeds: Iterable[Feed],
        period: int,
        held: frozenset[str],
        progress: Callable[[int], None] | None,
    ):
        self._model = model
        self._taps = taps
        self._feeds = feeds
        self._period = period
        self._held = held
        self._names: list[str] = []
        self._totals = Totals(taps, period), Totals(taps, period)  # of the samples kept, and of those held out
        self._progress = progress
        self._done = 0
        self._running: deque[_Run] = deque()
        self._suspects: list[tuple[_Run, tuple[int, ...]]] = []

    def __iter__(self) -> Iterator[Sequence[NDArray[Any]] | Frames]:
        occurrences: Counter[str] = Counter()
        for name, where, given in self._feeds:
            self.check_suspects()
            frames = given if isinstance(given, Frames) else Frames([tuple(given)])
            for number, frame in enumerate(frames):
                place = where if len(frames) == 1 else f"frame {number} of {where}"
                self._check_numbers(frame, place)
                one = name if number == 0 else f"{name}/{number}"
                group = counting_group(one, occurrences[name], self._period)
                self._running.append(_Run(name, place, frames, number, group, len(self._names)))
                self._names.append(name)
            occurrences[name] += 1
            yield given

    def _check_numbers(self, arrays: Sequence[NDArray[Any]], where: str) -> None:
        for number, array in enumerate(arrays):
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise DataError(
                    f"{where}: input {_input_name(self._model, number)} holds NaN; repair it or leave it out"
                )

    def finished(self, flat: NDArray[np.float32]) -> None:
        """Add the next inference to the totals; one that doesn't look finite is kept for ``check_suspects``."""
        run = self._running.popleft()
        suspects = self._totals[run.sample in self._held].add(flat, run.index, run.group, run.sample)
        if suspects:
            self._suspects.append((run, suspects))
        if run.number + 1 < len(run.frames):
            return
        self._done += 1
        if self._progress is not None:
            self._progress(self._done)

    def collected(self) -> Collected:
        """Return the summaries; a tensor that only held-out samples reach has the same in both."""
        kept, held = self._totals
        if kept.samples + held.samples == 0:
            raise DataError("statistics need at least one sample, got none: check the calibration dataset")
        apart = kept.summaries() if held.samples else {}
        kept.absorb(held)
        whole = kept.summaries()
        outliers = tuple(sorted({self._names[number] for number in kept.outliers()}))
        return Collected({**whole, **apart} if held.samples else whole, whole, outliers)

    def check_suspects(self) -> None:
        """Look at suspects closely: raise DataError if a tensor is really not finite.

        A sum of large finite numbers can overflow too; such a sample is accepted.
        """
        while self._suspects:
            run, tensors = self._suspects.pop(0)  # the frames after one that is not finite inherit it
            for tensor in (self._taps.tensors[number] for number in tensors):
                values = _values(self._model, tensor, Frames(run.frames[: run.number + 1]))
                if not np.isfinite(values).all():
                    raise DataError(_complaint(self._model, tensor, run.where, values, run.frames[run.number]))


def _values(model: ov.Model, tensor: TensorId, frames: Frames) -> NDArray[np.float32]:
    """Return one tensor of the last frame by compiling the model for this tensor alone, which is slow."""
    *_, (values, *_) = Session(expose(model, lambda view: [view.output(tensor)])).each([frames])
    return values


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
