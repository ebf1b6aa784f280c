"""The INT8 models that a search evaluates, each as it would ship: written, read again, compiled and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.corrections.candidate import Candidate
from calib.engine.building import Int8Model, build, look_up, with_two_threads
from calib.engine.evaluators import Evaluator
from calib.engine.job import Job
from calib.errors import ModelError
from calib.loading.ir_file import save_model
from calib.runtime.executed import Ran
from calib.runtime.failures import left_out
from calib.runtime.session import ov, precision_config, read_model
from calib.runtime.temporary import temporary_folder
from calib.runtime.timing import TimedModel, time_models

Layers = frozenset[str]


class Candidates:
    """INT8 models of plans, built on demand; the last one stays compiled.

    Args:
        job: Run whose settings say what the models are timed in.
        whole: Model with everything in INT8; a plan is given by the layers that are reverted in it.
        evaluator: Evaluator of the models.
        precision: Precision of layers in floating point that accuracy is judged in.
        folder: Folder to write the models to before they are read again; None for the system's temporary one.

    Attributes:
        precision: The same, or f32 where OpenVINO can't compile it.
        warnings: Sentences for the report.
    """

    def __init__(self, job: Job, whole: Int8Model, evaluator: Evaluator, precision: str, folder: Path | None = None):
        self._job, self._whole, self._evaluator, self._folder = job, whole, evaluator, folder
        self.precision = precision
        self.warnings: list[str] = []
        self._last: tuple[Layers, Int8Model, ov.Model, ov.CompiledModel] | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        """Properties that the models are compiled with to judge them."""
        return precision_config(self.precision)

    def parts(self, reverted: Layers, indices: NDArray[np.int64]) -> list[Any]:
        """Return the metric's parts of these samples, in their order."""
        return self._evaluator.run(self._at(reverted)[3], indices.tolist())

    def built(self, reverted: Layers) -> Int8Model:
        """Return the model of a plan in memory, with what its layers execute as with one thread and with two."""
        built = self._at(reverted)[1]
        asked = not reverted or any(ran.two for ran in built.executed.values())
        return built if asked else with_two_threads(built, self.config)

    def shipped(self, reverted: Layers) -> ov.Model:
        """Return the model of a plan as it is read from its file."""
        return self._at(reverted)[2]

    def _at(self, reverted: Layers) -> tuple[Layers, Int8Model, ov.Model, ov.CompiledModel]:
        if self._last is None or self._last[0] != reverted:
            self._last = (reverted, *(self._reverted(reverted) if reverted else self._compiled(self._whole)))
        return self._last

    def _reverted(self, layers: Layers) -> tuple[Int8Model, ov.Model, ov.CompiledModel]:
        candidate = self._whole.candidate.without(dict.fromkeys(sorted(layers), "reverted"))
        try:
            built, model, compiled = self._compiled(Int8Model(candidate.executable(), candidate))
        except ModelError:
            return self._compiled(self._built(candidate))  # finds the layers that keep it from compiling
        # What ran is asked of this compilation, in which each inference has one thread. `build`, which makes another
        # for two, is for layers that did not run in INT8 and did with one thread where everything was in INT8.
        ran = look_up(model, candidate.view, candidate.plan, compiled)
        whole = self._whole.executed
        if all(ran[layer.name].int8 or _needs_two(whole.get(layer.name)) for layer in candidate.plan.layers):
            return replace(built, executed=ran), model, compiled
        return self._compiled(self._built(candidate))

    def _built(self, candidate: Candidate) -> Int8Model:
        return build(candidate, feeds=self._job.few)

    def _compiled(self, built: Int8Model) -> tuple[Int8Model, ov.Model, ov.CompiledModel]:
        """Write a model, read it again and compile it, so that what is measured is what ships."""
        with temporary_folder(self._folder) as folder:
            path = folder / "model.xml"
            save_model(built.model, path, fp16_constants=self._job.loaded.fp16_stored)
            model = read_model(path)
        if self.precision != "f32":
            missing = f"Accuracy was measured in f32, since OpenVINO can't compile it in {self.precision}"
            with left_out(missing, self.warnings):
                return built, model, self._evaluator.compiled(model, self.config)
            self.precision = "f32"
        return built, model, self._evaluator.compiled(model, self.config)

    def latency(self, plans: Sequence[Layers]) -> list[float]:
        """Return the latency of each plan in milliseconds, timed interleaved."""
        config, on = precision_config(self._job.precision), self._job.timed_on
        found = [TimedModel(str(number), self.shipped(plan), config) for number, plan in enumerate(plans)]
        feeds = self._job.feeds(self._job.ids[:4])
        times = time_models(found, feeds, threads=on.threads, streams=on.streams, rounds=50, seconds=1.0)
        return [times.time_ms(timed.name) for timed in found]


def _needs_two(ran: Ran | None) -> bool:
    """Say whether a layer runs in INT8 with two threads only."""
    return ran is not None and ran.int8 and not (ran.one and ran.one.int8)
