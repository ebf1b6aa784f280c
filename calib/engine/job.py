"""The inputs of a run, checked before any work is done: model, settings and samples."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from calib.config import Resolved, Settings, resolve
from calib.config.efforts import EFFORTS, Effort
from calib.config.run_inputs import RunInputs
from calib.engine.first_run import FirstRun, run_first
from calib.errors import DataError, ModelError, UsageError
from calib.graph.comparable import Heads, aligned
from calib.graph.view import GraphView, port_name, sized
from calib.loading.first_axis import FirstAxis
from calib.loading.inputs import checked_shapes, embed, found_preprocessing, has_dynamic_first_axis
from calib.loading.load import Loaded, input_specs, load_model, normalized_again, require_float, to_complete
from calib.metrics import METRICS
from calib.python_object import refusal
from calib.runtime.isa import exact_here
from calib.runtime.session import available_precision, default_precision, drawing, ov
from calib.runtime.timing import TimedOn
from calib.samples.content import split_ids
from calib.samples.feed import Arrays, feed_of, frames_in
from calib.samples.open import InMemory, may_hold_images, open_dataset
from calib.samples.preprocess import Preprocess
from calib.samples.sample import Dataset, Frames, Sample
from calib.samples.source import absolute
from calib.values.compared import ComparedOutputs

# Settings that change how fast a result comes, not what it is: they are no part of its identity.
NOT_IDENTITY = frozenset({"threads", "memory_limit", "time_limit", "speed"})

SCORED = 8  # most samples that a model is scored on if none are held out for that
CHECKED = 5  # samples that a model's outputs are checked on
# Bytes of calibration samples that stay in memory. Statistics need each once; the few dozen that candidates are made
# and scored on are read first and again. Images of 224x224 in f32 have 588 KiB each.
KEPT = 32 << 20


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


def prepare(
    model: str | Path | ov.Model | None,
    calibration: Any,
    *,
    flags: Mapping[str, Any],
    sets: Sequence[str] = (),
    config: str | Path | None = None,
    validation: Any = None,
    need_float: bool = True,
    calibrates: bool = False,
    plan: Any = None,
    allow_python: bool | None = None,
) -> Job:
    """Load the model and check settings and data.

    Args:
        model: Model; None for the one that the config file names.
        calibration: Calibration samples; None for none, or for those that the config file names if it ``calibrates``.
        flags: Settings by name, and ``allow_extension``: whether the config file may name libraries of operations.
        sets: Settings as "key=value".
        config: Path of a file of settings.
        validation: Validation samples, which are only noted here.
        need_float: Whether a quantized model is refused.
        calibrates: Whether there have to be calibration samples.
        plan: Plan to apply, which may need none; None for the one that the config file names.
        allow_python: Whether ``python:module:function`` may run.

    Raises:
        CalibError: Anything is wrong with any of them.
    """
    flags = dict(flags)
    allowed = bool(flags.pop("allow_extension", False))
    first = resolve(flags, sets, config)  # mistakes in settings come before the cost of reading a model
    inputs, settled = first.inputs, first.settings
    if settled.extensions:
        from calib.runtime.extensions import load_extensions  # here: few models need any

        load_extensions(settled.extensions, named_in=first.places.get("extensions", ""), allowed=allowed)
    if model is None and not inputs.model:
        raise UsageError("there is no model: give its path, or a config file with 'model:' in it")
    if calibrates and calibration is None:
        if not inputs.calibration and plan is None and not inputs.plan:
            raise UsageError("there is no calibration data: give samples, or a config file with 'calibration:' in it")
        calibration = inputs.calibration or None
        require_allowed(inputs.calibration, allow_python)
    model = inputs.model if model is None else model
    loaded = load_model(model)
    if need_float and settled.complete:
        loaded = to_complete(loaded)
    elif need_float:
        require_float(loaded)
    specs = input_specs(loaded.model)
    found, doubts = found_preprocessing(loaded.rt_info, specs)
    names = [(spec.name, *spec.names) for spec in specs]
    resolved = resolve(flags, sets, config, {"preprocessing": found} if found else {}, names)
    given = loaded if resolved.settings.normalize else normalized_again(loaded, None)
    loaded, host, sentences = embedded(given, resolved.settings)
    if found and len(names) > 1:
        doubts.append(f"model_info asks for {', '.join(sorted(found))}, which a model of several inputs is not given")
    warnings = (
        *resolved.notes,
        *doubts,
        *_random_numbers(loaded.reference),
        *_unavailable(resolved.settings),
    )
    view = GraphView(loaded.model)
    validation = inputs.validation if validation is None else validation
    noted = _as_text(model, calibration, validation, inputs.plan if plan is None else plan)
    job = Job(
        loaded, resolved, view, given, None, host=host, warnings=warnings, allow_python=allow_python, inputs=noted
    )
    if any(map(has_dynamic_first_axis, loaded.model.inputs)):
        axis = FirstAxis(loaded.reference, resolved.settings.first_axis, quantized=loaded.quantized)
        job = replace(job, first_axis=axis)
    if sentences:
        facts = loaded.facts.model_copy(update={"preprocessing": [*loaded.facts.preprocessing, *sentences]})
        job = replace(job, loaded=replace(loaded, facts=facts))
    return job if calibration is None else _with_calibration(job, calibration)


def _unavailable(settings: Settings) -> list[str]:
    """Say that a precision was asked for which this machine can't run, so that nothing is known of it."""
    asked, runs = settings.float_precision, available_precision(settings.float_precision)
    if asked is None or asked == runs:
        return []
    return [
        f"float_precision {asked}: this CPU takes it as a hint and runs {runs}, so everything was measured in {runs} "
        f"and no operation is marked to stay in f32; run 'calib verify', or this run, on a CPU that runs {asked}"
    ]


