"""The engine on one page: find → place → baseline → equalize → collect → correct → insert → revert → report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from calib.config.given import GivenBesideMetric, GivenSettings
from calib.engine.accuracy_control import control_accuracy
from calib.engine.baseline import measure_baseline
from calib.engine.building import as_executed, build, executed_in, listed
from calib.engine.correcting import choose_ranges, collect_statistics, equalize_channels, scale_outliers
from calib.engine.data_checks import data_of, data_to_measure_on, doubts_about, overlaps, tell
from calib.engine.evaluate_as import evaluate_as
from calib.engine.evaluation import evaluated, open_evaluator, reference_job
from calib.engine.job import Job
from calib.engine.layer_facts import layer_facts, thread_notes
from calib.engine.placing import costs_of, place_checked, place_quantizers
from calib.engine.prepare import prepare
from calib.engine.replay import Replay, apply_plan, as_planned, open_replay, with_samples
from calib.engine.report import Findings, make_report
from calib.engine.result import Result
from calib.engine.speedup import Outcome, check_speedup, nothing_runs
from calib.engine.verify import as_simulated, make_result
from calib.progress import Clock, Progress
from calib.runtime.failures import left_out
from calib.runtime.session import ov
from calib.values.evaluation import Evaluation
from calib.values.inspection import Inspection
from calib.values.plan import QuantizationPlan
from calib.values.summary import Collected
from calib.values.version import __version__


def quantize(
    model: str | Path | ov.Model | None = None,
    calibration: Any = None,
    *,
    validation: Any = None,
    plan: str | Path | QuantizationPlan | None = None,
    statistics: str | Path | None = None,
    store: str | Path | None = None,
    resume: bool = False,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    allow_python: bool | None = None,
    progress: Progress | bool | None = None,
    **settings: Unpack[GivenSettings],
) -> Result:
    """Quantize a model to INT8, within an accuracy budget if there is one.

    Args:
        model: Path of a file that OpenVINO reads (IR, ONNX, TFLite, TensorFlow, PaddlePaddle), or a model in memory,
            which is not edited: an ``openvino.Model`` or what ``openvino.convert_model`` takes. By default the one that
            ``config`` names, as for the calibration and validation samples.
        calibration: Calibration samples: a DATA string, or an iterable that can be read more than once. A sample is an
            array, a tuple in input order or a dict by input name; for a model with one input a pair is (feed, target).
            A model that keeps state takes sequences, ``calib.Sequence([feed, feed, …])``: frames that run in order,
            with the state reset before the first only. A feed of several rows along a dynamic first axis is a batch of
            samples or one sample, see the setting ``first_axis``.
        validation: Validation samples in the same form, with targets if the metric needs them; the calibration samples
            by default.
        plan: Plan to apply instead of making one, as a file or a value; its ranges are kept. For the FP32 model that
            a file was made for, no calibration samples are needed and the INT8 model is the same to the byte.
        statistics: Path of an .npz file to read the statistics from, or to write them to if it does not exist: those of
            all calibration samples, and apart those of the samples that are not held out.
        store: Path of an SQLite file for the results of the search, so that it can be resumed.
        resume: Whether to continue from the results in ``store``.
        config: Path of a YAML or JSON file of settings, which may also name the model and the data.
        sets: Settings as ``"key=value"``; they override the file and are overridden by ``settings``.
        allow_python: Whether ``python:module:function`` may run: True always, False never, None if it is given as an
            argument but not if ``config`` names it.
        progress: True to show the progress of each stage, as lines on stderr or a bar in a notebook, or what receives
            it; silent by default.
        settings: Settings by name, such as ``metric`` and ``max_drop``; ``calib schema config`` lists them all. The
            libraries of operations that ``config`` names are loaded only with ``allow_extension=True``.

    Raises:
        CalibError: Any error; ``calib.errors`` lists the kinds. A missed budget is a result, see ``report.status``.
    """
    clock = Clock(progress)
    with clock("load") as stage:
        asked: dict[str, Any] = {"flags": settings, "sets": sets, "config": config, "allow_python": allow_python}
        job = prepare(model, calibration, validation=validation, calibrates=True, plan=plan, **asked)
        job, given = open_replay(job, plan)
        job, placed = place_checked(job, given and given.plan)
        evaluator = open_evaluator(job, validation)
        job = with_samples(job, evaluator)
        job = job.warned(doubts_about(data_of(job, evaluator)))
        cost = costs_of(job, placed, len(evaluator.ids) if evaluator else 0).get(job.settings.effort)
        clock.expect(stage, _stages(job, given, measured=evaluator is not None), cost.stages if cost else {})
        tell(clock, stage, job.warnings)
        if cost:
            stage.say(str(cost))
    baseline = None
    if evaluator is not None:
        with clock("baseline") as stage:
            baseline = measure_baseline(evaluator, store=store, resume=resume, stage=stage)
            job = job.warned(tell(clock, stage, overlaps(job, evaluator, baseline.marks)))
    if given is None or not given.plan.has_ranges:
        with clock("equalize"):
            base = equalize_channels(job, placed)
        with clock("statistics", len(job.all_ids)) as stage:
            summaries = collect_statistics(job, base, placed, stage, statistics)
        with clock("correct") as stage:
            base, summaries = scale_outliers(job, base, placed, summaries)
            chosen = choose_ranges(job, base, placed, summaries, lambda note: stage.update(1, note))
    else:
        summaries = Collected({}, {})
        with clock("replay"):
            chosen = apply_plan(job, given)
    with clock("insert"):
        built, chosen = as_simulated(job, build(chosen.candidate, chosen.scored, job.few), chosen)
    knee = None
    if job.settings.knee:
        from calib.engine.knee import take_knee  # here: without it no layer is ranked for this

        with clock("knee"):
            built, knee = take_knee(job, built, chosen)
    controlled = None
    if baseline is not None:
        with clock("search") as stage:
            controlled = control_accuracy(job, built, baseline, store=store, stage=stage)
    outcome = Outcome(controlled.built if controlled else built, controlled)
    if not built.plan.layers:
        outcome = nothing_runs(built, controlled)
    if job.settings.measures_speed and job.ids:
        with clock("speed") as stage:
            outcome = check_speedup(job, outcome, baseline, store=store, resume=resume, stage=stage)
    with clock("report"):
        seen = chosen.summaries or summaries.of(chosen.candidate.plan)
        report = make_report(job, Findings(chosen, seen, outcome, baseline, knee))
    return as_planned(make_result(job, outcome, baseline, report, clock.stages), given)


def _stages(job: Job, given: Replay | None, *, measured: bool) -> list[str]:
    """Return the names of the stages of a run, whose accuracy is measured or not."""
    timed, chosen = job.settings.measures_speed and bool(job.ids), given is None or not given.plan.has_ranges
    return [
        *("load", *(["baseline"] if measured else [])),
        *(["equalize", "statistics", "correct"] if chosen else ["replay"]),
        *(
            "insert",
            *(["knee"] if job.settings.knee else []),
            *(["search"] if measured else []),
            *(["speed"] if timed else []),
            "report",
        ),
    ]


def plan(
    model: str | Path | ov.Model,
    calibration: Any = None,
    *,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    **settings: Unpack[GivenSettings],
) -> QuantizationPlan:
    """Find the layers and place quantizers without running the model; ranges are still missing."""
    return place_quantizers(prepare(model, calibration, flags=settings, sets=sets, config=config))


def inspect(
    model: str | Path | ov.Model,
    *,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    **settings: Unpack[GivenSettings],
) -> Inspection:
    """List every layer: whether it would be quantized and if not why, or what it executes in if it is quantized."""
    job = prepare(model, None, flags=settings, sets=sets, config=config, need_float=False)
    quantized = job.loaded.quantized or job.loaded.weight_compressed
    everywhere = job.settings.target != "this-cpu"
    bare = listed(job.loaded, job.view, job.settings.ignore, exact_int8=job.exact_int8, everywhere=everywhere)
    executed, notes = {}, list[str]()
    if quantized:
        with left_out("What the layers execute in is not known, since OpenVINO can't compile the model", notes):
            executed = executed_in(job.loaded.model, job.view, bare)
            bare = as_executed(bare, executed)
    layers = layer_facts(job.view, bare, executed)
    facts = {"calib_version": __version__, "model": job.loaded.facts, "quantized": quantized}
    return Inspection(**facts, layers=layers, notes=notes + thread_notes(layers, executed))


def evaluate(
    model: str | Path | ov.Model,
    validation: Any,
    metric: Any = None,
    *,
    reference_model: str | Path | ov.Model | None = None,
    precision: str = "f32",
    isa: str | None = None,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    allow_python: bool | None = None,
    progress: Progress | bool | None = None,
    **settings: Unpack[GivenBesideMetric],
) -> Evaluation:
    """Measure a model, FP32 or INT8, with a metric.

    Args:
        model: Model as for ``quantize``; it may be quantized already.
        validation: Validation samples, as for ``quantize``.
        metric: Name of a metric, a Metric or a function.
        reference_model: Model to compare with, usually the FP32 one, for metrics without labels such as agreement;
            without it they are refused, since a model always agrees with itself.
        precision: Precision of the layers in floating point: f32, bf16, or default for the machine's own choice.
        isa: Instruction set to limit the CPU to, such as avx2; the model then runs in a child process.
        config: Path of a YAML or JSON file of settings.
        sets: Settings as ``"key=value"``.
        allow_python: Whether ``python:module:function`` may run, as for ``quantize``.
        progress: Receives the progress of each stage.
        settings: Settings by name.
    """
    if isa is not None:
        flags = {"reference_model": reference_model, "precision": precision, "allow_python": allow_python, **settings}
        return evaluate_as(isa, model, validation, metric, config=config, sets=sets, **flags)
    flags = {**settings, "metric": metric if metric is not None else settings.get("metric")}
    clock = Clock(progress)
    with clock("load") as stage:
        asked: dict[str, Any] = {"flags": flags, "sets": sets, "config": config, "allow_python": allow_python}
        job = prepare(model, None, need_float=False, **asked)
        against = None if reference_model is None else reference_job(reference_model, job, **asked)
        evaluator = open_evaluator(job, validation, against, against_itself=False)
        job = job.warned(doubts_about(data_to_measure_on(job, evaluator)))
        tell(clock, stage, job.warnings)
    with clock("evaluate"):
        return evaluated(job, evaluator, precision)
