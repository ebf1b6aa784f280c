"""Check the written file: it computes what the model in memory does, and INT8 what its quantizers say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.engine.building import Int8Model
from calib.engine.job import Job
from calib.engine.result import Result
from calib.errors import ExecutionError
from calib.graph.comparable import compared_form
from calib.graph.layers import LAYERS
from calib.graph.taps import tapped_model
from calib.graph.view import GraphView
from calib.runtime.isa import saturates
from calib.runtime.session import F32, SIMULATED, Session, ov, read_model
from calib.samples.feed import Arrays
from calib.values.compared import ComparedOutputs
from calib.values.facts import Report, StageFacts
from calib.values.plan import QuantizationPlan
from calib.values.sqnr import decibel, squared_error, usual_norms

# INT8 against its own simulation in f32: the arithmetic differs where a rounding tips, which moves single samples and
# grows with depth. Measured on ten networks (MobileNets, ResNets, ViTs, EfficientNet-Lite0, text detection and
# recognition; 10 to 64 layers; min-max and auto; 12 samples each): medians of 29 to 143 dB; the worst single sample
# had 9.9 dB, a text that INT8 itself hardly reads. Another number in a scale or a wrong kernel moves every sample,
# to 0 dB or so: hence the median of a few samples, and a floor with 14 dB to spare.
SIMULATION_FLOOR_DB = 15.0
# A layer whose outputs agree less than this has another result, not another rounding.
LAYER_FLOOR_DB = 20.0
MISCOMPUTED = "this CPU computes a layer wrongly, and the model was not kept. Leave that layer out with --ignore"
SATURATED = (
    "sums of INT8 products saturate here, without VNNI, and the model was not kept. Quantize with --target cpu-no-vnni "
    "for CPUs like this one, or on a CPU with VNNI for those"
)
CHECKED = 5  # samples that a written file is checked on


def make_result(job: Job, built: Int8Model | None, report: Report, stages: Sequence[StageFacts]) -> Result:
    """Return the result with the check that its file has to pass."""
    model = built.model if built else job.loaded.model
    plan = built.plan if built else QuantizationPlan((), (), ())
    feeds = job.feeds((job.held or job.ids)[:CHECKED])
    of_file, of_reference = job.compared

    def verify(path: Path) -> None:
        expected, own = (built.model, of_file) if built else (job.reference, of_reference)
        check_written(path, expected, feeds, report.model.name, (own, of_file), plan if built else None)

    report = report.model_copy(update={"stages": list(stages)})
    return Result(model, report, plan, job.loaded.fp16_stored, job.loaded.path, verify, job.inputs)


def check_written(
    path: Path,
    model: ov.Model,
    feeds: Sequence[Arrays],
    name: str,
    compared: tuple[ComparedOutputs, ComparedOutputs],
    plan: QuantizationPlan | None = None,
) -> None:
    """Compare a written model with the one in memory, and INT8 execution with its simulation.

    Both compare the median over the samples; the message names the first layer that differs.

    Args:
        path: Of the written model.
        model: What was written; for an FP32 model the one that was read.
        feeds: A few samples.
        name: Of the model, for messages.
        compared: What is compared of the model and of the written one.
        plan: What is quantized in it; None for an FP32 model, which has no simulation.

    Raises:
        ExecutionError: The outputs differ.
    """
    written = read_model(path)
    before, after = _values(model, F32, feeds, compared[0]), _values(written, F32, feeds, compared[1])
    moved = _median_db(before, after)
    if moved < 40:  # half-precision storage of layers left in floating point is the only difference there may be
        raise ExecutionError(
            f"{name}: the written file differs from the model in memory ({moved:.1f} dB)"
            f"{_where(model, written, feeds)}: it was not kept. Write to another disk, or report this with the model"
        )
    if plan is None:
        return
    agreement = _median_db(_values(written, SIMULATED, feeds, compared[1]), after)
    if agreement < SIMULATION_FLOOR_DB:
        raise ExecutionError(
            f"{name}: INT8 execution differs from its simulation ({agreement:.1f} dB, at least "
            f"{SIMULATION_FLOOR_DB:g} dB are expected){_where(written, written, feeds, SIMULATED)}: "
            + (SATURATED if saturates(plan) else MISCOMPUTED)
        )


def _values(
    model: ov.Model, config: Mapping[str, Any], feeds: Sequence[Arrays], compared: ComparedOutputs
) -> list[list[NDArray[Any]]]:
    """Return what is compared of the outputs on each sample."""
    return [compared.values(outputs) for outputs in _outputs(compared_form(model, compared), config, feeds)]


def _outputs(model: ov.Model, config: Mapping[str, Any], feeds: Sequence[Arrays]) -> list[list[NDArray[Any]]]:
    session = Session(model, config)
    return [session(feed) for feed in feeds]


def _median_db(before: Sequence[list[NDArray[Any]]], after: Sequence[list[NDArray[Any]]]) -> float:
    """Return the median over samples of the SQNR in dB between two lists of outputs, the mean of their errors.

    An output that is nearly empty in a sample counts relative to the other samples. One that is zero in all of them, or
    whose shape differs, does not count.
    """
    errors: list[NDArray[np.float64]] = []
    for position in range(len(before[0]) if before else 0):
        pairs = [(a[position], b[position]) for a, b in zip(before, after, strict=True)]
        if all(y.shape == y_q.shape for y, y_q in pairs):
            signal, noise = np.array([squared_error(y, y_q) for y, y_q in pairs]).T
            if signal.any():
                errors.append(noise / usual_norms(np.sqrt(signal)) ** 2)
    if not errors:
        return math.inf
    means = np.mean(errors, axis=0).tolist()
    return float(np.median([decibel(1.0, math.inf if math.isnan(error) else error) for error in means]))


def _where(model: ov.Model, other: ov.Model, feeds: Sequence[Arrays], config: Mapping[str, Any] = F32) -> str:
    """Return ", first at layer 'x'" for the first convolution or MatMul whose output differs; "" if none does.

    To compare them, each layer's output becomes a result of both models, so a few layers may run differently.
    """
    views = GraphView(model), GraphView(other)
    layers = [name for name, kind in views[0].types.items() if kind in LAYERS and name in views[1].types]
    tapped = _outputs(tapped_model(model, layers), config, feeds), _outputs(tapped_model(other, layers), F32, feeds)
    first = len(model.outputs)
    for position, layer in enumerate(layers, first):
        column = [[[outputs[position]] for outputs in side] for side in tapped]
        if _median_db(column[0], column[1]) < LAYER_FLOOR_DB:
            return f", first at layer {layer!r}"
    return ""
