"""Open samples, whatever form they come in."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from calib.errors import DataError
from calib.samples import FORMATS, data_formats
from calib.samples.preprocess import Preprocess
from calib.samples.python import open_iterable
from calib.samples.sample import Dataset, InputSpec
from calib.samples.source import parse_source

__all__ = ["InputSpec", "Preprocess", "data_formats", "open_dataset"]


def open_dataset(
    data: str | os.PathLike[str] | Iterable[Any],
    *,
    inputs: Sequence[InputSpec],
    base: Path | None = None,
    allow_python: bool = True,
    preprocess: Preprocess | None = None,
) -> Dataset:
    """Return the dataset behind a DATA argument or a Python object.

    The feeds of its samples are tuples of arrays in input order, with the model's own dtypes and batch axis.

    Args:
        data: ``[format:]PATH[?key=value&…]``, a path, or a re-iterable of samples: each an array, a tuple in input
            order or a dict by input name; with one input a pair is (feed, target), with several ((…), target).
        inputs: what the model takes.
        base: the folder that relative paths and ``python:`` modules start from; the working folder for None.
        allow_python: False where the text comes from a file that must not run code.
        preprocess: how images become feeds; what it leaves open follows from the model's input.

    Raises:
        DataError: there is no such data, or it is no set of samples. What is inside may raise later, when it is read.
        UsageError: the format or an option is unknown.
    """
    if not isinstance(data, str | os.PathLike):
        return open_iterable(data, inputs)
    source = parse_source(os.fspath(data), inputs, base, preprocess)
    if source.format == "python" and not allow_python:
        raise DataError(
            f"{source.text}: python: sources run code, and are read only from the command line or your own config"
        )
    module, _, function = FORMATS[source.format].opener.partition(":")
    return getattr(importlib.import_module(module), function)(source)
