"""Which models and which data lie in the folder of a studio."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from calib.report.numbers import size
from calib.studio.allowed import Allowed

MODELS = {".xml": "IR", ".onnx": "ONNX", ".tflite": "TFLite", ".pb": "TensorFlow", ".pdmodel": "PaddlePaddle"}
IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
_ARRAYS = {".npz": "arrays", ".npy": "array", ".csv": "list", ".jsonl": "list", ".ndjson": "list"}

# A folder that holds more is a disk: what lies deeper or later is given by its path.
MOST_ENTRIES = 50_000
MOST_FOUND = 2000
DEEPEST = 8


@dataclass(frozen=True)
class Found:
    """A model or data in the folder.

    Attributes:
        argument: How a command names it: a path, or a DATA argument.
        kind: Word for what it is.
        detail: Size, or number of files.
        path: Resolved path.
    """

    argument: str
    kind: str
    detail: str
    path: Path


def listing(allowed: Allowed, output: Path) -> tuple[list[Found], list[Found]]:
    """Return the models and the data below what is allowed, each sorted by name; results of runs are left out."""
    models: list[Found] = []
    data: list[Found] = []
    for folder, folders, names in _walk(allowed, output):
        images = [name for name in names if Path(name).suffix.lower() in IMAGES]
        if special := _special(folder, folders, names):
            data.append(_named(allowed, folder, *special))
        elif images:
            data.append(Found(allowed.shown(folder) or ".", "images", f"{len(images)} files", folder))
        for name in names:
            path, suffix = folder / name, Path(name).suffix.lower()
            if suffix in MODELS and _is_model(path, suffix):
                models.append(Found(allowed.shown(path), MODELS[suffix], _bytes(path, suffix), path))
            elif suffix in _ARRAYS:
                data.append(Found(allowed.shown(path), _ARRAYS[suffix], _bytes(path, suffix), path))
            elif suffix == ".json" and _holds(path, b'"annotations"', b'"categories"'):
                data.append(Found(f"coco:{allowed.shown(path)}", "boxes (COCO)", _bytes(path, suffix), path))
        if len(models) + len(data) > MOST_FOUND:
            break
    key = lambda one: one.argument  # noqa: E731
    return sorted(models, key=key), sorted(_without_classes(data), key=key)


def _walk(allowed: Allowed, output: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    seen = 0
    for root in (allowed.folder, *(path for path in allowed.others if path.is_dir())):
        for at, folders, names in os.walk(root):
            folder = Path(at)
            deep = len(folder.relative_to(root).parts) >= DEEPEST
            folders[:] = [] if deep else sorted(n for n in folders if not n.startswith(".") and folder / n != output)
            seen += len(names) + len(folders)
            if seen > MOST_ENTRIES:
                return
            yield folder, folders, sorted(n for n in names if not n.startswith("."))
    for path in allowed.others:
        if path.is_file():
            yield path.parent, [], [path.name]


def _special(folder: Path, folders: list[str], names: list[str]) -> tuple[str, str, str] | None:
    """Return format, file and kind of a data set that is known by its layout; its folders are not looked into."""
    if {"Annotations", "JPEGImages"} <= set(folders):
        folders.clear()
        return "voc", "", "boxes (Pascal VOC)"
    if {"images", "masks"} <= set(folders):
        folders.clear()
        return "masks", "", "class maps"
    yaml = next((n for n in names if n.endswith((".yaml", ".yml")) and _holds(folder / n, b"names:", b"val:")), None)
    return ("yolo", yaml, "boxes (YOLO)") if yaml else None


def _named(allowed: Allowed, folder: Path, form: str, file: str, kind: str) -> Found:
    path = folder / file if file else folder
    return Found(f"{form}:{allowed.shown(path)}", kind, "", path)


def _without_classes(data: list[Found]) -> list[Found]:
    """Put folders of one class each together: several folders of images in one folder are one data set."""
    by_parent: dict[Path, list[Found]] = {}
    for one in data:
        if one.kind == "images":
            by_parent.setdefault(one.path.parent, []).append(one)
    inside = {one.path for group in by_parent.values() if len(group) > 1 for one in group}
    kept = [one for one in data if one.path not in inside]
    for parent, group in by_parent.items():
        if len(group) > 1:
            folder = Path(group[0].argument).parent
            kept.append(Found(str(folder), "images", f"{len(group)} folders", parent))
    return kept


def _is_model(path: Path, suffix: str) -> bool:
    """Return whether a file with a model's suffix is one: annotations are .xml too."""
    if suffix == ".pb" and path.name != "saved_model.pb":
        return True
    return suffix != ".xml" or _holds(path, b"<net ")


def _holds(path: Path, *words: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return False
    return any(word in head for word in words)


def _bytes(path: Path, suffix: str) -> str:
    """Return the size of a file, of an IR that of its weights."""
    try:
        weights = path.with_suffix(".bin") if suffix == ".xml" else path
        return size((weights if weights.exists() else path).stat().st_size)
    except OSError:
        return ""
