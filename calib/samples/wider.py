"""Faces in the text format of WIDER FACE: a file name, a count, and a line for each box."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calib.errors import DataError
from calib.samples.annotations import (
    Outside,
    annotated,
    box_target,
    first_class,
    folder_of,
    number_of,
    text_lines,
    whole_number,
)
from calib.samples.sample import Dataset
from calib.samples.source import Source

_INVALID = 7  # column of the flag of faces that are too hard to judge


def open_wider(source: Source) -> Dataset:
    """Return the images of a ``wider_face_…_bbx_gt.txt``; all boxes are of one class, and invalid ones are difficult.

    A box is ``x y width height`` and six attributes. Boxes without area, which the official files hold for images
    without faces and for some faces, are left out and counted.

    Raises:
        DataError: A line is wrong or an image is missing; the message names the line.
    """
    path = source.path
    label, outside, empty, rows = first_class(source), Outside(source), 0, []
    for name, lines in blocks(text_lines(path, source.text), source.text):
        boxes, difficult = [], []
        for number, cells in lines:
            where = f"line {number} of {source.text}"
            x, y, width, height = (number_of(cell, where) for cell in cells[:4])
            if width <= 0 or height <= 0:
                empty += 1
                continue
            box = outside.box((x, y, x + width, y + height), None, where)
            if box is not None:
                boxes.append(box)
                difficult.append(int(len(cells) > _INVALID and whole_number(cells[_INVALID], f"{where}: invalid") > 0))
        target: dict[str, Any] = box_target(boxes, [label] * len(boxes), (), difficult)
        rows.append((name, target, f"line {lines[0][0] - 2 if lines else 0}"))
    notes = [f"{source.text}: every face is of the class {label} (?first=1 makes it 1)"]
    notes += [f"{source.text}: {empty} boxes without area were left out"] if empty else []
    folder = folder_of(source, "images", path.parent, "images", "../WIDER_val/images", "../WIDER_train/images", ".")
    return annotated(source, folder, rows, [*notes, *outside.notes(source)])


def blocks(lines: list[str], source: str) -> Iterator[tuple[str, list[tuple[int, list[str]]]]]:
    """Yield the name of each image and the numbered lines of its boxes, split into cells.

    Args:
        lines: Lines of the file.
        source: Its name in messages.

    Raises:
        DataError: A line has another form.
    """
    at = 0
    while at < len(lines):
        name = lines[at].strip()
        if not name:
            at += 1
            continue
        if Path(name).suffix == "":
            raise DataError(f"line {at + 1} of {source}: the name of an image comes here, got {name[:40]!r}")
        counted = lines[at + 1].strip() if at + 1 < len(lines) else ""
        count = whole_number(counted, f"line {at + 2} of {source}: the number of boxes of {name}")
        first = at + 2
        # an image without faces has one line of zeros all the same
        dummy = count == 0 and first < len(lines) and _is_box(lines[first])
        rows = [(first + 1 + row, lines[first + row].split()) for row in range(min(count, len(lines) - first))]
        if len(rows) < count or any(len(cells) < 4 for _, cells in rows):
            line = next((number for number, cells in rows if len(cells) < 4), first + len(rows) + 1)
            raise DataError(
                f"line {line} of {source}: a box of {name} comes here, x y width height and attributes; "
                f"{count} were announced"
            )
        yield name, rows
        at = first + count + dummy


def _is_box(line: str) -> bool:
    cells = line.split()
    return len(cells) >= 4 and all(cell.removeprefix("-").isdecimal() for cell in cells)
