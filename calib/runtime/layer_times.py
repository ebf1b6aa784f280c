"""Measure the time of each executed node with the plug-in's own counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from calib.runtime.executed import Executed, executed_layers
from calib.runtime.session import F32, Given, compile_model, in_order, ov

PROFILED: Mapping[str, Any] = {"PERF_COUNT": True}
"""What ``layer_times`` needs beside the other properties a model is compiled with."""

WARM_UP = 4
BLOCKS, BLOCK = 5, 8  # their number, and inferences in each

Averages = tuple[int, Mapping[str, float]]
"""How many runs there were, and each node's average time over all of them."""


def layer_times(compiled: ov.CompiledModel, feeds: Sequence[Given]) -> dict[str, float]:
    """Return executed node → milliseconds of one inference; nodes that were fused or folded are absent.

    The names are those of ``executed_nodes``. Times are medians over five blocks of runs, without the first runs.

    Args:
        compiled: Model compiled with ``PROFILED`` among its properties, and not run yet.
        feeds: One or more feeds, arrays in input order or by input index. State is reset before each, and kept between
            the frames of a sequence, which run in order.
    """
    runs = [(number, inputs) for feed in feeds for number, inputs in enumerate(in_order(feed))]
    request = compiled.create_infer_request()
    stateful = bool(request.query_state())
    snapshots: list[Averages] = []
    for number in range(WARM_UP + BLOCK * BLOCKS):
        if number >= WARM_UP and (number - WARM_UP) % BLOCK == 0:
            snapshots.append((number, averages(request)))
        frame, inputs = runs[number % len(runs)]
        if stateful and frame == 0:
            request.reset_state()
        request.infer(dict(inputs), share_outputs=True)
    snapshots.append((WARM_UP + BLOCK * BLOCKS, averages(request)))
    return difference(snapshots)


def timed_layers(
    model: ov.Model,
    feeds: Sequence[Given],
    aliases: Mapping[str, Sequence[str]],
) -> dict[str, tuple[Executed, float | None]]:
    """Return layer of the IR → executed node and its milliseconds; layers fused into one node share its time.

    Args:
        model: Model, which is compiled in f32 with counters.
        feeds: One or more feeds.
        aliases: Mapping from layer to the names it may run under, as for ``executed_layers``.
    """
    compiled = compile_model(model, {**F32, **PROFILED}, still=False)
    nodes = executed_layers(compiled, aliases)
    times = layer_times(compiled, feeds)
    return {name: (node, times.get(node.name)) for name, node in nodes.items()}


def difference(snapshots: Sequence[Averages]) -> dict[str, float]:
    """Return the median over pairs of consecutive snapshots of the time of a run between them.

    The counters are averages since compilation in whole microseconds: between runs k and n, a run took
    (n·avg_n − k·avg_k) / (n − k), with a rounding error of up to (n + k) / 2(n − k) µs.
    """
    blocks: dict[str, list[float]] = {}
    for (before, early), (after, late) in pairwise(snapshots):
        for name, average in late.items():
            spent = after * average - before * early.get(name, 0.0)
            blocks.setdefault(name, []).append(max(0.0, spent / (after - before)))
    return {name: round(median(times), 6) for name, times in blocks.items()}  # whole nanoseconds


def averages(request: ov.InferRequest) -> dict[str, float]:
    """Return executed node → average milliseconds since compilation, from any request of a one-stream model."""
    executed = ov.ProfilingInfo.Status.EXECUTED
    return {
        info.node_name: info.real_time.total_seconds() * 1000
        for info in request.get_profiling_info()
        if info.status == executed
    }
