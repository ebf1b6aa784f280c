"""The steps of the pipeline that join several packages: what ``pipeline.py`` calls in one line each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calib.config import Resolved, Settings, resolve
from calib.errors import DataError, ModelError
from calib.graph.finder import find
from calib.graph.insert import Edits, insert
from calib.graph.load import Loaded, load_model, require_float
from calib.graph.placement import place
from calib.graph.taps import Need
from calib.graph.view import GraphView
from calib.outcome import StageFacts
from calib.plan import QuantizationPlan, TensorId
from calib.progress import Progress, Stage, silent
from calib.ranges import get_estimator
from calib.runtime.executed import Executed, executed_layers
from calib.runtime.session import compile_model, ov
from calib.samples.open import open_dataset
from calib.samples.sample import Dataset, InputSpec, Sample
from calib.statistics.collect import collect
from calib.summary import TensorSummary


class Clock:
    """Wall and CPU seconds of each stage, shown as progress while it runs."""

    def __init__(self, progress: Progress | None = None):
        self._progress = progress or silent
        self.stages: list[StageFacts] = []

    @contextmanager
    def __call__(self, name: str, total: int | None = None) -> Iterator[Stage]:
        wall, cpu = time.perf_counter(), time.process_time()
        with self._progress(name, total) as stage:
            yield stage
        self.stages.append(StageFacts(name=name, wall=time.perf_counter() - wall, cpu=time.process_time() - cpu))


@dataclass(frozen=True)
class Job:
    """What a run works on, checked: the model, its settings, its calibration samples.

    Attributes:
        ids: the chosen calibration samples, in id order.
        warnings: sentences for the report.
    """

    loaded: Loaded
    resolved: Resolved
    view: GraphView
    calibration: Dataset | None
    ids: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """The settings, each checked."""
        return self.resolved.settings

    @property
    def streams(self) -> int:
        """How many samples run at the same time."""
        return self.settings.threads or len(os.sched_getaffinity(0))

    def samples(self, ids: Sequence[str] | None = None) -> Iterator[Sample]:
        """Load calibration samples, all the chosen ones by default, in id order."""
        assert self.calibration is not None
        return self.calibration.load(self.ids if ids is None else ids)

    def feeds(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str, Any]]:
        """Load ``(id, where, arrays)`` of calibration samples."""
        return ((sample.id, sample.where, sample.feed) for sample in self.samples(ids))


def input_specs(model: ov.Model) -> list[InputSpec]:
    """Describe what the model takes."""
    specs = []
    for port in model.inputs:
        names = tuple(sorted(port.get_names()))
        friendly = port.get_node().get_friendly_name()
        shape = tuple(None if axis.is_dynamic else axis.get_length() for axis in port.get_partial_shape())
        dtype = np.dtype(port.get_element_type().to_dtype())
        specs.append(InputSpec(friendly if friendly in names or not names else names[0], names, shape, dtype))
    return specs


def prepare(
    model: str | Path | ov.Model,
    calibration: Any,
    *,
    flags: Mapping[str, Any],
    sets: Sequence[str] = (),
    config: str | Path | None = None,
    need_float: bool = True,
) -> Job:
    """Load the model and check settings and data before anything is spent."""
    resolved = resolve(flags, sets, config)  # mistakes in settings come before the cost of reading a model
    loaded = load_model(model)
    if need_float:
        require_float(loaded)
    if loaded.rt_info:
        resolved = resolve(flags, sets, config, loaded.rt_info)
    dataset, ids, warnings = None, (), list(resolved.notes)
    if calibration is not None:
        dataset = open_dataset(calibration, inputs=input_specs(loaded.model))
        ids = tuple(dataset.choose(resolved.settings.samples, resolved.settings.salt))
        if not ids:
            raise DataError(f"{dataset.source}: there are no calibration samples; give at least one")
        if len(ids) < resolved.settings.samples and "samples" in resolved.origins:
            warnings.append(f"{resolved.settings.samples} calibration samples were asked for, {len(ids)} are there")
    return Job(loaded, resolved, GraphView(loaded.model), dataset, ids, tuple(warnings))


def make_plan(job: Job) -> QuantizationPlan:
    """Find the layers and place quantizers; ranges are still missing.

    Raises:
        ModelError: there is nothing to quantize, with the reasons.
    """
    levels = 127 if job.settings.target == "cpu-no-vnni" else 255
    plan = place(job.view, find(job.view, job.settings.ignore), weight_levels=levels)
    if not plan.layers:
        reasons = "; ".join(f"{s.name} ({s.type}): {s.reason}" for s in plan.skipped[:5])
        more = f" and {len(plan.skipped) - 5} more" if len(plan.skipped) > 5 else ""
        raise ModelError(
            f"{job.loaded.facts.name}: there is nothing to quantize. "
            + (f"Left in floating point: {reasons}{more}" if reasons else "It holds no convolution and no MatMul")
        )
    return plan


def gather(job: Job, plan: QuantizationPlan, stage: Stage) -> dict[TensorId, TensorSummary]:
    """Collect the statistics of every quantized tensor in one pass.

    Raises:
        ModelError: a quantized tensor was empty in every sample.
    """
    histogram = get_estimator(job.settings.estimator).needs_histogram
    needs = {q.tensor: Need(histogram=histogram, channels=q.per_channel) for q in plan.activations}
    summaries = collect(job.loaded.model, needs, job.feeds(), streams=job.streams, progress=lambda _: stage.update(1))
    empty = [str(tensor) for tensor in needs if tensor not in summaries]
    if empty:
        raise ModelError(f"tensor {empty[0]} had no values in any calibration sample; use samples that reach it")
    return summaries


@dataclass(frozen=True)
class Built:
    """An INT8 model and what its layers really execute in."""

    model: ov.Model
    plan: QuantizationPlan
    edits: Edits
    executed: Mapping[str, Executed] = field(default_factory=dict)


def build(job: Job, plan: QuantizationPlan, edits: Edits | None = None) -> Built:
    """Insert, compile and ask what ran; layers that were planned as INT8 but ran otherwise are taken out again.

    A FakeQuantize whose layer runs in floating point costs time and accuracy and gains nothing.
    """
    edits = edits or Edits()
    for _ in range(3):  # one layer taken out can change how its neighbours run; seen once, never twice
        model = insert(job.loaded.model, plan, edits)
        executed = executed_layers(compile_model(model), aliases(job.view, plan))
        failed = {
            layer.name: executed[layer.name].primitive
            for layer in plan.layers
            if layer.name in executed and not executed[layer.name].int8
        }
        if not failed or len(failed) == len(plan.layers):
            return Built(model, plan, edits, executed)
        for name, primitive in failed.items():
            plan = plan.without([name], f"OpenVINO ran it as {primitive} although its inputs were quantized")
        edits = edits.without(frozenset(failed))
    return Built(insert(job.loaded.model, plan, edits), plan, edits, executed)


def aliases(view: GraphView, plan: QuantizationPlan) -> dict[str, tuple[str, ...]]:
    """Return, for each layer, the names of what may be fused behind it: a MatMul runs under the name of its bias."""
    found = {}
    for layer in (*plan.layers, *plan.skipped):
        names, tensor = [], TensorId(layer.name)
        while layer.name in view.nodes and len(names) < 4:
            readers = view.value_consumers(tensor)
            if len(readers) != 1 or view.types[readers[0].node] in ("Result", layer.type):
                break
            names.append(readers[0].node)
            tensor = TensorId(readers[0].node)
        found[layer.name] = tuple(names)
    return found
