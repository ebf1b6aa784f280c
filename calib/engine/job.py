"""The inputs of a run, checked before any work is done: model, settings and samples."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

from numpy.typing import NDArray

from calib.config import Resolved, Settings
from calib.config.efforts import EFFORTS, Effort
from calib.config.run_inputs import RunInputs
from calib.engine.first_run import FirstRun, run_first
from calib.graph.comparable import Heads, aligned
from calib.graph.view import GraphView, sized
from calib.loading.first_axis import FirstAxis
from calib.loading.load import Loaded
from calib.metrics import METRICS
from calib.runtime.isa import exact_here
from calib.runtime.session import available_precision, default_precision, ov
from calib.runtime.timing import TimedOn
from calib.samples.feed import Arrays, feed_of, frames_in
from calib.samples.preprocess import Preprocess
from calib.samples.sample import Dataset, Frames, Sample
from calib.values.compared import ComparedOutputs

# Settings that change how fast a result comes, not what it is: they are no part of its identity.
NOT_IDENTITY = frozenset({"threads", "memory_limit", "time_limit", "speed"})

SCORED = 8  # most samples that a model is scored on if none are held out for that
CHECKED = 5  # samples that a model's outputs are checked on


@dataclass(frozen=True)
class Job:
    """The checked inputs of a run.

    Attributes:
        view: View of the model.
        given: The model before the settings' preprocessing was embedded in it.
        ids: Ids of the calibration samples that candidates are made from, in order.
        held: Ids of the calibration samples set aside to score candidates, in order; those of ``ids`` if none are.
        host: Preprocessing that turns images into feeds.
        first_axis: What a dynamic first axis of the inputs is; None if no input has one.
        warnings: Sentences for the report.
        allow_python: Whether ``python:module:function`` may run: True always, False never, None if it is an argument
            but not if the config file names it.
        inputs: Model and data as text with absolute paths; empty where a Python object was given.
        first: First run of the FP32 network, whose outputs others are compared with; None before it.
        replays: Whether ranges and weights are those of a plan, so that the samples serve for checks and timing only.
    """

    loaded: Loaded
    resolved: Resolved
    view: GraphView
    given: Loaded
    calibration: Dataset | None
    ids: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    host: Preprocess | None = None
    first_axis: FirstAxis | None = None
    warnings: tuple[str, ...] = ()
    allow_python: bool | None = None
    inputs: RunInputs = field(default_factory=RunInputs)
    first: FirstRun | None = None
    replays: bool = False

    @property
    def remarks(self) -> list[str]:
        """Sentences for the report: the warnings, and what was taken for a batch."""
        return [*self.warnings, *([self.first_axis.sentence] if self.first_axis and self.first_axis.sentence else [])]

    def warned(self, sentences: Sequence[str]) -> Self:
        """Return the job with more sentences for the report."""
        return replace(self, warnings=(*self.warnings, *sentences))

    @property
    def settings(self) -> Settings:
        """Checked settings."""
        return self.resolved.settings

    @property
    def reference(self) -> ov.Model:
        """Model as it was read, with the preprocessing that the settings embed: FP32 outputs are this model's."""
        return self.loaded.reference

    @property
    def exact_int8(self) -> bool:
        """Whether the target adds products of full 8-bit factors exactly, or what they lose is measured here."""
        return self.settings.target != "cpu-no-vnni"

    @property
    def chooses_levels(self) -> bool:
        """Whether the levels of weights are chosen by what this CPU, whose INT8 sums saturate, makes of them."""
        return self.settings.target in ("auto", "this-cpu") and not exact_here()

    @property
    def precision(self) -> str:
        """Precision of the layers in floating point where the model will run: the budget is judged in it."""
        return available_precision(self.settings.float_precision)

    @property
    def reduced_precision(self) -> str:
        """The precision below f32 that accuracy is measured in too: `precision` or the machine's default; "" if none.

        Where there is none, what is measured in f32 is all there is to know.
        """
        return next((one for one in (self.precision, default_precision()) if one != "f32"), "")

    @property
    def timed_on(self) -> TimedOn:
        """Threads and inferences at a time that models are timed with, as ``--hint`` says."""
        hint, every = self.settings.hint, self.streams
        return TimedOn(1 if hint is None else every, every if hint == "throughput" else 1)

    @property
    def effort(self) -> Effort:
        """Row of the effort in the settings."""
        return EFFORTS[self.settings.effort]

    @cached_property
    def compared(self) -> tuple[ComparedOutputs, ComparedOutputs]:
        """What is compared of the forms made from the model, and the same of the reference."""
        form, reference = aligned(self.loaded.model, self.reference, view=self.view, heads=self.heads[0])
        return form, reference

    @property
    def heads(self) -> tuple[Heads, str]:
        """Parts of raw heads of a detector, where boxes are decoded from them, and a sentence on them."""
        named = [name.partition("?")[0].strip() for name in str(self.settings.judged_by).split(",")]
        boxes = any(METRICS[name].takes == "boxes" for name in named if name in METRICS)
        if self.settings.decode is None and not boxes:
            return (), ""
        from calib.engine.decoding import heads_of  # here: few runs decode anything

        return heads_of(self.loaded, self.settings)

    @property
    def all_ids(self) -> tuple[str, ...]:
        """Ids of all calibration samples, in order: the final ranges are those of all."""
        return tuple(sorted({*self.ids, *self.held}))

    @property
    def set_aside(self) -> frozenset[str]:
        """Ids of the held-out samples that candidates are not made from; empty if none are."""
        return frozenset(self.held) - frozenset(self.ids)

    @property
    def streams(self) -> int:
        """Most samples that run at the same time."""
        return self.settings.threads or len(os.sched_getaffinity(0))

    def streams_for(self, samples: int) -> int:
        """Return how many of this many samples run at the same time, since each stream makes compiling dearer."""
        return self.first.streams(samples, self.streams) if self.first else self.streams

    @cached_property
    def of_sample(self) -> GraphView:
        """View of the model with the shapes of its first sample where its own are dynamic, if it takes them."""
        if not self.ids or not self.loaded.model.is_dynamic():
            return self.view
        return sized(self.loaded.model, self.view, self.feeds(self.ids[:1])[0])

    def samples(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Load calibration samples."""
        if not ids:
            return iter(())
        assert self.calibration is not None
        return self.calibration.load(ids)

    def feeds(self, ids: Sequence[str]) -> list[Arrays | Frames]:
        """Load the feeds of a few calibration samples."""
        return [feed_of(sample) for sample in self.samples(ids)]

    def with_first_run(self) -> Self:
        """Return the job with the outputs of FP32 on the samples that models are scored on; itself without samples."""
        ids = self.held[: max(self.effort.held_out, SCORED)]
        if not ids:
            return self
        samples = dict(zip(ids, self.feeds(ids), strict=True))
        return replace(self, first=run_first(self.reference, self.compared[1], samples, self.streams))

    @property
    def compiled_reference(self) -> ov.CompiledModel | None:
        """The reference with what is compared of it, if it is still compiled."""
        return self.first.compiled if self.first and self.first.own == self.compared[1] else None

    def outputs(self, ids: Sequence[str]) -> list[list[NDArray[Any]]] | None:
        """Return the FP32 outputs of each inference of these samples if the first run has them all."""
        return self.first.of(ids, self.compared[1]) if self.first else None

    def few(self) -> list[Arrays | Frames]:
        """Load the feeds of the few calibration samples that outputs are checked on."""
        return self.feeds((self.held or self.ids)[:CHECKED])

    def statistics_mark(self, *more: object) -> str:
        """Return everything that statistics depend on: model bytes, samples, preprocessing and what is collected."""
        blocks = {name: block.model_dump() for name, block in self.settings.preprocessing.items()}
        parts = [self.loaded.facts.fingerprint, self.ids, self.held, blocks, *more]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _feed(sample: Sample) -> tuple[str, str, Arrays | Frames]:
    """Return a sample as statistics take it."""
    return sample.id, sample.where, feed_of(sample)


@dataclass(frozen=True)
class CalibrationFeeds:
    """Feeds of the calibration samples, loaded one at a time, in the order that holds the fewest in memory.

    They can be iterated more than once.

    The length is the number of inferences; of sequences about that, as if all were as long as the first.
    """

    job: Job

    def __len__(self) -> int:
        return len(self.job.all_ids) * frames_in(self.job.feeds(self.job.all_ids[:1])[0])

    def __iter__(self) -> Iterator[tuple[str, str, Arrays | Frames]]:
        ids, dataset = self.job.all_ids, self.job.calibration
        return map(_feed, self.job.samples(dataset.reading_order(ids) if dataset else ids))
