"""The speed-up check: time INT8 against FP32 and revert slow layers if a required speed-up is missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from calib.corrections.candidate import identity_of
from calib.engine.accuracy_control import Controlled, control_accuracy
from calib.engine.baseline import Baseline
from calib.engine.building import Int8Model, aliases, build
from calib.engine.job import Job
from calib.progress import Stage
from calib.report.numbers import plural
from calib.runtime.failures import left_out
from calib.runtime.isa import cpu
from calib.runtime.paired import slower_layers
from calib.runtime.session import default_precision, ov
from calib.runtime.timing import ALONE, Speed, measure_speed
from calib.store import hash_of, open_store
from calib.values.facts import SpeedFacts

SECONDS = 1.0  # of timing, compilation apart


@dataclass(frozen=True)
class Outcome:
    """The model that a run ends with, its accuracy and its speed.

    Attributes:
        built: INT8 model; None if the FP32 model is kept.
        controlled: Result of accuracy control; None if no accuracy was measured.
        speed: Speed of ``built`` or ``refused``; None if nothing was timed.
        refused: INT8 model that was rejected because it was too slow, or no layer of it ran in INT8.
        reason: Sentences on the layers that were reverted for speed and why; empty if none were.
        warnings: Sentences on figures that were left out.
    """

    built: Int8Model | None
    controlled: Controlled | None = None
    speed: Speed | None = None
    refused: Int8Model | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()


def nothing_runs(built: Int8Model, controlled: Controlled | None) -> Outcome:
    """Return the outcome of a model that has no layer left because none ran in INT8: the FP32 model is kept."""
    return Outcome(None, controlled, refused=built, reason="No layer runs in INT8 on this CPU, so FP32 was kept.")


def check_speedup(
    job: Job,
    outcome: Outcome,
    baseline: Baseline | None,
    *,
    store: str | Path | None = None,
    resume: bool = False,
    stage: Stage,
) -> Outcome:
    """Time INT8; if a speed-up is required and missed, revert the layers that are slower in INT8.

    The FP32 model is kept if that is not enough, or if the speed-up is lost again because accuracy needs other layers
    reverted too.

    Args:
        job: Run, with or without ``require_speedup`` in its settings.
        outcome: Outcome so far; nothing is timed if the FP32 model is kept already.
        baseline: FP32 baseline, with the evaluator of a model without the slow layers; None if no accuracy is measured.
        store: Path of the file for the times that the choice depends on, so that a resumed run chooses the same.
        resume: Whether to continue from the times in the store.
        stage: Receives the progress of accuracy control.
    """
    built, controlled, wanted = outcome.built, outcome.controlled, job.settings.require_speedup
    if built is None:
        return outcome
    if job.settings.optimize_speed:
        outcome = _fastest(job, outcome, baseline, store=store, resume=resume, stage=stage)
        built, controlled = outcome.built, outcome.controlled
        if built is None:
            return outcome
    first, timed = _timed, _timed
    if wanted is not None and store is not None:
        first, timed = partial(_remembered, store, resume or baseline is not None), partial(_remembered, store, True)
    warnings = [*outcome.warnings]
    speed = None
    with left_out("Speed was not measured, since OpenVINO can't run a model that it is measured on", warnings):
        speed = first(job, built)
    if speed is None:
        return replace(outcome, warnings=tuple(warnings))
    if wanted is None or gain(speed) >= wanted:
        return replace(outcome, speed=speed)
    missed = f"INT8 was {_against(speed)}, and at least {wanted:g}× was asked for"
    slow = slow_layers(speed, built.plan.units())
    if not slow or len(slow) == len(built.plan.layers):
        which = "every layer was" if slow else "no layer was"
        why = f"{missed}; {which} slower in INT8 on its own, so the FP32 model was kept."
        return Outcome(None, controlled, speed, built, why, tuple(warnings))
    lighter = build(built.candidate.without(slow), feeds=job.few)
    faster = timed(job, lighter)
    if gain(faster) >= wanted and baseline is not None:
        controlled = control_accuracy(job, lighter, baseline, store=store, stage=stage)
        if controlled.built is None:
            return Outcome(None, controlled)
        if controlled.built is not lighter:
            lighter, faster = controlled.built, timed(job, controlled.built)
    now = f"without the {plural(len(slow), 'layer')} that took longer in INT8 it is {_against(faster)}"
    if gain(faster) >= wanted:
        return Outcome(lighter, controlled, faster, reason=f"{missed}; {now}.", warnings=tuple(warnings))
    # What is shown of INT8 is the whole of it: there one sees which layers were slow.
    why = f"{missed}; {now}, so the FP32 model was kept."
    return Outcome(None, controlled, speed, built, why, tuple(warnings))


def _fastest(
    job: Job, outcome: Outcome, baseline: Baseline | None, *, store: str | Path | None, resume: bool, stage: Stage
) -> Outcome:
    """Return the outcome with the form of the INT8 model that was timed as the fastest, its accuracy measured."""
    from calib.engine.fastest import fastest  # here: few runs ask for it

    built, controlled = outcome.built, outcome.controlled
    assert built is not None
    run = "fastest/" + hash_of([*_timed_as(job, built), cpu().name])
    with open_store(store, resume or baseline is not None) as verdicts:

        def remember(name: str, measure: Callable[[], Any]) -> Any:
            if verdicts.get(run, name) is None:
                verdicts.put(run, name, measure())
            return verdicts.get(run, name)

        form, said = fastest(job, built, remember, lambda: _layer_times(_timed(job, built)))
    if form is not built and baseline is not None:
        controlled = control_accuracy(job, form, baseline, store=store, stage=stage)
        form = controlled.built
    return replace(outcome, built=form, controlled=controlled, warnings=(*outcome.warnings, said))


def _layer_times(speed: Speed) -> dict[str, list[float]]:
    """Return layer → milliseconds in INT8 and in the faster of f32 and the default precision, where all are known."""
    columns = (speed.int8_ms, speed.f32_ms, speed.default_ms)
    known = [name for name in speed.int8_ms if all(name in column for column in columns)]
    return {name: [speed.int8_ms[name], min(speed.f32_ms[name], speed.default_ms[name])] for name in known}


def _timed_as(job: Job, built: Int8Model) -> list[str]:
    """Return what times depend on, the machine apart."""
    of_model = [job.loaded.facts.fingerprint, identity_of(built.candidate), job.precision]
    return [*of_model, *job.ids[:4], ov.get_version(), *([] if job.timed_on == ALONE else [str(job.timed_on)])]


def gain(speed: Speed) -> float:
    """Return the speed-up over FP32 in f32 or the default precision, whichever is faster."""
    return min(speed.facts.speedup_f32, speed.facts.speedup_default)


def slow_layers(speed: Speed, units: Sequence[frozenset[str]]) -> dict[str, str]:
    """Return layer → reason for the layers that were slower in INT8 than in f32 or the default precision.

    A pure function of the times. Layers that can only change together count as one, with the sum of their times.

    Args:
        speed: Speed with the times of layers.
        units: Smallest sets of layers that can be reverted.
    """
    columns = {"INT8": speed.int8_ms, "f32": speed.f32_ms, speed.facts.default_precision: speed.default_ms}
    timed = [unit for unit in units if all(unit <= times.keys() for times in columns.values())]
    sums = {name: {unit: sum(times[n] for n in sorted(unit)) for unit in timed} for name, times in columns.items()}
    int8 = sums.pop("INT8")
    slow: dict[str, str] = {}
    for unit in slower_layers(int8, list(sums.values())):
        precision = min(sums, key=lambda name: sums[name][unit])
        together = "" if len(unit) == 1 else f" with the {len(unit) - 1} that change with it"
        reason = (
            f"slower in INT8 and reverted: it took {int8[unit]:.3g} ms in INT8 and {sums[precision][unit]:.3g} ms "
            f"in {precision}{together}"
        )
        slow |= dict.fromkeys(sorted(unit), reason)
    return slow


def _remembered(store: str | Path, resume: bool, job: Job, built: Int8Model) -> Speed:
    """Return the speed of this model; read it from the store if it was timed before."""
    run = "speed/" + hash_of([*_timed_as(job, built), cpu().name])
    with open_store(store, resume) as verdicts:
        if (known := verdicts.get(run, "speed")) is None:
            speed = _timed(job, built)
            known = [speed.facts.model_dump(), dict(speed.int8_ms), dict(speed.f32_ms), dict(speed.default_ms)]
            verdicts.put(run, "speed", known)
            known = verdicts.get(run, "speed")
    facts, *layers = known
    return Speed(SpeedFacts.model_validate(facts), *layers)


def _timed(job: Job, built: Int8Model) -> Speed:
    """Time a model; where OpenVINO can't run one in the default precision, f32 stands for it, and the note says so."""
    missing: list[str] = []
    default = default_precision()
    with left_out(f"In {default}, this machine's default, OpenVINO can't run it, and f32 stands for it", missing):
        return _timed_in(job, built, in_default=True)
    speed = _timed_in(job, built, in_default=False)
    return replace(speed, facts=speed.facts.model_copy(update={"note": f"{missing[0]} {speed.facts.note}".strip()}))


def _timed_in(job: Job, built: Int8Model, *, in_default: bool) -> Speed:
    feeds = job.feeds(job.ids[:4])
    return measure_speed(
        job.reference,
        built.model,
        feeds,
        precision=job.precision if in_default else "f32",
        aliases=aliases(job.view, built.plan),
        in_default=in_default,
        seconds=SECONDS,
        on=job.timed_on,
    )


def _against(speed: Speed) -> str:
    facts = speed.facts
    rival = "f32" if facts.default_precision == "f32" else f"the faster of f32 and {facts.default_precision}"
    return f"{gain(speed):.2f}× as fast as {rival}{' (on a noisy machine)' if facts.noisy else ''}"
