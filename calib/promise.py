"""The accuracy budget: FP32 baseline, INT8 candidates as they would ship, search, and the evidence."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.baseline import check_baseline
from calib.accuracy.budget import Budget
from calib.accuracy.rank import RankedUnit, rank
from calib.accuracy.result import SearchResult
from calib.accuracy.search import bound, search
from calib.accuracy.trial import Limits, Problem
from calib.config import Settings
from calib.corrections.judge import Draft
from calib.corrections.ranking import one_in_damages
from calib.errors import OutputError, UsageError
from calib.graph.load import input_specs
from calib.graph.save import save_model
from calib.job import Job, open_samples
from calib.metrics.resolve import resolve_metric
from calib.metrics.whole_set import WholeSetMetric
from calib.outcome import AccuracyFacts, RankFacts, SearchStepFacts
from calib.plan_file import plan_to_json
from calib.progress import Stage
from calib.runtime.evaluate import accept_any_feed, evaluate_compiled
from calib.runtime.session import F32, Session, compile_model, core, ov
from calib.runtime.timing import Candidate, default_precision, time_models
from calib.samples.identity import split_ids
from calib.samples.open import InMemory
from calib.samples.sample import Dataset
from calib.stages import Built, build, without
from calib.store import RunStore, remembered, remembered_latency

log = logging.getLogger(__name__)

Layers = frozenset[str]


class WholeSet:
    """A user's function over the whole set, as a Metric over one single "sample": it is asked once for each plan."""

    def __init__(self, metric: WholeSetMetric):
        self.name, self.higher_is_better, self.unit = metric.name, metric.higher_is_better, metric.unit
        self.metric = metric

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the function's value."""
        return float(parts[0][0])

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64] | None:
        """Return the scores that the function gave along with its value, if it did and they average to it."""
        value, scores = parts[0]
        if scores is None or not np.isclose(np.mean(scores), value, rtol=1e-6, atol=1e-9):
            return None
        return np.asarray(scores, np.float64)


@dataclass(frozen=True)
class Exam:
    """Measures models with the metric: on single samples where it can, on the whole set where it must.

    Attributes:
        ids: validation samples in id order; one empty name for a function over the whole set.
        references: FP32 outputs by sample id, for metrics that compare with them.
    """

    job: Job
    dataset: Dataset | None
    ids: tuple[str, ...]
    metric: Any
    references: Mapping[str, Sequence[NDArray[Any]]]

    def compiled(self, model: ov.Model, config: Mapping[str, Any]) -> Any:
        """Compile a model in the form that ``run`` takes."""
        if isinstance(self.metric, WholeSet):
            return Session(model, config)
        return compile_model(model, config, streams=self.job.streams)

    def run(self, compiled: Any, indices: Sequence[int]) -> list[Any]:
        """Return the metric's parts of these samples."""
        if isinstance(self.metric, WholeSet):
            predict = accept_any_feed(compiled, input_specs(self.job.loaded.model))
            value, scores = self.metric.metric.evaluate(predict)
            return [(value, None if scores is None else scores.tolist())]
        assert self.dataset is not None
        samples = self.dataset.load([self.ids[i] for i in indices])
        return evaluate_compiled(compiled, samples, self.metric, self.references)


def examine(job: Job, validation: Any) -> Exam | None:
    """Resolve the metric and the validation dataset; None where no accuracy was asked for.

    FP32 outputs are computed only for metrics that compare with them.
    """
    metric = job.settings.metric
    if validation is None and metric is None and job.settings.max_drop is None:
        return None
    outputs = [(_shape(port), np.dtype(port.get_element_type().to_dtype())) for port in job.loaded.model.outputs]
    found = resolve_metric(metric, higher_is_better=job.settings.higher_is_better, outputs=outputs)
    if isinstance(found, WholeSetMetric):
        return Exam(job, None, ("",), WholeSet(found), {})
    if validation is None and found.needs_target:
        raise UsageError(f"the metric {found.name} needs labelled samples: give --validation DATA (validation=…)")
    opened = job.calibration if validation is None else open_samples(job, validation)
    assert opened is not None
    dataset = InMemory(opened)
    ids = tuple(dataset.choose(None))
    references: dict[str, Sequence[NDArray[Any]]] = {}
    if found.needs_reference:
        session = Session(job.loaded.model)
        references = {sample.id: session(sample.feed) for sample in dataset.load(ids)}  # pyright: ignore
    return Exam(job, dataset, ids, found, references)


