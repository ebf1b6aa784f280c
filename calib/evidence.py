"""What a run proves: speed that was measured, the report, and that the written file does what it should."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib import __version__
from calib.corrections.judge import Judge, decibel, normalized_errors, output_names
from calib.corrections.recipes import Chosen
from calib.errors import ExecutionError, UsageError
from calib.job import Job
from calib.outcome import Evaluation, Report, SpeedFacts, StageFacts, Status
from calib.plan import QuantizationPlan
from calib.promise import Exam, Kept, precision_config
from calib.report.build import layer_facts, quantizer_facts
from calib.result import Result
from calib.runtime.isa import cpu
from calib.runtime.session import F32, Session, core, ov
from calib.runtime.timing import default_precision, speed_facts
from calib.stages import Built, Summaries, build, without

# INT8 against its own simulation in f32, on real samples: the arithmetic differs in the rounding of requantized sums
# only. Measured on nine networks: 21 to 60 dB, the deepest lowest. A kernel that does something else is below 5 dB.
SIMULATION_FLOOR_DB = 8.0
SIMULATED = {**F32, "LP_TRANSFORMS_MODE": "NO"}


@dataclass(frozen=True)
class Findings:
    """All that the report is made of.

    Attributes:
        built: None where the FP32 model is kept.
    """

    built: Built | None
    chosen: Chosen
    summaries: Summaries
    kept: Kept | None
    speed: SpeedFacts | None


def pay_off(job: Job, built: Built | None) -> tuple[Built | None, SpeedFacts | None]:
    """Time INT8, and, where a speed-up is required and missed, give back what does not pay.

    Depthwise layers are the ones that are slower in INT8 on their own; where giving them back is not enough, the
    FP32 model is kept.
    """
    if built is None:
        return None, None
    speed = _speed(job, built)
    wanted = job.settings.require_speedup
    if wanted is None or _gain(speed) >= wanted:
        return built, speed
    depthwise = [layer.name for layer in built.plan.layers if layer.depthwise]
    if depthwise and len(depthwise) < len(built.plan.layers):
        lighter = build(without(built.draft, depthwise, "INT8 did not pay: depthwise layers were given back"))
        faster = _speed(job, lighter)
        if _gain(faster) >= wanted:
            return lighter, faster
    return None, speed


def _speed(job: Job, built: Built) -> SpeedFacts:
    feeds = job.feeds(job.ids[:4])
    precision = job.settings.float_precision or "f32"
    return speed_facts(job.loaded.model, built.model, feeds, precision=precision, seconds=1.0)


def _gain(speed: SpeedFacts) -> float:
    """Return the speed-up over the faster of f32 and default FP32."""
    return min(speed.speedup_f32, speed.speedup_default)


def make_report(job: Job, found: Findings) -> Report:
    """Put everything that was found into the report."""
    built, kept = found.built, found.kept
    plan = built.plan if built else QuantizationPlan((), (), ())
    reverted = kept.result.reverted if kept and kept.result else frozenset()
    status, reason = _status(job, found)
    facts = layer_facts(job.view, built.plan, built.executed, reverted) if built else []
    return Report(
        calib_version=__version__,
        status=status,
        status_reason=reason,
        model=job.loaded.facts,
        environment=environment(job),
        settings=job.resolved.facts(),
        calibration=job.calibration.source if job.calibration else "",
        calibration_samples=len({*job.ids, *job.held}),
        layers=facts,
        quantizers=quantizer_facts(plan, found.summaries) if found.summaries else [],
        corrections=list(found.chosen.corrections),
        candidates=list(found.chosen.candidates),
        ranking=list(kept.ranking) if kept else [],
        search=list(kept.result.steps) if kept and kept.result else [],
        finalists=list(kept.result.finalists) if kept and kept.result else [],
        accuracy=kept.facts if kept else None,
        output_sqnr_db=_output_sqnr(job, built, found.chosen) if built and job.settings.effort != "fast" else {},
        speed=found.speed,
        warnings=[*job.warnings, *(kept.warnings if kept else ())],
    )


def _status(job: Job, found: Findings) -> tuple[Status, str]:
    result = found.kept.result if found.kept else None
    if found.built is None and (result is None or result.status != "fp32_kept"):
        wanted = job.settings.require_speedup
        return "fp32_kept", f"INT8 was not {wanted:g} times as fast as the faster of f32 and default FP32 here"
    if result is None or job.settings.max_drop is None:
        return "quantized", ""
    return result.status, result.reason


def environment(job: Job) -> dict[str, str]:
    """Describe what a figure depends on besides the settings."""
    return {
        "cpu": cpu().name,
        "openvino": ov.get_version(),
        "default_precision": default_precision(),
        "streams": str(job.streams),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _output_sqnr(job: Job, built: Built, chosen: Chosen) -> dict[str, float]:
    errors = chosen.errors
    if len(built.plan.layers) != len(chosen.draft.plan.layers) or not errors:  # layers were given back since
        errors = Judge(job.loaded.model, job.feeds(job.held[:8]), job.streams).errors(built.model)
    return {name: round(decibel({name: error}), 2) for name, error in errors.items()}


def finish(job: Job, built: Built | None, report: Report, stages: Sequence[StageFacts]) -> Result:
    """Return the result, with the check that its file will have to pass."""
    model = built.model if built else job.loaded.model
    plan = built.plan if built else QuantizationPlan((), (), ())
    feeds = job.feeds((job.held or job.ids)[:1])

    def verify(path: Path) -> None:
        check_written(path, model, feeds, report.model.name, quantized=built is not None)

    report = report.model_copy(update={"stages": list(stages)})
    return Result(model, report, plan, job.loaded.fp16_stored, job.loaded.path, verify)


def check_written(path: Path, model: ov.Model, feeds: Sequence[Any], name: str, *, quantized: bool) -> None:
    """Load a written model and compare it with the one in memory, and INT8 with its own simulation.

    Raises:
        ExecutionError: the file does something else, or INT8 execution is not what the quantizers say.
    """
    written = core().read_model(str(path), config={"ENABLE_MMAP": False})
    names = output_names(model)
    before, after = Session(model), Session(written)
    simulated = Session(written, SIMULATED) if quantized else None
    for feed in feeds:
        outputs = after(feed)
        moved = decibel(normalized_errors(names, [before(feed)], [outputs]))
        if moved < 40:  # half-precision storage of layers left in floating point is the only difference there may be
            raise ExecutionError(
                f"{name}: the written file differs from the model in memory ({moved:.1f} dB): it was not kept. "
                "Write to another disk, or report this with the model"
            )
        if simulated is not None:
            agreement = decibel(normalized_errors(names, [simulated(feed)], [outputs]))
            if agreement < SIMULATION_FLOOR_DB:
                raise ExecutionError(
                    f"{name}: INT8 execution differs from its simulation ({agreement:.1f} dB, at least "
                    f"{SIMULATION_FLOOR_DB:g} dB are expected): this CPU computes some layer wrongly. "
                    "Find it with `calib compare`, and leave it out with --ignore"
                )


def measured(job: Job, exam: Exam | None, precision: str) -> Evaluation:
    """Run one model over the validation dataset."""
    if exam is None:
        raise UsageError("evaluate needs a validation dataset or a metric")
    config: Mapping[str, Any] = {} if precision == "default" else precision_config(precision)
    parts = exam.run(exam.compiled(job.loaded.model, config), range(len(exam.ids)))
    value = float(exam.metric.aggregate(parts))
    scores = exam.metric.per_sample(parts)
    interval = None
    if scores is not None and len(scores) > 1:
        half = 1.96 * float(np.std(scores, ddof=1)) / len(scores) ** 0.5
        interval = (value - half, value + half)
    return Evaluation(
        calib_version=__version__,
        model=job.loaded.facts,
        validation=exam.dataset.source if exam.dataset else "",
        metric=exam.metric.name,
        higher_is_better=exam.metric.higher_is_better,
        unit=exam.metric.unit,
        value=value,
        interval=interval,
        interval_method="normal" if interval else "",
        samples=len(exam.ids),
        precision=default_precision() if precision == "default" else precision,
        reference=job.settings.reference,
    )
