"""Return layers to floating point up to the knee of SQNR against work: without labels, and without a budget.

Which layers they are follows from the error of each unit alone and from multiply-accumulates, not from timings, so that
two runs give the same bytes. Milliseconds are for the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib.accuracy.knee import KneePoint, knee_curve, knee_of
from calib.accuracy.prediction import RankedUnit
from calib.corrections.recipes import Chosen
from calib.engine.accuracy_control import ranked_units
from calib.engine.building import Int8Model, build
from calib.engine.job import Job
from calib.graph.layers import multiply_accumulates
from calib.graph.view import GraphView
from calib.report.knee import knee_ms
from calib.report.numbers import decibel, milliseconds, plural
from calib.values import sqnr
from calib.values.accuracy_facts import KneeFacts, KneePointFacts, RankFacts
from calib.values.facts import SpeedFacts


@dataclass(frozen=True)
class Knee:
    """What the return of units to floating point is expected to bring.

    Attributes:
        curve: From none in floating point, one more unit at a time.
        point: The knee; None if there is none.
        ranking: Units by their sensitivity.
        taken: Whether the layers of the knee have returned.
        warnings: Sentences for the report.
    """

    curve: tuple[KneePoint, ...]
    point: KneePoint | None
    ranking: tuple[RankFacts, ...]
    taken: bool = False
    warnings: tuple[str, ...] = ()


def take_knee(job: Job, built: Int8Model, chosen: Chosen) -> tuple[Int8Model, Knee]:
    """Return the model with the layers up to the knee in floating point, itself where there is no knee.

    Layers are ranked as for a budget: one compilation with switches, and a run of each unit on a few samples. Where no
    layer returns, a sentence says why; the curve is empty where nothing is known.

    Args:
        job: Run.
        built: Model with everything in INT8.
        chosen: Candidate that it is made from.
    """
    warnings: list[str] = []
    ranked = ranked_units(job, built, built.plan.units(), warnings) if built.plan.layers and job.ids else ()
    facts = tuple(RankFacts(layers=sorted(unit.layers), sensitivity=unit.sensitivity) for unit in ranked)
    known = knee_in(job.of_sample, chosen, facts, warnings)
    if known is None:
        reason = "it is not known what their return would bring, since no layer was ranked or no output was scored"
        return built, Knee((), None, facts, warnings=(*warnings, f"--knee returned no layers: {reason}."))
    if known.point is None:
        return built, replace(known, warnings=(*warnings, f"--knee returned no layers: {_none(known.curve)}."))
    why = "returned by --knee: the outputs gain most from it for its work"
    lighter = build(built.candidate.without(dict.fromkeys(known.point.layers, why)), feeds=job.few)
    return lighter, Knee(known.curve, known.point, facts, True, tuple(warnings))


def knee_in(view: GraphView, chosen: Chosen, ranking: Sequence[RankFacts], warnings: Sequence[str] = ()) -> Knee | None:
    """Return what the return of ranked units brings; None without units, or where no output was scored.

    Args:
        view: View of the model, with shapes that tell how much work a layer is.
        chosen: Candidate with everything in INT8, and its energies on held-out samples.
        ranking: Units with their sensitivities.
        warnings: Sentences for the report.
    """
    energies: Mapping[str, np.ndarray] = chosen.energies or (chosen.scored.energies if chosen.scored else {})
    sums = [rows.sum(axis=0).tolist() for rows in energies.values()]
    errors = [noise / signal for signal, noise in sums if signal > 0]
    if not errors or not ranking or not 0 < sum(errors) < np.inf:
        return None
    units = [RankedUnit(frozenset(fact.layers), fact.sensitivity) for fact in ranking]
    work = {name: float(multiply_accumulates(view, name)) for unit in units for name in unit.layers}
    curve = knee_curve(units, work, sqnr.decibel(1.0, float(np.mean(errors))))
    return Knee(tuple(curve), knee_of(curve), tuple(ranking), warnings=tuple(warnings))


def knee_facts(known: Knee, speed: SpeedFacts | None) -> KneeFacts:
    """Return the facts for the report, with milliseconds if latencies were measured."""
    first, point = known.curve[0], known.point
    points = [KneePointFacts(layers=len(one.layers), share=one.share, sqnr_db=one.sqnr_db) for one in known.curve]
    if point is None:
        return KneeFacts(points=points, sentence=f"There is no knee: {_none(known.curve)}.")
    gain, cost = decibel(point.sqnr_db - first.sqnr_db), f"{100 * point.share:.1f} % of the work"
    if speed:
        start, end = (knee_ms(speed, share, point.share if known.taken else 0.0) for share in (0.0, point.share))
        cost += f", about {milliseconds(end - start)} or {100 * (end - start) / start:.0f} % of the time"
    does = "as --knee asks" if known.taken else "which --knee takes"
    sentence = f"{plural(len(point.layers), 'layer')} in floating point: about +{gain} for {cost}, {does}."
    return KneeFacts(points=points, layers=list(point.layers), taken=known.taken, sentence=sentence)


def _none(curve: Sequence[KneePoint]) -> str:
    """Return why a curve has no knee."""
    last, gain = curve[-1], curve[-1].sqnr_db - curve[0].sqnr_db
    if not last.layers:
        return "each layer is more of the work than may return"
    return (
        f"few layers do not stand out; {plural(len(last.layers), 'layer')} in floating point, "
        f"{100 * last.share:.0f} % of the work, would bring about {decibel(gain)}"
    )
