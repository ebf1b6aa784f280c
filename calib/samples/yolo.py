"""Boxes as YOLO's training tools read them: a data.yaml, folders of images, and a file of labels for each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from calib.documents.document import read_document
from calib.errors import ConfigError, DataError
from calib.samples.annotations import annotated, box_target, first_class, number_of, said, text_lines, whole_number
from calib.samples.files import IMAGE_SUFFIXES, confined
from calib.samples.sample import Dataset
from calib.samples.source import Source

_LARGEST = 8 << 20  # bytes of the labels of one image
_ROUNDING = 1e-3  # a coordinate may be this far outside of 0..1: tools write few digits
_SETS = ("val", "test", "train")


@dataclass(frozen=True)
class RelativeBoxes:
    """Boxes in fractions of the image's size.

    Attributes:
        boxes: x1, y1, x2, y2 of each, from 0 to 1.
        labels: Class of each.
    """

    boxes: tuple[tuple[float, float, float, float], ...]
    labels: tuple[int, ...]

    def read(self, size: tuple[int, int]) -> dict[str, Any]:
        """Return the boxes in pixels of an image of this height and width."""
        height, width = size
        boxes = [(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in self.boxes]
        return box_target(boxes, self.labels)


def open_yolo(source: Source) -> Dataset:
    """Return the images of one set of a data.yaml, ``?set=val`` unless given, with the boxes of their label files.

    The labels of ``images/val/a.jpg`` are in ``labels/val/a.txt``: lines of class, centre x, centre y, width and height
    in fractions of the image, or of class and the corners of an outline. An image without a label file has no boxes.

    Raises:
        DataError: The file does not name that, or a line is wrong; the message names the file and the line.
    """
    path = source.path
    try:
        document = read_document(path)
    except ConfigError as error:
        raise DataError(f"{source.text}: {'; '.join(error.mistakes)}") from error
    content = document.data if isinstance(document.data, dict) else {}
    names = _names(content.get("names"), source)
    if content.get("nc", len(names)) != len(names):
        raise DataError(f"{source.text}: 'nc' is {content['nc']!r}, and 'names' holds {len(names)} names. Correct one")
    chosen = source.options.get("set") or next((one for one in _SETS if content.get(one)), "val")
    given = content.get(chosen)
    if not given:
        others = ", ".join(f"?set={one}" for one in _SETS if content.get(one))
        way_out = f"Choose another set: {others}" if others else f"Name a folder there: {chosen}: images/{chosen}"
        raise DataError(f"{source.text}: it names no images under {chosen!r}. {way_out}")
    root = _root(content.get("path"), source)
    first, rows = first_class(source), []
    for image in _images([given] if isinstance(given, str) else given, root, source):
        labels = _label_file(image)
        target = _boxes(labels, len(names), first, source, root)
        rows.append((image.as_posix(), target, f"labels {labels.as_posix()}"))
    numbers = {name: number + first for number, name in enumerate(names)}
    return annotated(source, root, rows, [said(source, numbers, f"numbered as in it, images of its {chosen!r}")])


def _names(given: Any, source: Source) -> list[str]:
    """Return the names of the classes from a list, or from a mapping with their numbers."""
    if isinstance(given, Mapping):
        numbered = {whole_number(key, f"{source.text}: names"): value for key, value in given.items()}
        if sorted(numbered) != list(range(len(numbered))):
            raise DataError(f"{source.text}: names are numbered 0, 1, …, got {sorted(numbered)[:5]}")
        given = [numbered[number] for number in range(len(numbered))]
    if not isinstance(given, list) or not given:
        raise DataError(f"{source.text}: it needs 'names', a list of class names or a mapping from number to name")
    return [str(name) for name in given]


def _root(given: Any, source: Source) -> Path:
    """Return the folder that images are in: ``path`` if it exists from the working folder or from beside the file."""
    folder = source.path.parent
    if given is None:
        return folder
    for one in (folder / str(given), source.base / str(given)):
        if one.is_dir():
            return one
    raise DataError(f"{source.text}: 'path' names {given!r}, and there is no such folder beside it. Correct it there")


def _images(given: Sequence[Any], root: Path, source: Source) -> Iterator[Path]:
    """Yield the images in folders and in lists, as paths relative to the root."""
    for text in given:
        if not isinstance(text, str) or "\0" in text:
            raise DataError(f"{source.text}: a set is a folder, a .txt file with paths, or a list of these")
        place = root / text
        if place.is_dir():
            inside = sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
            yield from (_inside(path, root, source) for path in inside)
        elif place.suffix == ".txt" and place.is_file():
            lines = text_lines(confined(place, root, source.text, "Put it there"), source.text)
            yield from (_inside(root / line.strip(), root, source) for line in lines if line.strip())
        else:
            raise DataError(f"{source.text}: {place} is neither a folder nor a .txt file with paths")


def _inside(path: Path, root: Path, source: Source) -> Path:
    if "\0" in str(path) or not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{source.text}: {path} is outside of {root} and is not read. Put the images below it")
    return path.relative_to(root) if path.is_relative_to(root) else path.resolve().relative_to(root.resolve())


def _label_file(image: Path) -> Path:
    """Return the label file of an image, relative to the root: the last folder "images" on its way becomes "labels"."""
    parts = list(PurePosixPath(image.as_posix()).parts)
    if "images" in parts[:-1]:
        last = len(parts) - 2 - parts[:-1][::-1].index("images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _boxes(file: Path, classes: int, first: int, source: Source, root: Path) -> RelativeBoxes:
    if not (root / file).exists():
        return RelativeBoxes((), ())
    path = confined(root / file, root, source.text, "Put it there")
    boxes, labels = [], []
    for number, line in enumerate(text_lines(path, source.text, _LARGEST), 1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        cells = line.split()
        label = whole_number(cells[0], f"{where}: class")
        if label >= classes:
            raise DataError(f"{where}: class {label}, and {source.text} names {classes} classes, 0 to {classes - 1}")
        boxes.append(_box([number_of(cell, where) for cell in cells[1:]], where))
        labels.append(label + first)
    return RelativeBoxes(tuple(boxes), tuple(labels))


def _box(numbers: Sequence[float], where: str) -> tuple[float, float, float, float]:
    if len(numbers) == 4:
        x, y, width, height = numbers
        x1, y1, x2, y2 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        x1, y1, x2, y2 = min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])
    else:
        raise DataError(
            f"{where}: a line is class, centre x, centre y, width, height, or class and the corners of an outline, "
            f"got {1 + len(numbers)} numbers"
        )
    if x2 <= x1 or y2 <= y1 or min(x1, y1) < -_ROUNDING or max(x2, y2) > 1 + _ROUNDING:
        raise DataError(
            f"{where}: {numbers[:4]} is no box inside the image; numbers are fractions of its size, from 0 to 1"
        )
    return max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0)
