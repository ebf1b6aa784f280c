"""Apply a plan from a file again: on the FP32 model that it was made for, without calibration data and byte for byte.

The rounded weights and the bias corrections are then those of the file beside the plan (`calib.values.plan_weights`).
For other weights, or without that file, the corrections are computed again, which needs calibration data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from calib.corrections.candidate import Candidate
from calib.corrections.recipes import Chosen, choose_corrections, recipe_of
from calib.corrections.scoring import Scorer
from calib.engine.correcting import rescaled
from calib.engine.evaluators import Evaluator, SampleEvaluator
from calib.engine.job import Job
from calib.engine.result import Result
from calib.errors import StatisticsError, UsageError
from calib.graph.ignored import Ignored
from calib.graph.insert import Edits
from calib.graph.layers import weights_of
from calib.values.plan import QuantizationPlan
from calib.values.plan_file import plan_to_json, read_plan
from calib.values.plan_weights import PlanWeights, plan_hash, read_weights, weights_path

# Validation samples that the written file is checked with and timed on, where there are no calibration samples.
SAMPLES = 8


@dataclass(frozen=True)
class Replay:
    """A plan to apply instead of making one.

    Attributes:
        plan: Plan, with ranges or without.
        weights: Rounded weights and biases that belong to it; None if they have to be computed.
        source: Path of the plan's file; "" for a plan that was given as a value.
        missing: Why there are no weights, as a clause; "" if there are some.
    """

    plan: QuantizationPlan
    weights: PlanWeights | None = None
    source: str = ""
    missing: str = ""


def open_replay(job: Job, plan: str | Path | QuantizationPlan | None) -> tuple[Job, Replay | None]:
    """Return the plan to apply, if there is one, with the weights beside its file if they are of this model.

    Weights that are missing, damaged, of another plan or of another model are left out, which a warning says.

    Args:
        job: Run, with calibration samples or without.
        plan: Plan as a file or a value; None for the one that the config file names.

    Raises:
        StatisticsError: The plan can't be read, or has no weights for this model and there are no calibration samples.
        UsageError: The plan quantizes a layer that the settings leave in floating point.
    """
    if plan is None and not job.resolved.inputs.plan:
        return job, None
    given = _read(job.resolved.inputs.plan if plan is None else plan)
    _require_unplanned(job, given)
    wrong = given.missing or next(_misfits(job, given), "")
    if not wrong:
        return replace(job, replays=True), given
    if job.calibration is None:
        raise StatisticsError(
            f"this replay needs calibration data, because {wrong}. Give --calibration DATA (calibration=…)"
        )
    given = replace(given, weights=None)
    if not given.source or not given.plan.has_ranges:
        return job, given
    said = f"Corrections were computed again from the calibration data, because {wrong}."
    return replace(job, warnings=(*job.warnings, said)), given


def _require_unplanned(job: Job, given: Replay) -> None:
    """Refuse what chooses layers against the plan, which is applied as it is: patterns to leave out, and the knee."""
    if job.settings.knee:
        raise UsageError("knee chooses layers, and a plan is applied as it is: leave out --knee or --plan")
    ignored = Ignored(job.view, job.settings.ignore)
    for layer in given.plan.layers:
        kind = job.view.types.get(layer.name)
        pattern = ignored(layer.name, kind) if kind is not None else ""
        if pattern:
            raise UsageError(
                f"ignore: {pattern!r} matches {layer.name!r}, which {given.source or 'the plan'} has in INT8, and a "
                "plan is applied as it is. Leave the pattern out, or make a new plan with it, from samples and "
                "without --plan"
            )


def _read(plan: str | Path | QuantizationPlan) -> Replay:
    """Read a plan and the weights beside its file, or say why there are none."""
    if isinstance(plan, QuantizationPlan):
        return Replay(plan, missing="a plan that is given as a value has no file of rounded weights beside it")
    found, path = Replay(read_plan(plan), source=str(plan)), weights_path(plan)
    if not found.plan.has_ranges:
        return replace(found, missing=f"{plan} has no ranges")
    if not path.exists():
        return replace(found, missing=f"there is no {path} with the rounded weights and bias corrections of {plan}")
    try:
        weights = read_weights(path)
    except StatisticsError as error:
        return replace(found, missing=str(error))
    if weights.plan != plan_hash(plan_to_json(found.plan)):
        return replace(found, missing=f"{path} belongs to another plan than {plan}, or the plan was edited")
    return replace(found, weights=weights)


def _misfits(job: Job, given: Replay) -> Iterator[str]:
    """Yield why the weights of a plan are not those of this model."""
    weights, facts = given.weights, job.loaded.facts
    assert weights is not None
    path = weights_path(given.source)
    if weights.fingerprint != facts.fingerprint:
        yield (
            f"{path} holds the weights of another FP32 model: the SHA-256 of that is {weights.fingerprint[:16]}…, and "
            f"that of {facts.name} is {facts.fingerprint[:16]}…"
        )
    if weights.preprocessing != tuple(facts.preprocessing):
        yield (
            f"{path} was made with other preprocessing in the model ({'; '.join(weights.preprocessing) or 'none'}); "
            "the job.yaml of that run, as --config, has its settings"
        )
    if job.calibration is None and weights.normalization != tuple(facts.normalization):
        yield (
            f"{path} was made of a model that loading changed otherwise, by another version or because samples showed "
            "that a change made a difference"
        )
    levels = {weight.port: weight for weight in given.plan.weights}
    for port, (values, scale) in weights.rounded.items():
        planned = levels.get(port)
        if planned is None or port.node not in job.view.nodes:
            yield f"{path} has weights for input {port.input} of {port.node!r}, which the plan does not quantize"
        elif values.shape != weights_of(job.view, port).shape or scale.shape != planned.scale_shape:
            yield f"{path} has weights of shape {values.shape} for {port.node!r}, which has others"
    layers = {layer.name for layer in given.plan.layers}
    for layer in weights.biases:
        if layer not in layers:
            yield f"{path} has a bias correction for {layer!r}, which the plan does not quantize"


def apply_plan(job: Job, given: Replay) -> Chosen:
    """Return the candidate of a plan with the weights that belong to it, or with corrections computed again."""
    if given.weights is None:
        return _recomputed(job, given.plan)
    base = rescaled(job, given.plan.scalings)
    edits = Edits(given.weights.rounded, given.weights.biases)
    return Chosen(Candidate(base.model, base.view, given.plan, edits))


def _recomputed(job: Job, plan: QuantizationPlan) -> Chosen:
    """Return the candidate of a plan from a file, with its corrections computed again for this model's weights."""
    base = rescaled(job, plan.scalings)
    candidate, wanted = Candidate(base.model, base.view, plan, Edits()), recipe_of(job.settings.effort)
    if not job.effort.held_out:
        return Chosen(candidate)
    samples = job.feeds(job.ids[: wanted.samples])
    scorer = Scorer(
        job.reference, job.feeds(job.held), job.streams_for(len(job.held)), job.outputs(job.held), job.compared
    )
    if not scorer.useful:
        return Chosen(candidate)
    return replace(choose_corrections(candidate, wanted, samples, scorer), held=job.held)


