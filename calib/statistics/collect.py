"""One pass over the calibration dataset: what every estimator and correction needs of every tensor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError
from calib.graph.taps import Need, tap
from calib.plan import TensorId
from calib.runtime.session import compile_model, infer_all, ov
from calib.statistics.tally import Tally
from calib.summary import TensorSummary

__all__ = ["Feed", "Need", "collect"]

log = logging.getLogger(__name__)

Feed = tuple[str, str, Sequence[NDArray[Any]]]
"""A sample: its id, where it comes from (for messages), and its arrays in the order of the model's inputs."""


def collect(
    model: ov.Model,
    needs: Mapping[TensorId, Need],
    feeds: Iterable[Feed],
    *,
    streams: int = 1,
    progress: Callable[[int], None] | None = None,
    exact_histogram: bool = False,
) -> dict[TensorId, TensorSummary]:
    """Run every sample through an instrumented clone of ``model`` and return what was asked for.

    The result is the same to the last bit for any number of streams and any order of the samples. Each sample runs
    at the model's own batch, in f32, on one thread, from a fresh state.

    Args:
        model: not edited; its friendly names are unique.
        needs: what to collect of which tensor. Extremes are always collected. A tensor that can't be tapped (not
            f32) or was empty in every sample is missing from the result.
        feeds: the samples, one at a time, at the model's own batch; ids are unique.
        streams: how many samples run at the same time, on one thread each.
        progress: called with the number of samples finished so far.
        exact_histogram: count every value instead of a sample of them.

    Raises:
        DataError: there are no samples, or a tensor is not finite (names the sample and the first such tensor).
        StatisticsError: a tensor isn't in the model.
    """
    tapped, taps = tap(model, needs)
    for tensor, reason in taps.skipped.items():
        log.info("no statistics of %s: %s", tensor, reason)
    if not taps.tensors:
        return {}
    tally = Tally(taps)
    compiled = compile_model(tapped, streams=streams)
    flight = _Flight(model, taps.tensors, feeds)

    def receive(index: int, outputs: list[NDArray[Any]]) -> None:
        flight.landed(index, tally.add(outputs[0]))
        if progress is not None:
            progress(tally.samples)

    infer_all(compiled, flight, receive)
    flight.judge()
    if tally.samples == 0:
        raise DataError("statistics need at least one sample, got none: check the calibration dataset")
    return {summary.tensor: summary for summary in tally.summaries()}


class _Flight:
    """The samples on their way; iterating it starts them, and stops at one that is not finite."""

    def __init__(self, model: ov.Model, tensors: Sequence[TensorId], feeds: Iterable[Feed]):
        self._model = model
        self._tensors = tensors
        self._feeds = feeds
        self._airborne: dict[int, Feed] = {}
        self._suspects: list[tuple[int, tuple[int, ...]]] = []

    def __iter__(self) -> Iterator[Mapping[int, NDArray[Any]]]:
        for index, feed in enumerate(self._feeds):
            self.judge()
            _, where, arrays = feed
            for number, array in enumerate(arrays):
                if array.dtype.kind == "f" and np.isnan(array).any():
                    name = _input_name(self._model, number)
                    raise DataError(f"{where}: input {name} holds NaN; repair the sample or leave it out")
            self._airborne[index] = feed
            yield dict(enumerate(arrays))

    def landed(self, index: int, tensors: tuple[int, ...]) -> None:
        """Note that a sample has finished; one with tensors that don't look finite is kept for ``judge``."""
        if tensors:
            self._suspects.append((index, tensors))
        else:
            del self._airborne[index]

    def judge(self) -> None:
        """Look at suspects closely: raise DataError if a tensor is really not finite.

        A sum of large finite numbers overflows too: such a sample is acquitted.
        """
        while self._suspects:
            index, tensors = self._suspects.pop()
            _, where, arrays = self._airborne.pop(index)
            for tensor in (self._tensors[number] for number in tensors):
                values = _values(self._model, tensor, arrays)
                if not np.isfinite(values).all():
                    raise DataError(_complaint(self._model, tensor, where, values, arrays))


def _values(model: ov.Model, tensor: TensorId, arrays: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return one tensor of one sample; slow and small: compiles the model for this tensor alone."""
    clone = model.clone()
    node = next(n for n in clone.get_ordered_ops() if n.get_friendly_name() == tensor.node)
    results = [ov.opset13.result(node.output(tensor.output)), *clone.get_results()]
    single = ov.Model(results, clone.get_sinks(), clone.get_parameters(), "suspect")
    request = compile_model(single).create_infer_request()
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
