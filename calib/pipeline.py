"""The engine on one page: find → collect → estimate → place → correct → insert → evaluate → revert → report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib import __version__
from calib.graph.finder import already_quantized, find
from calib.outcome import Inspection, Report
from calib.plan import QuantizationPlan
from calib.progress import Progress
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.report.build import layer_facts, quantizer_facts
from calib.result import Result
from calib.runtime.executed import executed_layers
from calib.runtime.session import compile_model, ov
from calib.stages import Clock, aliases, build, gather, make_plan, prepare


def quantize(
    model: str | Path | ov.Model,
    calibration: Any,
    *,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Result:
    """Quantize a model to INT8.

    Args:
        model: an IR, an ONNX file, or a model in memory (not edited).
        calibration: a DATA string, or a re-iterable of samples: an array, a tuple in input order, or a dict by input
            name; with one input a pair is (feed, target).
        config: a YAML or JSON file of settings.
        sets: ``"key=value"`` settings, stronger than the file and weaker than ``settings``.
        progress: told of each stage; silent by default.
        settings: any setting by name (``calib schema config`` lists them).

    Raises:
        CalibError: see ``calib.errors`` for the kinds.
    """
    clock = Clock(progress)
    with clock("load"):
        job = prepare(model, calibration, flags=settings, sets=sets, config=config)
        plan = make_plan(job)
    with clock("statistics", len(job.ids)) as stage:
        summaries = gather(job, plan, stage)
    with clock("ranges"):
        plan = assign(plan, summaries, get_estimator(job.settings.estimator))
    with clock("insert"):
        built = build(job, plan)
    with clock("report"):
        report = Report(
            calib_version=__version__,
            status="quantized",
            model=job.loaded.facts,
            settings=job.resolved.facts(),
            calibration=job.calibration.source if job.calibration else "",
            calibration_samples=len(job.ids),
            layers=layer_facts(job.view, built.plan, built.executed),
            quantizers=quantizer_facts(built.plan, summaries),
            warnings=list(job.warnings),
        )
    report = report.model_copy(update={"stages": clock.stages})
    return Result(built.model, report, built.plan, job.loaded.fp16_stored, job.loaded.path)


def plan(model: str | Path | ov.Model, calibration: Any = None, **settings: Any) -> QuantizationPlan:
    """Find the layers and place quantizers; runs nothing, so ranges are missing."""
    return make_plan(prepare(model, calibration, flags=settings))


def inspect(model: str | Path | ov.Model, **settings: Any) -> Inspection:
    """List every layer: whether it would be quantized, why not, or, for a quantized model, what it executes in."""
    job = prepare(model, None, flags=settings, need_float=False)
    quantized = job.loaded.quantized or job.loaded.weight_compressed
    found = already_quantized(job.view) if quantized else find(job.view, job.settings.ignore)
    plan = QuantizationPlan(found.layers, (), (), found.skipped)
    executed = executed_layers(compile_model(job.loaded.model), aliases(job.view, plan)) if quantized else {}
    layers = layer_facts(job.view, plan, executed)
    return Inspection(calib_version=__version__, model=job.loaded.facts, layers=layers, quantized=quantized)
