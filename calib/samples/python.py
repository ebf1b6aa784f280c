"""``python:module:function`` and Python objects: any re-iterable of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from calib.errors import DataError
from calib.python_object import load_object
from calib.samples.content import ContentDataset
from calib.samples.sample import Dataset, InputSpec
from calib.samples.source import Source


def open_iterable(data: Iterable[Any], inputs: Sequence[InputSpec], source: str = "") -> Dataset:
    """Return the samples of a list, an array (samples first) or an object whose ``__iter__`` starts anew.

    Raises:
        DataError: it is one sample and not a set of them, can't be iterated, or can be iterated only once.
    """
    source = source or f"the {type(data).__name__} given"
    if isinstance(data, Mapping):
        raise DataError(f"{source}: a dict by input name is one sample. Pass a list of such dicts")
    if isinstance(data, Iterator):
        raise DataError(
            f"{source}: a {type(data).__name__} can be read only once, and calibration needs several passes. "
            "Pass a list, or an object whose __iter__ starts anew"
        )
    if not hasattr(data, "__iter__"):
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise DataError(f"{source}: can't be iterated. Pass a list of samples")
        data = _Indexed(data)
    if getattr(data, "ndim", None) == 0:
        raise DataError(f"{source}: an array needs its samples along the first axis, and this one has no axis")
    if isinstance(data, Sequence | _Indexed) or hasattr(data, "__array__"):
        return ContentDataset(source, data, inputs, at=data.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]
    return ContentDataset(source, data, inputs)


def open_python(source: Source) -> Dataset:
    """Import ``module:function``, call the function and open what it returns.

    Raises:
        DataError: the function raised, or does not return samples.
        UsageError: it is not written as module:function, or can't be imported.
    """
    function = load_object(source.place, source.text, source.base)
    if not callable(function):
        raise DataError(f"{source.text}: {source.place} is no function")
    try:
        data: Any = function()
    except Exception as error:
        raise DataError(f"{source.text}: {source.place}() raised {type(error).__name__}: {error}") from error
    return open_iterable(data, source.inputs, source.text)


class _Indexed:
    """An object with ``__getitem__`` and ``__len__`` alone (torch's datasets), whose end is told by its length."""

    def __init__(self, data: Any):
        self._data = data

    def __iter__(self) -> Iterator[Any]:
        return (self._data[i] for i in range(len(self._data)))

    def __getitem__(self, number: int) -> Any:
        return self._data[number]