def _as_text(model: Any, calibration: Any, validation: Any, plan: Any) -> RunInputs:
    """Return what was given as text, with absolute paths; nothing where one of them was a Python object."""
    given = (model, calibration, validation, plan)
    if not all(one is None or isinstance(one, str | os.PathLike) for one in given):
        return RunInputs()
    path, *data, applied = ("" if one is None else str(one) for one in given)
    named = RunInputs(str(Path(path).absolute()), *(absolute(text, Path.cwd()) if text else "" for text in data))
    return replace(named, plan=str(Path(applied).absolute()) if applied else "")


def _random_numbers(model: ov.Model) -> list[str]:
    if not drawing(model):
        return []
    from calib.runtime.random_numbers import random_sentences  # here: few models draw any

    return random_sentences(model)


def embedded(loaded: Loaded, settings: Settings) -> tuple[Loaded, Preprocess | None, list[str]]:
    """Embed the preprocessing that the settings ask for; return the rest, which the host does, and what was done."""
    specs = input_specs(loaded.model)
    if not settings.preprocessing or not specs:
        return loaded, None, []
    block = settings.preprocessing_for(specs[0].name, specs[0].names, only=len(specs) == 1)
    if not block.embed:
        return loaded, block.on_host(), []
    done = embed(loaded.model, block.on_host(), specs[0])
    reference = done.model
    if loaded.reference is not loaded.model:
        reference = embed(loaded.reference, block.on_host(), specs[0]).model
    return replace(loaded, model=done.model, reference=reference), done.remaining, done.sentences


def require_allowed(data: str, allow_python: bool | None) -> None:
    """Refuse data from a config file that would run code, unless that is allowed.

    Raises:
        UsageError: It is ``python:module:function`` and may not run.
    """
    if data.startswith("python:") and not allow_python:
        raise UsageError(refusal(data))


