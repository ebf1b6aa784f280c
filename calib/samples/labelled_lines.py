"""Lists that the makers of data sets write: ``path label`` of ImageNet, and ``path text`` of text recognition."""

from __future__ import annotations

import re
from typing import Any

from calib.errors import DataError
from calib.samples.annotations import annotated, first_class, folder_of, text_lines, whole_number
from calib.samples.sample import Dataset
from calib.samples.source import Source

_MARKS = re.compile("[,;]")
_SEPARATED = ". A list with commas or semicolons between its columns is csv:FILE"
_QUOTED = re.compile(r'(?P<path>[^,]+),\s*"(?P<text>.*)"')  # ICDAR 2013: word_1.png, "Tiredness"


def open_imagenet(source: Source) -> Dataset:
    """Return the images of lines ``path class``, such as ImageNet's val.txt; classes are numbers.

    Raises:
        DataError: A line has another form or an image is missing; the message names the line.
    """
    path, first, rows = source.path, first_class(source), []
    for number, line in enumerate(text_lines(path, source.text), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ") if "\t" not in line else line.strip().rpartition("\t")
        where = f"line {number}"
        if not name:
            raise DataError(
                f"{where} of {source.text}: a line is path and class number with a space or a tab between them, got "
                f"{line[:60]!r}{_SEPARATED if _MARKS.search(line) else ''}"
            )
        rows.append((name.strip(), whole_number(label, f"{where} of {source.text}: the class") + first, where))
    return annotated(source, folder_of(source, "images", path.parent, "."), rows)


def open_text(source: Source) -> Dataset:
    """Return the images of lines with a path and the text in the image, which is the target.

    A line is ``path<TAB>text``, ``path, "text"`` as ICDAR 2013 writes it, or ``path text``. The text may be empty only
    behind a tab or in quotes.

    Raises:
        DataError: A line has another form or an image is missing; the message names the line.
    """
    path, rows = source.path, list[tuple[str, Any, str]]()
    for number, line in enumerate(text_lines(path, source.text), 1):
        if line.strip():
            name, text = _path_and_text(line, f"line {number} of {source.text}")
            rows.append((name, text, f"line {number}"))
    return annotated(source, folder_of(source, "images", path.parent, "."), rows)


def _path_and_text(line: str, where: str) -> tuple[str, str]:
    quoted = _QUOTED.fullmatch(line.strip())
    if "\t" in line:
        name, _, text = line.partition("\t")
    elif quoted:
        name, text = quoted["path"], quoted["text"]
    else:
        name, space, text = line.strip().partition(" ")
        if not space:
            raise DataError(
                f"{where}: a line is path and text, with a tab or a space between them, got {line[:60]!r}"
                f"{_SEPARATED if _MARKS.search(line) else ''}"
            )
    return name.strip(), text.strip()
