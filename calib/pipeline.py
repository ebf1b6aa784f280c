"""The engine on one page: find → place → equalize → collect → correct → insert → evaluate → revert → report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.engine.accuracy_control import control_accuracy
from calib.engine.building import aliases, build, listed
from calib.engine.correcting import choose_ranges, collect_statistics, equalize_channels, replay_corrections
from calib.engine.evaluation import evaluate_as, evaluated, open_evaluator
from calib.engine.job import Clock, check_conversion, prepare
from calib.engine.layer_facts import layer_facts
from calib.engine.placing import check_plan, place_quantizers
from calib.engine.report import Findings, make_report
from calib.engine.result import Result
from calib.engine.speedup import Outcome, check_speedup
from calib.engine.verify import make_result
from calib.progress import Progress
from calib.runtime.executed import executed_layers
from calib.runtime.session import compile_model, ov
from calib.values.facts import Evaluation, Inspection
from calib.values.plan import QuantizationPlan
from calib.values.plan_file import read_plan
from calib.values.version import __version__


def quantize(
    model: str | Path | ov.Model,
    calibration: Any,
    *,
    validation: Any = None,
    plan: str | Path | QuantizationPlan | None = None,
    statistics: str | Path | None = None,
    store: str | Path | None = None,
    resume: bool = False,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    allow_python: bool | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Result:
    """Quantize a model to INT8, within an accuracy budget if there is one.

    Args:
        model: an IR, an ONNX file, or a model in memory (not edited).
        calibration: a DATA string, or a re-iterable of samples: an array, a tuple in input order, or a dict by input
            name; with one input a pair is (feed, target).
        validation: the same, with targets where the metric needs them; the calibration samples by default.
        plan: replay this plan (a file or a value) instead of finding one; its ranges are kept.
        statistics: an .npz that statistics are read from, or written to where it is not there yet.
        store: an SQLite file for the verdicts of the search, so that it can be resumed.
        resume: go on from what ``store`` holds.
        config: a YAML or JSON file of settings.
        sets: ``"key=value"`` settings, stronger than the file and weaker than ``settings``.
        allow_python: whether ``python:module:function`` is run: None for what is given as an argument and not for what
            ``config`` names, True for both, False for neither.
        progress: told of each stage; silent by default.
        settings: any setting by name (``calib schema config`` lists them), such as ``metric`` and ``max_drop``.

    Raises:
        CalibError: see ``calib.errors`` for the kinds. A missed budget is a result: see ``report.status``.
    """
    clock = Clock(progress)
    with clock("load"):
        job = prepare(model, calibration, flags=settings, sets=sets, config=config, allow_python=allow_python)
        given = read_plan(plan) if isinstance(plan, str | Path) else plan
        placed = place_quantizers(job) if given is None else check_plan(job, given)
        job = check_conversion(job)
        evaluator = open_evaluator(job, validation)
    if given is None or not given.has_ranges:
        with clock("equalize"):
            base = equalize_channels(job, placed)
        with clock("statistics", len(job.ids)) as stage:
            summaries = collect_statistics(job, base, placed, stage, statistics)
        with clock("correct") as stage:
            chosen = choose_ranges(job, base, placed, summaries, lambda note: stage.update(1, note))
    else:
        summaries = {}
        with clock("replay"):
            chosen = replay_corrections(job, given)
    with clock("insert"):
        built = build(chosen.candidate, chosen.scored)
    controlled = None
    if evaluator is not None:
        with clock("search") as stage:
            controlled = control_accuracy(job, built, evaluator, store=store, resume=resume, stage=stage)
    outcome = Outcome(controlled.built if controlled else built, controlled)
    if job.settings.measures_speed:
        with clock("speed") as stage:
            outcome = check_speedup(job, outcome, evaluator, store=store, resume=resume, stage=stage)
    with clock("report"):
        report = make_report(job, Findings(chosen, summaries, outcome))
    return make_result(job, outcome.built, report, clock.stages)


def plan(
    model: str | Path | ov.Model,
    calibration: Any = None,
    *,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    **settings: Any,
) -> QuantizationPlan:
    """Find the layers and place quantizers; runs nothing, so ranges are missing."""
    return place_quantizers(prepare(model, calibration, flags=settings, sets=sets, config=config))


def inspect(
    model: str | Path | ov.Model, *, config: str | Path | None = None, sets: Sequence[str] = (), **settings: Any
) -> Inspection:
    """List every layer: whether it would be quantized, why not, or, for a quantized model, what it executes in."""
    job = prepare(model, None, flags=settings, sets=sets, config=config, need_float=False)
    quantized = job.loaded.quantized or job.loaded.weight_compressed
    bare = listed(job.loaded, job.view, job.settings.ignore, exact_int8=job.settings.exact_int8)
    executed = executed_layers(compile_model(job.loaded.model), aliases(job.view, bare)) if quantized else {}
    layers = layer_facts(job.view, bare, executed)
    return Inspection(calib_version=__version__, model=job.loaded.facts, layers=layers, quantized=quantized)


def evaluate(
    model: str | Path | ov.Model,
    validation: Any,
    metric: Any = None,
    *,
    precision: str = "f32",
    isa: str | None = None,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    allow_python: bool | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a model, FP32 or INT8, with a metric.

    Args:
        model: as for ``quantize``; may be quantized already.
        validation: DATA or samples.
        metric: a name, Metric or function; it has to be one that needs no FP32 outputs.
        precision: of the layers in floating point: f32, bf16, or default for what the machine takes by itself.
        isa: run in a child process as a CPU limited to this instruction set would.
        config: a YAML or JSON file of settings.
        sets: ``"key=value"`` settings.
        allow_python: as for ``quantize``.
        progress: told of each stage.
        settings: any setting by name.
    """
    if isa is not None:
        flags = {"precision": precision, "allow_python": allow_python, **settings}
        return evaluate_as(isa, model, validation, metric, config=config, sets=sets, **flags)
    flags = {**settings, "metric": metric if metric is not None else settings.get("metric")}
    clock = Clock(progress)
    with clock("load"):
        job = prepare(model, None, flags=flags, sets=sets, config=config, need_float=False, allow_python=allow_python)
        evaluator = open_evaluator(job, validation)
    with clock("evaluate"):
        return evaluated(job, evaluator, precision)
