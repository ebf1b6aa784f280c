"""Samples from ``.npz`` and ``.npy``: arrays with samples along the first axis, read row by row.

For a model that keeps state ``?sequence=`` says which rows belong together, or that each row is a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from calib.errors import DataError
from calib.samples.array_file import ArrayFile, open_npy_file, open_npz_members
from calib.samples.content import ContentDataset
from calib.samples.sample import Dataset, InputSpec
from calib.samples.sequence import FILE, ROW, one_by_one, runs, time_first
from calib.samples.source import Source

_LABELS = "labels"


class _Rows:
    """Rows of several arrays side by side, as items (feed, target)."""

    def __init__(self, names: Sequence[str], arrays: Sequence[ArrayFile], labels: ArrayFile | None):
        self._names = names
        self._arrays = [*arrays, labels] if labels else list(arrays)
        self._labelled = labels is not None

    def __iter__(self) -> Iterator[Any]:
        for row in zip(*self._arrays, strict=True):
            yield self._item(row)

    def at(self, number: int) -> Any:
        return self._item([array.row(number) for array in self._arrays])

    @property
    def random_access(self) -> bool:
        return all(array.random_access for array in self._arrays)

    def _item(self, row: Sequence[Any]) -> Any:
        feed = dict(zip(self._names, row, strict=False))
        return feed, row[-1] if self._labelled else None


class _Sequences:
    """Rows as sequences: each row is one with time along its first axis, or each of several ranges of rows is one."""

    def __init__(self, rows: _Rows, ranges: Sequence[range] | None):
        self._rows = rows
        self._ranges = ranges

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self._rows)
        if self._ranges is None:
            yield from (time_first(feed, target) for feed, target in rows)
            return
        for several in self._ranges:
            yield one_by_one([next(rows) for _ in several])
        next(rows, None)  # reading to the end checks the file

    def at(self, number: int) -> Any:
        if self._ranges is None:
            return time_first(*self._rows.at(number))
        return one_by_one([self._rows.at(row) for row in self._ranges[number]])

    @property
    def random_access(self) -> bool:
        return self._rows.random_access


def open_npz(source: Source) -> Dataset:
    """Return the samples of an .npz file, with arrays named like the inputs and targets in ``labels``.

    Raises:
        DataError: The file is damaged, hostile or empty, has no array for an input, or arrays of different lengths.
    """
    path = source.path
    members = open_npz_members(path)
    if not members:
        raise DataError(f"{source.text}: the .npz file is empty, it holds no array")
    labels, sequence = _labels(source, members), source.options.get("sequence")
    if sequence not in (None, ROW, FILE, *members):
        raise DataError(
            f"{source.text}: ?sequence={sequence} is none of row (each row is a sequence), file (all rows are one), "
            f"or the name of an array with the sequence of each row; it holds {_listed(members)}"
        )
    keys = _keys(source, {name: array for name, array in members.items() if name not in (labels, sequence)})
    arrays = [members[key] for key in keys]
    by_row = members.get(sequence or "")
    return _dataset(source, arrays, members[labels] if labels else None, by_row)


def open_npy(source: Source) -> Dataset:
    """Return the rows of an .npy file as samples of a model with one input.

    Raises:
        DataError: The file is damaged, or the model has several inputs.
    """
    if len(source.inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in source.inputs)
        raise DataError(
            f"{source.text}: an .npy file holds one array, the model has the inputs {names}. Use an .npz file"
        )
    label_file = source.options.get("labels")
    labels = open_npy_file(source.existing(label_file)) if label_file else None
    sequence = source.options.get("sequence")
    by_row = None if sequence in (None, ROW, FILE) else open_npy_file(source.existing(sequence))
    return _dataset(source, [open_npy_file(source.path)], labels, by_row)


def _dataset(
    source: Source, arrays: Sequence[ArrayFile], labels: ArrayFile | None, by_row: ArrayFile | None
) -> Dataset:
    everything = [array for array in (*arrays, labels, by_row) if array]
    for array in everything:
        if not array.shape:
            raise DataError(f"{source.text}: {array.name!r} is a single number; arrays need their samples along axis 0")
    lengths = {array.name: array.shape[0] for array in everything}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise DataError(f"{source.text}: arrays of different lengths: {text}. Axis 0 is that of the samples")
    rows: _Rows | _Sequences = _Rows([spec.name for spec in source.inputs], arrays, labels)
    sequence = source.options.get("sequence")
    if sequence is not None:
        rows = _Sequences(rows, _ranges(source, sequence, arrays, by_row))
    at = rows.at if rows.random_access else None
    word = "row" if sequence in (None, ROW) else "sequence"
    return ContentDataset(source.text, rows, source.inputs, at=at, item_word=word, splits=source.splits)


def _ranges(
    source: Source, sequence: str, arrays: Sequence[ArrayFile], by_row: ArrayFile | None
) -> Sequence[range] | None:
    """Return the rows of each sequence; None if each row is one."""
    if by_row is not None:
        if len(by_row.shape) != 1:
            raise DataError(
                f"{source.text}: {by_row.name!r} has shape {list(by_row.shape)}; the sequence of each row is one "
                "number or text a row"
            )
        return runs(by_row.whole().tolist(), source.text)
    if sequence == FILE:
        return [range(arrays[0].shape[0])] if arrays[0].shape[0] else []
    for array, spec in zip(arrays, source.inputs, strict=True):
        if len(array.shape) not in (len(spec.shape) + 1, len(spec.shape) + 2):
            raise DataError(
                f"{source.text}: with ?sequence=row {array.name!r} needs the axes of sequences and of frames before "
                f"those of input {spec}, and has shape {list(array.shape)}. If its rows are frames, give "
                "?sequence=file or the array with the sequence of each row: ?sequence=NAME"
            )
    return None


def _labels(source: Source, members: dict[str, ArrayFile]) -> str | None:
    asked = source.options.get("labels")
    if asked is not None and asked not in members:
        raise DataError(f"{source.text}: there is no array {asked!r}; it holds {_listed(members)}")
    inputs = {name for spec in source.inputs for name in (spec.name, *spec.names)}
    return asked or (_LABELS if _LABELS in members and _LABELS not in inputs else None)


def _keys(source: Source, members: dict[str, ArrayFile]) -> list[str]:
    """Return the name of the array for each input: the same name, or the only array for the only input."""
    found = [_named(spec, members) for spec in source.inputs]
    if len(found) == 1 and found[0] is None and len(members) == 1:
        return list(members)
    for spec, key in zip(source.inputs, found, strict=True):
        if key is None:
            raise DataError(
                f"{source.text}: no array for the input {spec}; it holds {_listed(members) or 'nothing but labels'}. "
                "Name the arrays like the inputs: numpy.savez(path, **{input name: array})"
            )
    return [key for key in found if key is not None]


def _named(spec: InputSpec, members: dict[str, ArrayFile]) -> str | None:
    return next((name for name in (spec.name, *spec.names) if name in members), None)


def _listed(members: dict[str, ArrayFile]) -> str:
    return ", ".join(f"{name!r} {list(array.shape)} {array.dtype}" for name, array in members.items())
