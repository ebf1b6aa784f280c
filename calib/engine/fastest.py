"""Decide by timing which groups of layers stay in INT8: one that makes the network slower goes back to floating point.

A layer's own time does not tell: in INT8 it may be slower and save the conversions around it (leaving all depthwise
layers of MobileNetV2 in f32 costs 12 %, those of a small text-angle classifier gain 8 %). So whole networks are timed,
interleaved, each without one group, and one without the two groups that gain most. One model compiled six times was up
to 18 % faster one time than another, beside other work up to 1.8 times as fast: what gains is compiled and timed again,
and has to gain each time. What is chosen is a function of these times alone, which are kept in the store, so that a run
that goes on chooses the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from calib.corrections.candidate import Candidate
from calib.engine.building import Int8Model, build
from calib.engine.job import Job
from calib.graph.layers import LAYERS, is_depthwise
from calib.graph.view import GraphView
from calib.report.numbers import plural
from calib.runtime.paired import Ratio
from calib.runtime.session import F32, default_precision, ov
from calib.runtime.timing import TimedModel, time_models
from calib.values.plan import QuantizationPlan, TensorId

SECONDS = 2.0  # of timing the forms once, and of all the further compilations together; compiling apart
COMPILATIONS = 5  # further ones of the forms that gained: by chance a form gains in all of them one time in 32
FINALISTS = 3  # most forms that are compiled again
GAIN = 1.02  # a form has to be faster by this much: INT8 is smaller, too
WHOLE = "everything in INT8"
FP32 = "FP32"
# Layers that bring this share of what INT8 saves, the fastest first, stay in INT8 alone: few large layers may pay where
# many small ones only cost conversions.
SHARES = (0.8, 0.5)

Ratios = Mapping[str, Sequence[float]]
"""Name of a form → how many times as fast as :data:`WHOLE` it is, and an interval: three numbers."""
LayerTimes = Mapping[str, Sequence[float]]
"""Layer → milliseconds in INT8 and in the faster of the floating-point precisions."""


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


def groups_by_time(times: LayerTimes, plan: QuantizationPlan) -> dict[str, frozenset[str]]:
    """Return name → layers of the groups that the layers' own times suggest.

    Layers that can only change together count as one; those whose times are not known are in no group.
    """
    units = [unit for unit in plan.units() if unit <= times.keys()]
    saved = {unit: sum(times[name][1] - times[name][0] for name in unit) for unit in units}
    groups = {"layers that take longer in INT8": _names(unit for unit in units if saved[unit] <= 0)}
    ranked = sorted((unit for unit in units if saved[unit] > 0), key=lambda unit: (-saved[unit], sorted(unit)))
    total = sum(saved[unit] for unit in ranked)
    for share in SHARES:
        kept, reached = set[frozenset[str]](), 0.0
        for unit in ranked:
            if reached >= share * total:
                break
            kept.add(unit)
            reached += saved[unit]
        rest = _names(unit for unit in units if unit not in kept)
        few = f"{plural(len(_names(kept)), 'layer')} that bring{'s' if len(_names(kept)) == 1 else ''}"
        groups[f"all but the {few} {share:.0%} of what INT8 saves"] = rest
    return {name: layers for name, layers in groups.items() if layers}


def _names(units: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset(name for unit in units for name in unit)


def different(groups: Mapping[str, frozenset[str]], plan: QuantizationPlan) -> dict[str, frozenset[str]]:
    """Return the groups that hold some layers but not all of the plan, each set of layers once."""
    found: dict[str, frozenset[str]] = {}
    for name, layers in groups.items():
        if layers and len(layers) < len(plan.layers) and layers not in found.values():
            found[name] = layers
    return found


def gaining(ratios: Ratios) -> list[str]:
    """Return the forms that are faster than everything in INT8 beyond the noise, the fastest first."""
    gained = [name for name, (ratio, low, _) in ratios.items() if low > 1 and ratio >= GAIN and name != FP32]
    return sorted(gained, key=lambda name: (-ratios[name][0], name))


def fastest(
    job: Job,
    built: Int8Model,
    remember: Callable[[str, Callable[[], Any]], Any],
    times: Callable[[], LayerTimes],
) -> tuple[Int8Model, str]:
    """Return the form of an INT8 model that is the fastest, and a sentence on what was timed.

    Args:
        job: Run, whose precision the forms are timed in, on the threads that it says.
        built: Model with everything in INT8 that may be.
        remember: Function that returns the value of a name from the store, or measures it.
        times: Function that measures the times of the layers.
    """
    plan = built.plan
    suggested = groups_by_time(remember("layers", times), plan)
    groups = different({**groups_of(job.view, plan), **suggested}, plan)
    if not groups:
        return built, "There is no group of layers that could be faster in floating point while others stay in INT8."
    ratios: Ratios = remember("forms", lambda: _ratios(job, built, _inserted(built, groups)))
    said = f"Times as fast as {WHOLE} with these in floating point: {_figures(ratios)}. "
    best, final = "", finalists(ratios, groups, plan)
    if final:
        again: Ratios = remember("again", lambda: _over_compilations(job, built, final))
        said += f"Compiled {COMPILATIONS} times more: {_figures(again)}. "
        best, ratios = next(iter(gaining(again)), ""), again
    said += _of_fp32(ratios, best)
    if not best:
        return built, f"{said}None is faster beyond the noise, so everything stays in INT8."
    reason = f"the network is {ratios[best][0]:.2f} times as fast with {best} in floating point, see the warnings"
    form = build(_candidate(built, final[best], reason), feeds=job.few)
    return form, f"{said}So the fastest form of INT8 leaves these in floating point: {best}."


def finalists(
    ratios: Ratios, groups: Mapping[str, frozenset[str]], plan: QuantizationPlan
) -> dict[str, frozenset[str]]:
    """Return name → layers of the forms to compile again: those that gain most, and the first two of them together."""
    gained = gaining(ratios)[:FINALISTS]
    found = {name: groups[name] for name in gained}
    if len(gained) > 1:
        found[" and ".join(gained[:2])] = groups[gained[0]] | groups[gained[1]]
    return different(found, plan)


def _figures(ratios: Ratios) -> str:
    return ", ".join(
        f"{name} {ratio:.2f} ({low:.2f} to {high:.2f})" for name, (ratio, low, high) in ratios.items() if name != FP32
    )


def _of_fp32(ratios: Ratios, best: str) -> str:
    """Return a sentence where FP32 is faster than the form that is kept, beyond the noise; else nothing."""
    ratio, low, high = ratios[FP32]
    if low <= (ratios[best][0] if best else 1):
        return ""
    return (
        f"FP32 is {ratio:.2f} ({low:.2f} to {high:.2f}) times as fast as {WHOLE}, so stay with it, as "
        "--require-speedup 1 does. "
    )


def _candidate(built: Int8Model, layers: frozenset[str], reason: str = "") -> Candidate:
    return built.candidate.without(dict.fromkeys(sorted(layers), reason))


def _inserted(built: Int8Model, groups: Mapping[str, frozenset[str]]) -> dict[str, ov.Model]:
    """Return the forms as they are inserted, without looking up what executes, which would compile each twice."""
    return {name: _candidate(built, layers).executable() for name, layers in groups.items()}


def _over_compilations(job: Job, built: Int8Model, groups: Mapping[str, frozenset[str]]) -> Ratios:
    """Compile the forms several times; return the median of their ratios, the lowest and the highest."""
    forms = {name: build(_candidate(built, layers), feeds=job.few).model for name, layers in groups.items()}
    each = [_ratios(job, built, forms, SECONDS / COMPILATIONS) for _ in range(COMPILATIONS)]
    found = {name: [ratios[name][0] for ratios in each] for name in each[0]}
    return {name: [median(values), min(values), max(values)] for name, values in found.items()}


def _ratios(job: Job, built: Int8Model, forms: Mapping[str, ov.Model], seconds: float | None = None) -> Ratios:
    """Time these forms and FP32 beside everything in INT8, in the precision that the model will run in."""
    precision = job.precision
    config = {} if precision == default_precision() else {**F32, "INFERENCE_PRECISION_HINT": precision}
    every = {WHOLE: built.model, **forms, FP32: job.reference}
    models = [TimedModel(name, model, config) for name, model in every.items()]
    on, feeds = job.timed_on, job.feeds(job.ids[:4])
    times = time_models(models, feeds, threads=on.threads, streams=on.streams, seconds=seconds or SECONDS)

    def numbers(ratio: Ratio) -> list[float]:
        return [ratio.value, ratio.low, ratio.high]

    return {name: numbers(times.speedup(name)) for name in every if name != WHOLE}
