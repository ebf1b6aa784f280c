"""Verify a written model on the machine where it will run: the same file, what executes, the drop and the speed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.config.resolve import nested
from calib.config.run_inputs import run_inputs
from calib.config.settings import metric_names
from calib.documents.document import read_document
from calib.engine.evaluation import open_evaluator
from calib.engine.evaluators import Evaluator
from calib.engine.job import Job
from calib.engine.measured_here import accuracy_here, layers_here, speed_here
from calib.engine.prepare import prepare, require_allowed
from calib.engine.promises import (
    broken_accuracy,
    broken_files,
    broken_layers,
    broken_speed,
)
from calib.engine.report import environment
from calib.engine.reproduce import JOB_NAME
from calib.engine.result import digests
from calib.errors import ModelError, UsageError
from calib.loading.load import input_specs, load_model
from calib.metrics import METRICS
from calib.outputs import DECODERS
from calib.progress import Clock, Progress
from calib.report.json_report import FILE_NAME, read_report
from calib.report.numbers import plural
from calib.values.accuracy_facts import AccuracyFacts
from calib.values.facts import Report
from calib.values.verification import FileVerification, Verification
from calib.values.version import __version__

# Settings that decide what is measured, and how samples become feeds; the others only made the model.
_MEASURING = (
    "metric",
    "decode",
    "higher_is_better",
    "float_precision",
    "threads",
    "preprocessing",
    "first_axis",
    "normalize",
    "complete",
)


def verify(
    folder: str | Path,
    validation: Any = None,
    *,
    reference_model: str | Path | None = None,
    metric: Any = None,
    allow_python: bool | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Verification:
    """Compare a written model, on the machine where it will run, with what its report promised.

    Preprocessing, metric, budget and precision are those of the report.

    Args:
        folder: Folder that ``quantize`` wrote: the model and its report.json.
        validation: Validation samples, as for ``quantize``; without them the drop is not measured.
        reference_model: Path of the FP32 model; by default that of the report, if it is there and unchanged.
        metric: Metric as for ``quantize``; by default that of the report.
        allow_python: Whether ``python:module:function`` may run, as for ``quantize``; the metric of the report only if
            it is True.
        progress: Receives the progress of each stage; silent by default.
        settings: Settings by name, such as ``threads`` and ``float_precision``; they override the report's.
            ``extensions`` names libraries of operations; those that the report names are loaded only with
            ``allow_extension=True``.

    Raises:
        UsageError: There is no report, or no model that it describes.
        CalibError: Anything is wrong with the data or the metric. A broken promise is a result, see ``broken``.
    """
    clock = Clock(progress)
    with clock("load"):
        report = read_report(folder)
        settings = _with_extensions(report, Path(folder), settings)
        asked = _Asked(report, Path(folder), {**_settings(report, metric, allow_python), **settings}, allow_python)
        files = _files(asked)
        try:
            written = load_model(asked.path)
        except ModelError as error:
            if not broken_files(files):
                raise
            return _unreadable(asked, files, error)
        fp32, notes = _reference(asked, reference_model)
        job = asked.job(fp32)
        notes += list(job.warnings)
    with clock("layers"):
        layers = layers_here(job, report, written)
    evaluator, doubts = _evaluator(job, asked, validation, fp32)
    promised, unlike = _comparable(report, evaluator, fp32)
    with clock("accuracy"):
        accuracy = accuracy_here(job, report, promised, written, evaluator, fp32)
    with clock("speed"):
        latency, speed, timing = speed_here(job, written, evaluator, fp32)
    wanted = next((fact.value for fact in report.settings if fact.key == "require_speedup"), None)
    broken = [
        *broken_files(files),
        *broken_layers(layers),
        *broken_accuracy(accuracy),
        *broken_speed(report.speed, speed, wanted),
    ]
    notes += [*doubts, *unlike, *timing]
    found = {
        "environment": environment(job),
        "reference_model": str(fp32) if fp32 else "",
        "validation": evaluator.source if evaluator else "",
        "layers": layers,
        "accuracy": accuracy,
        "latency_ms": latency,
        "speed": speed,
    }
    return _verification(asked, files, broken, notes).model_copy(update=found)


@dataclass(frozen=True)
class _Asked:
    """What is to be verified.

    Attributes:
        report: What was promised.
        folder: Folder of the model and its report, or the report itself.
        flags: Settings of the report that decide what is measured, with those of the caller over them.
        allow_python: Whether ``python:module:function`` may run.
    """

    report: Report
    folder: Path
    flags: Mapping[str, Any]
    allow_python: bool | None

    @property
    def path(self) -> Path:
        """Path of the model."""
        folder = self.folder if self.folder.is_dir() else self.folder.parent
        return folder / f"{self.report.model.name}.xml"

    def job(self, fp32: Path | None) -> Job:
        """Return a job on the FP32 model, or without one on the written model, which has embedded steps in it."""
        if fp32 is not None:
            return prepare(fp32, None, flags=self.flags, allow_python=self.allow_python)
        flags = {**self.flags}
        blocks = {name: _remaining(block, self.path) for name, block in flags.get("preprocessing", {}).items()}
        flags |= {"preprocessing": blocks} if blocks else {}
        return prepare(self.path, None, flags=flags, need_float=False, allow_python=self.allow_python)


def _settings(report: Report, metric: Any, allow_python: bool | None) -> dict[str, Any]:
    """Return the settings of a report that decide what is measured."""
    chosen = {fact.key: fact.value for fact in report.settings if fact.origin not in ("default", "rt_info")}
    found = {key: value for key, value in nested(chosen).items() if key in _MEASURING}
    if str(found.get("decode")).partition("?")[0] not in DECODERS:
        found.pop("decode", None)  # there was none, or it was a Python object, of which the report holds the name
    if metric is not None:
        return {**found, "metric": metric}
    names = metric_names(str(found.get("metric", "")))
    for name in names:
        require_allowed(name, allow_python)
    if not all(name.startswith("python:") or name.partition("?")[0] in METRICS for name in names):
        found.pop("metric", None)  # there was none, or it was a Python object, of which the report holds the name
    return found


def _with_extensions(report: Report, folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Load the libraries of operations that the caller names, else those of the report, and return the settings.

    Raises:
        UsageError: The report names libraries, and may not.
    """
    named: Any = next((fact.value for fact in report.settings if fact.key == "extensions"), None) or []
    given: Any = settings.get("extensions")
    chosen: list[Any] = [given] if isinstance(given, str | os.PathLike) else list(given or named)
    libraries = [str(one) for one in chosen]
    if not libraries:
        return dict(settings)
    from calib.runtime.extensions import load_extensions  # here: few models need any

    allowed = bool(settings.get("allow_extension"))
    load_extensions(libraries, named_in="" if given else str(folder / FILE_NAME), allowed=allowed)
    return {**settings, "extensions": libraries}


