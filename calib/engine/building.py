"""The steps of the pipeline that join several packages: what ``pipeline.py`` calls in one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.corrections import tried
from calib.corrections.candidate import Candidate
from calib.corrections.equalization import equalize, rescale
from calib.corrections.recipes import RECIPES, Chosen, Recipe, choose_corrections, choose_recipe
from calib.corrections.scoring import Scored, Scorer
from calib.engine.job import CalibrationFeeds, Job
from calib.errors import ExecutionError, ModelError, StatisticsError
from calib.graph.finder import find
from calib.graph.insert import INT8_WEIGHTS, Edits
from calib.graph.layers import reader_energies, weights_of
from calib.graph.operations import LAYERS
from calib.graph.placement import place
from calib.graph.taps import Need
from calib.graph.view import GraphView
from calib.progress import Stage
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.executed import Executed, executed_layers
from calib.runtime.session import compile_model, ov
from calib.statistics.collect import collect
from calib.statistics.store import load_summaries, save_summaries
from calib.values.facts import CorrectionFacts
from calib.values.plan import QuantizationPlan, Scaling, TensorId
from calib.values.summary import TensorSummary

Summaries = Mapping[TensorId, TensorSummary]


def make_plan(job: Job) -> QuantizationPlan:
    """Find the layers and place quantizers; ranges are still missing.

    Raises:
        ModelError: there is nothing to quantize, with the reasons, or weights are not finite.
    """
    levels = 127 if job.settings.target == "cpu-no-vnni" else 255
    plan = place(job.view, find(job.view, job.settings.ignore), weight_levels=levels)
    if not plan.layers:
        reasons = "; ".join(f"{s.name} ({s.type}): {s.reason}" for s in plan.skipped[:5])
        more = f" and {len(plan.skipped) - 5} more" if len(plan.skipped) > 5 else ""
        raise ModelError(
            f"{job.loaded.facts.name}: there is nothing to quantize. "
            + (f"Left in floating point: {reasons}{more}" if reasons else "It holds no convolution and no MatMul")
        )
    _require_finite_weights(job, plan)
    return plan


def _require_finite_weights(job: Job, plan: QuantizationPlan) -> None:
    """Refuse weights that no scale can be found for, rather than write zeros in their place."""
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
        StatisticsError: it names a node or a port that the model does not have.
        ModelError: weights are not finite.
    """
    wanted = [layer.name for layer in plan.layers] + [q.tensor.node for q in plan.activations]
    missing = [name for name in wanted if name not in job.view.nodes]
    if missing:
        raise StatisticsError(f"the plan names {missing[0]!r}, which {job.loaded.facts.name} does not have: "
                              "it was made for another model")  # fmt: skip
    _require_ports(job, plan)
    _require_finite_weights(job, plan)
    return plan


def _require_ports(job: Job, plan: QuantizationPlan) -> None:
    """Refuse a plan whose quantizers sit elsewhere in this model: its layers have the same names and other inputs."""
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


@dataclass(frozen=True)
class Base:
    """The floating-point network that is quantized: as it came, or equalized.

    Attributes:
        outputs: of the network as it came on the held-out samples, where they are known already.
    """

    model: ov.Model
    view: GraphView
    scalings: tuple[Scaling, ...] = ()
    facts: tuple[CorrectionFacts, ...] = ()
    outputs: Sequence[list[NDArray[Any]]] | None = None


def equalized(job: Job, plan: QuantizationPlan) -> Base:
    """Rescale channels where that lowers the expected error; the function stays the same."""
    if not tried("equalization", job.settings.effort):
        return Base(job.loaded.model, job.view)
    samples, held = job.feeds(job.ids[:16]), job.feeds(job.held)
    found = equalize(job.loaded.model, job.view, plan, samples, held, job.streams)
    return replace(_rescaled(job, found.scalings), facts=found.facts, outputs=found.outputs)


def _rescaled(job: Job, scalings: tuple[Scaling, ...]) -> Base:
    model = rescale(job.loaded.model, job.view, scalings)
    return Base(model, GraphView(model) if scalings else job.view, scalings)


