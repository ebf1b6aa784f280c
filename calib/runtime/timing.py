"""Time several models interleaved (A B, B A, A B…), so that what disturbs the machine disturbs all of them.

Latency is that of one inference at a time; throughput is that of samples through parallel streams. All models stay
compiled for the whole measurement. ``paired.py`` evaluates the numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np

from calib.errors import UsageError
from calib.runtime.executed import executed_layers
from calib.runtime.layer_times import PROFILED, Averages, averages, difference
from calib.runtime.paired import Timings, summarize
from calib.runtime.session import F32, Given, compile_model, default_precision, in_order, ov
from calib.values.facts import SpeedFacts

# Long enough that the clock and Python's loop around the calls are well below a percent.
BLOCK_SECONDS = 0.004
# Frames of a sequence that are timed: a block runs them all, and there are six blocks of each model at least.
FRAMES = 32
MINIMUM_ROUNDS = 6  # below six a median has no 95 % interval

Tensors = Mapping[int, ov.Tensor]


@dataclass(frozen=True)
class TimedModel:
    """A model to time.

    Attributes:
        name: Unique name.
        config: Compile properties besides threads and streams: ``F32``, or {} for the machine's own precision.
        aliases: Mapping from layer to the names it may run under, as for ``executed_layers``; these layers are timed
            too. The counters cost 0.06 µs per node (2 % for a network of 50 nodes that takes 0.14 ms).
    """

    name: str
    model: ov.Model = field(repr=False)
    config: Mapping[str, Any] = field(default_factory=lambda: F32)
    aliases: Mapping[str, Sequence[str]] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TimedOn:
    """What models are timed on.

    Attributes:
        threads: Threads of one inference with one stream, or of all streams together.
        streams: Number of inferences that run at the same time.
    """

    threads: int = 1
    streams: int = 1

    def __str__(self) -> str:
        if self.streams > 1:
            return f"{self.streams} inferences at a time, one thread each; times are those per inference"
        return f"one inference at a time on {self.threads} threads"


ALONE = TimedOn()  # one inference on one thread


@dataclass(frozen=True)
class Speed:
    """Speed of INT8 against FP32, for the whole model and layer by layer.

    Attributes:
        facts: Latencies and speed-ups of the whole model.
        int8_ms: Mapping from layer to milliseconds per inference in the INT8 model; empty if layers were not timed.
        f32_ms: The same for the FP32 model in f32.
        default_ms: The same for the FP32 model in the machine's default precision.
    """

    facts: SpeedFacts
    int8_ms: Mapping[str, float] = field(default_factory=dict)
    f32_ms: Mapping[str, float] = field(default_factory=dict)
    default_ms: Mapping[str, float] = field(default_factory=dict)


def time_models(
    models: Sequence[TimedModel],
    feeds: Sequence[Given],
    *,
    threads: int = 1,
    streams: int = 1,
    batch: int = 1,
    rounds: int = 200,
    seconds: float = 3.0,
) -> Timings:
    """Time the models interleaved until ``rounds`` are done or the time is up, but at least six rounds.

    With one stream the time is the latency of one inference; with several it is wall time per sample with all streams
    busy. In round k every model gets feed k (modulo their number); the order is reversed each round. State is reset
    before each inference, or before the first frame of a sequence; its first :data:`FRAMES` run in order, and the time
    of an inference is their mean.

    Args:
        models: Models to time; all stay compiled until the end. Speed-ups are relative to the first.
        feeds: One or more feeds of one sample each, arrays in input order or by input index, or frames of a sequence.
        threads: Threads of one inference with one stream, or of all streams together.
        streams: Number of inferences that run at the same time.
        batch: Number of samples in one inference; the models are reshaped for it.
        rounds: Most rounds to run.
        seconds: Wall time to spend, without compilation.

    Raises:
        UsageError: There are no feeds, names are not unique, or a model can't be reshaped for the batch.
    """
    names = [timed.name for timed in models]
    if not models or not feeds or len(set(names)) != len(names):
        raise UsageError(f"timing needs models with different names and at least one feed; got {names}, {len(feeds)}")
    stacked = [_stack(feed, batch) for feed in feeds]
    runners = {timed.name: _Runner(timed, stacked, threads, streams, batch) for timed in models}
    wall, cpu = _measure(runners, rounds, seconds)
    times = summarize(wall, cpu, one_thread=threads == 1 and streams == 1)
    return replace(times, layer_ms={name: runner.layer_ms() for name, runner in runners.items()})


def measure_speed(
    fp32_model: ov.Model,
    int8_model: ov.Model,
    feeds: Sequence[Given],
    *,
    precision: str = "f32",
    aliases: Mapping[str, Sequence[str]] | None = None,
    in_default: bool = True,
    seconds: float = 3.0,
    on: TimedOn = ALONE,
) -> Speed:
    """Time INT8 against the FP32 model in f32 and in the machine's default precision.

    Args:
        fp32_model: Model before quantization.
        int8_model: Model after quantization.
        feeds: One or more feeds of one sample each.
        precision: Precision of the layers in floating point of the INT8 model: ``f32``, ``bf16``… or ``default``. If it
            is not the default, the note has the latency in the default precision.
        aliases: Names of the layers to time, as for ``TimedModel``; None to time only the models as a whole.
        in_default: Whether to run the models in the default precision; if not, f32 stands for it.
        seconds: Wall time to spend, without compilation.
        on: Threads and inferences at a time.
    """
    default, plain = (default_precision(), {}) if in_default else ("f32", F32)
    intended = plain if precision in ("default", default) else {**F32, "INFERENCE_PRECISION_HINT": precision}
    f32_name, default_name = "FP32 in f32", "FP32 without a hint" if default == "f32" else f"FP32 in {default}"
    models = [
        TimedModel("INT8", int8_model, intended, aliases),
        TimedModel(f32_name, fp32_model, F32, aliases),
        TimedModel(default_name, fp32_model, plain, aliases),
    ]
    if intended != plain:
        models.append(TimedModel(f"INT8 in {default}", int8_model, plain, aliases))
    times = time_models(models, feeds, threads=on.threads, streams=on.streams, seconds=seconds)
    notes = [times.note, *([f"Timed with {on}."] if on != ALONE else [])]
    if intended != plain:
        notes.append(
            f"INT8 was run with its floating-point layers in {precision}; "
            f"in {default}, this machine's default, it takes {times.time_ms(f'INT8 in {default}'):.3g} ms."
        )
    # Speed-ups are of the others' times over INT8's, so those of the others over the reference INT8, turned around.
    f32, other = times.speedup(f32_name), times.speedup(default_name)
    facts = SpeedFacts(
        latency_f32_ms=times.time_ms(f32_name),
        latency_default_ms=times.time_ms(default_name),
        latency_int8_ms=times.time_ms("INT8"),
        default_precision=default,
        speedup_f32=1 / f32.value,
        speedup_default=1 / other.value,
        interval_f32=(1 / f32.high, 1 / f32.low),
        interval_default=(1 / other.high, 1 / other.low),
        noisy=times.noisy,
        note=" ".join(note for note in notes if note),
    )
    return Speed(facts, *(times.layer_ms[name] for name in ("INT8", f32_name, default_name)))


def _stack(feed: Given, batch: int) -> list[Tensors]:
    """Return the inputs of each frame, ``batch`` times over; of a sequence those of the first :data:`FRAMES`."""
    return [
        {i: ov.Tensor(np.ascontiguousarray(np.concatenate([a] * batch) if batch > 1 else a)) for i, a in frame.items()}
        for frame in in_order(feed)[:FRAMES]
    ]


def _batched(timed: TimedModel, batch: int) -> ov.Model:
    """Return the model reshaped for a batch; the model itself for one sample."""
    if batch == 1:
        return timed.model
    model = timed.model.clone()
    try:
        shapes = {i: [batch, *list(port.get_partial_shape())[1:]] for i, port in enumerate(model.inputs)}
        model.reshape({i: ov.PartialShape(shape) for i, shape in shapes.items()})
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            f"{timed.name} can't be reshaped for a batch of {batch} ({str(error).splitlines()[0]}). "
            "Leave the batch at 1"
        ) from error
    return model


class _Runner:
    """A compiled and warmed-up model that runs blocks of inferences which fill ``BLOCK_SECONDS``."""

    def __init__(
        self,
        timed: TimedModel,
        feeds: Sequence[Sequence[Tensors]],
        threads: int,
        streams: int,
        batch: int,
    ):
        config = timed.config if timed.aliases is None else {**timed.config, **PROFILED}
        self._compiled = compile_model(_batched(timed, batch), config, threads=threads, streams=streams, still=False)
        self._aliases, self._batch, self._runs = timed.aliases, batch, 0
        self._feeds = feeds
        self._run = _parallel(self._compiled, streams) if streams > 1 else _one_by_one(self._compiled)
        self._repeat(0, streams)
        start = time.perf_counter()
        self._repeat(0, 2 * streams)
        each = max((time.perf_counter() - start) / (2 * streams), 1e-7)
        self._count = max(2 * streams if streams > 1 else 1, ceil(BLOCK_SECONDS / each))
        self._warm = self._averages()

    def __call__(self, number: int) -> int:
        """Run the block of one round and return the number of samples."""
        frames = len(self._feeds[number % len(self._feeds)])
        count = ceil(self._count / frames) * frames  # whole sequences: their last frames may cost more than the first
        self._repeat(number, count)
        return count * self._batch

    def layer_ms(self) -> dict[str, float]:
        """Return layer → milliseconds of one inference since the warm-up; empty without ``aliases``."""
        if self._aliases is None:
            return {}
        times = difference([self._warm, self._averages()])
        ran = executed_layers(self._compiled, self._aliases)
        return {name: times[ran[name].name] for name in self._aliases if name in ran and ran[name].name in times}

    def _repeat(self, number: int, count: int) -> None:
        self._run(self._feeds[number % len(self._feeds)], count)
        self._runs += count

    def _averages(self) -> Averages:
        return self._runs, {} if self._aliases is None else averages(self._compiled.create_infer_request())


def _one_by_one(compiled: ov.CompiledModel) -> Callable[[Sequence[Tensors], int], None]:
    request = compiled.create_infer_request()
    stateful = bool(request.query_state())

    def run(frames: Sequence[Tensors], count: int) -> None:
        for number in range(count):
            frame = number % len(frames)
            for index, tensor in frames[frame].items() if number == 0 or len(frames) > 1 else ():
                request.set_input_tensor(index, tensor)
            if stateful and frame == 0:
                request.reset_state()
            request.infer(None, share_inputs=True, share_outputs=True)  # no copies: they are not the model's time

    return run


def _parallel(compiled: ov.CompiledModel, streams: int) -> Callable[[Sequence[Tensors], int], None]:
    queue = ov.AsyncInferQueue(compiled, streams)
    stateful = bool(queue[0].query_state())

    def run(frames: Sequence[Tensors], count: int) -> None:
        reached = [0] * streams  # each request runs a sequence of its own, in order
        for _ in range(count):
            free = queue.get_idle_request_id()
            idle, frame = queue[free], reached[free] % len(frames)
            reached[free] += 1
            if stateful and frame == 0:
                idle.reset_state()
            for index, tensor in frames[frame].items():
                idle.set_input_tensor(index, tensor)
            queue.start_async(None, share_inputs=True)
        queue.wait_all()

    return run


def _measure(
    blocks: Mapping[str, Callable[[int], int]], rounds: int, seconds: float
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return wall and CPU milliseconds per sample, one value per round, for each block."""
    wall: dict[str, list[float]] = {name: [] for name in blocks}
    cpu: dict[str, list[float]] = {name: [] for name in blocks}
    for number in _rounds(max(rounds, MINIMUM_ROUNDS), seconds):
        for name in list(blocks)[:: -1 if number % 2 else 1]:
            start_wall, start_cpu = time.perf_counter(), time.process_time()
            samples = blocks[name](number)
            cpu[name].append((time.process_time() - start_cpu) * 1000 / samples)
            wall[name].append((time.perf_counter() - start_wall) * 1000 / samples)
    return wall, cpu


def _rounds(limit: int, seconds: float) -> Iterator[int]:
    end = time.perf_counter() + seconds
    for number in range(limit):
        if number >= MINIMUM_ROUNDS and time.perf_counter() > end:
            return
        yield number