def _remaining(block: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return a block of preprocessing without what is embedded in the written model: its input takes u8 images.

    Written out, since ``model_info`` in the file may still ask for the same mean and scale.
    """
    if not block.get("embed"):
        return dict(block)
    (spec, *_) = input_specs(load_model(path).model)
    colour = "gray" if spec.shape and spec.shape[-1] == 1 else "rgb"
    return {**block, "embed": False, "mean": None, "scale": None, "layout": "NHWC", "color": colour}


def _files(asked: _Asked) -> list[FileVerification]:
    """Return the files of the model with their hashes.

    Raises:
        UsageError: The model is not there.
    """
    path = asked.path
    if not path.is_file():
        raise UsageError(
            f"{path}: not found, and {FILE_NAME} in the same folder describes it. Copy the model's .xml and .bin there"
        )
    found = digests(path)
    names = dict.fromkeys([*asked.report.files, *found])
    return [
        FileVerification(name=name, promised=asked.report.files.get(name, ""), found=found.get(name, ""))
        for name in names
    ]


def _unreadable(asked: _Asked, files: Sequence[FileVerification], error: ModelError) -> Verification:
    """Return what is known where a file is another one and the model can't be read."""
    return _verification(asked, files, [*broken_files(files), f"The model can't be read: {error}"], [])


def _verification(
    asked: _Asked, files: Sequence[FileVerification], broken: Sequence[str], notes: Sequence[str]
) -> Verification:
    """Return everything that is known without running the model."""
    report = asked.report
    unknown = (
        [] if report.files else [f"{FILE_NAME} holds no SHA-256, so that the files could not be compared with it."]
    )
    return Verification(
        calib_version=__version__,
        model=report.model.name,
        folder=str(asked.path.parent),
        status=report.status,
        holds=not broken,
        broken=list(broken),
        notes=[*unknown, *(note for note in notes if note)],
        files=list(files),
        promised_environment=report.environment,
        promised_speed=report.speed,
    )


def _reference(asked: _Asked, given: str | Path | None) -> tuple[Path | None, list[str]]:
    """Return the path of the FP32 model, None without one, and a sentence where it is missing or another one."""
    facts, unlike = asked.report.model, "is another file than the FP32 model that was quantized, by its SHA-256"
    if given is not None:
        known = load_model(given).facts.fingerprint
        return Path(given), [f"{given} {unlike}."] if facts.fingerprint and known != facts.fingerprint else []
    noted = asked.path.with_name(JOB_NAME)
    named = [facts.source, run_inputs(read_document(noted)).model if noted.is_file() else ""]
    there = next((Path(text) for text in reversed(named) if text and Path(text).is_file()), None)
    if there is not None and load_model(there).facts.fingerprint == facts.fingerprint:
        return there, []
    what = f"{there} {unlike}" if there else f"the FP32 model{f' {facts.source}' if facts.source else ''} is not here"
    return None, [
        f"{what}, so that FP32 was not measured: the baseline is the report's, and there is no speed-up. "
        "Give --reference-model"
    ]


def _evaluator(job: Job, asked: _Asked, validation: Any, fp32: Path | None) -> tuple[Evaluator | None, list[str]]:
    """Return what measures the accuracy, or None and the reason."""
    accuracy = asked.report.accuracy
    if validation is None and not callable(asked.flags.get("metric")):  # a function reads samples of its own
        return None, ["The drop was not measured: give --validation."] if accuracy else []
    evaluator = open_evaluator(job, validation)
    if fp32 is None and evaluator is not None and evaluator.metric.needs_reference:
        return None, [
            f"The drop was not measured: the metric {evaluator.metric.name} compares with the outputs of FP32. "
            "Give --reference-model."
        ]
    return evaluator, []


def _comparable(
    report: Report, evaluator: Evaluator | None, fp32: Path | None
) -> tuple[AccuracyFacts | None, list[str]]:
    """Return the accuracy in the report if it can be compared with, and a sentence where that is in doubt.

    Its baseline stands in for a missing FP32 model only if it is of as many samples.
    """
    promised = report.accuracy
    if evaluator is None or promised is None:
        return promised, []
    if promised.metric != evaluator.metric.name:
        return None, [
            f"The report is of the metric {promised.metric}, and {evaluator.metric.name} was measured here: give "
            "--metric, or metric=… for a Python object, so that the two can be compared."
        ]
    if promised.samples != len(evaluator.ids):
        counts = f"{plural(len(evaluator.ids), 'sample')} here, {promised.samples} in the report"
        if fp32 is None:
            return None, [f"The drop was not measured: {counts}, whose baseline is that of other samples."]
        return promised, [f"{counts}."]
    return promised, []
