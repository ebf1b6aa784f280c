"""One correction at a time on top of plain min-max, from calib's own parts: what each is worth, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from peers import TARGET, Samples

from calib.corrections.bias_correction import sequential_correction
from calib.corrections.candidate import Candidate
from calib.corrections.equalization import equalize, rescale
from calib.corrections.rounding import round_all
from calib.corrections.scoring import Scorer
from calib.engine.building import build
from calib.engine.correcting import FloatNetwork, collect_statistics
from calib.engine.job import Job
from calib.engine.placing import place_quantizers
from calib.engine.prepare import prepare
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
        effort = "balanced" if self.guarded else "fast"
        flags = {"samples": len(samples), "effort": effort, "estimator": self.estimator, "target": TARGET}
        return build(self.candidate(prepare(path, list(samples), flags=flags))).model

    def candidate(self, job: Job) -> Candidate:
        """Return the candidate that is built."""
        placed = place_quantizers(job)
        base = FloatNetwork(job.loaded.model, job.view)
        scorer = Scorer(job.loaded.model, job.feeds(job.held), job.streams) if self.guarded else None
        if "equalization" in self.corrections:
            scalings = equalize(job.loaded.model, job.view, placed, job.feeds(job.ids[:16])).scalings
            model = rescale(job.loaded.model, job.view, scalings)
            equal = self._ranged(job, replace(base, model=model, view=GraphView(model)), placed)
            candidate = equal if scorer is None else _better(scorer, self._ranged(job, base, placed), equal)
        else:
            candidate = self._ranged(job, base, placed)
        for name in self.corrections:
            if name != "equalization":
                done = _corrected(name, candidate, job)
                candidate = done if scorer is None else _better(scorer, candidate, done)
        return candidate

    def _ranged(self, job: Job, base: FloatNetwork, placed: QuantizationPlan) -> Candidate:
        with silent("statistics") as stage:
            summaries = collect_statistics(job, base, placed, stage).whole
        return Candidate(base.model, base.view, assign(placed, summaries, get_estimator(self.estimator)), Edits())


def _corrected(name: str, candidate: Candidate, job: Job) -> Candidate:
    samples = job.feeds(job.ids[:LEARNT_FROM])
    if name == "bias":
        return sequential_correction(candidate, samples) or candidate
    rounded, _ = round_all(candidate, samples, streams=job.streams)
    # biases found before rounding, where that is the order asked for
    return replace(rounded, edits=Edits(rounded.edits.rounded, candidate.edits.biases))


def _better(scorer: Scorer, before: Candidate, after: Candidate) -> Candidate:
    return after if scorer(after) > scorer(before) else before
