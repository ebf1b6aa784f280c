"""``python:module:function`` and Python objects: any re-iterable of samples."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calib.errors import DataError, UsageError
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
    random_access = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if not hasattr(data, "__iter__") and not random_access:
        raise DataError(f"{source}: can't be iterated. Pass a list of samples")
    if getattr(data, "ndim", None) == 0:
        raise DataError(f"{source}: an array needs its samples along the first axis, and this one has no axis")
    if isinstance(data, Sequence) or hasattr(data, "__array__"):
        return ContentDataset(source, data, inputs, at=data.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]
    return ContentDataset(source, data, inputs)


def open_python(source: Source) -> Dataset:
    """Import ``module:function``, call the function and open what it returns.

    Raises:
        DataError: it can't be imported or called, or does not return samples.
        UsageError: it is not written as module:function.
    """
    function = load_object(source.place, source.text, source.base)
    if not callable(function):
        raise DataError(f"{source.text}: {source.place} is no function")
    try:
        data: Any = function()
    except Exception as error:
        raise DataError(f"{source.text}: {source.place}() raised {type(error).__name__}: {error}") from error
    return open_iterable(data, source.inputs, source.text)


def load_object(place: str, text: str, base: Path) -> Any:
    """Return the object at ``module:name``; modules are looked for in ``base`` first.

    Raises:
        DataError: the module can't be imported, or has no such name.
        UsageError: not of the form module:name.
    """
    module_name, _, name = place.partition(":")
    if not module_name or not name:
        raise UsageError(f"{text}: write python:module:function, such as python:my_data:validation")
    with _importable(base):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise DataError(
                f"{text}: importing {module_name!r} failed: {type(error).__name__}: {error}. "
                f"It is looked for in {base.resolve()} and on Python's path"
            ) from error
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise DataError(f"{text}: the module {module_name} has no {name!r}")
    return found


@contextmanager
def _importable(base: Path) -> Iterator[None]:
    folder = str(base.resolve())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