def recipe(job: Job) -> Recipe:
    """Return what to try: what the effort does, with the estimator asked for in place of several."""
    asked, usual = job.settings.estimator, RECIPES[job.settings.effort]
    return usual if asked == "auto" and usual.estimators else replace(usual, estimators=(asked,), more=())


def gather(job: Job, base: Base, plan: QuantizationPlan, stage: Stage, file: str | Path | None = None) -> Summaries:
    """Collect the statistics of every quantized tensor in one pass, or read them from a file made by such a pass.

    Raises:
        ModelError: a quantized tensor was empty in every sample.
        StatisticsError: the file belongs to another model or other settings.
    """
    wanted = recipe(job)
    estimators = [get_estimator(name) for name in (*wanted.estimators, *wanted.more)]
    # What goes to a file serves every estimator.
    histogram = file is not None or any(estimator.needs_histogram for estimator in estimators)
    channels = file is not None or any(getattr(estimator, "needs_channels", False) for estimator in estimators)
    energies = reader_energies(base.view, plan) if channels else {}
    needs = {q.tensor: Need(histogram, q.per_channel) for q in plan.activations}
    needs |= {tensor: Need(histogram, True, channel_axis=axis) for tensor, (axis, _) in energies.items()}
    asked = sorted((str(tensor), need.histogram, need.channels) for tensor, need in needs.items())
    mark = job.statistics_mark(asked, [(str(s.tensor), s.factors) for s in base.scalings])
    if file is not None and Path(file).exists():
        return _with_energies(load_summaries(file, mark), energies)
    summaries = collect(
        base.model, needs, CalibrationFeeds(job), streams=job.streams, progress=lambda _: stage.update(1)
    )
    empty = [str(tensor) for tensor in needs if tensor not in summaries]
    if empty:
        raise ModelError(f"tensor {empty[0]} had no values in any calibration sample; use samples that reach it")
    if file is not None:
        save_summaries(file, summaries, mark)
    return _with_energies(summaries, energies)


def _with_energies(summaries: Summaries, energies: Mapping[TensorId, tuple[int, NDArray[np.float64]]]) -> Summaries:
    return {t: replace(s, channel_energy=energies[t][1]) if t in energies else s for t, s in summaries.items()}


def correct(job: Job, base: Base, plan: QuantizationPlan, summaries: Summaries, told: Callable[[str], None]) -> Chosen:
    """Choose ranges and corrections by what they do to the network's output on held-out samples."""
    plan, wanted = replace(plan, scalings=base.scalings), recipe(job)
    scorer = None
    if tried("range choice", job.settings.effort):
        scorer = Scorer(job.loaded.model, job.feeds(job.held), job.streams, base.outputs)
    if scorer is None or not scorer.useful:
        estimator = get_estimator(job.settings.estimator)
        return Chosen(Candidate(base.model, base.view, assign(plan, summaries, estimator), Edits()))
    candidate, samples = Candidate(base.model, base.view, plan, Edits()), job.feeds(job.ids[: wanted.samples])
    chosen = choose_recipe(candidate, summaries, wanted, samples, scorer, streams=job.streams, told=told)
    return replace(chosen, corrections=(*base.facts, *chosen.corrections))


def replayed(job: Job, plan: QuantizationPlan) -> Chosen:
    """Return a plan from a file with its corrections computed anew for this model's weights."""
    base = _rescaled(job, plan.scalings)
    candidate, wanted = Candidate(base.model, base.view, plan, Edits()), RECIPES[job.settings.effort]
    if not tried("rounding", job.settings.effort):
        return Chosen(candidate)
    samples = job.feeds(job.ids[: wanted.samples])
    scorer = Scorer(job.loaded.model, job.feeds(job.held), job.streams)
    return choose_corrections(candidate, wanted, samples, scorer, streams=job.streams)


@dataclass(frozen=True)
class Built:
    """An INT8 model and what its layers really execute in."""

    model: ov.Model
    candidate: Candidate
    executed: Mapping[str, Executed] = field(default_factory=dict)

    @property
    def plan(self) -> QuantizationPlan:
        """What is quantized in it."""
        return self.candidate.plan


