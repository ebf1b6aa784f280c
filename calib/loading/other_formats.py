"""What OpenVINO reads besides its own IR and ONNX: TensorFlow, TensorFlow Lite and PaddlePaddle."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from calib.errors import ModelError
from calib.runtime.session import ov

# Ending of a file → name of the format in the report. A SavedModel is a folder.
FORMATS = {
    ".pb": "tensorflow",
    ".pbtxt": "tensorflow",
    ".meta": "tensorflow",
    ".tflite": "tflite",
    ".pdmodel": "paddle",
}
_SAVED_MODEL = "saved_model.pb"
# Files that hold the weights of a model file, by its ending: PaddlePaddle's, a checkpoint of TensorFlow 1.
_WEIGHTS = {".pdmodel": (".pdiparams",), ".meta": (".index", ".data-00000-of-00001")}


def is_saved_model(path: Path) -> bool:
    """Return whether a path is a folder that TensorFlow wrote as a SavedModel."""
    return path.is_dir() and (path / _SAVED_MODEL).is_file()


def format_of(path: Path) -> str:
    """Return the name of the format of a model file, or of a SavedModel."""
    return "tensorflow" if path.is_dir() else FORMATS[path.suffix.lower()]


def files_of(path: Path) -> list[Path]:
    """Return the files of a model, sorted after the first, which says what it computes.

    Raises:
        ModelError: The file is empty.
    """
    if path.is_dir():
        first = path / _SAVED_MODEL
        return [first, *sorted(p for p in (path / "variables").rglob("*") if p.is_file())]
    if not path.stat().st_size:
        raise ModelError(f"{path}: empty file. Copy or export the model again")
    return [path, *(path.with_suffix(ending) for ending in _WEIGHTS.get(path.suffix.lower(), ()))]


def invented_in(path: Path, counted: re.Pattern[str]) -> Callable[[ov.Node], bool]:
    """Return a function that tells whether the name of an operation comes from a counter of OpenVINO.

    A name that looks counted can be one that the file gives: then it stands in the file, and an output has it as well.

    Args:
        path: First file of the model.
        counted: Pattern of the names that OpenVINO makes up.
    """
    data = path.read_bytes()

    def invented(node: ov.Node) -> bool:
        name = node.get_friendly_name()
        if not counted.fullmatch(name):
            return False
        named = any(given.startswith(name) for port in node.outputs() for given in port.get_names())
        return not (named and name.encode() in data)

    return invented