def open_samples(job: Job, data: Any) -> Dataset:
    """Open a dataset for the job's model.

    Raises:
        ModelError: An input has no fixed number of dimensions, so that samples can't be checked, or a port is bf16.
        DataError: The data can't be opened.
    """
    model = job.loaded.model
    for port in (*model.inputs, *model.outputs):
        if port.get_element_type() == ov.Type.bf16:
            raise ModelError(
                f"{job.loaded.facts.name}: {port_name(port)!r} is bf16, a type that numpy does not have, so that its "
                "numbers can't be given or compared. It may be bf16 inside only: give inputs and outputs f32, as "
                "openvino.preprocess.PrePostProcessor does with input().tensor().set_element_type(openvino.Type.f32)"
            )
    for port, spec in zip(model.inputs, input_specs(model), strict=True):
        if port.get_partial_shape().rank.is_dynamic:
            raise ModelError(
                f"{job.loaded.facts.name}: the input {spec.name!r} has a dynamic rank, so that samples can't be told "
                "from batches. Give it a number of dimensions: export it with a shape such as [?,3,?,?], or reshape it"
            )
    given: dict[str, Any] = {"allow_python": job.allow_python is not False, "preprocess": job.host}
    if job.first_axis is not None:
        given["splits"] = job.first_axis
    return checked_shapes(open_dataset(data, inputs=input_specs(model), **given), model)


def check_state(job: Job, dataset: Dataset, ids: Sequence[str]) -> list[str]:
    """Return a warning if the model keeps state and the first sample is a single frame.

    Raises:
        DataError: The first sample is a sequence, and the model keeps no state.
    """
    states: list[str] = sorted(sink.get_variable_id() for sink in job.loaded.model.get_sinks())
    single, where = True, ""
    for sample in dataset.load(ids[:1]):
        single, where = not isinstance(feed_of(sample), Frames), sample.where or sample.id
    if not states and not single:
        raise DataError(
            f"{where} is a sequence, and the model keeps no state: every frame is a sample. Give the frames as "
            "samples, without Sequence and without ?sequence="
        )
    if not states or not single:
        return []
    return [
        f"the model keeps state ({_first_of(states)}), and {dataset.source} gives single frames: the state was reset "
        "before each, so ranges and figures hold for the first frame of a sequence only. Give sequences as samples: "
        "calib.Sequence([frame, frame, …]) in Python, ?sequence= after a file ('calib help data')"
    ]


def _first_of(names: Sequence[str]) -> str:
    """Return the first names, and how many there are if these are not all."""
    first = ", ".join(map(repr, names[:3]))
    return first if len(names) <= 3 else f"{first} … {len(names)} in all"


def _with_calibration(job: Job, calibration: Any) -> Job:
    dataset, settings = InMemory(open_samples(job, calibration), KEPT), job.settings
    ids = dataset.choose(settings.samples, settings.salt)
    if not ids:
        raise DataError(f"{dataset.source}: there are no calibration samples; give at least one")
    warnings = [*job.warnings, *_unused_preprocessing(job, calibration), *check_state(job, dataset, ids)]
    warnings += dataset.notes
    if len(ids) < settings.samples and "samples" in job.resolved.origins:
        warnings.append(f"{settings.samples} calibration samples were asked for, but there are only {len(ids)}")
    kept, held = list(ids), list(ids)
    if job.effort.held_out and len(ids) >= 8:
        usual = EFFORTS["balanced"]
        learned = split_ids(ids, min(usual.held_out / len(ids), 0.2), "held")[0][: usual.samples]
        # those that balanced learns from never are, so that what it would make can be scored here
        kept, held = split_ids(ids, min(job.effort.held_out / len(ids), 0.2), "held", frozenset(learned))
    return replace(job, calibration=dataset, ids=tuple(kept), held=tuple(held), warnings=tuple(warnings))


def _unused_preprocessing(job: Job, data: Any) -> list[str]:
    """Say that preprocessing does nothing to arrays, where the settings ask for any and the samples are arrays."""
    nothing = {"mean": {0.0}, "scale": {1.0}}
    asked = [
        f"{key}.{field}" if key else field
        for key, block in job.settings.preprocessing.items()
        for field, value in block.given().items()
        if value and field != "embed" and not (field in nothing and set(value) == nothing[field])
    ]
    asked = [name for name in asked if job.resolved.origins.get(f"preprocessing.{name}") != "rt_info"]
    inside = any(block.embed for block in job.settings.preprocessing.values())
    if not asked or inside or may_hold_images(data, input_specs(job.loaded.model)):
        return []
    return [
        f"preprocessing.{asked[0]} is for images in files; the calibration samples are arrays, which are used as they "
        "are. Apply it to the arrays, or give image files"
    ]
