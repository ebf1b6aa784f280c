"""Run the samples through an instrumented network, whole or in pieces, and give out its flat output."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from calib.graph.pieces import Piece
from calib.runtime.session import Given, compile_model, in_order, infer_all, ov


class InPieces:
    """A network that was compiled in its pieces.

    Args:
        pieces: Network in its pieces; if they are several, it keeps no state.
        streams: Number of samples that run at the same time.
    """

    def __init__(self, pieces: Sequence[Piece], streams: int = 1):
        self._pieces, self._streams = pieces, streams
        self._compiled = [compile_model(piece.model, streams=streams) for piece in pieces]

    def outputs(self, feeds: Iterable[Given]) -> Iterator[NDArray[np.float32]]:
        """Run every sample and yield what was added to its pieces, one after another, in the order of the samples.

        What is yielded may be a view that is valid until the next step.

        Args:
            feeds: Samples, read one by one as requests become free.

        Raises:
            RuntimeError: OpenVINO can't run the network on a sample.
        """
        if len(self._pieces) == 1:
            return map(self._of_one, infer_all(self._compiled[0], feeds))
        return self._one_by_one(feeds)

    def _of_one(self, outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return _joined(outputs[: self._pieces[0].added])

    def _one_by_one(self, feeds: Iterable[Given]) -> Iterator[NDArray[np.float32]]:
        lines = cycle(_Line(self._pieces, self._compiled) for _ in range(self._streams))
        running: deque[_Line] = deque()
        try:
            for feed in (one for given in feeds for one in in_order(given)):
                if len(running) == self._streams:
                    yield running.popleft().finish(running)
                running.append(next(lines).start(feed, alone=self._streams == 1))
            while running:
                yield running.popleft().finish(running)
        finally:
            for one in running:  # an error, or the caller has left: let the others end before their memory goes
                with suppress(RuntimeError):  # nobody has asked for their results
                    one.wait()


class _Line:
    """A request for each piece of a network, which run one after the other on one sample at a time."""

    def __init__(self, pieces: Sequence[Piece], compiled: Sequence[ov.CompiledModel]):
        self._pieces = pieces
        self._requests = [one.create_infer_request() for one in compiled]
        self._at = 0
        self._alone = True

    def start(self, feed: Mapping[int, NDArray[Any]], *, alone: bool) -> Self:
        """Begin a sample; ``alone``, all of it runs at once, which saves the way to another thread and back."""
        self._at, self._alone = 0, alone
        for piece, request in zip(self._pieces, self._requests, strict=True):
            for index, source in enumerate(piece.sources):
                if source.piece < 0:
                    request.set_input_tensor(index, _tensor(piece.model.inputs[index], feed[source.output]))
        self._begin()
        return self

    def _begin(self) -> None:
        request = self._requests[self._at]
        for index, source in enumerate(self._pieces[self._at].sources):
            if source.piece >= 0:
                request.set_input_tensor(index, self._requests[source.piece].get_output_tensor(source.output))
        if self._alone:
            request.infer({}, share_inputs=True, share_outputs=True)
        else:
            request.start_async({})

    def _advance(self) -> bool:
        """Begin the next piece; return False if there is none."""
        if self._at + 1 == len(self._pieces):
            return False
        self._at += 1
        self._begin()
        return True

    def finish(self, others: Iterable[_Line]) -> NDArray[np.float32]:
        """Return the sample's output; the others go on with a piece whenever one of this has finished."""
        while True:
            self.wait()
            if not self._advance():
                break
            for other in others:
                if other._requests[other._at].wait_for(0):
                    other._advance()
        found = zip(self._pieces, self._requests, strict=True)
        return _joined([one.get_output_tensor(i).data for piece, one in found for i in range(piece.added)])

    def wait(self) -> None:
        """Wait for what still runs."""
        if not self._alone:
            self._requests[self._at].wait()


def _tensor(port: ov.Output, array: NDArray[Any]) -> ov.Tensor:
    """Return a sample's array as an input takes it."""
    return ov.Tensor(np.ascontiguousarray(array, port.get_element_type().to_dtype()))


def _joined(outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
