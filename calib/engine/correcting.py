"""Equalize, collect statistics, and choose ranges and corrections by the error of the network's outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.corrections.candidate import Candidate
from calib.corrections.equalization import equalize, evident_scales, rescale, rescaled_tensors
from calib.corrections.recipes import (
    WITHOUT,
    WITHOUT_INSERTED,
    AsFast,
    Chosen,
    choose_recipe,
    recipe_of,
)
from calib.corrections.scoring import Scorer
from calib.engine.clipped import behind_where_clipped
from calib.engine.job import SCORED, CalibrationFeeds, Job
from calib.engine.placing import nothing_to_quantize
from calib.errors import ModelError
from calib.graph.insert import Edits
from calib.graph.layers import reader_energies
from calib.graph.operations import RECURRENT
from calib.graph.taps import Need
from calib.graph.view import GraphView
from calib.progress import Stage
from calib.ranges import RangeEstimator, get_estimator
from calib.ranges.assign import assign
from calib.ranges.estimator import ChannelEstimator
from calib.report.numbers import plural
from calib.runtime.failures import left_out
from calib.runtime.session import ov
from calib.statistics.collect import collect
from calib.statistics.store import load_summaries, save_summaries
from calib.statistics.totals import GAP
from calib.values.facts import CorrectionFacts
from calib.values.plan import QuantizationPlan, Scaling, TensorId
from calib.values.summary import Collected, Summaries, without_equalization

if TYPE_CHECKING:
    from calib.corrections.half_range import Levels

_ROBUST = "trimmed-minmax"  # min-max ranges, unless single samples are far outside


@dataclass(frozen=True)
class FloatNetwork:
    """The floating-point network to quantize, equalized or not.

    Attributes:
        warnings: Sentences for the report.
    """

    model: ov.Model
    view: GraphView
    scalings: tuple[Scaling, ...] = ()
    facts: tuple[CorrectionFacts, ...] = ()
    warnings: tuple[str, ...] = ()


def equalize_channels(job: Job, plan: QuantizationPlan) -> FloatNetwork:
    """Rescale channels where that lowers the expected error; the network computes the same function."""
    if not job.effort.equalizes:
        return FloatNetwork(job.loaded.model, job.view)
    samples, held = job.feeds(job.ids[:16]), job.feeds(job.held)
    found, warnings = None, list[str]()
    with left_out("Channels were not equalized, since OpenVINO can't run what that is measured on", warnings):
        found = equalize(job.loaded.model, job.view, plan, samples, held, job.streams_for(len(samples) + len(held)))
    if found is None:
        return FloatNetwork(job.loaded.model, job.view, warnings=tuple(warnings))
    return replace(rescaled(job, found.scalings), facts=found.facts)


def rescaled(job: Job, scalings: tuple[Scaling, ...]) -> FloatNetwork:
    """Return the network of the job with these tensors equalized."""
    model = rescale(job.loaded.model, job.view, scalings)
    return FloatNetwork(model, GraphView(model) if scalings else job.view, scalings)


def collect_statistics(
    job: Job, base: FloatNetwork, plan: QuantizationPlan, stage: Stage, file: str | Path | None = None
) -> Collected:
    """Collect the statistics of every quantized tensor in one pass, or read them from the file of an earlier pass.

    The pass takes all calibration samples; the statistics of those that are not held out are kept apart. A tensor that
    is empty in every sample has none.

    Raises:
        StatisticsError: The file belongs to another model or other settings.
    """
    plain, plan = plan, plan.rescaled(base.scalings)
    wanted = recipe_of(job.settings.effort, job.settings.estimator)
    estimators = [get_estimator(name) for name in (*wanted.estimators, *wanted.if_clipping_pays, *wanted.more)]
    # What goes to a file serves every estimator.
    histogram = file is not None or any(estimator.needs_histogram for estimator in estimators)
    channels = file is not None or any(isinstance(estimator, ChannelEstimator) for estimator in estimators)
    energies = reader_energies(base.view, plan) if channels else {}
    needs = {q.tensor: Need(histogram, q.per_channel) for q in plan.activations}
    needs |= {tensor: Need(histogram, True, channel_axis=axis) for tensor, (axis, _) in energies.items()}
    needs |= _plain_needs(job, base, needs)
    inserted = {scaling.tensor for scaling in base.scalings if scaling.ports}
    needs |= {q.tensor: Need(histogram, q.per_channel) for q in plain.activations if q.tensor in inserted}
    asked = sorted((str(tensor), need.histogram, need.channels) for tensor, need in needs.items())
    mark = job.statistics_mark(asked, [(str(s.scaled), s.factors) for s in base.scalings])
    if file is not None and Path(file).exists():
        return _parted(load_summaries(file, mark), job, base, plain, energies)
    feeds, held, streams = CalibrationFeeds(job), job.set_aside, job.streams_for(len(job.all_ids))
    summaries = collect(base.model, needs, feeds, held=held, streams=streams, progress=lambda _: stage.update(1))
    if file is not None:
        save_summaries(file, summaries, mark)
    return _parted(summaries, job, base, plain, energies)


def scale_outliers(
    job: Job, base: FloatNetwork, plan: QuantizationPlan, summaries: Collected
) -> tuple[FloatNetwork, Collected]:
    """Return network and statistics with scales in front of layers whose inputs' extremes show outlier channels.

    It is for efforts that do not equalize; nothing is run. A scaled tensor has extremes and no histogram.
    """
    if job.effort.equalizes or all(one.channel_high is None for one in summaries.whole.values()):
        return base, summaries
    scalings, facts = _evident(job.view, plan, summaries.whole)
    if not scalings:
        return base, summaries
    whole = _divided(summaries.whole, scalings)
    network = replace(rescaled(job, scalings), facts=facts, warnings=base.warnings)
    return network, replace(summaries, kept=whole, whole=whole, plain=replace(summaries))


def _evident(
    view: GraphView, plan: QuantizationPlan, summaries: Summaries
) -> tuple[tuple[Scaling, ...], tuple[CorrectionFacts, ...]]:
    """Return the scales that the extremes of channels show to help, and the fact about each."""
    found = evident_scales(view, plan, summaries)
    scalings = tuple(scalable.scaling(factors) for scalable, factors, _ in found)
    return scalings, tuple(fact for *_, fact in found)


def _divided(summaries: Summaries, scalings: Sequence[Scaling]) -> Summaries:
    """Return the summaries with those of the scaled tensors, which have extremes and no histogram."""
    scaled = {one.scaled: summaries[one.tensor].divided(one.scaled, np.array(one.factors)) for one in scalings}
    return {**summaries, **scaled}


def _parted(
    found: Collected,
    job: Job,
    base: FloatNetwork,
    plan: QuantizationPlan,
    energies: Mapping[TensorId, tuple[int, NDArray[np.float64]]],
) -> Collected:
    """Return the summaries with the energies of weights, apart those without equalization with their own."""
    found = found.parted()
    if base.scalings and found.plain is None:  # all of them are inserted: tensors in front of these are as they were
        found = replace(found, plain=replace(found))
    if found.plain is not None:
        own = reader_energies(job.view, plan) if energies else {}
        found = replace(found, plain=_with_energies(found.plain, own))
    return _with_energies(found, energies)


def _with_energies(found: Collected, energies: Mapping[TensorId, tuple[int, NDArray[np.float64]]]) -> Collected:
    def added(summaries: Summaries) -> Summaries:
        return {t: replace(s, channel_energy=energies[t][1]) if t in energies else s for t, s in summaries.items()}

    whole = added(found.whole)
    return replace(found, kept=whole if found.kept is found.whole else added(found.kept), whole=whole)


def _plain_needs(job: Job, base: FloatNetwork, needs: Mapping[TensorId, Need]) -> dict[TensorId, Need]:
    """Return the same needs of the tensors that equalization divides, as they are without it."""
    divided = rescaled_tensors(job.view, base.scalings) if base.scalings else {}
    found: dict[TensorId, Need] = {}
    for tensor, (axis, factors) in divided.items():
        if tensor in needs:
            found[without_equalization(tensor)] = replace(needs[tensor], channel_axis=axis, of=tensor, factors=factors)
    return found


def choose_ranges(
    job: Job, base: FloatNetwork, plan: QuantizationPlan, summaries: Collected, told: Callable[[str], None]
) -> Chosen:
    """Choose ranges and corrections by the outputs' error on held-out samples, then fit the ranges to all samples.

    Raises:
        ModelError: No layer had values in any sample.
    """
    plan = _with_values(base.view, plan.rescaled(base.scalings), summaries.whole)
    if len(summaries.kept) < len(summaries.whole):  # what only held-out samples have values of is known from those
        summaries = replace(summaries, kept={**summaries.whole, **summaries.kept})
    plan = _with_recurrent(job, base, plan)
    wanted = recipe_of(job.settings.effort, job.settings.estimator)
    attention = None
    if job.settings.estimator == "auto" and any(len(layer.activations) > 1 for layer in plan.layers):
        from calib.engine.attention import with_attention_ranges  # here: few networks multiply two activations

        attention, plan = with_attention_ranges(job, base.model, base.view, plan)
    held = [name for name in job.held if name not in summaries.outliers] or list(job.held)
    scorer = None
    if job.effort.held_out:
        scorer = Scorer(job.reference, job.feeds(held), job.streams_for(len(held)), job.outputs(held), job.compared)
    levels = None
    if job.chooses_levels:
        base, plan, levels = _suited(job, base, plan, summaries, scorer)
        attention = attention if attention and attention.layers & {layer.name for layer in plan.layers} else None
    if scorer is None or not scorer.useful:
        estimator, remark = _unscored(job, summaries)
        candidate = Candidate(base.model, base.view, assign(plan, summaries.whole, estimator), Edits())
        said = (*base.warnings, *_in_pieces(summaries), *remark)
        chosen = Chosen(candidate, corrections=base.facts, warnings=said)
        if levels is None or not levels.is_of(candidate):
            return chosen
        return replace(chosen, scored=levels.scored, energies=levels.scored.energies, held=job.held[:SCORED])
    candidate, samples = Candidate(base.model, base.view, plan, Edits()), job.feeds(job.ids[: wanted.samples])
    others = _without_scalings(job, base, plan)
    fast = _as_fast(job, next(reversed(others.values()), candidate), summaries)
    known = [(levels.candidate, levels.scored)] if levels else []
    # networks are dropped once they were used
    halved, half, levels = levels.halved if levels else None, [levels.half] if levels and levels.half else [], None
    doubt = partial(behind_where_clipped, job, summaries, fast)
    more: dict[str, Any] = {"others": others, "fast": fast, "known": known, "doubt": doubt, "told": told}
    chosen = choose_recipe(candidate, summaries, wanted, samples, scorer, attention, **more)
    if halved is not None and wanted.corrections and not chosen.candidate.plan.corrections:
        only = replace(wanted, estimators=wanted.estimators[:1], if_clipping_pays=(), more=())
        candidate = replace(candidate, plan=halved)
        other = choose_recipe(candidate, summaries, only, samples, scorer, attention, known=half, told=told)
        base, chosen = _better(base, chosen, other, scorer.on)
    outliers = [name for name in job.held if name not in held]
    said = (*base.warnings, *_in_pieces(summaries), *_left_out(job, outliers))
    said = (*said, *(_uncorrected(base.view, chosen) if wanted.corrections else ()), *chosen.warnings)
    return replace(chosen, corrections=(*_kept(base, chosen), *chosen.corrections), held=tuple(held), warnings=said)


def _unscored(job: Job, summaries: Collected) -> tuple[RangeEstimator, tuple[str, ...]]:
    """Return the estimator where no candidates are scored, and a sentence where that is not the one of the settings."""
    # with one sample of 100 fifty times as large as the others, auto gave 7.5 dB on those, this one 34.4 dB
    estimator = get_estimator(job.settings.estimator)
    if not summaries.outliers or estimator.name != "auto":
        return estimator, ()
    named = ", ".join(sample.where for sample in job.samples(summaries.outliers[:3]))
    return get_estimator(_ROBUST), (
        f"Ranges are {_ROBUST}, not auto, without {plural(len(summaries.outliers), 'sample')} that in most tensors lie "
        f"at least {GAP:g} times as far out as all others: {named}. --estimator minmax makes ranges of all samples",
    )


def _without_scalings(job: Job, base: FloatNetwork, plan: QuantizationPlan) -> dict[str, Candidate]:
    """Return name → network without some of the scalings, and its plan; the last one is without any."""
    absorbed = tuple(scaling for scaling in base.scalings if not scaling.ports)
    kinds = {} if len(absorbed) == len(base.scalings) else {WITHOUT_INSERTED: absorbed}
    kinds |= {WITHOUT: ()} if absorbed else {}
    found: dict[str, Candidate] = {}
    for name, scalings in kinds.items():
        network = rescaled(job, scalings)
        found[name] = Candidate(network.model, network.view, plan.rescaled(scalings), Edits())
    return found


def _as_fast(job: Job, bare: Candidate, summaries: Collected) -> AsFast:
    """Return the network of the fast effort, which has the scales alone that the extremes of channels show to help.

    Args:
        job: Run.
        bare: Network without scalings, and its plan without ranges.
        summaries: Statistics.
    """
    plain = summaries.plain or summaries
    scalings, facts = _evident(bare.view, bare.plan, plain.whole)
    if not scalings:
        return AsFast(bare, plain)
    network, plan = rescaled(job, scalings), bare.plan.rescaled(scalings)
    whole, kept = (_divided(some, scalings) for some in (plain.whole, plain.kept))
    return AsFast(Candidate(network.model, network.view, plan, Edits()), Collected(kept, whole), facts)


def _suited(
    job: Job, base: FloatNetwork, plan: QuantizationPlan, summaries: Collected, scorer: Scorer | None
) -> tuple[FloatNetwork, QuantizationPlan, Levels | None]:
    """Return the plan with the levels of weights that suit this CPU, whose sums saturate, and the network with why.

    Without them, since OpenVINO failed or nothing can be compared, the levels are None.
    """
    from calib.corrections.half_range import suited  # here: most CPUs have VNNI

    warnings, found = list[str](), None
    with left_out("Levels of weights were not chosen for this CPU, since OpenVINO can't run what shows it", warnings):
        few = job.held[:SCORED]
        scorer = scorer or Scorer(
            job.reference, job.feeds(few), job.streams_for(len(few)), job.outputs(few), job.compared
        )
        if scorer.useful:
            names = recipe_of(job.settings.effort, job.settings.estimator).estimators
            estimator = get_estimator(_ROBUST if _ROBUST in names else names[0])
            candidate = Candidate(base.model, base.view, plan, Edits())
            ranged = replace(candidate, plan=assign(plan, summaries.kept, estimator))
            found = suited(candidate, ranged, scorer)
            plan, warnings = found.plan, [found.sentence]
    return replace(base, warnings=(*base.warnings, *warnings)), plan, found


def _better(base: FloatNetwork, full: Chosen, half: Chosen, samples: str) -> tuple[FloatNetwork, Chosen]:
    """Return the choice with weights in half range if it scores higher than that in full range, with a sentence."""
    from calib.corrections.half_range import corrected_in_half  # here: most CPUs have VNNI

    before, after = (one.scored.score if one.scored else -math.inf for one in (full, half))
    if after <= before:
        return base, full
    return replace(base, warnings=(*base.warnings[:-1], corrected_in_half(after, before, samples))), half


def _kept(base: FloatNetwork, chosen: Chosen) -> Sequence[CorrectionFacts]:
    """Return the facts about equalization; what the network scored higher without was not kept."""
    left = {str(scaling.tensor) for scaling in chosen.candidate.plan.scalings if scaling in base.scalings}
    why = "the network's outputs on held-out samples have a smaller error without equalization"
    return [
        fact.model_copy(update={"kept": False, "detail": why}) if fact.kept and fact.layer not in left else fact
        for fact in base.facts
    ]


def _with_recurrent(job: Job, base: FloatNetwork, plan: QuantizationPlan) -> QuantizationPlan:
    """Return the plan with those recurrent layers in INT8 whose error allows it.

    Raises:
        ModelError: Nothing is left to quantize.
    """
    if not any(one.type in RECURRENT for one in plan.skipped):
        return plan
    from calib.engine.recurrent import measured_recurrent  # here: few models have any

    plan = measured_recurrent(job, base.model, plan)
    if not plan.layers:
        raise nothing_to_quantize(job, plan)
    return plan


def _uncorrected(view: GraphView, chosen: Chosen) -> list[str]:
    """Say of layers inside bodies that no correction looked at them, if there are any."""
    inside = [layer.name for layer in chosen.candidate.plan.layers if layer.name in view.inside]
    if not inside:
        return []
    have = "has" if len(inside) == 1 else "have"
    return [
        f"{plural(len(inside), 'layer')} inside bodies, {inside[0]!r} first, {have} the ranges of all runs of their "
        "body, but no equalization, rounding or correction of biases: these look at tensors that stay inside"
    ]


def _with_values(view: GraphView, plan: QuantizationPlan, summaries: Summaries) -> QuantizationPlan:
    """Return the plan without the layers that no sample gives values to; of tensors that share a range, one suffices.

    Raises:
        ModelError: There is no other layer.
    """
    gone: dict[str, str] = {}
    known = {quantizer.unify for quantizer in plan.activations if quantizer.tensor in summaries} - {""}
    for quantizer in plan.activations:
        if quantizer.tensor not in summaries and quantizer.unify not in known:
            body = view.inside.get(quantizer.tensor.node)
            where = f": no sample runs the body {body.label!r} of {body.owner!r} that it is in" if body else ""
            reason = f"its input {quantizer.tensor} had no values in any calibration sample{where}"
            owned = quantizer.layers or {layer for fused in quantizer.fused for layer in fused.layers}
            gone |= dict.fromkeys(owned, reason)
    for reason in dict.fromkeys(gone.values()):
        plan = plan.without([layer for layer, why in gone.items() if why == reason], reason)
    if gone and not plan.layers:
        layer, reason = next(iter(gone.items()))
        raise ModelError(f"nothing is left to quantize. {layer}: {reason}; use samples that reach it")
    return plan


def _in_pieces(summaries: Collected) -> tuple[str, ...]:
    """Return a sentence on the form that a deep network was compiled in for statistics; none for other networks."""
    if summaries.pieces == 1:
        return ()
    return (
        f"for statistics the network was compiled in {summaries.pieces} pieces that run one after the other: as a "
        "whole, a network of this depth with taps takes far longer to compile. They compute the same",
    )


def _left_out(job: Job, outliers: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence about the held-out samples that candidates are not scored on; none without such samples."""
    if not outliers:
        return ()
    named = ", ".join(sample.where for sample in job.samples(outliers[:3])) + (", …" if len(outliers) > 3 else "")
    return (
        f"{len(outliers)} of the {len(job.held)} held-out samples count for no score, because in most tensors their "
        f"values are at least {GAP:g} times as large as in all others: {named}. Remove such samples if they are broken",
    )
