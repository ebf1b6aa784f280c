"""The INT8 models that a search evaluates, each as it would ship: written, read again, compiled and run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.engine.building import Int8Model, aliases, build, without
from calib.engine.evaluation import Evaluator
from calib.engine.job import Job
from calib.errors import ModelError
from calib.loading.ir_file import save_model
from calib.runtime.executed import executed_layers
from calib.runtime.session import ov, precision_config, read_model
from calib.runtime.timing import TimedModel, time_models

Layers = frozenset[str]


class Candidates:
    """INT8 models of plans, built on demand; the last one stays compiled.

    Args:
        job: Run whose settings give the precision of layers in floating point.
        whole: Model with everything in INT8; a plan is given by the layers that are reverted in it.
        evaluator: Evaluator of the models.
    """

    def __init__(self, job: Job, whole: Int8Model, evaluator: Evaluator):
        self._job, self._whole, self._evaluator = job, whole, evaluator
        self._last: tuple[Layers, Int8Model, ov.Model, ov.CompiledModel] | None = None

    @property
    def config(self) -> Mapping[str, Any]:
        """Properties that the models are compiled with."""
        return precision_config(self._job.settings.float_precision)

    def parts(self, reverted: Layers, indices: NDArray[np.int64]) -> list[Any]:
        """Return the metric's parts of these samples, in their order."""
        return self._evaluator.run(self._at(reverted)[3], indices.tolist())

    def built(self, reverted: Layers) -> Int8Model:
        """Return the model of a plan in memory."""
        return self._at(reverted)[1]

    def shipped(self, reverted: Layers) -> ov.Model:
        """Return the model of a plan as it is read from its file."""
        return self._at(reverted)[2]

    def _at(self, reverted: Layers) -> tuple[Layers, Int8Model, ov.Model, ov.CompiledModel]:
        if self._last is None or self._last[0] != reverted:
            self._last = (reverted, *(self._reverted(reverted) if reverted else self._compiled(self._whole)))
        return self._last

    def _reverted(self, layers: Layers) -> tuple[Int8Model, ov.Model, ov.CompiledModel]:
        candidate = without(self._whole.candidate, sorted(layers))
        try:
            built, model, compiled = self._compiled(Int8Model(candidate.executable(), candidate))
        except ModelError:
            return self._compiled(build(candidate))  # finds the layers that keep it from compiling
        # What ran is asked of this compilation: `build`, which makes another, is for what did not run in INT8.
        ran = executed_layers(compiled, aliases(candidate.view, candidate.plan))
        if all(layer.name in ran and ran[layer.name].int8 for layer in candidate.plan.layers):
            return replace(built, executed=ran), model, compiled
        return self._compiled(build(candidate))

    def _compiled(self, built: Int8Model) -> tuple[Int8Model, ov.Model, ov.CompiledModel]:
        """Write a model, read it again and compile it, so that what is measured is what ships."""
        with tempfile.TemporaryDirectory(prefix="calib-") as folder:
            path = Path(folder) / "model.xml"
            save_model(built.model, path, fp16_constants=self._job.loaded.fp16_stored)
            model = read_model(path)
        return built, model, self._evaluator.compiled(model, self.config)

    def latency(self, plans: Sequence[Layers]) -> list[float]:
        """Return the latency of each plan in milliseconds, timed interleaved on one thread."""
        found = [TimedModel(str(number), self.shipped(plan), self.config) for number, plan in enumerate(plans)]
        times = time_models(found, self._job.feeds(self._job.ids[:4]), threads=1, rounds=50, seconds=1.0)
        return [times.time_ms(timed.name) for timed in found]