def _shape(port: ov.Output) -> tuple[int | None, ...]:
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return ()
    return tuple(None if axis.is_dynamic else axis.get_length() for axis in partial)


@dataclass(frozen=True)
class Kept:
    """What the search left: the model to write (None for FP32), and what the report says of it."""

    built: Built | None
    facts: AccuracyFacts
    result: SearchResult | None
    ranking: tuple[RankFacts, ...] = ()
    warnings: tuple[str, ...] = ()


def keep_promise(
    job: Job,
    whole: Built,
    exam: Exam,
    *,
    store: str | Path | None = None,
    resume: bool = False,
    stage: Stage,
) -> Kept:
    """Find the fastest plan within the budget, or the best one there is.

    Args:
        job: with ``max_drop`` in its settings; without one the drop is measured and nothing is reverted.
        whole: everything in INT8.
        exam: measures.
        store: where every verdict is written the moment it is known; None for a temporary file.
        resume: go on from what the store holds.
        stage: told of every step.
    """
    settings, draft = job.settings, whole.draft
    with _open_store(store, resume) as verdicts:
        run = job.fingerprint(_identity(draft), exam.ids, exam.metric.name, default_precision(), ov.get_version())
        trials = _Trials(job, whole, exam)
        ask = remembered(verdicts, run, trials.parts)
        everything = np.arange(len(exam.ids), dtype=np.int64)
        baseline = remembered(verdicts, _baseline_key(job, exam), trials.baseline)(frozenset(), everything)
        value = float(exam.metric.aggregate(baseline))
        check_baseline(
            value,
            exam.metric.name,
            exam.metric.unit,
            samples=len(exam.ids),
            higher_is_better=exam.metric.higher_is_better,
            reference=settings.reference,
        )
        units = draft.plan.units()
        problem = Problem(
            rank(units, dict.fromkeys(units, 0.0)),
            baseline,
            exam.metric,
            Budget(_limit(settings), settings.drop, exam.metric.higher_is_better),
            ask,
            latency=remembered_latency(verdicts, run, trials.latency),
            held_out=_held_out(exam, settings.confirm_split),
            limits=Limits(max_evaluations=settings.max_evaluations),
            expired=_deadline(settings.time_limit),
            progress=lambda step: _tell(stage, step, _limit(settings)),
        )
        _announce(problem, len(units), trials)
        # Layers are ranked only where everything in INT8 misses the budget; its verdict is remembered, not asked twice.
        result = search(replace(problem, limits=Limits(max_evaluations=1)))
        ranking: tuple[RankFacts, ...] = ()
        if settings.max_drop is not None and result.status != "within_budget" and not _over(problem, result):
            ranked, ranking = _ranking(job, draft, units)
            result = search(replace(problem, ranked=ranked))
        if result.stopped and not result.steps:
            raise _nothing_known(result.stopped)
        return _kept(job, exam, problem, result, trials, ranking)


def _over(problem: Problem, result: SearchResult) -> bool:
    """Say whether the search has to end with its first evaluation: time is up, it was interrupted, or one is all."""
    return problem.limits.max_evaluations == 1 or problem.expired() or "interrupted" in result.stopped


def _nothing_known(why: str) -> BaseException:
    """Return how a search ends that was stopped before its first verdict: there is no best model then."""
    if "interrupted" in why:
        return KeyboardInterrupt()
    return UsageError(f"{why} before a single INT8 model was evaluated; raise --time-limit, or leave out --max-drop")


