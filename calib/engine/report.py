"""Make the report of a run: what was found and what became of each layer and why."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calib.corrections.bias_correction import bias_fact
from calib.corrections.candidate import Candidate
from calib.corrections.recipes import Chosen
from calib.engine.accuracy_control import Controlled
from calib.engine.baseline import Baseline
from calib.engine.building import Int8Model, executed_in
from calib.engine.checks import Evidence, suspicions
from calib.engine.job import Job
from calib.engine.layer_errors import known_outputs, layer_sqnr
from calib.engine.layer_facts import layer_facts, other_cpus, quantizer_facts, recurrent_notes, thread_notes
from calib.engine.output_sqnr import output_sqnr, stated
from calib.engine.precisions import one_precision
from calib.engine.reference import outputs_of
from calib.engine.speedup import Outcome
from calib.graph.flow import flow_of
from calib.graph.layers import weights_of
from calib.graph.view import GraphView
from calib.ranges.affine import dequantized, quantize_weights
from calib.runtime.executed import Ran
from calib.runtime.failures import left_out
from calib.runtime.isa import SATURATION, cpu, saturates
from calib.runtime.session import Session, default_precision, ov, precision_config
from calib.runtime.timing import Speed
from calib.values.accuracy_facts import AccuracyFacts, KneeFacts
from calib.values.facts import CorrectionFacts, JoinFacts, LayerFacts, Report, Status
from calib.values.plan import QuantizationPlan
from calib.values.sqnr import decibel
from calib.values.summary import Summaries
from calib.values.version import __version__

if TYPE_CHECKING:
    from calib.engine.knee import Knee

LOOKED_AT = 2  # samples that the SQNR of each layer is taken from: thousands of values of most layers


@dataclass(frozen=True)
class Findings:
    """Everything the report is made from.

    Attributes:
        chosen: Candidate that was chosen, and those it was chosen from.
        summaries: Statistics of every quantized tensor.
        outcome: Model that is kept, with its accuracy and speed.
        baseline: Accuracy of FP32, with what measured it; None if nothing did.
        knee: What the return of layers is expected to bring; None if they were not ranked for it.
    """

    chosen: Chosen
    summaries: Summaries
    outcome: Outcome
    baseline: Baseline | None = None
    knee: Knee | None = None


def make_report(job: Job, found: Findings) -> Report:
    """Make the report from everything that was found."""
    built, controlled = found.outcome.built, found.outcome.controlled
    plan = built.plan if built else QuantizationPlan((), (), ())
    status, reason = _status(job, found)
    doubts: list[str] = []
    executed = _executed(job, built, doubts)
    layers, joins = _followed(job.view, _layers(job, found, executed, doubts))
    measured = output_sqnr(job, built, found.chosen, found.summaries, doubts) if built and job.held else None
    sqnr = stated(measured)
    return Report(
        calib_version=__version__,
        status=status,
        status_reason=reason,
        model=job.loaded.facts,
        environment=environment(job),
        settings=job.resolved.facts(),
        calibration=job.calibration.source if job.calibration and not job.replays else "",
        calibration_samples=0 if job.replays else len({*job.ids, *job.held}),
        validation=found.baseline.evaluator.source if found.baseline else "",
        layers=layers,
        joins=joins,
        quantizers=quantizer_facts(plan, found.summaries) if found.summaries else [],
        corrections=_corrections(found.chosen, built),
        candidates=list(found.chosen.candidates),
        ranking=list(found.knee.ranking if found.knee else controlled.ranking if controlled else ()),
        knee=_knee(job, found),
        search=list(controlled.result.steps) if controlled and controlled.result else [],
        finalists=list(controlled.result.finalists) if controlled and controlled.result else [],
        accuracy=_accuracy(found.outcome),
        output_sqnr_db=sqnr,
        output_sqnr=measured,
        speed=found.outcome.speed.facts if found.outcome.speed else None,
        warnings=[
            *job.remarks,
            *suspicions(Evidence(job, found.chosen.candidate, found.summaries, sqnr)),
            *job.compared[0].notes,
            *(_not_scored(job, sqnr) if measured else ()),
            *found.chosen.warnings,
            *(controlled.warnings if controlled else ()),
            *(found.knee.warnings if found.knee else ()),
            *([found.outcome.reason] if built and found.outcome.reason else []),
            *found.outcome.warnings,
            *doubts,
            *(thread_notes(layers, executed) if built else ()),
            *recurrent_notes(layers),
            *other_cpus(job.view, plan),
            *([SATURATION] if saturates(plan) and not job.chooses_levels else []),
        ],
    )


def _knee(job: Job, found: Findings) -> KneeFacts | None:
    """Return SQNR against work in floating point; None where layers were not ranked, or nothing was scored."""
    speed, controlled = found.outcome.speed, found.outcome.controlled
    if found.knee is None and not (controlled and controlled.ranking):
        return None
    from calib.engine.knee import knee_facts, knee_in  # here: few runs rank layers

    known = found.knee or knee_in(job.of_sample, found.chosen, controlled.ranking if controlled else ())
    return knee_facts(known, speed.facts if speed else None) if known and known.curve else None


def _not_scored(job: Job, output_sqnr_db: Mapping[str, float]) -> Iterator[str]:
    """Yield a sentence for outputs that no score counts, since there is nothing to take their error relative to."""
    missing = [name for name in job.compared[0].names if name not in output_sqnr_db]
    if missing and (overflown := _overflown(job)):
        yield (
            f"The FP32 model itself gives NaN or infinity in {', '.join(map(repr, overflown))} on the first samples, "
            "so its error can't be told. Look for weights or inputs that are too large for f32, or for missing "
            "preprocessing (mean, scale)"
        )
    elif missing:
        yield (
            f"of {', '.join(map(repr, missing))} there is no SQNR, and no score of a recipe counts it: it is all zero "
            "in FP32 on the held-out samples, or has another shape in INT8. Calibrate with samples on which it is not "
            "empty"
        )


def _overflown(job: Job) -> list[str]:
    """Return the outputs of FP32 that hold values which are not finite, on the first samples."""
    found: dict[str, None] = {}
    for outputs in outputs_of(job.reference, job.few()):
        named = zip(job.loaded.facts.outputs, outputs, strict=False)
        found |= dict.fromkeys(facts.name for facts, values in named if not np.isfinite(values).all())
    return list(found)


def _accuracy(outcome: Outcome) -> AccuracyFacts | None:
    """Return the accuracy of the model that is written; for FP32 also the drop of the rejected INT8 model."""
    if outcome.controlled is None or outcome.built is not None:
        return outcome.controlled.facts if outcome.controlled else None
    facts = outcome.controlled.facts
    own = {"quantized": facts.baseline, "drop": 0.0, "interval": None, "interval_method": ""}
    own |= {"interval_note": "", "note": ""}
    given_up = facts.drop if outcome.refused is not None and outcome.refused.plan.layers else None
    reduced = facts.other_precision if facts.precision == "f32" else facts.precision
    other = {"precision": "f32", "other_precision": reduced, "other_drop": facts.fp32_drop}  # of FP32 itself
    return facts.model_copy(update={**own, **other, "given_up_drop": given_up})


def _corrections(chosen: Chosen, built: Int8Model | None) -> list[CorrectionFacts]:
    """Return what the corrections did; those that the final model no longer has are marked as not kept."""
    facts, gone = list(chosen.corrections), frozenset[str]()
    if built:
        left = {layer.name for layer in built.plan.layers}
        gone = frozenset(layer.name for layer in chosen.candidate.plan.layers) - left
        read = {quantizer.tensor for quantizer in built.plan.activations}
        gone |= {str(s.tensor) for s in built.plan.scalings if s.ports and s.scaled not in read}
        if built.candidate.refit and gone:
            facts = [_refitted(fact, built.candidate) for fact in facts]
    for number, fact in enumerate(facts):
        if fact.kept and (built is None or fact.layer in gone):
            why = "the layer is in floating point in the end" if built else "the FP32 model was kept"
            facts[number] = fact.model_copy(update={"kept": False, "detail": f"{fact.detail}; {why}"})
    return facts


def _refitted(fact: CorrectionFacts, candidate: Candidate) -> CorrectionFacts:
    """Return the fact of a bias that was measured again or dropped when layers were reverted."""
    if fact.correction == "sequential bias":
        detail = f"{fact.detail}; found again without the layers in floating point, or dropped where that scored higher"
        return fact.model_copy(update={"detail": detail})
    if fact.correction != "bias" or fact.layer not in {layer.name for layer in candidate.plan.layers}:
        return fact
    if fact.layer in candidate.edits.biases:
        return bias_fact(fact.layer, candidate.edits.biases[fact.layer])
    detail = f"{fact.detail}; without it the error was lower once other layers were in floating point"
    return fact.model_copy(update={"kept": False, "detail": detail})


def _executed(job: Job, built: Int8Model | None, warnings: list[str]) -> Mapping[str, Ran]:
    """Return what each layer executes as where the model will run.

    Models are looked up in f32 while they are made, so in another precision they are looked up once more: layers in
    floating point execute in that.
    """
    if built is None or job.precision == "f32":
        return built.executed if built else {}
    with left_out(
        f"What the layers execute as is that in f32, since OpenVINO can't run it in {job.precision}", warnings
    ):
        return executed_in(built.model, built.candidate.view, built.plan, precision_config(job.precision))
    return built.executed


def _followed(view: GraphView, layers: list[LayerFacts]) -> tuple[list[LayerFacts], list[JoinFacts]]:
    """Return the layers with what each follows, and the operations where several meet."""
    flow = flow_of(view, [layer.name for layer in layers])
    follows = [list(places) for places in flow.follows]
    joins = zip(flow.joins, follows[len(layers) :], strict=True)
    return (
        [layer.model_copy(update={"follows": places}) for layer, places in zip(layers, follows, strict=False)],
        [JoinFacts(name=name, type=view.types[name], follows=places) for name, places in joins],
    )


def _layers(job: Job, found: Findings, executed: Mapping[str, Ran], warnings: list[str]) -> list[LayerFacts]:
    """Return what became of every layer, with its time and, if the effort reports it, its SQNR.

    What OpenVINO can't give, and figures that are from another form of the model, are added to the warnings.

    If the FP32 model is kept, times and SQNR are those of the rejected INT8 model.
    """
    built, controlled, speed = found.outcome.built, found.outcome.controlled, found.outcome.speed
    measured_model = built or found.outcome.refused
    plan = measured_model.plan if measured_model else found.chosen.candidate.plan
    reverted = controlled.result.reverted if built and controlled and controlled.result else frozenset[str]()
    if built is None:
        plan = plan.without([layer.name for layer in plan.layers], "the FP32 model was kept")
    facts = layer_facts(job.view, plan, executed, _why_reverted(reverted, controlled), job.of_sample)
    if measured_model is not None:
        rounding = weight_sqnr(measured_model.candidate)
        facts = [fact.model_copy(update={"weight_sqnr_db": rounding.get(fact.name)}) for fact in facts]
    if speed is None or measured_model is None:
        return facts
    sqnr: Mapping[str, float] = {}
    if job.effort.reports_layer_sqnr:
        with left_out("The SQNR of the layers was left out, since OpenVINO can't run what shows it", warnings):
            sqnr, notes = _layer_sqnr(job, measured_model)
            warnings += notes
    return [_measured_layer(fact, speed, sqnr) for fact in facts]


def _layer_sqnr(job: Job, model: Int8Model) -> tuple[dict[str, float], list[str]]:
    """Return layer → SQNR, and sentences on how it was taken."""
    ids = (job.held or job.ids)[:LOOKED_AT]
    feeds, count = job.feeds(ids), len(job.reference.outputs)
    before = [outputs[:count] for outputs in job.outputs(ids) or ()]
    compiled = model.compiled
    plain = compiled is not None and len(compiled.outputs) == len(model.model.outputs)  # no tensors for scores added
    int8 = Session.of(compiled) if compiled is not None and plain else Session(model.model)
    known = known_outputs(before or Session(job.reference).each(feeds), int8.each(feeds))
    return layer_sqnr(job.loaded.model, job.view, model.model, feeds, known)


def weight_sqnr(candidate: Candidate) -> dict[str, float]:
    """Return layer → SQNR in dB of its INT8 weights against the equalized weights they are rounded from."""
    found: dict[str, float] = {}
    for weight in candidate.plan.weights:
        exact = weights_of(candidate.view, weight.port)
        integers, scale = candidate.edits.rounded.get(weight.port) or quantize_weights(
            exact, weight.scale_shape, weight.levels, weight.clip
        )
        error = exact - dequantized(integers, scale)
        signal, noise = float(np.vdot(exact, exact)), float(np.vdot(error, error))
        if math.isfinite(signal):
            found[weight.port.node] = round(decibel(signal, noise), 2)
    return found


def _why_reverted(reverted: Iterable[str], controlled: Controlled | None) -> dict[str, str]:
    """Return reverted layer → reason, with its place in the ranking."""
    ranking = sorted(controlled.ranking, key=lambda fact: -fact.sensitivity) if controlled else []
    places = {name: (place, fact) for place, fact in enumerate(ranking, 1) for name in fact.layers}
    reasons: dict[str, str] = {}
    for name in reverted:
        reasons[name] = "reverted to keep the accuracy budget"
        if name in places:
            place, fact = places[name]
            reasons[name] += (
                f": place {place} of {len(ranking)} by the sensitivity to quantizing it alone, {fact.sensitivity:.2g}"
            )
    return reasons


def _measured_layer(fact: LayerFacts, speed: Speed, sqnr: Mapping[str, float]) -> LayerFacts:
    error = sqnr.get(fact.name, math.nan)
    return fact.model_copy(
        update={
            "sqnr_db": None if math.isnan(error) else round(error, 3),
            "time_fp32_ms": speed.f32_ms.get(fact.name),
            "time_default_ms": speed.default_ms.get(fact.name) if speed.facts.default_precision != "f32" else None,
            "time_int8_ms": speed.int8_ms.get(fact.name),
        }
    )


def _status(job: Job, found: Findings) -> tuple[Status, str]:
    outcome = found.outcome
    result = outcome.controlled.result if outcome.controlled else None
    if outcome.refused is not None:
        return "fp32_kept", outcome.reason
    if result is None or not job.settings.has_budget:
        return "quantized", ""
    if outcome.controlled is not None and (
        one := one_precision(outcome.controlled.facts, result.stopped, job.precision)
    ):
        return one
    if result.status != "within_budget" or outcome.built is None:
        return result.status, result.reason
    status, useless = _of_little_use(job, found, outcome.built)
    return status, " ".join([result.reason, *useless])


def _of_little_use(job: Job, found: Findings, built: Int8Model) -> tuple[Status, list[str]]:
    """Return what a model that keeps its budget is called, with the sentence that says what to change.

    Slower is only said where the interval of the measured speed-up says so: on a noisy machine it is wide.
    """
    everything, controlled = len(found.chosen.candidate.plan.layers), found.outcome.controlled
    reverted = len(controlled.result.reverted) if controlled and controlled.result else 0
    effort = "" if job.settings.effort == "thorough" else "--effort thorough, "
    wider = "a larger --max-drop" if job.settings.min_sqnr is None else "a smaller --min-sqnr"
    if 2 * reverted > everything:
        return "mostly_float", [
            f"Only {len(built.plan.layers)} of {everything} layers stay in INT8. For more of them, try "
            f"{effort}{wider}, or a --metric that does not count differences that do not matter."
        ]
    speed = found.outcome.speed.facts if found.outcome.speed else None
    if speed is None:
        return "within_budget", []
    rivals = (("f32", speed.interval_f32), (speed.default_precision, speed.interval_default))
    times = (speed.latency_f32_ms, speed.latency_default_ms)
    slower = [
        f"{name} {ms:.3g} ms"
        for (name, interval), ms in zip(rivals, times, strict=True)
        if interval is not None and interval[1] < 1
    ]
    if not slower:
        return "within_budget", []
    fewer = f"try {wider}, which reverts fewer layers, or " if reverted else "try "
    return "slower", [
        f"INT8 takes {speed.latency_int8_ms:.3g} ms, FP32 in {slower[-1]}: stay with FP32, {fewer}"
        "--require-speedup 1, which reverts the layers that are slower."
    ]


def environment(job: Job) -> dict[str, str]:
    """Describe the machine and the versions that figures depend on."""
    return {
        "cpu": cpu().name,
        "openvino": ov.get_version(),
        "default_precision": default_precision(),
        "streams": str(job.streams),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