def build(candidate: Candidate, scored: Scored | None = None) -> Built:
    """Insert, compile and ask what ran; layers that were planned as INT8 but ran otherwise are taken out again.

    A FakeQuantize whose layer runs in floating point costs time and accuracy and gains nothing.

    Args:
        candidate: what to build.
        scored: the same, inserted and compiled already.

    Raises:
        ExecutionError: OpenVINO can't compile the model whatever is left out.
    """
    executed: Mapping[str, Executed] = {}
    for _ in range(3):  # a layer taken out can change how its neighbours run; once was all that was ever seen
        candidate, model, compiled = (candidate, scored.model, scored.compiled) if scored else _compiling(candidate)
        scored = None
        executed = executed_layers(compiled, aliases(candidate.view, candidate.plan))
        ran = {layer.name: executed.get(layer.name) for layer in candidate.plan.layers}
        failed = {name: node.primitive if node else "" for name, node in ran.items() if node is None or not node.int8}
        if not failed or len(failed) == len(candidate.plan.layers):
            return Built(model, candidate, executed)
        whats = {n: f"ran it as {p}" if p else "dissolved it into other operations" for n, p in failed.items()}
        candidate = candidate.without(
            {n: f"OpenVINO {what} although its inputs were quantized" for n, what in whats.items()}
        )
    return Built(candidate.executable(), candidate, executed)


def _compiling(candidate: Candidate) -> tuple[Candidate, ov.Model, ov.CompiledModel]:
    """Return the candidate, its model and the model compiled; layers that keep it from compiling are taken out.

    The first layers, in order, that make compilation fail are found by bisection, one after the other.
    """
    reason = ""
    for _ in range(8):
        model = candidate.executable()
        try:
            return candidate, model, compile_model(model)
        except ModelError as error:
            reason = str(error)
        names = [layer.name for layer in candidate.plan.layers]
        bare = replace(candidate, refit=None)  # biases decide nothing
        fits, breaks = 0, len(names)
        while breaks - fits > 1:
            middle = (fits + breaks) // 2
            try:
                compile_model(without(bare, names[middle:]).executable())
                fits = middle
            except ModelError:
                breaks = middle
        candidate = without(candidate, names[breaks - 1 : breaks], f"OpenVINO could not compile it in INT8: {reason}")
    raise ExecutionError(
        f"{candidate.model.get_friendly_name()}: OpenVINO can't compile the quantized model, even without eight of its "
        f"layers; leave more out with --ignore. It said: {reason}"
    )


def without(candidate: Candidate, layers: Sequence[str], reason: str = "reverted") -> Candidate:
    """Return the candidate with layers back in floating point; corrections that depended on them are computed anew."""
    return candidate.without(dict.fromkeys(layers, reason))


def aliases(view: GraphView, plan: QuantizationPlan) -> dict[str, tuple[str, ...]]:
    """Return, for each layer, the names that may stand for it in the executed graph.

    Its INT8 weights, where nobody shares them, then what may be fused behind it: a MatMul runs under the name of its
    bias, or under one that OpenVINO invents.
    """
    found = {}
    for layer in (*plan.layers, *plan.skipped):
        names, tensor = _own_weights(view, layer.name), TensorId(layer.name)
        while layer.name in view.nodes and len(names) < 5:
            readers = view.value_consumers(tensor)
            if len(readers) != 1 or view.types[readers[0].node] == "Result" or view.types[readers[0].node] in LAYERS:
                break
            names.append(readers[0].node)
            tensor = TensorId(readers[0].node)
        found[layer.name] = tuple(names)
    return found


def _own_weights(view: GraphView, layer: str) -> list[str]:
    """Return what the INT8 weights that only this layer reads are called, in a model before insertion or behind it."""
    for tensor in view.inputs.get(layer, ())[:2]:
        for kind in ("Multiply", "Convert"):  # Constant → Convert → Multiply, or the Constant alone
            if view.types[tensor.node] == kind:
                tensor = view.inputs[tensor.node][0]
        if view.is_constant(tensor) and len(view.consumers[tensor]) == 1:
            return [tensor.node if tensor.node.endswith(INT8_WEIGHTS) else tensor.node + INT8_WEIGHTS]
    return []