def _baseline_key(job: Job, exam: Exam) -> str:
    """Return what the FP32 baseline depends on, and nothing else: all settings of one model share it."""
    blocks = {name: block.model_dump() for name, block in job.settings.preprocessing.items()}
    source = exam.dataset.source if exam.dataset else ""
    asked = json.dumps(
        [job.loaded.facts.fingerprint, source, exam.ids, blocks, exam.metric.name, ov.get_version()], default=str
    )
    return "fp32/" + hashlib.sha256(asked.encode()).hexdigest()


def _limit(settings: Settings) -> float:
    """Return the budget; without one, one that everything keeps: the drop is measured and nothing reverted."""
    return sys.float_info.max if settings.max_drop is None else settings.max_drop


def _identity(draft: Draft) -> str:
    """Return a hash of what is evaluated: a replayed plan or other ranges make other models of the same settings."""
    digest = hashlib.sha256(plan_to_json(draft.plan).encode())
    for port, (weights, scale) in sorted(draft.edits.rounded.items(), key=lambda item: str(item[0])):
        digest.update(str(port).encode() + weights.tobytes() + scale.tobytes())
    for layer, delta in sorted(draft.edits.biases.items()):
        digest.update(layer.encode("utf-8", "surrogatepass") + delta.tobytes())
    return digest.hexdigest()


def _open_store(path: str | Path | None, resume: bool) -> AbstractContextManager[RunStore]:
    if path is None:
        folder = tempfile.TemporaryDirectory(prefix="calib-")
        return _TemporaryStore(folder)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"run store {path}: can't be written ({error.strerror or error}); choose another output folder"
        ) from error
    return RunStore(path)


class _TemporaryStore(AbstractContextManager[RunStore]):
    def __init__(self, folder: tempfile.TemporaryDirectory[str]):
        self._folder = folder
        self._store = RunStore(Path(folder.name) / "run.sqlite")

    def __enter__(self) -> RunStore:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._folder.cleanup()


class _Trials:
    """Builds each plan as it would ship (written and read again), and runs it; keeps the last one compiled."""

    def __init__(self, job: Job, whole: Built, exam: Exam):
        self._job, self._whole, self._exam = job, whole, exam
        self._last: tuple[Layers, Built, ov.Model, Any] | None = None
        self.seconds = 0.0

    @property
    def config(self) -> Mapping[str, Any]:
        return precision_config(self._job.settings.float_precision)

    def baseline(self, reverted: Layers, indices: NDArray[np.int64]) -> list[Any]:
        started = time.perf_counter()
        parts = self._exam.run(self._exam.compiled(self._job.loaded.model, F32), indices.tolist())
        self.seconds = time.perf_counter() - started
        return parts

    def parts(self, reverted: Layers, indices: NDArray[np.int64]) -> list[Any]:
        return self._exam.run(self._at(reverted)[3], indices.tolist())

    def built(self, reverted: Layers) -> Built:
        return self._at(reverted)[1]

    def shipped(self, reverted: Layers) -> ov.Model:
        return self._at(reverted)[2]

    def _at(self, reverted: Layers) -> tuple[Layers, Built, ov.Model, Any]:
        if self._last is None or self._last[0] != reverted:
            built = build(without(self._whole.draft, sorted(reverted))) if reverted else self._whole
            model = as_saved(built.model, self._job.loaded.fp16_stored)
            self._last = (reverted, built, model, self._exam.compiled(model, self.config))
        return self._last

    def latency(self, plans: Sequence[Layers]) -> list[float]:
        names = [str(number) for number in range(len(plans))]
        models = [self.shipped(plan) for plan in plans]
        found = [Candidate(name, model, self.config) for name, model in zip(names, models, strict=True)]
        times = time_models(found, self._job.feeds(self._job.ids[:4]), threads=1, rounds=50, seconds=1.0)
        return [times.time_ms(name) for name in names]


def precision_config(precision: str | None) -> Mapping[str, Any]:
    """Return how to compile for a float precision; f32 unless another is asked for."""
    return {**F32, "INFERENCE_PRECISION_HINT": precision or "f32"}


