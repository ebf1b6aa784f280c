"""Measure latency and throughput of several models, in f32 and in the machine's default precision."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.engine.building import executed_in, listed
from calib.engine.job import Job
from calib.engine.layer_facts import int8_share, layer_facts
from calib.engine.prepare import check_state, open_samples, prepare
from calib.errors import DataError, UsageError
from calib.graph.view import GraphView
from calib.loading.inputs import ShapeCheck
from calib.loading.load import Loaded, input_specs, load_model
from calib.progress import Progress, receiver
from calib.runtime.failures import FAILURES, left_out
from calib.runtime.isa import cpu
from calib.runtime.paired import Timing, Timings
from calib.runtime.session import F32, Given, compile_model, default_precision, in_order, ov
from calib.runtime.timing import TimedModel, time_models
from calib.samples.feed import Arrays, feed_of
from calib.samples.sample import Frames, InputSpec
from calib.values.benchmark import Benchmark, BenchmarkEntry
from calib.values.version import __version__

SAMPLES = 8  # of real data; every model gets the same one in each round


@dataclass(frozen=True)
class _Run:
    """One model in one precision."""

    title: str
    loaded: Loaded
    precision: str
    timed: TimedModel


def bench(
    models: str | Path | ov.Model | Sequence[str | Path | ov.Model],
    data: Any = None,
    *,
    threads: int = 1,
    streams: int | None = None,
    batch: int = 1,
    seconds: float = 5.0,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Benchmark:
    """Time models interleaved (A B, B A, …), each in f32 and in the machine's default precision.

    Speed-ups are relative to the first model in f32, paired round by round, with the 95 % interval of their median.

    Args:
        models: Models to time, or a single one; the others are compared with the first.
        data: Samples as a DATA string or an iterable that can be read more than once; None for random numbers.
        threads: Number of threads of one inference when latency is measured.
        streams: Number of parallel streams when throughput is measured; None for one per CPU, 0 to skip throughput.
        batch: Number of samples in one inference.
        seconds: Time to spend on latency, and again on throughput.
        config: Path of a YAML or JSON file of settings, such as preprocessing.
        sets: Settings as ``"key=value"``.
        progress: Receives the progress of each stage; silent by default.
        settings: Settings by name.

    Raises:
        UsageError: A number is out of range, the models' inputs differ, or random numbers don't fit them.
        DataError: There are no samples.
    """
    streams = len(os.sched_getaffinity(0)) if streams is None else streams
    models = list(models) if isinstance(models, Iterable) and not isinstance(models, str) else [models]
    _check_numbers(len(models), seconds, threads=threads, streams=streams, batch=batch)
    show = receiver(progress)
    with show("load", None):
        job = prepare(models[0], None, flags=settings, sets=sets, config=config, need_float=False)
        loaded = [job.loaded, *(load_model(model) for model in models[1:])]
        source, feeds, notes = _feeds(job, loaded, data)
        runs, missing = _runs(loaded), list[str]()
        shares = {id(one): executed_int8_share(one, feeds[0]) for one in loaded}
    timed = partial(time_models, feeds=feeds, batch=batch, rounds=10_000, seconds=seconds)
    with show("latency", None):
        try:
            latency = timed([run.timed for run in runs], threads=threads)
        except FAILURES:
            runs, missing = _compiling(runs)
            latency = timed([run.timed for run in runs], threads=threads)
    with show("throughput", None):
        chosen = [run.timed for run in runs]
        throughput = timed(chosen, threads=streams, streams=streams) if streams else None
    return Benchmark(
        calib_version=__version__,
        environment=_environment(),
        data=source,
        threads=threads,
        streams=streams,
        batch=batch,
        rounds=latency.rounds,
        entries=[_entry(run, latency, throughput, shares[id(run.loaded)]) for run in runs],
        basis=latency.basis,
        noisy=latency.noisy or bool(throughput and throughput.noisy),
        notes=[*_notes(latency, throughput, data), *notes, *job.remarks, *missing],
    )


def _compiling(runs: Sequence[_Run]) -> tuple[list[_Run], list[str]]:
    """Return the runs whose model compiles in its precision, and sentences on the others; the first has to be there."""
    kept, missing = [runs[0]], list[str]()
    for run in runs[1:]:
        with left_out(f"{run.timed.name} was left out, since OpenVINO can't run it", missing):
            compile_model(run.timed.model, run.timed.config)
            kept.append(run)
    return kept, missing


def _check_numbers(models: int, seconds: float, *, threads: int, streams: int, batch: int) -> None:
    for name, value, low in (("threads", threads, 1), ("streams", streams, 0), ("batch", batch, 1)):
        if value < low:
            raise UsageError(f"{name} has to be at least {low}, got {value}")
    if not models or seconds <= 0:
        raise UsageError(f"bench needs at least one model and a time above 0; got {models} and {seconds:g} s")


def executed_int8_share(one: Loaded, feed: Given) -> float | None:
    """Compile a model and return the share of its multiply-accumulates that executes in INT8, see ``layer_facts``.

    Args:
        one: The model.
        feed: A sample, whose shapes say how much there is to multiply where the model's are dynamic.

    Returns:
        The share; None if the work can't be counted, because the model does not take the sample's shapes as fixed ones.
    """
    if not (one.quantized or one.weight_compressed):
        return 0.0
    if one.model.is_dynamic():
        fixed = one.model.clone()
        try:
            fixed.reshape({index: list(array.shape) for index, array in in_order(feed)[0].items()})
        except FAILURES:
            return None
        one = replace(one, model=fixed)
    view = GraphView(one.model)
    plan = listed(one, view)
    layers = layer_facts(view, plan, executed_in(one.model, view, plan))
    return int8_share(layers) if any(layer.macs for layer in layers) or not layers else None


def _runs(loaded: Sequence[Loaded]) -> list[_Run]:
    default = default_precision()
    runs: list[_Run] = []
    for title, one in zip(_titles(loaded), loaded, strict=True):
        runs.append(_Run(title, one, "f32", TimedModel(f"{title} in f32", one.reference, F32)))
        if default != "f32":
            runs.append(_Run(title, one, default, TimedModel(f"{title} in {default}", one.reference, {})))
    return runs


def _titles(loaded: Sequence[Loaded]) -> list[str]:
    """Return a distinct name for each model, with its folder or a number added where names are equal."""
    names = [one.facts.name for one in loaded]
    if len(set(names)) < len(names):
        names = [
            str(Path(one.path.parent.name, name)) if one.path else name for one, name in zip(loaded, names, strict=True)
        ]
    if len(set(names)) < len(names):
        names = [f"{name} #{number}" for number, name in enumerate(names, 1)]
    return names


def _feeds(job: Job, loaded: Sequence[Loaded], data: Any) -> tuple[str, Sequence[Arrays | Frames], list[str]]:
    """Return the source of the feeds, at most ``SAMPLES`` of them, and remarks."""
    specs = [input_specs(one.model) for one in loaded]
    for one, other in zip(loaded, specs, strict=True):
        if [(s.shape, s.dtype) for s in other] != [(s.shape, s.dtype) for s in specs[0]]:
            raise UsageError(
                f"{loaded[0].facts.name} and {one.facts.name} take different inputs: {', '.join(map(str, specs[0]))} "
                f"against {', '.join(map(str, other))}. Time them in two runs"
            )
    source, feeds, notes = ("", [random_feed(specs[0])], []) if data is None else _samples(job, data)
    for check in [ShapeCheck(one.model) for one in loaded]:
        for feed in feeds:
            for frame in feed if isinstance(feed, Frames) else [feed]:
                check(frame, source or "random numbers")
    return source, feeds, notes


def _samples(job: Job, data: Any) -> tuple[str, list[Arrays | Frames], list[str]]:
    dataset = open_samples(job, data)
    ids = dataset.choose(SAMPLES)
    if not ids:
        raise DataError(f"{dataset.source}: there are no samples to time with; give at least one, or leave data out")
    notes = check_state(job, dataset, ids)
    return dataset.source, [feed_of(sample) for sample in dataset.load(ids)], notes


def random_feed(specs: Sequence[InputSpec]) -> Arrays:
    """Return uniform random numbers in [0, 1), zeros for integer inputs; a dynamic batch is 1."""
    generator = np.random.default_rng(0)
    feed: list[NDArray[Any]] = []
    for spec in specs:
        if not spec.shape or None in spec.shape[1:]:
            raise UsageError(f"input {spec} has dynamic sizes, so random numbers can't stand for data: give --data")
        shape = [size or 1 for size in spec.shape]
        floats = spec.dtype.kind == "f"
        feed.append((generator.random(shape) if floats else np.zeros(shape)).astype(spec.dtype))
    return tuple(feed)


def _entry(run: _Run, latency: Timings, throughput: Timings | None, share: float | None) -> BenchmarkEntry:
    timing = latency[run.timed.name]
    speedup = latency.speedup(run.timed.name)
    busy: Timing | None = throughput[run.timed.name] if throughput else None
    return BenchmarkEntry(
        model=run.title,
        precision=run.precision,
        default=run.precision == default_precision(),
        quantized=run.loaded.quantized,
        int8_share=share,
        latency_ms=timing.wall_ms.value,
        latency_spread_ms=timing.wall_ms.spread,
        latency_cpu_ms=timing.cpu_ms.value,
        speedup=speedup.value,
        speedup_interval=(speedup.low, speedup.high),
        throughput=busy.per_second if busy else None,
        throughput_gain=busy.speedup.value if busy else None,
        throughput_interval=(busy.speedup.low, busy.speedup.high) if busy else None,
    )


def _environment() -> dict[str, str]:
    found = cpu()
    return {
        "cpu": found.name,
        "features": " ".join(found.features),
        "cores": str(len(os.sched_getaffinity(0))),
        "openvino": ov.__version__,
        "python": platform.python_version(),
        "default precision": default_precision(),
    }


def _notes(latency: Timings, throughput: Timings | None, data: Any) -> list[str]:
    notes = [f"Latency: {latency.note}"] if latency.note else []
    if throughput and throughput.note:
        notes.append(f"Throughput: {throughput.note}")
    if data is None:
        notes.append("Fed with random numbers: times that depend on the data, as in detection heads, need --data.")
    return notes
