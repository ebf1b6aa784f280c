"""Turn the decisions of a run into the layer and quantizer facts of its report; nothing is decided here."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from calib.graph.finder import right_on_some
from calib.graph.layers import multiply_accumulates
from calib.graph.levels import KEPT
from calib.graph.operations import NOT_EVERYWHERE, RECURRENT
from calib.graph.view import GraphView
from calib.ranges import ESTIMATORS
from calib.ranges.assign import merge_unified
from calib.ranges.bins import clipped_share
from calib.report.numbers import plural
from calib.runtime.executed import Ran
from calib.values.facts import LayerFacts, QuantizerFacts
from calib.values.plan import ActivationQuantizer, QuantizableNode, QuantizationPlan, Range, Skipped, TensorId
from calib.values.summary import TensorSummary

DRAWN_BINS = 64
ROWS = "weights only: the rows of its table are kept in 8 bit with a scale each, and computed with in floating point"
ONE_THREAD = (
    "This machine gives OpenVINO one thread only, so what executes was looked up with one thread; with two and more, "
    "small MatMuls may execute as something else."
)


def layer_facts(
    view: GraphView,
    plan: QuantizationPlan,
    executed: Mapping[str, Ran],
    reverted: Mapping[str, str] = MappingProxyType({}),
    of_sample: GraphView | None = None,
) -> list[LayerFacts]:
    """Describe every layer, quantized or not, in topological order.

    Args:
        view: View of the floating-point model.
        plan: Final plan.
        executed: Mapping from layer to what it executed as.
        reverted: Mapping from layer to the reason why the search reverted it.
        of_sample: View with the shapes of a sample where those of ``view`` are dynamic, to count work; None for none.
    """
    last = len(view.order)
    nodes = sorted((*plan.layers, *plan.skipped), key=lambda node: (view.order.get(node.name, last), node.name))
    kept = {node.name for node in plan.skipped if node.reason == KEPT}
    facts = [_layer(view, node, executed.get(node.name), reverted, kept) for node in nodes]
    if of_sample is not None and of_sample is not view:
        facts = [fact.model_copy(update={"macs": multiply_accumulates(of_sample, fact.name)}) for fact in facts]
    measured = {one.name: one.reason for one in plan.recurrent}
    return [
        fact.model_copy(update={"reason": measured[fact.name]}) if fact.name in measured and not fact.reason else fact
        for fact in facts
    ]


def _layer(
    view: GraphView,
    node: QuantizableNode | Skipped,
    ran: Ran | None,
    reverted: Mapping[str, str],
    kept: Container[str],
) -> LayerFacts:
    reason = "" if isinstance(node, QuantizableNode) else reverted.get(node.name, node.reason)
    table = isinstance(node, QuantizableNode) and node.is_table
    usual = ran.usual if ran else None
    differs = ran is not None and ran.differs
    alone = ran.one if ran and differs else None
    levels = isinstance(node, QuantizableNode) or (node.name in kept and ran is not None and ran.int8)
    if table:
        reason = ROWS
    elif isinstance(node, QuantizableNode) and usual and not (ran and ran.int8):  # so it is in a model that was given
        reason = f"OpenVINO ran it as {usual.primitive} although its inputs were quantized"
    return LayerFacts(
        name=node.name,
        type=node.type,
        output_shape=_shape(view, TensorId(node.name)) if node.name in view.nodes else "",
        weight_shape=_weights(view, node.name),
        macs=multiply_accumulates(view, node.name),
        planned="int8-weights" if table else "int8" if levels else "float",
        executed=usual.precision if usual else "",
        primitive=usual.primitive if usual else "",
        executed_one_thread=((alone.precision if alone else "") or "unknown") if differs else "",
        primitive_one_thread=alone.primitive if alone else "",
        output_precision=usual.output if usual else "",
        reason=reason,
        reverted=node.name in reverted,
    )


def _shape(view: GraphView, tensor: TensorId) -> str:
    return str(view.output(tensor).get_partial_shape())


def _weights(view: GraphView, name: str) -> str:
    fixed = [tensor for tensor in view.inputs.get(name, ())[:2] if view.is_constant(tensor)]
    return _shape(view, fixed[0]) if fixed else ""


def quantizer_facts(plan: QuantizationPlan, summaries: Mapping[TensorId, TensorSummary]) -> list[QuantizerFacts]:
    """Describe every activation quantizer: its range, the share it clips, and the range of each estimator."""
    merged = merge_unified(plan.activations, summaries)
    facts: list[QuantizerFacts] = []
    for quantizer in plan.activations:
        facts.append(_quantizer(quantizer, merged[quantizer.tensor]))
    return facts


def _quantizer(quantizer: ActivationQuantizer, summary: TensorSummary) -> QuantizerFacts:
    assert quantizer.range is not None
    edges, counts = _drawn(summary)
    chosen = quantizer.range
    known = {chosen.estimator: chosen} if chosen.estimator in ESTIMATORS else {}  # not estimated twice
    others: dict[str, tuple[float, float]] = {}
    for name, estimator in ESTIMATORS.items():
        if name != "auto" and (summary.histogram is not None or not estimator.needs_histogram):
            other = known.get(name) or estimator(summary, quantizer.scheme, quantizer.levels)
            others[name] = (other.low, other.high)
    return QuantizerFacts(
        tensor=str(quantizer.tensor),
        layers=sorted(quantizer.layers | {fused.port.node for fused in quantizer.fused}),
        scheme=quantizer.scheme.value,
        levels=quantizer.levels,
        low=chosen.low,
        high=chosen.high,
        data_low=summary.low,
        data_high=summary.high,
        estimator=_estimator(chosen, others),
        reason="; ".join(filter(None, (chosen.reason, *(fused.reason for fused in sorted(quantizer.fused))))),
        clipped=clipped_share(summary, chosen) if summary.histogram is not None else None,
        candidates=others,
        histogram_edges=edges,
        histogram_counts=counts,
    )


def _estimator(chosen: Range, others: Mapping[str, tuple[float, float]]) -> str:
    """Return the estimator that chose the range; for ``auto`` the one whose range it took."""
    if chosen.estimator != "auto":
        return chosen.estimator
    return next((name for name, ends in others.items() if ends == (chosen.low, chosen.high)), chosen.estimator)


def _drawn(summary: TensorSummary) -> tuple[list[float], list[int]]:
    """Return the edges and counts of at most 64 equal bins for drawing."""
    if summary.histogram is None or summary.high <= summary.low:
        return [], []
    values, weights = summary.histogram.distribution()
    counts, edges = np.histogram(values, bins=DRAWN_BINS, range=(summary.low, summary.high), weights=weights)
    return [float(f"{edge:.6g}") for edge in edges], [int(count) for count in counts]


def thread_notes(facts: Sequence[LayerFacts], executed: Mapping[str, Ran]) -> list[str]:
    """Return sentences on the layers that execute in another precision with one thread for an inference than with two.

    Args:
        facts: Facts of all layers.
        executed: Mapping from layer to what it executed as; without any node for two threads that could not be asked.
    """
    if executed and not any(ran.two for ran in executed.values()):
        return [ONE_THREAD]
    groups: dict[tuple[str, str], list[str]] = {}
    for fact in facts:
        if fact.planned == "int8" and fact.executed_one_thread:
            groups.setdefault((fact.executed, fact.executed_one_thread), []).append(fact.name)
    notes: list[str] = []
    for (two, one), names in groups.items():
        notes.append(
            f"{plural(len(names), 'layer')} executed in {two} with two threads for an inference and in {one} with one, "
            f"which is what PERFORMANCE_HINT THROUGHPUT gives each: {_some(names)}."
        )
    return notes


def recurrent_notes(facts: Sequence[LayerFacts]) -> list[str]:
    """Return a sentence on the recurrent layers: what they execute in, and their share of the work and of the time."""
    found = [fact for fact in facts if fact.type in RECURRENT]
    if not found:
        return []
    int8 = [fact.name for fact in found if fact.in_int8]
    rest = [fact.name for fact in found if not fact.in_int8]
    where = " and ".join(
        f"{_some(names)} in {what}" for names, what in ((int8, "INT8"), (rest, "floating point")) if names
    )
    shares: list[str] = []
    work, times = [float(fact.macs) for fact in facts], [fact.time_int8_ms or 0.0 for fact in facts]
    for what, all_of in (("multiply-adds", work), ("time of its layers in the INT8 model", times)):
        own = [figure for fact, figure in zip(facts, all_of, strict=True) if fact.type in RECURRENT]
        if all(own):
            shares.append(f"{100 * sum(own) / sum(all_of):.0f} % of the {what}")
    told = f": {' and '.join(shares)}" if shares else ""
    return [f"The network has {plural(len(found), 'recurrent layer')}, {where}{told}."]


def other_cpus(view: GraphView, plan: QuantizationPlan) -> list[str]:
    """Return sentences on layers whose INT8 form some x86 CPUs compute wrongly: those left out, and those taken in."""
    left = [one.name for one in plan.skipped if one.reason.endswith(NOT_EVERYWHERE)]
    taken = [layer.name for layer in plan.layers if right_on_some(view, layer.name)]
    notes: list[str] = []
    if left:
        notes.append(
            f"Since not every x86 CPU computes their INT8 form rightly, {plural(len(left), 'layer')} "
            f"{'stays' if len(left) == 1 else 'stay'} in floating point: {_some(left)}. The reason of each names the "
            "CPUs; on the machine that runs the model, --target this-cpu tries them."
        )
    if taken:
        notes.append(
            f"{plural(len(taken), 'layer')} {'was' if len(taken) == 1 else 'were'} tried on this CPU, and may be "
            f"computed wrongly on another one: {_some(taken)}. Quantize again where the model runs, or run "
            "`calib verify` there."
        )
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def int8_share(facts: Iterable[LayerFacts]) -> float:
    """Return the share of multiply-accumulates executed in INT8, with one thread for an inference or with two."""
    facts = list(facts)
    total = sum(layer.macs for layer in facts)
    return sum(layer.macs for layer in facts if layer.in_int8) / total if total else 0.0
