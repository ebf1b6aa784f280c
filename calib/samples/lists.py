"""Samples from lists of files with labels: CSV and JSON lines."""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from calib.documents.json_text import load_json
from calib.errors import DataError
from calib.samples.content import number_duplicates, target_id
from calib.samples.files import FeedReader, FileDataset, FileEntry, confined, in_sequences, read_classes
from calib.samples.sample import Dataset
from calib.samples.source import Source

_PATH_KEYS = ("path", "file", "filename", "image")
_LABEL_KEYS = ("label", "target", "class")

# A list is text that somebody could have written; more is something else.
_LARGEST_LIST = 1 << 28

# A path, a mark that separates no columns here, and a label.
_LABEL_BEHIND = re.compile(r"(?P<path>.*\S)\s*(?P<mark>[ |])\s*(?P<label>\S+)")

Row = tuple[int, str, Any]  # (line number, path, label or None)


def open_csv(source: Source) -> Dataset:
    """Return the files in lines of ``path[,label]``; a header line may name the columns and put them in any order.

    Where the first line holds no comma, columns are separated by semicolons, as spreadsheets of many countries write
    them, or by tabs.

    If all labels are whole numbers they are class indices, if all are numbers they are floats, otherwise text.

    Raises:
        DataError: The list can't be read or is empty, or a path is missing or outside the list's folder.
    """
    return _open(source, _csv_rows)


def open_jsonl(source: Source) -> Dataset:
    """Return the files in lines of ``{"path": …, "label": …}``; the label is any JSON value.

    Raises:
        DataError: The list can't be read or is empty, or a path is missing or outside the list's folder.
    """
    return _open(source, _jsonl_rows)


def _open(source: Source, parse: Callable[[Iterable[str], str], Iterator[Row]]) -> Dataset:
    path = source.path
    if not path.is_file() or path.stat().st_size > _LARGEST_LIST:
        raise DataError(f"{source.text}: not a file of at most {_LARGEST_LIST >> 20} MiB")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(parse(file, source.text))
    except UnicodeDecodeError as error:
        raise DataError(f"{source.text}: not a text file in UTF-8 ({error})") from error
    if not rows:
        raise DataError(f"{source.text}: the list is empty")
    entries = in_sequences(source, _entries(source, path.parent, rows))
    return FileDataset(source.text, entries, FeedReader(source), source.inputs, splits=source.splits)


def _entries(source: Source, folder: Path, rows: list[Row]) -> list[FileEntry]:
    root = source.existing(source.options["root"]) if "root" in source.options else folder
    way_out = "Give the folder that holds the files: ?root=FOLDER"
    classes = read_classes(source)
    entries = []
    for line, text, label in rows:
        where = f"line {line} of {source.text}"
        if "\0" in text:
            raise DataError(f"{where}: a path with a NUL byte")
        if separated := _label_inside(root / text, text):
            raise DataError(f"{where}: no such file: {root / text}. {separated}")
        path = confined(root / text, root, where, way_out)
        entries.append(FileEntry(_relative(path, root), path, _class(label, classes, where), f"{text}, {where}"))
    ids = number_duplicates([(entry.id, target_id(entry.target)) for entry in entries])
    return [replace(entry, id=one) for entry, one in zip(entries, ids, strict=True)]


def _label_inside(path: Path, text: str) -> str:
    """Return what to do about a path that names no file because its label is still in it; "" where that is not why."""
    found = None if path.exists() else _LABEL_BEHIND.fullmatch(text)
    if found is None:
        return ""
    if found["mark"] == "|":
        return "Columns of a list are separated by commas, semicolons or tabs, not by |"
    return "Columns of a list are separated by commas; imagenet:FILE reads lines of path and class with a space between"


def _relative(path: Path, root: Path) -> str:
    """Return the path from the root in one spelling: "a.png" for "./a.png" and for its absolute path."""
    plain = Path(os.path.normpath(path))
    base = Path(os.path.normpath(root))
    if not plain.is_relative_to(base):  # an absolute path that is spelled through other links than the root
        plain, base = path.resolve(), root.resolve()
    return plain.relative_to(base).as_posix()


def _class(label: Any, classes: dict[str, int] | None, where: str) -> Any:
    if classes is None or label is None:
        return label
    if str(label) not in classes:
        raise DataError(f"{where}: the label {label!r} is not in ?classes=")
    return classes[str(label)]


def _csv_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    lines = iter(lines)
    first = next(lines, "")
    reader = csv.reader(itertools.chain([first], lines), delimiter=_separator(first), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend((reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row)))
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} of {name}: {error}") from error
    path_column, label_column = 0, 1
    if rows and (header := _header(rows[0][1])):
        path_column, label_column = header
        rows = rows[1:]
    for line, row in rows:
        if len(row) <= path_column or not row[path_column]:
            raise DataError(f"line {line} of {name}: no path in it; lines are path,label")
    texts = [row[label_column] if label_column is not None and len(row) > label_column else None for _, row in rows]
    labels = _numbers(texts)
    for (line, row), label in zip(rows, labels, strict=True):
        if isinstance(label, float) and not math.isfinite(label):
            raise DataError(
                f"line {line} of {name}: the label {row[label_column or 0]} is no finite number, and all labels are "
                "numbers. Leave the line out, or repair it"
            )
        yield line, row[path_column], label


def _separator(line: str) -> str:
    return next((mark for mark in (",", ";", "\t") if mark in line), ",")


def _header(cells: list[str]) -> tuple[int, int | None] | None:
    """Return the columns of path and label if this line is a header."""
    lowered = [cell.lower() for cell in cells]
    path = next((lowered.index(key) for key in _PATH_KEYS if key in lowered), None)
    if path is None:
        return None
    return path, next((lowered.index(key) for key in _LABEL_KEYS if key in lowered), None)


def _numbers(texts: list[str | None]) -> list[Any]:
    given = [text for text in texts if text]
    for kind in (int, float):
        try:
            for text in given:
                kind(text)
        except ValueError:
            continue
        return [kind(text) if text else None for text in texts]
    return [text or None for text in texts]


def _jsonl_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number} of {name}"
        try:
            row = load_json(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: no JSON: {error}") from error
        path = next((row[key] for key in _PATH_KEYS if key in row), None) if isinstance(row, dict) else None
        if not isinstance(path, str) or not path:
            raise DataError(f'{where}: needs {{"path": "…", "label": …}}, got {line.strip()[:60]}')
        yield number, path, next((row[key] for key in _LABEL_KEYS if key in row), None)
