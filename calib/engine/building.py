"""Build the INT8 model of a candidate and look up the precision that its layers execute in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.corrections.candidate import Arrays, Candidate, Feed
from calib.corrections.compiling import without_failing
from calib.corrections.scoring import Scored
from calib.graph.insert import INT8_WEIGHTS
from calib.graph.layers import LAYERS
from calib.graph.levels import already_quantized
from calib.graph.placement import planned
from calib.graph.twins import twins
from calib.graph.view import GraphView, all_bodies
from calib.loading.load import Loaded
from calib.runtime.executed import Executed, Ran, executed_layers
from calib.runtime.failures import FAILURES, said
from calib.runtime.session import F32, Session, compile_model, core, ov
from calib.values.plan import QuantizableNode, QuantizationPlan, TensorId
from calib.values.sqnr import decibel, squared_error, usual_norms

# Outputs with one thread against those with two: rounding tips a level here and there, as between INT8 and its
# simulation (29 to 143 dB, see ``engine/verify.py``). A chain of MatMuls without biases gives zeros with one thread,
# which is 0 dB.
THREADS_FLOOR_DB = 15.0


@dataclass(frozen=True)
class Int8Model:
    """An INT8 model and the primitives that its layers execute.

    Attributes:
        compiled: The compiled model that these were looked up in, to run a few samples; None if it is gone.
        threads_db: SQNR in dB of the outputs with two threads against those with one, for a typical sample of a few;
            infinite where the machine gives one thread only, None if it was not measured.
    """

    model: ov.Model
    candidate: Candidate
    executed: Mapping[str, Ran] = field(default_factory=dict[str, Ran])
    compiled: ov.CompiledModel | None = None
    threads_db: float | None = None

    @property
    def plan(self) -> QuantizationPlan:
        """Plan of what is quantized in the model."""
        return self.candidate.plan


@dataclass(frozen=True)
class _Compiled:
    """A model compiled for one thread and for two; ``two`` is None where the machine gives one only."""

    model: ov.Model
    one: ov.CompiledModel
    two: ov.CompiledModel | None


def build(candidate: Candidate, scored: Scored | None = None, feeds: Callable[[], Sequence[Feed]] = tuple) -> Int8Model:
    """Insert the quantizers, compile, and take out layers that were planned as INT8 but do not run in INT8.

    A FakeQuantize whose layer runs in floating point costs time and accuracy and gains nothing. A layer counts as INT8
    if it is with one thread or with two. Where these differ, so may the outputs: then the layers that differ are taken
    out too. In the end the plan may be empty.

    Args:
        candidate: Candidate to build.
        scored: The same candidate if it was already inserted and compiled.
        feeds: Function that loads a few samples, called only where layers differ; without samples nothing is compared.

    Raises:
        ExecutionError: OpenVINO can't compile the model, whichever layers are left out.
    """
    executed: Mapping[str, Ran] = {}
    for _ in range(4):  # a layer taken out can change how its neighbours run; once was all that was ever seen
        try:
            made = _compiled(candidate, scored)
        except FAILURES as error:
            candidate, made = without_failing(candidate, _compiled, error)
        scored = None
        executed = look_up(made.model, candidate.view, candidate.plan, made.one, made.two)
        failed, agreement = _in_float(candidate.plan, executed), None
        if not failed:
            agreement = _agreement(made, feeds)
            failed = _unlike(candidate.plan, executed, agreement)
        if not failed:
            return Int8Model(made.model, candidate, executed, made.one, agreement)
        candidate = candidate.without(failed)
        if not candidate.plan.layers:
            break
    return Int8Model(candidate.executable(), candidate, executed)


def _compiled(candidate: Candidate, scored: Scored | None = None) -> _Compiled:
    model = scored.model if scored else candidate.executable()
    known = scored.compiled if scored else None
    return _Compiled(model, compile_model(model) if known is None else known, for_two_threads(model))


def for_two_threads(model: ov.Model, config: Mapping[str, Any] = F32) -> ov.CompiledModel | None:
    """Compile a model for two threads an inference; return None if the machine gives one only."""
    if core().get_property("CPU", "RANGE_FOR_STREAMS")[1] < 2:  # known without compiling
        return None
    compiled = compile_model(model, config, threads=2)
    return compiled if compiled.get_property("INFERENCE_NUM_THREADS") == 2 else None


def _in_float(plan: QuantizationPlan, executed: Mapping[str, Ran]) -> dict[str, str]:
    """Return the layers of the plan that execute in floating point with any number of threads, and the reason."""
    failed: dict[str, str] = {}
    for layer in plan.layers:
        ran = executed[layer.name]
        if not layer.is_table and not ran.int8:
            what = f"ran it as {ran.usual.primitive}" if ran.usual else "dissolved it into other operations"
            failed[layer.name] = f"OpenVINO {what} although its inputs were quantized"
    return failed


def _agreement(made: _Compiled, feeds: Callable[[], Sequence[Feed]]) -> float | None:
    """Return the SQNR in dB of the outputs with two threads against one, infinite where there are no two.

    None without samples, and where OpenVINO can't run them: then the check of the written file runs them, and says so.
    """
    if made.two is None:
        return math.inf
    samples = feeds()
    try:
        outputs = [list(session.each(samples)) for session in (Session.of(made.one), Session.of(made.two))]
    except FAILURES as error:
        said(error)  # memory that ran out is raised
        return None
    # both ways: against zeros there is no SQNR
    return min(median_db(*outputs), median_db(*outputs[::-1])) if samples else None


def _unlike(plan: QuantizationPlan, executed: Mapping[str, Ran], agreement: float | None) -> dict[str, str]:
    """Return the layers that execute differently with one thread and with two, if the outputs differ, and the reason.

    Chains of MatMuls without biases do: with one thread OpenVINO runs their INT8 form as one f32 Subgraph that gives
    zeros, with two threads rightly.
    """
    differ = [layer.name for layer in plan.layers if executed[layer.name].differs]
    if agreement is None or agreement >= THREADS_FLOOR_DB:
        return {}
    reason = f"OpenVINO computes another result with one thread than with two ({agreement:.1f} dB) where it is in INT8"
    return dict.fromkeys(differ, reason)


def median_db(before: Sequence[Arrays], after: Sequence[Arrays]) -> float:
    """Return the median over samples of the SQNR in dB between two lists of outputs, the mean of their errors.

    An output that is nearly empty in a sample counts relative to the other samples. One that is zero in all of them, or
    whose shape differs, does not count, and neither do integers.
    """
    errors: list[NDArray[np.float64]] = []
    for position in range(len(before[0]) if before else 0):
        pairs = [(a[position], b[position]) for a, b in zip(before, after, strict=True)]
        if all(y.dtype.kind == "f" and y.shape == y_q.shape for y, y_q in pairs):
            signal, noise = np.array([squared_error(y, y_q) for y, y_q in pairs]).T
            if signal.any():
                errors.append(noise / usual_norms(np.sqrt(signal)) ** 2)
    if not errors:
        return math.inf
    means = np.mean(errors, axis=0).tolist()
    return float(np.median([decibel(1.0, math.inf if math.isnan(error) else error) for error in means]))


def executed_in(
    model: ov.Model, view: GraphView, plan: QuantizationPlan, config: Mapping[str, Any] = F32
) -> dict[str, Ran]:
    """Compile a model for one thread and for two, and return what each layer of the plan, skipped or not, runs as."""
    return look_up(model, view, plan, compile_model(model, config), for_two_threads(model, config))


def look_up(
    model: ov.Model, view: GraphView, plan: QuantizationPlan, one: ov.CompiledModel, two: ov.CompiledModel | None = None
) -> dict[str, Ran]:
    """Return what each layer of the plan, skipped or not, executed as.

    Args:
        model: Quantized model, as it was compiled.
        view: View of that model or of the one before insertion.
        plan: Plan of the model.
        one: The model compiled for one thread an inference.
        two: The model compiled for two.
    """
    names = aliases(view, plan)
    forms = [_executed(model, view, names, one), _executed(model, view, names, two) if two else {}]
    unseen = {layer.name for layer in plan.layers for form in forms if form and _unseen(layer.name, form)}
    for layer, others in (twins(model, unseen) if unseen else {}).items():
        for form in forms:
            match = next((form[other] for other in others if other in form and form[other].int8), None)
            if match is not None and _unseen(layer, form):
                form[layer] = match
    return {layer: Ran(forms[0].get(layer), forms[1].get(layer)) for layer in names}


def _executed(
    model: ov.Model, view: GraphView, names: Mapping[str, Sequence[str]], compiled: ov.CompiledModel
) -> dict[str, Executed]:
    """Return layer → executed node in a compiled model, and in its bodies where a layer is inside one."""
    found = executed_layers(compiled, names)
    inside = {layer: others for layer, others in names.items() if layer in view.inside}
    return executed_inside(model, compiled, inside) | found if inside else found


def executed_inside(
    model: ov.Model, compiled: ov.CompiledModel, names: Mapping[str, Sequence[str]]
) -> dict[str, Executed]:
    """Return layer → executed node for layers inside bodies, each body compiled by itself with the same properties.

    The executed graph shows an If or Loop as one node. What its bodies run is what they run alone: tests compare both
    by the primitives that oneDNN lists.

    Args:
        model: Model, as it was compiled.
        compiled: The same, to take the properties from.
        names: Mapping from layer to the names that it may have in the executed graph.
    """
    keys = ("INFERENCE_PRECISION_HINT", "DYNAMIC_QUANTIZATION_GROUP_SIZE", "INFERENCE_NUM_THREADS")
    config = {key: compiled.get_property(key) for key in keys}
    wanted, found = set(names), dict[str, Executed]()
    for body in all_bodies(model):
        known = {node.get_friendly_name() for node in body.get_ordered_ops()}
        if own := known & wanted:
            alone = compile_model(body, config, still=False)
            found |= executed_layers(alone, {layer: names[layer] for layer in sorted(own)})
    return found


def _unseen(layer: str, form: Mapping[str, Executed]) -> bool:
    """Say whether no executed node has a layer's name, so that what may be fused after it alone was found."""
    return layer not in form or not (form[layer].int8 or layer in form[layer].originals)


