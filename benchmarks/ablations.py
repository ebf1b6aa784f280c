"""One correction at a time on top of plain min-max, from calib's own parts: what each of them is worth alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from peers import Samples

from calib.corrections.channels import equalize, rescale
from calib.corrections.judge import Draft
from calib.corrections.sequential_bias import correct_biases
from calib.corrections.weights import round_all
from calib.graph.insert import Edits
from calib.graph.view import GraphView
from calib.job import Job, prepare
from calib.progress import silent
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.session import ov
from calib.stages import Base, build, gather, make_plan


@dataclass(frozen=True)
class Ablation:
    """calib with an estimator and the corrections named, unguarded: nothing decides whether they are kept.

    Attributes:
        corrections: of "equalization", "rounding" and "bias"; applied in this order.
    """

    name: str
    estimator: str = "minmax"
    corrections: tuple[str, ...] = ()

    def prepare(self) -> None:
        """Nothing is left to import."""

    def quantize(self, path: Path, samples: Samples) -> ov.Model:
        """Return the INT8 model."""
        flags = {"samples": len(samples), "effort": "fast", "estimator": self.estimator}
        return build(self.draft(prepare(path, list(samples), flags=flags))).model

    def draft(self, job: Job) -> Draft:
        """Return the draft that is built."""
        placed = make_plan(job)
        base = Base(job.loaded.model, job.view)
        if "equalization" in self.corrections:
            scalings, _ = equalize(job.loaded.model, job.view, placed, job.feeds(job.ids[:16]))
            model = rescale(job.loaded.model, job.view, scalings)
            base = replace(base, model=model, view=GraphView(model))
        with silent("statistics") as stage:
            summaries = gather(job, base, placed, stage)
        ranged = assign(placed, summaries, get_estimator(self.estimator))
        draft = Draft(base.model, base.view, ranged, Edits())
        if "rounding" in self.corrections:
            draft, _ = round_all(draft, job.feeds(job.ids[:32]), streams=job.streams)
        corrected = correct_biases(draft, job.feeds(job.ids[:32])) if "bias" in self.corrections else None
        return corrected or draft
