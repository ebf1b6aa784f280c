"""Whether INT8 pays: it is timed against FP32, and what does not reach the speed-up asked for is given back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from calib.corrections.candidate import identity_of
from calib.engine.accuracy_control import Kept
from calib.engine.building import Built, aliases, build
from calib.engine.job import Job
from calib.report.numbers import plural
from calib.runtime.isa import cpu
from calib.runtime.paired import slower_layers
from calib.runtime.session import ov
from calib.runtime.timing import Speed, measure_speed
from calib.store import open_store
from calib.values.facts import SpeedFacts

SECONDS = 1.0  # of timing, compilation apart


@dataclass(frozen=True)
class Paid:
    """What is kept, and how fast it is.

    Attributes:
        built: the INT8 model; None where the FP32 model is kept.
        kept: its accuracy.
        speed: of ``built`` or ``refused``; None where nothing was timed.
        refused: the INT8 model that was too slow.
        reason: plain sentences on what was given back and why; empty where nothing was.
    """

    built: Built | None
    kept: Kept | None = None
    speed: Speed | None = None
    refused: Built | None = None
    reason: str = ""


def pay_off(
    job: Job,
    built: Built | None,
    kept: Kept | None,
    again: Callable[[Built], Kept] | None,
    store: str | Path | None = None,
    resume: bool = True,
) -> Paid:
    """Time INT8, and, where a speed-up is required and missed, give back the layers that are slower in INT8.

    Where that is not enough, or where accuracy needs other layers back too and that costs the speed-up, the FP32
    model is kept.

    Args:
        job: with ``require_speedup`` in its settings, or without.
        built: what is timed; None where the FP32 model is kept already.
        kept: its accuracy, if there is a promise.
        again: measures the accuracy of another model, and keeps the promise for it.
        store: where the times are written that the choice depends on, so that a resumed run chooses the same.
        resume: go on from what the store holds.
    """
    if built is None:
        return Paid(None, kept)
    wanted = job.settings.require_speedup
    first, timed = _timed, _timed
    if wanted is not None and store is not None:
        first, timed = partial(_remembered, store, resume), partial(_remembered, store, True)
    speed = first(job, built)
    if wanted is None or gain(speed) >= wanted:
        return Paid(built, kept, speed)
    missed = f"INT8 was {_against(speed)}, and at least {wanted:g}× was asked for"
    slow = given_back(speed, built.plan.units())
    if not slow or len(slow) == len(built.plan.layers):
        which = "every layer was" if slow else "no layer was"
        return Paid(
            None, kept, speed, built, f"{missed}; {which} slower in INT8 on its own, so the FP32 model was kept."
        )
    lighter = build(built.candidate.without(slow))
    faster = timed(job, lighter)
    if gain(faster) >= wanted and again is not None:
        kept = again(lighter)
        if kept.built is None:
            return Paid(None, kept)
        if kept.built is not lighter:
            lighter, faster = kept.built, timed(job, kept.built)
    now = f"without the {plural(len(slow), 'layer')} that took longer in INT8 it is {_against(faster)}"
    if gain(faster) >= wanted:
        return Paid(lighter, kept, faster, reason=f"{missed}; {now}.")
    # What is shown of INT8 is the whole of it: there one sees which layers were slow.
    return Paid(None, kept, speed, built, f"{missed}; {now}, so the FP32 model was kept.")


def gain(speed: Speed) -> float:
    """Return the speed-up over the faster of f32 and default FP32."""
    return min(speed.facts.speedup_f32, speed.facts.speedup_default)


def given_back(speed: Speed, units: Sequence[frozenset[str]]) -> dict[str, str]:
    """Return layer → reason for the layers that were slower in INT8 than in the faster of f32 and default FP32.

    A pure function of the times. Layers that can only change together count as one, with the sum of their times.

    Args:
        speed: with the times of layers.
        units: the smallest sets of layers that can be reverted.
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
            f"slower in INT8 and given back: it took {int8[unit]:.3g} ms in INT8 and {sums[precision][unit]:.3g} ms "
            f"in {precision}{together}"
        )
        slow |= dict.fromkeys(sorted(unit), reason)
    return slow


def _remembered(store: str | Path, resume: bool, job: Job, built: Built) -> Speed:
    """Return what `_timed` measured of this model, from the store where it was timed before."""
    precision = job.settings.float_precision or "f32"
    names = [job.loaded.facts.fingerprint, identity_of(built.candidate), precision, *job.ids[:4], ov.get_version()]
    run = "speed/" + hashlib.sha256(json.dumps([*names, cpu().name]).encode("utf-8", "surrogatepass")).hexdigest()
    with open_store(store, resume) as verdicts:
        if (known := verdicts.get(run, "speed")) is None:
            speed = _timed(job, built)
            known = [speed.facts.model_dump(), dict(speed.int8_ms), dict(speed.f32_ms), dict(speed.default_ms)]
            verdicts.put(run, "speed", known)
            known = verdicts.get(run, "speed")
    facts, *layers = known
    return Speed(SpeedFacts.model_validate(facts), *layers)


def _timed(job: Job, built: Built) -> Speed:
    feeds = job.feeds(job.ids[:4])
    return measure_speed(
        job.loaded.model,
        built.model,
        feeds,
        precision=job.settings.float_precision or "f32",
        aliases=aliases(job.view, built.plan),
        seconds=SECONDS,
    )


def _against(speed: Speed) -> str:
    facts = speed.facts
    rival = "f32" if facts.default_precision == "f32" else f"the faster of f32 and {facts.default_precision}"
    return f"{gain(speed):.2f}× as fast as {rival}{' (on a noisy machine)' if facts.noisy else ''}"