def as_saved(model: ov.Model, fp16_stored: frozenset[str]) -> ov.Model:
    """Write a model and read it again: what ships is what is measured."""
    with tempfile.TemporaryDirectory(prefix="calib-") as folder:
        path = Path(folder) / "model.xml"
        save_model(model, path, fp16_constants=fp16_stored)
        read = core().read_model(str(path), config={"ENABLE_MMAP": False})
    return read


def _ranking(job: Job, draft: Draft, units: Sequence[Layers]) -> tuple[tuple[RankedUnit, ...], tuple[RankFacts, ...]]:
    samples = job.feeds(job.ids[: job.settings.rank_samples])
    damages = one_in_damages(draft, units, samples, memory_limit=job.settings.memory_limit, streams=job.streams)
    ranked = rank(units, damages)
    return ranked, tuple(RankFacts(layers=sorted(unit.layers), damage=unit.damage) for unit in ranked)


def _held_out(exam: Exam, share: float) -> NDArray[np.int64]:
    if not share or isinstance(exam.metric, WholeSet):
        return np.empty(0, np.int64)
    _, held = split_ids(exam.ids, share, "confirm")
    position = {name: index for index, name in enumerate(exam.ids)}
    return np.array(sorted(position[name] for name in held), np.int64)


def _deadline(limit: float | None) -> Callable[[], bool]:
    end = None if limit is None else time.monotonic() + limit
    return lambda: end is not None and time.monotonic() > end


def _announce(problem: Problem, units: int, trials: _Trials) -> None:
    most = bound(units, problem.limits, held_out=len(problem.held_out) > 0)
    log.info(
        "search: at most %d evaluations of %d samples; one took %.1f s in FP32, so at most about %.0f s",
        most, len(problem.baseline_parts), trials.seconds, most * max(trials.seconds, 0.1),
    )  # fmt: skip


def _tell(stage: Stage, step: SearchStepFacts, limit: float) -> None:
    budget = f" of {limit:g}" if limit < sys.float_info.max else ""
    stage.update(1, f"drop {step.drop:.4g}{budget}, {len(step.reverted)} layers in float")


def _kept(
    job: Job,
    exam: Exam,
    problem: Problem,
    result: SearchResult,
    trials: _Trials,
    ranking: tuple[RankFacts, ...],
) -> Kept:
    metric, figure = exam.metric, result.headline
    default, warnings, other = default_precision(), [], None
    if figure is not None and default != (job.settings.float_precision or "f32") and result.status != "fp32_kept":
        indices = problem.held_out if result.held_out is not None else problem.search_indices
        compiled = exam.compiled(trials.shipped(result.reverted), {"INFERENCE_PRECISION_HINT": default})
        parts = exam.run(compiled, indices.tolist())
        other = problem.budget.loss(problem.baseline(indices), float(metric.aggregate(parts)))
        other /= problem.budget.scale(problem.baseline(indices))
        if problem.budget.fits(figure.drop) and not problem.budget.fits(other):
            warnings.append(
                f"the budget holds in f32 but not in {default}, which this machine runs by default: "
                "compile the INT8 model with INFERENCE_PRECISION_HINT=f32, or give --float-precision bf16"
            )
    interval = figure.interval if figure is not None else None
    facts = AccuracyFacts(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        unit=metric.unit,
        baseline=figure.baseline if figure else problem.baseline(problem.search_indices),
        quantized=figure.value if figure else float("nan"),
        drop=figure.drop if figure else float("nan"),
        drop_kind=job.settings.drop,
        interval=(interval.low, interval.high) if interval else None,
        interval_method=interval.method if interval else "",
        budget=job.settings.max_drop,
        samples=figure.samples if figure else 0,
        confirmed_samples=len(problem.held_out) if result.held_out is not None else 0,
        precision=job.settings.float_precision or "f32",
        drop_default_precision=other,
        default_precision=default,
        note=result.note if job.settings.max_drop is not None else "",
        bound_evaluations=result.bound_evaluations,
        images_evaluated=result.images_evaluated,
        compilations=result.compilations,
    )
    built = None if result.status == "fp32_kept" else trials.built(result.reverted)
    return Kept(built, facts, result, ranking, tuple(warnings))


__all__ = ["Exam", "Kept", "examine", "keep_promise"]