def with_samples(job: Job, evaluator: Evaluator | None) -> Job:
    """Return the job of a replay with a few validation samples to check and time its model on.

    Without any samples the file is not run, which a warning says.

    Raises:
        UsageError: A setting asks for a measurement that needs samples.
    """
    if not job.replays or job.calibration is not None:
        return job
    if isinstance(evaluator, SampleEvaluator):
        some = evaluator.ids[:SAMPLES]
        return replace(job, calibration=evaluator.dataset, ids=some, held=some)
    for key in ("require_speedup", "max_drop", "min_sqnr"):
        if getattr(job.settings, key) is not None:
            raise UsageError(f"{key} needs samples to measure with: give --validation DATA, or --calibration DATA")
    said = (
        "The model was compiled and not run, because no samples were given: neither its outputs nor its speed were "
        "measured. Give --validation DATA for that."
    )
    return replace(job, warnings=(*job.warnings, said))


def as_planned(result: Result, given: Replay | None) -> Result:
    """Return the result of a replay, which says in its report whether it is the model of the plan to the byte."""
    if given is None or given.weights is None:
        return result
    same = plan_hash(plan_to_json(result.plan)) == given.weights.plan
    said = (
        f"Nothing was calibrated: ranges, weights and bias corrections are those of {given.source} and of "
        f"{weights_path(given.source).name} beside it, which were made for exactly this FP32 model."
    )
    if not same:
        said += " Other layers are in INT8 than in that plan, so the files are not the same to the byte."
    report = result.report.model_copy(update={"warnings": [said, *result.report.warnings]})
    if not given.plan.layers:
        why = "The plan has no layer in INT8, because the run that made it kept the FP32 model."
        report = report.model_copy(update={"status_reason": why})
    return replace(result, report=report, rt_info=given.weights.rt_info if same else None)