def with_two_threads(built: Int8Model, config: Mapping[str, Any] = F32) -> Int8Model:
    """Return a model whose layers were looked up with one thread, looked up with two as well, in the same precision."""
    two = for_two_threads(built.model, config)
    found = look_up(built.model, built.candidate.view, built.plan, two) if two else {}
    both = {layer: Ran(ran.one, found[layer].one if found else None) for layer, ran in built.executed.items()}
    return replace(built, executed=both)


def listed(
    loaded: Loaded, view: GraphView, ignore: Sequence[str] = (), *, exact_int8: bool = True, everywhere: bool = True
) -> QuantizationPlan:
    """List the layers of a floating-point or quantized model in a plan without quantizers.

    Args:
        loaded: The model.
        view: View of the model.
        ignore: Patterns as for :mod:`calib.graph.ignored`; unused for a model that is quantized already.
        exact_int8: As for :func:`calib.graph.placement.planned`.
        everywhere: Likewise.
    """
    if loaded.quantized or loaded.weight_compressed:
        layers, skipped = already_quantized(view)
        return QuantizationPlan(layers, (), (), skipped)
    found = planned(view, ignore, exact_int8=exact_int8, everywhere=everywhere)
    return QuantizationPlan(found.layers, (), (), found.skipped)


def as_executed(plan: QuantizationPlan, executed: Mapping[str, Ran]) -> QuantizationPlan:
    """Return the list of a quantized model's layers with all among the quantized ones that executed in INT8."""
    ran = [one for one in plan.skipped if one.name in executed and executed[one.name].int8]
    layers = (*plan.layers, *(QuantizableNode(one.name, one.type, (0,)) for one in ran))
    return replace(plan, layers=layers, skipped=tuple(one for one in plan.skipped if one not in ran))


def aliases(view: GraphView, plan: QuantizationPlan) -> dict[str, tuple[str, ...]]:
    """Return, for each layer, the names it may have in the executed graph.

    These are its INT8 weights, if no other layer shares them, then the operations that may be fused after it: a MatMul
    runs under the name of its bias, or under a name that OpenVINO makes up.
    """
    found: dict[str, tuple[str, ...]] = {}
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
    """Return the names of the INT8 weights that only this layer reads, before or after insertion."""
    for tensor in view.inputs.get(layer, ())[:2]:
        for kind in ("Multiply", "Convert"):  # Constant → Convert → Multiply, or the Constant alone
            if view.types[tensor.node] == kind:
                tensor = view.inputs[tensor.node][0]
        if view.is_constant(tensor) and len(view.consumers[tensor]) == 1:
            return [tensor.node if tensor.node.endswith(INT8_WEIGHTS) else tensor.node + INT8_WEIGHTS]
    return []
