"""What formats of annotations share: images inside a folder, boxes that are boxes, and classes with their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calib.errors import DataError, UsageError
from calib.samples.content import number_duplicates, target_id
from calib.samples.files import IMAGE_SUFFIXES, FeedReader, FileDataset, FileEntry, confined, read_classes
from calib.samples.source import Source

Box = tuple[float, float, float, float]

# A box may reach beyond the image by this many pixels before it is told of as outside: annotators round.
MARGIN = 1.0


@dataclass(frozen=True)
class SizedTarget:
    """A target in pixels of an image whose annotations say its size.

    Attributes:
        size: Height and width of the image according to its annotations.
        target: The target.
    """

    size: tuple[int, int]
    target: Any

    def read(self, size: tuple[int, int]) -> Any:
        """Return the target if the image has the size that its annotations say.

        Raises:
            DataError: It has another one, so that the boxes would be those of other pixels.
        """
        if size != self.size:
            raise DataError(
                f"its annotations say {self.size[0]}x{self.size[1]} pixels (height, width), and the image has "
                f"{size[0]}x{size[1]}. Give the images that were annotated"
            )
        return self.target


def annotated(
    source: Source, folder: Path, rows: Sequence[tuple[str, Any, str]], notes: Sequence[str] = ()
) -> FileDataset:
    """Return the dataset of annotated images.

    Args:
        source: The DATA argument.
        folder: Folder that holds the images, which none may leave.
        rows: Path of each image relative to the folder, its target, and its place in the annotations for messages.
        notes: Sentences for the report: what was decided of classes, and what was left out.

    Raises:
        DataError: There is no image, or images are missing or outside of the folder.
    """
    reader = FeedReader(source)
    _ = reader.preprocess  # a model that takes no image is told of now
    if not rows:
        raise DataError(f"{source.text}: it names no image")
    missing = [(name, where) for name, _, where in rows if "\0" in name or not (folder / name).exists()]
    if missing:
        raise DataError(
            f"{missing[0][1]} of {source.text}: no image {missing[0][0]!r} in {folder} "
            f"({len(missing)} of {len(rows)} are missing). Give the folder that holds them: ?images=FOLDER"
        )
    way_out = "Give the folder that holds the images: ?images=FOLDER"
    root, entries = folder.resolve(), []
    for name, target, where in rows:
        path = confined(folder / name, root, f"{where} of {source.text}", way_out)
        entries.append(FileEntry(_plain(name), path, target, f"{name}, {where} of {source.text}"))
    ids = number_duplicates([(entry.id, target_id(entry.target)) for entry in entries])
    numbered = [replace(entry, id=one) for entry, one in zip(entries, ids, strict=True)]
    return FileDataset(source.text, numbered, reader, source.inputs, splits=source.splits, notes=notes)


def _plain(name: str) -> str:
    return Path(name).as_posix()


def folder_of(source: Source, key: str, beside: Path, *usual: str) -> Path:
    """Return the folder that an option names, from the working folder or else from beside the annotations.

    Args:
        source: The DATA argument.
        key: Name of the option.
        beside: Folder of the annotations.
        usual: Subfolders of ``beside`` to take where the option is not given; the first that exists.

    Raises:
        DataError: There is no such folder.
    """
    text = source.options.get(key)
    tried = [beside / one for one in usual] if text is None else [source.base / Path(text).expanduser(), beside / text]
    found = next((path for path in tried if path.is_dir()), None)
    if found is None:
        names = " or ".join(str(path) for path in dict.fromkeys(tried))
        raise DataError(f"{source.text}: no folder {names}. Give it: ?{key}=FOLDER")
    return found


def text_lines(path: Path, name: str, most: int = 1 << 28) -> list[str]:
    """Return the lines of a text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: It can't be read, is no such text, or is larger than ``most`` bytes.
    """
    try:
        if not path.is_file() or path.stat().st_size > most:
            raise DataError(f"{name}: {path} is not a file of at most {most >> 10} KiB")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{name}: {path} can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: {path} is not a text file in UTF-8 ({error})") from error


def corners(box: Sequence[Any], size: tuple[int, int] | None, where: str, way_out: str) -> Box:
    """Return x1, y1, x2, y2 as floats if they are a box in the image.

    Args:
        box: Corners in pixels.
        size: Height and width of the image; None if they are not known.
        where: Place of the box in messages.
        way_out: What to do about a box that is none.

    Raises:
        DataError: A number is missing or not finite, the box has no area, or it lies outside of the image.
    """
    numbers = [number_of(value, where) for value in box]
    if len(numbers) != 4:
        raise DataError(f"{where}: a box has 4 numbers, got {len(numbers)}. {way_out}")
    x1, y1, x2, y2 = numbers
    if x2 <= x1 or y2 <= y1:
        raise DataError(f"{where}: the box {numbers} (x1, y1, x2, y2) has no area. {way_out}")
    if size is not None:
        height, width = size
        if x1 < -MARGIN or y1 < -MARGIN or x2 > width + MARGIN or y2 > height + MARGIN:
            raise DataError(
                f"{where}: the box {numbers} (x1, y1, x2, y2) reaches outside of the image of {height}x{width} "
                f"(height, width). {way_out}"
            )
    return x1, y1, x2, y2


def number_of(value: Any, where: str) -> float:
    """Return a finite number given as a number or as text.

    Raises:
        DataError: It is none.
    """
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: must be a finite number, got {str(value)[:40]!r}")
    return number


def whole_number(value: Any, where: str, least: int = 0) -> int:
    """Return a whole number of at least ``least``, given as a number or as text.

    Raises:
        DataError: It is none.
    """
    number = number_of(value, where)
    if number != int(number) or number < least:
        raise DataError(f"{where}: must be a whole number of at least {least}, got {str(value)[:40]!r}")
    return int(number)


class Outside:
    """What to do about boxes that are none, by ``?outside=``: an error, clip them to the image, or leave them out."""

    way_out = "Mend it, or give ?outside=clip, which cuts boxes at the edges and leaves out those without area"

    def __init__(self, source: Source):
        self._how = source.options.get("outside", "error")
        if self._how not in ("error", "clip"):
            raise UsageError(f"{source.text}: ?outside=clip is the only value of outside, got {self._how!r}")
        self._clipped = self._left = 0

    def box(self, box: Sequence[Any], size: tuple[int, int] | None, where: str) -> Box | None:
        """Return the corners of a box; None if it is left out.

        Raises:
            DataError: It is none, and the data may not have such boxes.
        """
        if self._how == "error":
            return corners(box, size, where, self.way_out)
        x1, y1, x2, y2 = (number_of(value, where) for value in box)
        height, width = size or (math.inf, math.inf)
        cut = (max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height))
        if cut[0] >= cut[2] or cut[1] >= cut[3]:
            self._left += 1
            return None
        self._clipped += cut != (x1, y1, x2, y2)
        return cut

    def notes(self, source: Source) -> Iterator[str]:
        """Yield what was done, for the report."""
        if self._clipped or self._left:
            yield (
                f"{source.text}: {self._clipped} boxes were cut at the edges of their images, and {self._left} without "
                "area were left out"
            )


def box_target(
    boxes: Sequence[Box], labels: Sequence[int], crowd: Sequence[int] = (), difficult: Sequence[int] = ()
) -> dict[str, Any]:
    """Return the boxes of an image as a target; flags that no box has are left out."""
    target: dict[str, Any] = {"boxes": [list(box) for box in boxes], "labels": list(labels)}
    if any(crowd):
        target["iscrowd"] = list(crowd)
    if any(difficult):
        target["difficult"] = list(difficult)
    return target


def first_class(source: Source) -> int:
    """Return ``?first=``, the number of the first class; 0 unless given.

    Raises:
        UsageError: It is no whole number.
    """
    text = source.options.get("first", "0")
    if not text.isdecimal():
        raise UsageError(f"{source.text}: first is the number of the first class, 0 or 1, got {text!r}")
    return int(text)


def class_numbers(source: Source, names: Sequence[str]) -> dict[str, int]:
    """Return the number of each class: by the lines of ``?classes=FILE``, else in the order of ``names``.

    Raises:
        DataError: A name is not in the file.
    """
    listed: Mapping[str, int] | None = read_classes(source)
    if listed is None:
        listed = {name: number for number, name in enumerate(names)}
    if unknown := [name for name in names if name not in listed]:
        raise DataError(
            f"{source.text}: the class {unknown[0]!r} is not in {source.options['classes']} ({len(listed)} names)"
        )
    first = first_class(source)
    return {name: number + first for name, number in listed.items()}


def said(source: Source, numbers: Mapping[str, int], how: str) -> str:
    """Return the sentence on which class has which number."""
    shown = [f"{name} = {number}" for name, number in list(numbers.items())[:4]]
    rest = f", … {list(numbers)[-1]} = {list(numbers.values())[-1]}" if len(numbers) > 4 else ""
    return f"{source.text}: {len(numbers)} classes, {how}: {', '.join(shown)}{rest}"


def images_in(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their name without suffix.

    Raises:
        DataError: Two have the same.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise DataError(f"{folder}: {found[path.stem].name} and {path.name} have the same name")
            found[path.stem] = path
    return found
