"""Import ``python:module:name`` that the user gave as an argument, or allowed a file to name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calib.errors import UsageError, one_line

PREFIX = "python:"


def names_code(text: Any) -> bool:
    """Return whether a value of a setting or a DATA argument is ``python:module:name``."""
    return isinstance(text, str) and text.startswith(PREFIX)


def refusal(text: str) -> str:
    """Return the message on why ``python:module:name`` is not run and what to do about it."""
    return (
        f"{text} runs code, which is not allowed here; give --allow-python (in Python: allow_python=True) if you trust "
        "where it comes from"
    )


def load_object(place: str, text: str, base: Path) -> Any:
    """Return the object at ``module:name``; modules are looked for in ``base`` first.

    Raises:
        UsageError: The form is wrong, the module can't be imported, or it has no such name.
    """
    module_name, _, name = place.partition(":")
    if not module_name or not name:
        raise UsageError(f"{text}: write python:module:function, such as python:my_data:validation")
    with _importable(base):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise UsageError(
                f"{text}: importing {module_name!r} failed: {type(error).__name__}: {one_line(error)}. "
                f"It is looked for in {base.resolve()} and on Python's path"
            ) from error
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise UsageError(f"{text}: the module {module_name} has no {name!r}")
    return found


@contextmanager
def _importable(base: Path) -> Iterator[None]:
    folder = str(base.resolve())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
