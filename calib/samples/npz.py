"""Samples from ``.npz`` and ``.npy``: arrays with samples along the first axis, read row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from calib.errors import DataError
from calib.samples.array_file import ArrayFile, open_npy_file, open_npz_members
from calib.samples.content import ContentDataset
from calib.samples.sample import Dataset, InputSpec
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


def open_npz(source: Source) -> Dataset:
    """Return the samples of an .npz file, with arrays named like the inputs and targets in ``labels``.

    Raises:
        DataError: The file is damaged, hostile or empty, has no array for an input, or arrays of different lengths.
    """
    path = source.path
    members = open_npz_members(path)
    if not members:
        raise DataError(f"{source.text}: the .npz file is empty, it holds no array")
    labels = _labels(source, members)
    keys = _keys(source, {name: array for name, array in members.items() if name != labels})
    arrays = [members[key] for key in keys]
    return _dataset(source, arrays, members[labels] if labels else None)


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
    return _dataset(source, [open_npy_file(source.path)], labels)


def _dataset(source: Source, arrays: Sequence[ArrayFile], labels: ArrayFile | None) -> Dataset:
    everything = [*arrays, labels] if labels else list(arrays)
    for array in everything:
        if not array.shape:
            raise DataError(f"{source.text}: {array.name!r} is a single number; arrays need their samples along axis 0")
    lengths = {array.name: array.shape[0] for array in everything}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise DataError(f"{source.text}: arrays of different lengths: {text}. Axis 0 is that of the samples")
    rows = _Rows([spec.name for spec in source.inputs], arrays, labels)
    at = rows.at if rows.random_access else None
    return ContentDataset(source.text, rows, source.inputs, at=at, item_word="row")


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
