"""One correction at a time on top of plain min-max, from calib's own parts: what each is worth, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from peers import Samples

from calib.corrections.bias_correction import correct_biases
from calib.corrections.equalization import equalize, rescale
from calib.corrections.rounding import round_all
from calib.corrections.scoring import Draft, Judge
from calib.engine.building import Base, build, gather, make_plan
from calib.engine.job import Job, prepare
from calib.graph.insert import Edits
from calib.graph.view import GraphView
from calib.progress import silent
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.session import ov
from calib.values.plan import QuantizationPlan

LEARNT_FROM = 32  # samples, as in calib's own recipes


@dataclass(frozen=True)
class Ablation:
    """calib with an estimator and the corrections named.

    Attributes:
        corrections: of "equalization", which comes before statistics wherever it stands, "rounding" and "bias", in the
            order they are applied.
        guarded: keep a correction only where the SQNR on held-out calibration samples rises; otherwise all are kept.
    """

    name: str
    estimator: str = "minmax"
    corrections: tuple[str, ...] = ()
    guarded: bool = False

    def prepare(self) -> None:
        """Nothing is left to import."""

    def quantize(self, path: Path, samples: Samples) -> ov.Model:
        """Return the INT8 model."""
        # balanced holds samples out for the guard
        flags = {"samples": len(samples), "effort": "balanced" if self.guarded else "fast", "estimator": self.estimator}
        return build(self.draft(prepare(path, list(samples), flags=flags))).model

    def draft(self, job: Job) -> Draft:
        """Return the draft that is built."""
        placed = make_plan(job)
        base = Base(job.loaded.model, job.view)
        judge = Judge(job.loaded.model, job.feeds(job.held), job.streams) if self.guarded else None
        if "equalization" in self.corrections:
            scalings = equalize(job.loaded.model, job.view, placed, job.feeds(job.ids[:16])).scalings
            model = rescale(job.loaded.model, job.view, scalings)
            equal = self._ranged(job, replace(base, model=model, view=GraphView(model)), placed)
            draft = equal if judge is None else _better(judge, self._ranged(job, base, placed), equal)
        else:
            draft = self._ranged(job, base, placed)
        for name in self.corrections:
            if name != "equalization":
                done = _corrected(name, draft, job)
                draft = done if judge is None else _better(judge, draft, done)
        return draft

    def _ranged(self, job: Job, base: Base, placed: QuantizationPlan) -> Draft:
        with silent("statistics") as stage:
            summaries = gather(job, base, placed, stage)
        return Draft(base.model, base.view, assign(placed, summaries, get_estimator(self.estimator)), Edits())


def _corrected(name: str, draft: Draft, job: Job) -> Draft:
    samples = job.feeds(job.ids[:LEARNT_FROM])
    if name == "bias":
        return correct_biases(draft, samples) or draft
    rounded, _ = round_all(draft, samples, streams=job.streams)
    # biases found before rounding, where that is the order asked for
    return replace(rounded, edits=Edits(rounded.edits.rounded, draft.edits.biases))


def _better(judge: Judge, before: Draft, after: Draft) -> Draft:
    return after if judge(after) > judge(before) else before
