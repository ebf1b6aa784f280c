"""The one door to OpenVINO: telemetry blocked, precision explicit, one sample at a time.

Everything in calib that needs OpenVINO imports it from here: ``from calib.runtime.session import ov``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

# `import openvino` starts its telemetry (a child process, files in ~/intel) unless CI is set; a None entry in
# sys.modules makes its `import openvino_telemetry` fail, which OpenVINO takes for "not installed".
sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]

import numpy as np
import openvino as ov
from numpy.typing import NDArray

__all__ = ["F32", "Session", "compile_model", "core", "infer_all", "ov"]

# What a baseline, statistics and a simulation run with: the default is bf16 on CPUs with AVX512_BF16 or AMX, and
# dynamic quantization changes weight-only layers by 0.6 %.
F32: Mapping[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}


@cache
def core() -> ov.Core:
    """Return the process's one Core."""
    return ov.Core()


def compile_model(model: ov.Model, config: Mapping[str, Any] = F32, *, threads: int = 1, streams: int = 1):
    """Compile for the CPU with ``streams`` streams of one thread each by default: bit-identical results.

    More than one thread in a stream changes the last bits of results, so parallelism goes over samples.
    """
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams, **config}
    return core().compile_model(model, "CPU", settings)


class Session:
    """A compiled model with one request; state is reset before each sample."""

    def __init__(self, model: ov.Model, config: Mapping[str, Any] = F32, *, threads: int = 1):
        self.compiled = compile_model(model, config, threads=threads)
        self._request = self.compiled.create_infer_request()
        self._outputs = list(self.compiled.outputs)
        self._stateful = bool(self._request.query_state())

    def __call__(self, feed: Sequence[NDArray[Any]] | Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one feed (arrays in input order) and return copies of all outputs in output order."""
        if self._stateful:
            self._request.reset_state()
        inputs = feed if isinstance(feed, Mapping) else dict(enumerate(feed))
        self._request.infer(inputs)
        return [np.array(self._request.get_tensor(output).data) for output in self._outputs]


def infer_all(
    compiled: ov.CompiledModel,
    feeds: Iterable[Mapping[int, NDArray[Any]]],
    receive: Callable[[int, list[NDArray[Any]]], None],
) -> int:
    """Run every feed, one sample a stream, and hand over ``(index, outputs)`` as each one finishes.

    ``receive`` runs on one thread at a time, in order of completion: what it keeps must not depend on that order.
    Outputs are views that live only during the call. Returns how many feeds were run.
    """
    streams = int(compiled.get_property("NUM_STREAMS"))
    outputs = list(compiled.outputs)
    queue = ov.AsyncInferQueue(compiled, streams)
    stateful = bool(compiled.create_infer_request().query_state())
    failures: list[BaseException] = []

    def done(request: ov.InferRequest, index: int) -> None:
        try:
            receive(index, [np.asarray(request.get_tensor(output).data) for output in outputs])
        except BaseException as error:  # kept and raised on the caller's thread below
            failures.append(error)

    queue.set_callback(done)
    count = 0
    for count, feed in enumerate(feeds, 1):
        if failures:
            break
        if stateful:
            queue[queue.get_idle_request_id()].reset_state()
        queue.start_async(dict(feed), count - 1)
    queue.wait_all()
    if failures:
        raise failures[0]
    return count
