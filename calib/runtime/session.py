"""The only access to OpenVINO: telemetry is blocked, precision is explicit, and samples run one at a time.

Everything in calib that needs OpenVINO imports it from here: ``from calib.runtime.session import ov``.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, Self

# `import openvino` starts its telemetry (a child process, files in ~/intel) unless CI is set; a None entry in
# sys.modules makes its `import openvino_telemetry` fail, which OpenVINO takes for "not installed".
sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]

import numpy as np  # noqa: E402  # the block above has to come first
import openvino as ov  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from calib.errors import ModelError  # noqa: E402
from calib.samples.sample import Frames  # noqa: E402

__all__ = [
    "F32",
    "SIMULATED",
    "Given",
    "Session",
    "attributes_of",
    "available_precision",
    "body_of",
    "compile_model",
    "core",
    "default_precision",
    "drawing",
    "in_order",
    "infer_all",
    "layout_of",
    "make_model",
    "notice_memory",
    "ov",
    "precision_config",
    "read_model",
    "values_of",
]

# What a baseline, statistics and a simulation run with: the default is bf16 on CPUs with AVX512_BF16 or AMX, and
# dynamic quantization changes weight-only layers by 0.6 %.
F32: Mapping[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}


@cache
def core() -> ov.Core:
    """Return the only Core of the process."""
    return ov.Core()


# A simulation: FakeQuantize computed as it is written, in f32, without low-precision transformations.
SIMULATED: Mapping[str, Any] = {**F32, "LP_TRANSFORMS_MODE": "NO"}


# Resident bytes from which on freed memory is given back before a model is compiled: glibc keeps it, and of a network
# with large weights that was the size of a compiled model. Below, it would only be asked for again.
LARGE = 512 << 20


def give_back() -> None:
    """Give freed memory back to the system where the process is large; nothing where the C library can't."""
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if sys.platform == "linux" else 0
    if pages * _PAGE >= LARGE and hasattr(_C, "malloc_trim"):
        _C.malloc_trim(0)


_PAGE, _C = os.sysconf("SC_PAGE_SIZE") if sys.platform == "linux" else 0, ctypes.CDLL(None)


def precision_config(precision: str | None) -> Mapping[str, Any]:
    """Return the compile properties for a floating-point precision, f32 by default."""
    return {**F32, "INFERENCE_PRECISION_HINT": precision or "f32"}


def default_precision() -> str:
    """Return the precision of layers in floating point without a hint on this machine: f32, bf16 or f16."""
    return core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def available_precision(asked: str | None) -> str:
    """Return the precision that layers in floating point run in if ``asked`` is given as a hint, or no hint if None.

    A CPU without bf16 takes the hint and runs f32 (measured: AVX2, OpenVINO 2026.4), so the plug-in is asked first.
    """
    if asked is None:
        return default_precision()
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return asked if asked == "f32" or asked.upper() in able else "f32"


def notice_memory(error: Exception) -> None:
    """Raise MemoryError if an error of OpenVINO says that memory ran out, since then no layer or sample caused it.

    Raises:
        MemoryError: The error says so.
    """
    if re.search(
        r"bad.?alloc|(can't|cannot|could not|failed to|unable to) alloc|out of memory", str(error), re.IGNORECASE
    ):
        raise MemoryError(str(error).strip().splitlines()[-1][:300]) from error


def read_model(path: Path) -> ov.Model:
    """Read an IR file into memory.

    Not mapped: a .bin that is cut short or replaced during a run would end the process with SIGBUS.

    Raises:
        RuntimeError: OpenVINO can't read it.
    """
    return core().read_model(str(path), config={"ENABLE_MMAP": False})


def compile_model(
    model: ov.Model,
    config: Mapping[str, Any] = F32,
    *,
    threads: int | None = None,
    streams: int = 1,
    still: bool = True,
) -> ov.CompiledModel:
    """Compile for the CPU, by default with one thread per stream, which gives bit-identical results.

    More than one thread per stream changes the last bits of results, so parallelism is over samples. Without
    low-precision transformations (for a simulation), INT8 weights are converted to floating point first, and with
    several streams those of convolutions, see ``float_weights``.

    Args:
        model: Model, which is not edited.
        config: Further compile properties.
        threads: Threads of all streams together; with fewer threads than streams, OpenVINO silently makes fewer
            streams.
        streams: Number of samples that run at the same time, at most the number of cores.
        still: Whether operations that draw random numbers draw the same ones at each inference, see
            ``random_numbers``; False to time the model as it is.

    Raises:
        ModelError: The plug-in does not support the model.
        MemoryError: There is not enough memory.
    """
    settings = {"INFERENCE_NUM_THREADS": streams if threads is None else threads, "NUM_STREAMS": streams, **config}
    simulated = settings.get("LP_TRANSFORMS_MODE") == "NO"
    if simulated or (still and streams > 1 and "i8" in _constants(model)):
        from calib.runtime.float_weights import raced, with_float_weights  # here: it takes ``ov`` from this module

        if simulated or raced(model):
            model = with_float_weights(model, convolutions=not simulated)
    if still and drawing(model):
        from calib.runtime.random_numbers import held_still  # here: it takes ``ov`` from this module

        model = held_still(model)
    give_back()
    try:
        return core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        notice_memory(error)
        reason = str(error).strip().splitlines()[-1][:300]
        # 2026.4 fuses MatMuls in f64, or with a Convert to it behind them, to a kernel that has no f64.
        if "Subgraph doesn't support f64" in reason and "SNIPPETS_MODE" not in settings:
            return compile_model(model, {**settings, "SNIPPETS_MODE": "DISABLE"}, still=False)
        if model.is_dynamic() and "dynamic" in reason:
            reason += (
                "; with fixed shapes it may: openvino.convert_model(FILE, input=[SHAPE, …]), and quantize the result"
            )
        raise ModelError(f"OpenVINO can't compile {model.get_friendly_name()} for this CPU: {reason}") from error


