"""Open samples given as DATA, ``python:module:function`` or Python objects."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from calib.errors import DataError, UsageError, one_line
from calib.python_object import load_object, refusal
from calib.samples import FORMATS, data_formats
from calib.samples.content import ContentDataset
from calib.samples.feed import Splits, arrays_of, as_batch
from calib.samples.preprocess import Preprocess
from calib.samples.sample import Dataset, InputSpec, Sample
from calib.samples.sample import Sequence as FrameSequence
from calib.samples.source import Source, parse_source

__all__ = ["InMemory", "InputSpec", "Preprocess", "data_formats", "open_dataset"]

LIMIT = 512 << 20  # bytes of feeds; a search reads the same samples many times


def open_dataset(
    data: str | os.PathLike[str] | Iterable[Any],
    *,
    inputs: Sequence[InputSpec],
    allow_python: bool = True,
    preprocess: Preprocess | None = None,
    splits: Splits = as_batch,
) -> Dataset:
    """Return the dataset given by a DATA argument or a Python object.

    The feeds of its samples are tuples of arrays in input order, with the model's own dtypes and batch axis; those of
    sequences are Frames of such tuples.

    Args:
        data: Samples as ``[format:]PATH[?key=value&…]``, a path, or an iterable that can be read more than once. A
            sample is an array, a tuple in input order or a dict by input name, or a Sequence of these for a model that
            keeps state; with one input a pair is (feed, target), with several it is ((…), target). Paths and
            ``python:`` modules are relative to the working folder.
        inputs: Inputs of the model.
        allow_python: Whether a ``python:`` source may run.
        preprocess: Preprocessing of images; what it does not set follows from the model's input.
        splits: Function that tells a batch from a sample, see ``calib.samples.feed.normalize_feed``.

    Raises:
        DataError: There is no such data, or it is not a set of samples. Samples are read, and may raise, later.
        UsageError: The format or an option is unknown, or the source would run code and may not.
    """
    if not isinstance(data, str | os.PathLike):
        return open_iterable(data, inputs, splits=splits)
    source = parse_source(os.fspath(data), inputs, preprocess=preprocess, splits=splits)
    if source.format == "python" and not allow_python:
        raise UsageError(refusal(source.text))
    module, _, function = FORMATS[source.format].opener.partition(":")
    return getattr(importlib.import_module(module), function)(source)


def may_hold_images(data: Any, inputs: Sequence[InputSpec]) -> bool:
    """Return whether data, given as for `open_dataset`, are files that preprocessing may apply to, and not arrays."""
    return isinstance(data, str | os.PathLike) and FORMATS[parse_source(os.fspath(data), inputs).format].images


def open_iterable(
    data: Iterable[Any], inputs: Sequence[InputSpec], source: str = "", splits: Splits = as_batch
) -> Dataset:
    """Return the samples of a list, an array (samples first) or an object that can be iterated more than once.

    Raises:
        DataError: It is a single sample, can't be iterated, or can be iterated only once.
    """
    source = source or f"the {type(data).__name__} given"
    if isinstance(data, FrameSequence):
        raise DataError(f"{source}: a Sequence is one sample. Pass a list of sequences, [Sequence(…), …]")
    if isinstance(data, Mapping):
        raise DataError(f"{source}: a dict by input name is one sample. Pass a list of such dicts")
    if isinstance(data, Iterator):
        raise DataError(
            f"{source}: a {type(data).__name__} can be read only once, and calibration needs several passes. "
            "Pass a list, or an object that can be iterated more than once"
        )
    if not hasattr(data, "__iter__"):
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise DataError(f"{source}: can't be iterated. Pass a list of samples")
        data = _Indexed(data)
    if getattr(data, "ndim", None) == 0:
        raise DataError(f"{source}: an array needs its samples along the first axis, and this one has no axis")
    if isinstance(data, Sequence | _Indexed) or hasattr(data, "__array__"):
        indexed: Any = data  # the types do not say that each of these kinds has items
        return ContentDataset(source, data, inputs, at=indexed.__getitem__, splits=splits)
    return ContentDataset(source, data, inputs, splits=splits)


def open_python(source: Source) -> Dataset:
    """Import ``module:function``, call the function and open what it returns.

    Raises:
        DataError: The function raised an error, or does not return samples.
        UsageError: It is not of the form module:function, or can't be imported.
    """
    function = load_object(source.place, source.text, Path())
    if not callable(function):
        raise DataError(f"{source.text}: {source.place} is no function")
    try:
        data: Any = function()
    except Exception as error:
        raise DataError(f"{source.text}: {source.place}() raised {type(error).__name__}: {one_line(error)}") from error
    return open_iterable(data, source.inputs, source.text, source.splits)


class _Indexed:
    """Items of an object with only ``__getitem__`` and ``__len__``, such as torch's datasets."""

    def __init__(self, data: Any):
        self._data = data

    def __iter__(self) -> Iterator[Any]:
        return (self._data[i] for i in range(len(self._data)))

    def __getitem__(self, number: int) -> Any:
        return self._data[number]


class InMemory:
    """Keeps loaded samples of a dataset in memory, up to a limit; others are loaded each time.

    Args:
        dataset: Dataset.
        limit: Bytes of feeds to keep; ``LIMIT`` by default.
    """

    def __init__(self, dataset: Dataset, limit: int | None = None):
        self._dataset = dataset
        self._left = LIMIT if limit is None else limit
        self._kept: dict[str, Sample] = {}

    @property
    def source(self) -> str:
        """Description of the data, for messages and reports."""
        return self._dataset.source

    @property
    def class_folders(self) -> Mapping[str, int]:
        """Class folders of the dataset."""
        return self._dataset.class_folders

    @property
    def notes(self) -> Sequence[str]:
        """Sentences of the dataset for the report."""
        return self._dataset.notes

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._dataset)

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Return the ids that the dataset chooses."""
        return self._dataset.choose(count, salt)

    def reading_order(self, ids: Sequence[str]) -> Sequence[str]:
        """Return the ids in the order in which the dataset can read them one by one."""
        return self._dataset.reading_order(ids)

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order."""
        fresh = self._dataset.load([name for name in ids if name not in self._kept])
        for name in ids:
            sample = self._kept.get(name)
            if sample is None:
                sample = next(fresh)
                size = sum(array.nbytes for array in arrays_of(sample))
                if size <= self._left:
                    self._kept[name] = sample
                    self._left -= size
            yield sample
