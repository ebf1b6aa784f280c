"""The model, data and output that a config file may name beside settings, so that one file is the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from calib.documents.document import Document, Place


@dataclass(frozen=True)
class RunInputs:
    """What a config file names; empty where it does not.

    Attributes:
        model: Absolute path of the model.
        calibration: Calibration samples as DATA, with an absolute path.
        validation: Validation samples as DATA, with an absolute path.
        output: Absolute path of the folder to write to.
        plan: Absolute path of the plan to apply.
    """

    model: str = ""
    calibration: str = ""
    validation: str = ""
    output: str = ""
    plan: str = ""


MEANING = {
    "model": "Model to quantize, as MODEL of 'calib quantize'; paths here are relative to this file",
    "calibration": "Samples to calibrate with, as DATA of 'calib quantize'",
    "validation": "Samples with targets to measure accuracy on, as DATA of 'calib quantize'",
    "output": "Folder to write the model, report.json and report.html to",
    "plan": "Plan to apply instead of making one, as --plan of 'calib quantize'",
}
"""Key of a config file → its description in the schema."""


def run_inputs(document: Document) -> RunInputs:
    """Return what the document names, with paths relative to its folder made absolute; text only."""
    from calib.samples.source import absolute  # here: its package loads numpy

    folder = Path(document.source).absolute().parent
    found = {key: text for key, text in _given(document) if isinstance(text, str) and text}
    data = {key: absolute(text, folder) for key, text in found.items() if key in ("calibration", "validation")}
    paths = {key: str(folder / Path(text).expanduser()) for key, text in found.items() if key not in data}
    return RunInputs(**data, **paths)


def input_mistakes(document: Document) -> Iterator[tuple[Place, str]]:
    """Yield the place of each value that names nothing, and the rule."""
    for key, value in _given(document):
        if not isinstance(value, str) or not value:
            yield (key,), f"must be text, got {value!r:.80}"


def _given(document: Document) -> list[tuple[str, Any]]:
    data = document.data if isinstance(document.data, dict) else {}
    return [(field.name, data[field.name]) for field in fields(RunInputs) if field.name in data]