def drawing(model: ov.Model) -> list[ov.Node]:
    """Return the operations that draw random numbers, those inside bodies too, in topological order."""
    return [node for node in everywhere(model) if node.get_type_name() in ("RandomUniform", "Multinomial")]


def _constants(model: ov.Model) -> set[str]:
    """Return the types of a model's constants."""
    return {node.get_element_type().get_type_name() for node in model.get_ops() if node.get_type_name() == "Constant"}


def everywhere(model: ov.Model) -> list[ov.Node]:
    """Return the operations of a model, those inside bodies too, in topological order."""
    found: list[ov.Node] = []
    for node in model.get_ordered_ops():
        found.append(node)
        kind = node.get_type_name()
        if kind in ("Loop", "TensorIterator", "If"):
            for index in range(2 if kind == "If" else 1):
                found += everywhere(body_of(node, index))
    return found


def make_model(
    results: Sequence[ov.Node], parameters: Sequence[ov.Node], sinks: Sequence[ov.Node] = (), name: str = "model"
) -> ov.Model:
    """Build a model of these results (Result nodes), which also decide the order of execution.

    OpenVINO's stubs bind the constructor of its private class to the public one, which pyright refuses.
    """
    return ov.Model(list(results), list(sinks), list(parameters), name)  # pyright: ignore[reportGeneralTypeIssues]


# What the stubs do not say of a node: they know a Node where it is a Constant, a Parameter or a Loop, and dictionaries
# without types.


def attributes_of(node: ov.Node) -> Mapping[str, Any]:
    """Return a node's attributes by name, as its operation defines them."""
    return node.get_attributes()


def values_of(constant: ov.Node) -> NDArray[Any]:
    """Return the numbers of a Constant: a view into its memory."""
    found: Any = constant
    return found.data


def layout_of(parameter: ov.Node) -> str:
    """Return a Parameter's layout as OpenVINO writes it: ``[N,C,H,W]``, or ``[...]`` where it has none."""
    found: Any = parameter
    return str(found.layout)


def body_of(node: ov.Node, index: int = 0) -> ov.Model:
    """Return a body of an If, of which ``index`` 0 is taken and 1 is not, or that of a Loop or TensorIterator."""
    found: Any = node
    return found.get_function(index) if node.get_type_name() == "If" else found.get_function()


Feed = Sequence[NDArray[Any]] | Mapping[int, NDArray[Any]]
Given = Feed | Frames
"""A sample to run: arrays in input order or by input index, or the frames of a sequence."""


def in_order(given: Given) -> Sequence[Mapping[int, NDArray[Any]]]:
    """Return the feeds of a sample, one for each inference."""
    frames: Sequence[Feed] = given if isinstance(given, Frames) else [given]
    return [frame if isinstance(frame, Mapping) else dict(enumerate(frame)) for frame in frames]


