"""Run ``calib evaluate`` in a child process, as a CPU that is limited to an instruction set would."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.errors import CalibError, UsageError
from calib.runtime.isa import get_isa, run_as
from calib.runtime.session import ov
from calib.runtime.temporary import temporary_folder
from calib.values.evaluation import Evaluation


def evaluate_as(
    isa: str,
    model: str | Path | ov.Model,
    validation: Any,
    metric: Any = None,
    *,
    reference_model: str | Path | ov.Model | None = None,
    precision: str = "f32",
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    allow_python: bool | None = None,
    **settings: Any,
) -> Evaluation:
    """Run ``calib evaluate`` as a CPU limited to an instruction set would, and return what it found.

    Args:
        isa: One of ``ISAS``.
        model: A file, or a model in memory, which is written to a temporary folder.
        validation: A DATA string: a child process can't read Python objects.
        metric: By name; None for the one of the settings.
        reference_model: Model to compare with, like ``model``; None for none.
        precision: Of the layers in floating point.
        config: A file of settings.
        sets: ``"key=value"`` settings.
        allow_python: As for ``calib.quantize``.
        settings: Any setting by name; None is left out.

    Raises:
        UsageError: No such instruction set on this machine, or data or metric that only this process has.
        CalibError: What the evaluation itself raised.
    """
    get_isa(isa)  # before anything is written
    for name, value in (("validation", validation), ("metric", metric), ("decode", settings.get("decode"))):
        if value is not None and not isinstance(value, str | os.PathLike):
            raise UsageError(
                f"isa {isa} runs in a process of its own, which can't take {name} as a {type(value).__name__}; "
                f"give it as text (data: a file or python:module:function)"
            )
    with temporary_folder() as folder:
        model = _file_of(model, Path(folder, "model.xml"))
        argv: list[str] = [str(model), "--validation", os.fspath(validation), "--precision", precision, "--json"]
        argv += [] if metric is None else ["--metric", os.fspath(metric)]
        if reference_model is not None:
            argv += ["--reference-model", str(_file_of(reference_model, Path(folder, "reference.xml")))]
        argv += [] if config is None else ["--config", os.fspath(config)]
        argv += [part for text in sets for part in ("--set", text)]
        argv += [] if allow_python is None else ["--allow-python" if allow_python else "--no-allow-python"]
        argv += ["--allow-extension"] if settings.pop("allow_extension", None) else []
        argv += [part for key, value in settings.items() if value is not None for part in ("--set", _set(key, value))]
        # -P: without the current folder on the path, where a file called like a library would be run in its place.
        program = [sys.executable, "-P", "-m", "calib", "--quiet", "evaluate"]
        done = run_as(isa, [*program, *argv])
    if done.returncode:
        text = done.stderr.strip().removeprefix("error: ") or f"it ended with exit code {done.returncode}"
        kind = UsageError if done.returncode == UsageError.exit_code else CalibError
        first, *more = text.splitlines()
        raise kind(f"evaluating as a CPU with {isa}: {first}", *more)
    return Evaluation.model_validate_json(done.stdout).model_copy(update={"isa": isa})


def _file_of(model: str | Path | ov.Model, path: Path) -> str | Path:
    """Return the file of a model; one in memory is written to the path."""
    if not isinstance(model, ov.Model):
        return model
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def _set(key: str, value: Any) -> str:
    """Return a setting as ``--set`` takes it: text as it is, everything else as JSON, which is YAML too."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"
