"""From the form to a run: what was typed becomes settings, a job of the zoo, and a command line that does the same."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from calib.config import Settings
from calib.config.preprocessing import Preprocessing
from calib.documents.document import parse_yaml
from calib.engine.reproduce import command_line
from calib.errors import CalibError, UsageError
from calib.python_object import names_code, refusal
from calib.studio.allowed import Allowed
from calib.values.options import options_in
from calib.zoo.make_jobs import ZooJob

# Fields whose text is the setting's value.
TEXTS = ("metric", "max_drop", "min_sqnr", "effort", "estimator", "target", "samples", "decode", "float_precision")
TEXTS += ("time_limit",)
_PATH_OPTIONS = ("file", "vocabulary", "definitions", "classes", "anchors")  # of metrics and decoders


@dataclass(frozen=True)
class Asked:
    """What a form asks for.

    Attributes:
        model: Path as it was given.
        path: The same, resolved.
        calibration, validation: DATA arguments; validation may be "".
        settings: Settings that were given.
    """

    model: str
    path: Path
    calibration: str
    validation: str
    settings: dict[str, Any]

    def job(self, name: str, base: Path, threads: int) -> ZooJob:
        """Return the job of a run."""
        return ZooJob(
            name=name,
            pattern_name=self.path.name,
            model=str(self.path),
            base=str(base),
            calibration=self.calibration,
            validation=self.validation,
            settings={"speed": True, **self.settings},
            threads=threads,
        )


def read_form(form: Mapping[str, str], allowed: Allowed) -> Asked:
    """Return what a form asks for.

    Raises:
        CalibError: Something in it is missing, wrong, outside of what is allowed, or runs code; all that is wrong with
            the settings is said at once.
    """
    model = form.get("model", "").strip()
    path = allowed.existing(model)
    calibration = allowed.data(_needed(form, "calibration"))
    validation = form.get("validation", "").strip()
    validation = allowed.data(validation) if validation else ""
    settings = settings_of(form, validation)
    check_reach(settings, allowed)
    return Asked(model, path, calibration, validation, settings)


def settings_of(form: Mapping[str, str], validation: str) -> dict[str, Any]:
    """Return the settings in a form; a metric and its budget count only where there is something to measure on."""
    settings: dict[str, Any] = {}
    for key in TEXTS:
        if (text := form.get(key, "").strip()) and (validation or key not in ("metric", "max_drop", "decode")):
            settings[key] = text
    if form.get("knee"):
        settings["knee"] = True
    if ignored := [line.strip() for line in form.get("ignore", "").splitlines() if line.strip()]:
        settings["ignore"] = ignored
    if steps := preprocessing_of(form.get("pre", "")):
        settings["preprocessing"] = steps
    for line in form.get("set", "").splitlines():
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals or key.strip() not in Settings.model_fields:
            raise UsageError(
                f"more settings: {line.strip()!r} is not KEY=VALUE with a setting of 'calib help settings'"
            )
        settings[key.strip()] = _yaml(value)
    if validation and "metric" not in settings and "max_drop" in settings:
        raise UsageError("a budget needs a metric: choose one")
    try:
        Settings(**settings)
    except ValidationError as error:
        raise UsageError(*map(_mistake, error.errors(include_url=False))) from error
    return settings


def form_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a form that ``settings_of`` reads as these settings; what has no field is in ``set``."""
    form: dict[str, str] = {}
    more = []
    for key, value in settings.items():
        if key in TEXTS and isinstance(value, str):
            form[key] = value
        elif key == "knee" and value:
            form[key] = "true"
        elif key == "ignore":
            form[key] = "\n".join(value)
        elif key == "preprocessing":
            form["pre"] = preprocessing_text(value)
        else:
            more.append(f"{key}={json.dumps(value)}")
    return form | ({"set": "\n".join(more)} if more else {})


def preprocessing_of(text: str) -> dict[str, Any]:
    """Return the block of preprocessing in a text such as ``color=bgr; resize=224; mean=123.7,116.3,103.5``."""
    steps: dict[str, Any] = {}
    for piece in filter(None, map(str.strip, text.split(";"))):
        key, equals, value = piece.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key not in Preprocessing.model_fields:
            raise UsageError(f"preprocessing: {piece!r} is no step; steps: {', '.join(Preprocessing.model_fields)}")
        steps[key] = _yaml(f"[{value}]" if "," in value and not value.startswith("[") else value)
    try:
        Preprocessing(**steps)
    except ValidationError as error:
        raise UsageError(*(f"preprocessing.{_mistake(one)}" for one in error.errors(include_url=False))) from error
    return steps


def preprocessing_text(steps: Mapping[str, Any]) -> str:
    """Return the text that ``preprocessing_of`` reads."""
    words = {key: ",".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for key, v in steps.items()}
    return "; ".join(f"{key}={value}" for key, value in words.items())


def command(asked: Asked, output: str) -> str:
    """Return the command line that does the same."""
    named = {"model": asked.model, "calibration": asked.calibration, "validation": asked.validation, "output": output}
    return command_line({key: text for key, text in named.items() if text}, asked.settings)


def command_of(job: ZooJob, base: Path) -> str:
    """Return the command line of a run that was started before."""
    model = Path(job.model)
    shown = str(model.relative_to(base)) if model.is_relative_to(base) else job.model
    given = {key: value for key, value in job.settings.items() if key != "speed"}
    named = {"model": shown, "calibration": job.calibration, "validation": job.validation, "output": f"{job.name}-int8"}
    return command_line({key: text for key, text in named.items() if text}, given)


def threads_each(jobs: int) -> int:
    """Return the threads of one run, of which so many share the machine."""
    return max(1, len(os.sched_getaffinity(0)) // jobs)


def check_reach(given: Mapping[str, Any], allowed: Allowed) -> None:
    """Refuse settings that read files outside of what is allowed, or run code.

    Raises:
        UsageError: They do.
    """
    settings = Settings(**given)
    if settings.extensions and not allowed.extensions:
        raise UsageError("extensions are libraries whose code runs; start the studio with --allow-extension")
    metrics = settings.metric if isinstance(settings.metric, tuple) else str(settings.metric or "").split(",")
    for text in (*metrics, str(settings.decode or "")):
        if names_code(text.strip()) and not allowed.python:
            raise UsageError(refusal(text))
        for name, value in options_in(text.partition("?")[2]):
            if (name in _PATH_OPTIONS and value) or (name == "priors" and value.endswith(".npy")):
                allowed.path(value)
    for pattern in settings.ignore:
        if pattern.startswith("file:"):
            allowed.path(pattern.removeprefix("file:"))


def _needed(form: Mapping[str, str], key: str) -> str:
    text = form.get(key, "").strip()
    if not text:
        raise UsageError(f"{key} data are missing: choose them on the page Data")
    return text


def _yaml(text: str) -> Any:
    try:
        return parse_yaml(text.strip(), "the form").data
    except CalibError as error:
        raise UsageError(f"{text.strip()!r} can't be read: {error}") from error


def _mistake(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    rule = str(error.get("ctx", {}).get("error", error["msg"])).replace("Input should be", "must be")
    return f"{place}: {rule}, got {error.get('input')!r:.80}"