class Session:
    """A compiled model with one request; state is reset before each sample, and kept between the frames of a sequence.

    A simulation of a model with dynamic inputs is compiled for the shapes of each feed, because OpenVINO 2026.4
    computes FakeQuantize after a factor or bias per channel wrongly if shapes are dynamic.
    """

    def __init__(self, model: ov.Model, config: Mapping[str, Any] = F32):
        self._config, self._dynamic = config, None
        if config.get("LP_TRANSFORMS_MODE") == "NO" and any(p.get_partial_shape().is_dynamic for p in model.inputs):
            self._dynamic, self._shapes = model.clone(), {}
        else:
            self._compile(model)

    @classmethod
    def of(cls, compiled: ov.CompiledModel) -> Self:
        """Return a session of a compiled model."""
        session = cls.__new__(cls)
        session._dynamic = None
        session._use(compiled)
        return session

    def _compile(self, model: ov.Model) -> None:
        self._use(compile_model(model, self._config))

    def _use(self, compiled: ov.CompiledModel) -> None:
        self.compiled = compiled
        self._request = self.compiled.create_infer_request()
        self._outputs = list(self.compiled.outputs)
        self._stateful = bool(self._request.query_state())

    def _compile_for(self, shapes: dict[int, tuple[int, ...]]) -> None:
        """Compile for these input shapes unless they are those of last time; without reshaping if that fails."""
        if self._dynamic is None or shapes == self._shapes:
            return
        states = self._request.query_state() if self._shapes else []
        kept = {state.name: ov.Tensor(np.array(state.state.data)) for state in states}
        self._shapes, static = shapes, self._dynamic.clone()
        try:
            static.reshape({i: ov.PartialShape(list(shape)) for i, shape in shapes.items()})
        except RuntimeError:
            static = self._dynamic
        self._compile(static)
        for state in self._request.query_state() if kept else ():  # the frames of a sequence may have several shapes
            state.state = kept[state.name]

    def __call__(self, feed: Feed) -> list[NDArray[Any]]:
        """Run one feed (arrays in input order) and return copies of all outputs in output order."""
        return next(self.each([feed]))

    def each(self, samples: Iterable[Given]) -> Iterator[list[NDArray[Any]]]:
        """Run samples one after the other and yield copies of all outputs, once for each frame of a sequence."""
        for sample in samples:
            for number, inputs in enumerate(in_order(sample)):
                self._compile_for({i: np.shape(array) for i, array in inputs.items()})
                if self._stateful and number == 0:
                    self._request.reset_state()
                self._request.infer(inputs)
                yield [np.array(self._request.get_tensor(output).data) for output in self._outputs]


# Bytes of outputs that a sequence may be ahead of those before it: copies, so that the streams need not wait.
AHEAD = 64 << 20


class _Running:
    """The request of one sample, which runs the frames of a sequence in order.

    Alone, with no other sample beside it, it runs on the caller's thread: the way to another one and back takes a
    quarter of the time of a network of .4 ms.
    """

    def __init__(self, request: ov.InferRequest, sample: Given, outputs: Sequence[ov.ConstOutput], *, alone: bool):
        self.request, self._outputs, self._alone = request, outputs, alone
        self._frames = deque(in_order(sample))
        self._done: deque[list[NDArray[Any]]] = deque()
        self._start()

    def _start(self) -> None:
        feed = dict(self._frames.popleft())
        if self._alone:
            self.request.infer(feed, share_outputs=True)
        else:
            self.request.start_async(feed)

    def _views(self) -> list[NDArray[Any]]:
        return [np.asarray(self.request.get_tensor(output).data) for output in self._outputs]

    def advance(self) -> None:
        """Start the next frames while samples before this one are waited for, if there is room for the outputs."""
        while self._frames and sum(y.nbytes for one in self._done for y in one) < AHEAD and self.request.wait_for(0):
            self._done.append([np.array(view) for view in self._views()])
            self._start()

    def finish(self, later: Iterable[_Running]) -> Iterator[list[NDArray[Any]]]:
        """Yield the outputs of each frame; the others may go on whenever one has finished."""
        yield from self._done
        self._done.clear()
        while True:
            self.request.wait()
            yield self._views()
            if not self._frames:
                return
            self._start()
            for other in later:
                other.advance()


def infer_all(compiled: ov.CompiledModel, feeds: Iterable[Given]) -> Generator[list[NDArray[Any]], None, None]:
    """Run every feed, one sample per stream, and yield the outputs of each in the order of the feeds.

    The frames of a sequence run in order on one request, from a fresh state, and each of them has outputs of its own.
    Streams run as many sequences at the same time; what is yielded, and in which order, does not depend on them.

    Outputs are views into the memory of a request and valid until the next step; copy what has to last. All Python code
    runs on the caller's thread. Closing the generator early, as leaving a ``for`` loop over it does, waits for the
    requests that still run. AsyncInferQueue is not used because its callbacks run on OpenVINO's threads: one that is
    still releasing the GIL when the interpreter ends aborts the process.

    Args:
        compiled: Compiled model; as many feeds run at the same time as it has streams.
        feeds: Samples, read one by one as requests become free.

    Raises:
        RuntimeError: OpenVINO can't run the model on a feed.
    """
    streams = int(compiled.get_property("NUM_STREAMS"))
    requests = [compiled.create_infer_request() for _ in range(streams)]
    stateful = bool(requests[0].query_state())
    outputs = list(compiled.outputs)
    running: deque[_Running] = deque()
    try:
        for feed, request in zip(feeds, cycle(requests), strict=False):
            if len(running) == streams:
                yield from running.popleft().finish(running)
            if stateful:
                request.reset_state()
            running.append(_Running(request, feed, outputs, alone=streams == 1))
        while running:
            yield from running.popleft().finish(running)
    finally:
        for one in running:  # an error, or the caller has left: let the others end before their memory goes
            with suppress(RuntimeError):  # nobody has asked for their results
                one.request.wait()
