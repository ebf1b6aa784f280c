"""Decide by timing which groups of layers stay in INT8: one that makes the network slower goes back to floating point.

A layer's own time does not tell: in INT8 it may be slower and save the conversions around it (leaving all depthwise
layers of MobileNetV2 in f32 costs 12 %, those of a small text-angle classifier gain 8 %). So whole networks are timed,
interleaved, each without one group, and one without all groups that lose. What is chosen is a function of these ratios
alone, which are kept in the store, so that a run that goes on chooses the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from calib.engine.building import Int8Model, build
from calib.engine.job import Job
from calib.graph.layers import LAYERS, is_depthwise
from calib.graph.view import GraphView
from calib.runtime.paired import Ratio
from calib.runtime.session import F32, default_precision
from calib.runtime.timing import TimedModel, time_models
from calib.values.plan import QuantizationPlan, TensorId

SECONDS = 2.0  # of timing, compilation apart
WHOLE = "everything in INT8"

Ratios = Mapping[str, Sequence[float]]
"""Name of a form → how many times as fast as :data:`WHOLE` it is, and the 95 % interval: three numbers."""


def groups_of(view: GraphView, plan: QuantizationPlan) -> dict[str, frozenset[str]]:
    """Return name → layers of each group that may lose, none of them empty, all of the plan, or equal to another.

    Layers that can only change together are in a group together.
    """
    names = [layer.name for layer in plan.layers]
    depthwise = {w.port.node for w in plan.weights if is_depthwise(view, w.port)}
    found = {
        "depthwise layers": depthwise,
        "layers between floating-point neighbours": _between(view, plan),
        "the first layer": set(names[:1]),
        "the last layer": set(names[-1:]),
    }
    groups: dict[str, frozenset[str]] = {}
    for group, layers in found.items():
        whole = frozenset(name for unit in plan.units() if unit & layers for name in unit)
        if whole and len(whole) < len(names) and whole not in groups.values():
            groups[group] = whole
    return groups


def _between(view: GraphView, plan: QuantizationPlan) -> set[str]:
    """Return the layers whose input no other layer reads in INT8 and whose output reaches no quantizer."""
    shared = {q.tensor: len(q.layers) for q in plan.activations}
    quantized = {q.tensor.node for q in plan.activations}
    own = {name for q in plan.activations if shared[q.tensor] == 1 for name in q.layers}
    return {layer.name for layer in plan.layers if layer.name in own and not _reaches(view, layer.name, quantized)}


def _reaches(view: GraphView, layer: str, quantized: set[str]) -> bool:
    """Return whether a layer's output goes into a quantizer through operations with one reader each."""
    name = layer
    while name not in quantized:
        readers = [port.node for port in view.value_consumers(TensorId(name))]
        if len(readers) != 1:
            return any(reader in quantized for reader in readers)
        (name,) = readers
        if view.types[name] in LAYERS:  # without a quantizer in front of it, it reads floating point
            return False
    return True


def gaining(ratios: Ratios) -> list[str]:
    """Return the forms that are faster than everything in INT8 beyond the noise, the fastest first."""
    return sorted((name for name, (_, low, _) in ratios.items() if low > 1), key=lambda name: (-ratios[name][0], name))


def fastest(
    job: Job, built: Int8Model, remember: Callable[[str, Callable[[], Ratios]], Ratios]
) -> tuple[Int8Model, str]:
    """Return the form of an INT8 model that is the fastest, and a sentence on what was timed.

    Args:
        job: Run, whose precision the forms are timed in, on the threads that it says.
        built: Model with everything in INT8 that may be.
        remember: Function that returns the ratios of a name from the store, or measures them.
    """
    groups = groups_of(job.view, built.plan)
    forms = {name: _without(job, built, layers, name) for name, layers in groups.items()}
    ratios = dict(remember("alone", lambda: _ratios(job, built, forms))) if forms else {}
    gained = gaining(ratios)
    if len(gained) > 1:
        together = " and ".join(gained)
        every = frozenset(layer for name in gained for layer in groups[name])
        if len(every) < len(built.plan.layers):
            forms[together] = _without(job, built, every, together)
            some = {name: forms[name] for name in (together, *gained)}
            ratios |= remember("together", lambda: _ratios(job, built, some))
    best = next(iter(gaining(ratios)), "")
    figures = ", ".join(f"{name} {ratio:.2f} ({low:.2f} to {high:.2f})" for name, (ratio, low, high) in ratios.items())
    if not figures:
        return built, "There is no group of layers that could be faster in floating point while others stay in INT8."
    said = f"Times as fast as {WHOLE} with these in floating point: {figures}. "
    if not best:
        return built, f"{said}None is faster beyond the noise, so everything stays in INT8."
    return forms[best], f"{said}So these are left in floating point: {best}."


def _without(job: Job, built: Int8Model, layers: frozenset[str], group: str) -> Int8Model:
    reason = f"the network is faster with {group} in floating point, see the warnings"
    return build(built.candidate.without(dict.fromkeys(sorted(layers), reason)), feeds=job.few)


def _ratios(job: Job, built: Int8Model, forms: Mapping[str, Int8Model]) -> Ratios:
    """Time these forms beside everything in INT8."""
    precision = job.precision
    config = {} if precision == default_precision() else {**F32, "INFERENCE_PRECISION_HINT": precision}
    models = [TimedModel(WHOLE, built.model, config), *(TimedModel(n, one.model, config) for n, one in forms.items())]
    on = job.timed_on
    times = time_models(models, job.feeds(job.ids[:4]), threads=on.threads, streams=on.streams, seconds=SECONDS)

    def numbers(ratio: Ratio) -> list[float]:
        return [ratio.value, ratio.low, ratio.high]

    return {name: numbers(times.speedup(name)) for name in forms}
