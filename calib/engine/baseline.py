"""Measure the FP32 baseline: the accuracy that every other model is compared with, checked before calibration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.baseline import check_baseline, labels_moved
from calib.engine.evaluation import Evaluator
from calib.interrupts import Interrupts
from calib.progress import Stage
from calib.store import FP32_RUN, RunStore, hash_of, open_store


@dataclass(frozen=True)
class Baseline:
    """Results of the FP32 model on the validation samples.

    Attributes:
        evaluator: Evaluator that measured it, and measures every other model.
        parts: Parts of the metric, one per sample.
        moved: The same with labels moved by −1 and +1; empty if the metric has no labels to move.
        margins: Distance of each sample from another result, ``(samples,)``; None if the metric does not give it.
        marks: The `calib.engine.evaluation.mark` of each sample; empty for a function that reads its own.
        seconds: Duration of the pass.
    """

    evaluator: Evaluator
    parts: Sequence[Any]
    moved: Sequence[Any]
    margins: NDArray[np.float64] | None
    marks: tuple[str, ...]
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def contents(self) -> str:
        """Hash of all samples and their targets."""
        return hash_of(self.marks)


def measure_baseline(evaluator: Evaluator, *, store: str | Path | None, resume: bool, stage: Stage) -> Baseline:
    """Return the accuracy of FP32, from the store if it is known there.

    Args:
        evaluator: Evaluator that measures each model.
        store: Path of the file that every result is written to at once; None for a temporary file.
        resume: Whether to continue from the results in the store, which are deleted otherwise.
        stage: Receives remarks.

    Raises:
        BaselineError: It can't be right.
    """
    with open_store(store, resume) as results, Interrupts() as interrupts:
        checked = replace(evaluator, check=interrupts.check)  # between two samples, not while a result is written
        baseline, metric = replace(_measured(results, checked, stage), evaluator=evaluator), evaluator.metric
    check_baseline(
        float(metric.aggregate(baseline.parts)),
        metric.name,
        metric.unit,
        samples=len(evaluator.ids),
        higher_is_better=metric.higher_is_better,
        chance=evaluator.chance,
        reference=evaluator.job.settings.reference,
        with_labels_shifted=labels_moved(metric, baseline.moved) if baseline.moved else None,
    )
    return baseline


def _measured(store: RunStore, evaluator: Evaluator, stage: Stage) -> Baseline:
    """Run FP32, or take its results from the store if samples and targets are unchanged."""
    key = FP32_RUN + hash_of([evaluator.job.loaded.facts.fingerprint, *evaluator.identity()])
    everything = np.arange(len(evaluator.ids), dtype=np.int64)
    known: dict[str, Any] | None = store.get(key, "baseline")
    warnings: list[str] = []
    if known is not None:
        marks = evaluator.marks()
        changed = [i for i, mark in enumerate(marks) if mark != known["marks"][i]]
        if changed:
            warnings.append(
                f"the validation data are not what they were in the run to resume: {len(changed)} of {len(marks)} "
                f"samples, {evaluator.ids[changed[0]]} first, have other contents or targets; "
                "everything is evaluated anew"
            )
            stage.say(warnings[0])
            known = None
    if known is None:
        started = time.perf_counter()
        rows, marks = evaluator.baseline()
        known = {"marks": marks, "seconds": time.perf_counter() - started}
        store.keep_verdict(f"{key}/{hash_of(marks)}", frozenset(), everything, rows)
        store.put(key, "baseline", known)
    rows = store.known(f"{key}/{hash_of(known['marks'])}", frozenset())
    parts, moved, margins = zip(*(rows[i] for i in everything.tolist()), strict=True)
    return Baseline(
        evaluator,
        parts,
        moved if None not in moved else (),
        np.array(margins, np.float64) if None not in margins else None,
        tuple(known["marks"]),
        known["seconds"],
        tuple(warnings),
    )
