"""Check the inputs of a run before any work is done: settings, model, preprocessing and samples."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calib.config import Settings, resolve
from calib.config.efforts import EFFORTS
from calib.config.run_inputs import RunInputs
from calib.engine.job import Job
from calib.errors import DataError, ModelError, UsageError
from calib.graph.view import GraphView, port_name
from calib.loading.first_axis import FirstAxis
from calib.loading.inputs import checked_shapes, embed, found_preprocessing, has_dynamic_first_axis
from calib.loading.load import Loaded, input_specs, load_model, normalized_again, require_float, to_complete
from calib.python_object import refusal
from calib.runtime.session import available_precision, drawing, ov
from calib.samples.content import split_ids
from calib.samples.feed import feed_of
from calib.samples.open import InMemory, may_hold_images, open_dataset
from calib.samples.preprocess import Preprocess
from calib.samples.sample import Dataset, Frames
from calib.samples.source import absolute

# Bytes of calibration samples that stay in memory. Statistics need each once; the few dozen that candidates are made
# and scored on are read first and again. Images of 224x224 in f32 have 588 KiB each.
KEPT = 32 << 20


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
        calibration = _named_calibration(inputs, plan, allow_python)
    model = inputs.model if model is None else model
    loaded = load_model(model)
    if need_float:
        loaded = to_complete(loaded) if settled.complete else require_float(loaded)
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


def _named_calibration(inputs: RunInputs, plan: Any, allow_python: bool | None) -> str | None:
    """Return the calibration data that the config file names; None where a plan needs none.

    Raises:
        UsageError: There is none, or it would run code.
    """
    if not inputs.calibration and plan is None and not inputs.plan:
        raise UsageError("there is no calibration data: give samples, or a config file with 'calibration:' in it")
    require_allowed(inputs.calibration, allow_python)
    return inputs.calibration or None


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
