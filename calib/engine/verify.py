"""Check the written file: it computes what the model in memory does, and INT8 what its quantizers say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from calib.corrections.candidate import LARGE, weights_in
from calib.corrections.recipes import Chosen
from calib.engine.accuracy_control import Controlled
from calib.engine.baseline import Baseline
from calib.engine.building import Int8Model, for_two_threads, median_db
from calib.engine.job import Job
from calib.engine.layer_errors import BEHIND, EXPOSED, Reproduction
from calib.engine.output_sqnr import scored
from calib.engine.result import Result
from calib.engine.speedup import Outcome
from calib.errors import ExecutionError
from calib.graph.comparable import compared_form
from calib.graph.insert import Edits
from calib.graph.layer_taps import behind_quantizers
from calib.graph.layers import LAYERS
from calib.graph.same import same
from calib.graph.taps import tapped_model
from calib.graph.view import GraphView
from calib.runtime.failures import FAILURES, left_out, said
from calib.runtime.isa import saturates
from calib.runtime.session import F32, SIMULATED, Session, ov, read_model
from calib.samples.feed import Arrays
from calib.samples.sample import Frames
from calib.values.compared import ComparedOutputs
from calib.values.facts import Report, StageFacts
from calib.values.pictures import Drawn
from calib.values.plan import QuantizationPlan

if TYPE_CHECKING:
    from calib.engine.miscomputed import Closeness

# INT8 against its own simulation in f32: the arithmetic differs where a rounding tips, which moves single samples and
# grows with depth. Measured on ten networks (MobileNets, ResNets, ViTs, EfficientNet-Lite0, text detection and
# recognition; 10 to 64 layers; min-max and auto; 12 samples each): medians of 29 to 143 dB; the worst single sample
# had 9.9 dB, a text that INT8 itself hardly reads. Another number in a scale or a wrong kernel moves every sample,
# to 0 dB or so: hence the median of a few samples, and a floor with 14 dB to spare.
SIMULATION_FLOOR_DB = 15.0
# INT8 that agrees so well with FP32 can't differ from its simulation as above: 5 dB more, since the simulation has an
# error of its own.
PROVEN_DB = SIMULATION_FLOOR_DB + 5
# A layer whose outputs agree less than this has another result, not another rounding.
LAYER_FLOOR_DB = 20.0
MISCOMPUTED = "this CPU computes a layer wrongly, and the model was not kept. Leave that layer out with --ignore"
SATURATED = (
    "sums of INT8 products saturate here, without VNNI, and the model was not kept. Quantize with --target cpu-no-vnni "
    "for CPUs like this one, or on a CPU with VNNI for those"
)


def as_simulated(job: Job, built: Int8Model, chosen: Chosen) -> tuple[Int8Model, Chosen]:
    """Return the model without the layers that this CPU executes otherwise than simulated, and what was chosen, scored.

    They are looked for only where INT8 and FP32, or two threads and one, agree so badly that there may be some. What
    can't be compared here is named by the report and by the check of the written file. A replay keeps its plan.
    """
    if job.replays or not (built.plan.layers and job.held):
        return built, chosen
    try:
        chosen, known = scored(job, built, chosen)
        if min(known, math.inf if built.threads_db is None else built.threads_db) < PROVEN_DB:
            from calib.engine.miscomputed import without_miscomputed  # here: few models agree so badly

            elsewhere = job.settings.target == "cpu" and saturates(built.plan)
            of_file, fp32 = job.compared[0], _fp32(job)
            built = without_miscomputed(built, job.few, of_file, SIMULATION_FLOOR_DB, fp32, half=elsewhere)
    except FAILURES as error:
        said(error)  # memory that ran out is raised
    if weights_in(built.candidate) > LARGE:  # what follows compiles other models, which need the memory
        built = replace(built, compiled=None)
        chosen = replace(chosen, scored=chosen.scored and replace(chosen.scored, compiled=None))
    return built, chosen


def make_result(
    job: Job, outcome: Outcome, baseline: Baseline | None, report: Report, stages: Sequence[StageFacts]
) -> Result:
    """Return the result with the check that its file has to pass, and what draws the samples that changed."""
    built = outcome.built
    model = built.model if built else job.loaded.model
    plan = built.plan if built else QuantizationPlan((), (), ())
    feeds = job.few()
    of_file, of_reference = job.compared

    expected, own = (built.model, of_file) if built else (job.reference, of_reference)
    known, name, fp32 = _known_db(built, report), report.model.name, _fp32(job)

    def verify(path: Path) -> list[str]:
        of = plan if built else None
        return check_written(path, expected, feeds, name, (own, of_file), of, fp32, known_db=known)

    report = report.model_copy(update={"stages": list(stages)})
    edits = built.candidate.edits if built else Edits()
    made = Result(model, report, plan, job.loaded.fp16_stored, job.loaded.path, verify, job.inputs, edits)
    return replace(made, draw=partial(_drawn, built, outcome.controlled, baseline))


def _drawn(built: Int8Model | None, controlled: Controlled | None, baseline: Baseline | None, folder: Path) -> Drawn:
    """Draw the samples that changed most into a folder, and count those that changed."""
    if built is None or controlled is None or baseline is None:
        return Drawn()
    from calib.engine.pictures import Measured, write_pictures  # here: few runs draw

    before, margins = dict(enumerate(baseline.parts)), baseline.margins
    evaluator = baseline.evaluator
    if margins is not None:
        evaluator, before = evaluator.with_margins(), {i: [part, margins[i]] for i, part in before.items()}
    measured = Measured(evaluator, built.model, controlled.facts.precision, before, controlled.parts)
    return write_pictures(measured, folder)


def _known_db(built: Int8Model | None, report: Report) -> float | None:
    """Return the least SQNR in dB of the INT8 model as it was run: against FP32, and with two threads against one."""
    measured = report.output_sqnr.parts.values() if report.output_sqnr else ()
    figures = [part.written_db for part in measured]
    return min([*figures, built.threads_db]) if built and figures and built.threads_db is not None else None


def check_written(
    path: Path,
    model: ov.Model,
    feeds: Sequence[Arrays | Frames],
    name: str,
    compared: tuple[ComparedOutputs, ComparedOutputs],
    plan: QuantizationPlan | None = None,
    fp32: Callable[[], list[list[NDArray[Any]]]] | None = None,
    *,
    known_db: float | None = None,
) -> list[str]:
    """Compare a written model with the one in memory, and INT8 execution with its simulation.

    Nothing is compiled if the two are the same node by node and INT8 was seen to agree with FP32, and two threads with
    one: then a kernel that computes something else would have been seen too.

    INT8 executes with one thread for an inference and with two, since small layers execute differently. All compare
    the median over the samples; the message names the first layer that differs.

    Args:
        path: Of the written model.
        model: What was written; for an FP32 model the one that was read.
        feeds: A few samples.
        name: Of the model, for messages.
        compared: What is compared of the model and of the written one.
        plan: What is quantized in it; None for an FP32 model, which has no simulation.
        fp32: Function that returns what is compared of the FP32 outputs on these samples, asked for where INT8 differs
            from its simulation: it may differ as much as either does from FP32. None to allow no such difference.
        known_db: Least SQNR in dB of the model in memory against FP32, and with two threads against one; None if they
            were not compared.

    Returns:
        Sentences for the report on what could not be compared.

    Raises:
        ExecutionError: The outputs differ.
    """
    written, warnings = read_model(path), list[str]()
    enough = plan is None or (known_db is not None and known_db >= PROVEN_DB)
    if enough and same(model, written):
        return warnings
    before, after = _values(model, F32, feeds, compared[0]), _values(written, F32, feeds, compared[1])
    moved = median_db(before, after)
    if moved < 40:  # half-precision storage of layers left in floating point is the only difference there may be
        raise ExecutionError(
            f"{name}: the written file differs from the model in memory ({moved:.1f} dB)"
            f"{_where(model, written, feeds)}: it was not kept. Write to another disk, or report this with the model"
        )
    if plan is None:
        return warnings
    expected, what, own = after, "its execution with one thread", compared[1]
    with left_out("INT8 execution was not compared with its simulation, which OpenVINO can't run", warnings):
        expected, what = _values(written, SIMULATED, feeds, own), "its simulation"
        seen = _agreement(expected, after, fp32)
        if not seen.holds:
            raise _differs(name, what, seen, _where(written, written, feeds, SIMULATED), plan)
    if two := for_two_threads(compared_form(written, own)):
        seen = _agreement(expected, [own.values(outputs) for outputs in Session.of(two).each(feeds)], fp32)
        if not seen.holds:
            raise _differs(f"{name}, run with two threads", what, seen, "", plan)
    return warnings


def _agreement(
    expected: list[list[NDArray[Any]]],
    executed: list[list[NDArray[Any]]],
    fp32: Callable[[], list[list[NDArray[Any]]]] | None,
) -> Closeness:
    """Return how an execution agrees with its simulation; FP32 is run only where that is not enough by itself."""
    from calib.engine.miscomputed import Closeness, least_agreement  # here: few models agree so badly with FP32

    found = median_db(expected, executed)
    if found >= SIMULATION_FLOOR_DB or fp32 is None:
        return Closeness(found, SIMULATION_FLOOR_DB)
    return Closeness(found, least_agreement(SIMULATION_FLOOR_DB, fp32(), expected))


def _differs(name: str, what: str, seen: Closeness, where: str, plan: QuantizationPlan) -> ExecutionError:
    return ExecutionError(
        f"{name}: INT8 execution differs from {what} ({seen.found:.1f} dB, at least {seen.least:.3g} dB are "
        f"expected){where}: " + (SATURATED if saturates(plan) else MISCOMPUTED)
    )


def _fp32(job: Job) -> Callable[[], list[list[NDArray[Any]]]]:
    """Return a function for what is compared of the FP32 outputs on the few samples that outputs are checked on."""
    return partial(_values, job.reference, F32, job.few(), job.compared[1])


def _values(
    model: ov.Model, config: Mapping[str, Any], feeds: Sequence[Arrays | Frames], compared: ComparedOutputs
) -> list[list[NDArray[Any]]]:
    """Return what is compared of the outputs on each sample."""
    return [compared.values(outputs) for outputs in _outputs(compared_form(model, compared), config, feeds)]


def _outputs(model: ov.Model, config: Mapping[str, Any], feeds: Sequence[Arrays | Frames]) -> list[list[NDArray[Any]]]:
    return list(Session(model, config).each(feeds))


def _where(model: ov.Model, other: ov.Model, feeds: Sequence[Arrays | Frames], config: Mapping[str, Any] = F32) -> str:
    """Return ", first at layer 'x'" for the first convolution or MatMul whose output differs; "" if none does.

    To compare them, each layer's output, or the end of what runs in one kernel with it, becomes an output of both
    models, which have to compute what they compute without.
    """
    models, configs = (model, other), (config, F32)
    view, types = GraphView(model), GraphView(other).types
    shared = (name for name, kind in view.types.items() if kind in LAYERS and name in types)
    layers = [name for name in shared if name not in view.inside]
    known = [*zip(*(_outputs(*side, feeds) for side in zip(models, configs, strict=True)), strict=True)]
    for form in (EXPOSED, BEHIND):
        ends = behind_quantizers(models, (layers, layers)) if form.behind else (layers, layers)
        try:
            tapped = [
                _outputs(tapped_model(side, end), config, feeds)
                for side, end, config in zip(models, ends, configs, strict=True)
            ]
        except FAILURES as error:
            return f" (at which layer was not found out: {said(error)})"
        own, reproduction = len(models[0].outputs), Reproduction()
        for pair, seen in zip(known, zip(*tapped, strict=True), strict=True):
            reproduction.add(pair, (seen[0][:own], seen[1][:own]))
        if not reproduction.holds:
            continue
        for position, layer in enumerate(layers, own):
            column = [[[outputs[position]] for outputs in side] for side in tapped]
            if median_db(column[0], column[1]) < LAYER_FLOOR_DB:
                return f", first at layer {layer!r}"
        return ""
    return ", at a layer that can't be told, since exposing the outputs of layers changes what is computed"
