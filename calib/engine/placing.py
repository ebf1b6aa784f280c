"""Find the layers and place quantizers, or check that a plan from a file fits the model."""

from __future__ import annotations

from math import prod

import numpy as np

from calib.config.cost import Cost, Work, expected_cost
from calib.config.efforts import EFFORTS
from calib.engine.job import CalibrationFeeds, Job
from calib.engine.reference import check_reference
from calib.errors import ModelError, StatisticsError
from calib.graph.layers import weights_of
from calib.graph.operations import MEASURED
from calib.graph.placement import planned
from calib.values.plan import FULL_RANGE, HALF_RANGE, QuantizationPlan


def place_checked(job: Job, given: QuantizationPlan | None = None) -> tuple[Job, QuantizationPlan]:
    """Return the job whose model was compared with the file, and a plan for that model.

    A model without anything to quantize is refused before the first inference.

    Args:
        job: Run with its model and samples.
        given: Plan read from a file; None to make one.
    """
    placed = place_quantizers(job) if given is None else None
    checked = check_reference(job.with_first_run())
    if given is not None:
        return checked, check_plan(checked, given)
    return checked, placed if placed and checked.view is job.view else place_quantizers(checked)


def place_quantizers(job: Job) -> QuantizationPlan:
    """Find the layers and place quantizers; ranges are still missing.

    Raises:
        ModelError: There is nothing to quantize, or weights are not finite; the message says why. Recurrent layers
            are in the plan as left out, since their error decides later.
    """
    exact, everywhere = job.exact_int8, job.settings.target != "this-cpu"
    levels = FULL_RANGE if exact else HALF_RANGE
    plan = planned(job.view, job.settings.ignore, exact_int8=exact, everywhere=everywhere, weight_levels=levels)
    if not everywhere:
        from calib.engine.proving import without_wrong  # here: it compiles models, and only this target asks for it

        plan = without_wrong(job.loaded.model, job.view, plan)
    if not plan.layers and not any(one.reason == MEASURED for one in plan.skipped):
        raise nothing_to_quantize(job, plan)
    _require_finite_weights(job, plan)
    return plan


def nothing_to_quantize(job: Job, plan: QuantizationPlan) -> ModelError:
    """Return the error of a model in which every layer stays in floating point, with the first reasons."""
    reasons = "; ".join(f"{s.name} ({s.type}): {s.reason}" for s in plan.skipped[:5])
    more = f" and {len(plan.skipped) - 5} more" if len(plan.skipped) > 5 else ""
    return ModelError(
        f"{job.loaded.facts.name}: there is nothing to quantize. "
        + (f"Left in floating point: {reasons}{more}" if reasons else "It holds no convolution and no MatMul")
    )


def _require_finite_weights(job: Job, plan: QuantizationPlan) -> None:
    """Refuse weights that are not finite: they have no scale, and would be written as zeros."""
    for weight in plan.weights:
        values = weights_of(job.view, weight.port)
        finite = np.isfinite(values)
        if not finite.all():
            raise ModelError(
                f"{job.loaded.facts.name}: the weights of layer {weight.port.node!r} are not finite "
                f"({int(values.size - finite.sum())} of {values.size}, the first is {values[~finite][0]}). "
                "Export or train the model again"
            )


def check_plan(job: Job, plan: QuantizationPlan) -> QuantizationPlan:
    """Return a plan read from a file if it fits the model.

    Raises:
        StatisticsError: The plan names a node or a port that the model does not have.
        ModelError: Weights are not finite.
    """
    bare = plan.rescaled(())
    wanted = [layer.name for layer in plan.layers] + [q.tensor.node for q in bare.activations]
    missing = [name for name in wanted if name not in job.view.nodes]
    if missing:
        raise StatisticsError(f"the plan names {missing[0]!r}, which {job.loaded.facts.name} does not have: "
                              "it was made for another model")  # fmt: skip
    _require_ports(job, bare)
    _require_finite_weights(job, plan)
    return plan


def _require_ports(job: Job, plan: QuantizationPlan) -> None:
    """Refuse a plan whose layers have the same names in this model but other inputs."""
    view = job.view
    wanted = [(port, q.tensor) for q in plan.activations for port in sorted(q.consumers)]
    wanted += [(w.port, None) for w in plan.weights]
    wanted += [(route.layer, None) for q in plan.activations for route in sorted(q.routes)]
    for port, tensor in wanted:
        inputs = view.inputs.get(port.node, ())
        there = 0 <= port.input < len(inputs) and (tensor is None or inputs[port.input] == tensor)
        if not there:
            what = f"reads {tensor}" if tensor else "is there"
            raise StatisticsError(f"the plan says that input {port.input} of {port.node!r} {what}, which is not so in "
                                  f"{job.loaded.facts.name}: it was made for another model")  # fmt: skip
    for weight in plan.weights:
        if not view.is_constant(view.tensor(weight.port)):
            raise StatisticsError(f"the plan quantizes weights of {weight.port.node!r}, whose input "
                                  f"{weight.port.input} is no constant in {job.loaded.facts.name}")  # fmt: skip


def work_of(job: Job, plan: QuantizationPlan, validation: int = 0) -> Work | None:
    """Return what the cost of a run follows from; None without calibration samples, of which the first have run.

    Args:
        job: Run whose first samples have run, see :mod:`calib.engine.first_run`.
        plan: Plan without ranges.
        validation: Number of validation samples; 0 for none.
    """
    if job.first is None:
        return None
    sizes = (job.view.shape(job.view.tensor(weight.port)) or () for weight in plan.weights)
    return Work(
        job.first.compiling,
        job.first.inference,
        len(plan.layers),
        sum(prod(size or 1 for size in shape) for shape in sizes),
        len(CalibrationFeeds(job)),
        validation,
        reverts=job.settings.has_budget,
        saturates=job.chooses_levels,
        timed=job.settings.measures_speed,
        optimize_speed=job.settings.optimize_speed,
    )


def costs_of(job: Job, plan: QuantizationPlan, validation: int = 0) -> dict[str, Cost]:
    """Return effort → expected CPU seconds by stage, that of the job first; empty without calibration samples."""
    work = work_of(job, plan, validation)
    efforts = sorted(EFFORTS, key=lambda name: name != job.settings.effort)
    return {} if work is None or job.replays else {name: expected_cost(work, name) for name in efforts}
