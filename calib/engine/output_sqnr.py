"""The SQNR of the outputs for the report: of which samples, how sure, and in which precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calib.corrections.recipes import Chosen
from calib.corrections.scoring import Scorer
from calib.engine.building import Int8Model
from calib.engine.job import SCORED, Job
from calib.engine.unseen import intervals
from calib.runtime.failures import left_out
from calib.runtime.session import default_precision
from calib.values.facts import OutputSqnrFacts, PartSqnrFacts
from calib.values.sqnr import LEAST_SAMPLES, decibel, largest_share
from calib.values.summary import Summaries

LEAST_CALIBRATION = 15  # calibration samples of which a fifth, held out, suffices for an interval
DOMINATED = 0.5  # of the signal or of the error, by one sample

Energies = NDArray[np.float64]


def output_sqnr(
    job: Job, built: Int8Model, chosen: Chosen, summaries: Summaries, warnings: list[str]
) -> OutputSqnrFacts | None:
    """Return the SQNR of what is compared of the outputs; None if nothing is, or if OpenVINO can't run what shows it.

    Figures are from the samples that candidates were scored on. Where layers were reverted since, the model is scored
    again on the first of them, and so is the one before its ranges were fitted to these samples.

    Args:
        job: Run.
        built: Model that is written.
        chosen: Candidate that it is made from.
        summaries: Statistics of the quantized tensors; empty where the ranges are those of a plan that was given, and
            may be from any samples.
        warnings: Receives a sentence about what was left out.
    """
    held_out = bool(job.set_aside and summaries)
    gone = {layer.name for layer in chosen.candidate.plan.layers} - {layer.name for layer in built.plan.layers}
    known = None if gone else chosen.scored
    ids = chosen.held or job.held
    scorer: Scorer | None = None
    written: Mapping[str, Energies] = known.energies if known else {}
    before: Mapping[str, Energies] = chosen.energies if known else {}
    if known is None:
        ids = ids[:SCORED]
        with left_out("The SQNR of the outputs was left out, since OpenVINO can't run what shows it", warnings):
            scorer = _scorer(job, ids)
            written = before = scorer.score(built.model, built.compiled).energies
            if chosen.before:
                earlier = chosen.before.without(dict.fromkeys(gone, "reverted"))
                before = scorer.score(earlier.executable()).energies
    if not written:
        return None
    precision = default_precision()
    run_default: Mapping[str, Energies] = written if precision == "f32" else {}
    float_default: Mapping[str, Energies] = {}
    if precision != "f32":
        what = f"The SQNR of the outputs in the default {precision} was left out, since OpenVINO can't run it"
        with left_out(what, warnings):
            scorer = scorer or _scorer(job, ids)
            run_default = scorer.energies(built.model, {})
            float_default = scorer.energies(job.reference, {})
    ends: Mapping[str, tuple[float, float]] = {}
    unsure = job.effort.held_out and not job.replays  # fast holds nothing out and a replay makes no ranges: both say so
    notes = doubts(before, held_out=held_out) if unsure else []
    if held_out:
        ends, more = intervals(job, built, ids, before, written, summaries, warnings)
        notes += more
    parts: dict[str, PartSqnrFacts] = {}
    for name, energies in written.items():
        if energies[:, 0].sum() == 0 or name not in before:  # an output that is zero has no signal to compare with
            continue
        parts[name] = PartSqnrFacts(
            held_out_db=_db(before[name]) if held_out else None,
            interval=ends.get(name),
            written_db=_db(energies),
            default_db=_known_db(run_default.get(name)),
            fp32_default_db=math.inf if precision == "f32" else _known_db(float_default.get(name)),
        )
    return OutputSqnrFacts(
        samples=list(ids),
        held_out=held_out,
        refitted=held_out and chosen.before is not None,
        default_precision=precision,
        parts=parts,
        notes=notes,
    )


def scored(job: Job, built: Int8Model, chosen: Chosen) -> tuple[Chosen, float]:
    """Return what was chosen with a score, and the least SQNR in dB of its parts; infinite if none can be compared.

    The effort fast scores no candidate: then the model that was built of it is, which the report needs anyway.

    Raises:
        ModelError, RuntimeError: OpenVINO can't compile or run what shows it.
    """
    found = chosen.scored
    if found is None:
        ids = job.held[:SCORED]
        found = _scorer(job, ids).score(built.model, built.compiled)
        if built.plan == chosen.candidate.plan:
            chosen = replace(chosen, scored=found, energies=found.energies, held=tuple(ids))
    parts = (energies.sum(axis=0).tolist() for energies in found.energies.values())
    return chosen, min((decibel(signal, noise) for signal, noise in parts if signal), default=math.inf)


def _scorer(job: Job, ids: Sequence[str]) -> Scorer:
    compared = job.compared
    return Scorer(job.reference, job.feeds(ids), job.streams_for(len(ids)), job.outputs(ids), compared)


def stated(measured: OutputSqnrFacts | None) -> dict[str, float]:
    """Return part → the SQNR that the report states: that of the held-out samples, if there were any."""
    parts = measured.parts if measured else {}
    return {name: part.written_db if part.held_out_db is None else part.held_out_db for name, part in parts.items()}


def doubts(energies: Mapping[str, Energies], *, held_out: bool) -> list[str]:
    """Return why the figures are unsure, one sentence or more each; empty if nothing speaks against them.

    Args:
        energies: Signal and noise energy of each sample, ``(samples, 2)``, by part.
        held_out: Whether the samples were held out.
    """
    count = max((len(rows) for rows in energies.values()), default=0)
    samples = f"{count} sample{'' if count == 1 else 's'}"
    if not held_out:
        return [
            f"The output SQNR is from {samples} that ranges and corrections were made from: it can't tell how other "
            f"samples fare. Give {LEAST_CALIBRATION} calibration samples or more, so that some can be held out."
        ]
    found: list[str] = []
    if count < LEAST_SAMPLES:
        found.append(
            f"The output SQNR is from {samples} held out, too few for an interval: it can't tell how other samples "
            f"fare. Give {LEAST_CALIBRATION} calibration samples or more."
        )
    for name, rows in energies.items():
        if count >= LEAST_SAMPLES and (share := largest_share(rows)) > DOMINATED:
            found.append(
                f"One of {samples} makes {share:.0%} of the signal or of the error of {name}: its SQNR is that of one "
                "sample. Give samples of a more even size, or more of them."
            )
    return found


def _db(energies: Energies) -> float:
    signal, noise = energies.sum(axis=0).tolist()
    return round(decibel(signal, noise), 2)


def _known_db(energies: Energies | None) -> float | None:
    return None if energies is None else _db(energies)
