"""What OpenVINO can't compile or run: a figure is left out and named, and nothing that was computed is lost."""

from __future__ import annotations

from types import TracebackType

from calib.errors import ModelError
from calib.runtime.session import notice_memory

FAILURES = (ModelError, RuntimeError)
"""What OpenVINO raises where it can't compile a model, by way of ``compile_model``, or can't run it."""


def said(error: Exception) -> str:
    """Return what OpenVINO said, without the place in its source that it begins with.

    Raises:
        MemoryError: It says that memory ran out, which no model or layer caused.
    """
    notice_memory(error)
    text = str(error).strip().splitlines()[-1][:300].rstrip(".")
    return text.partition(" for this CPU: ")[2] or text


class left_out:  # named in lower case as contextlib.suppress is, which is a class too
    """Leave out a figure if OpenVINO can't compile or run the model it is taken from, and add a warning that says so.

    Args:
        what: Beginning of the sentence: the figure, and that it is missing.
        warnings: Sentences for the report, to which one is added.
    """

    def __init__(self, what: str, warnings: list[str]):
        self._what, self._warnings = what, warnings

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        """Return whether OpenVINO failed; every other error passes."""
        if not isinstance(error, FAILURES):
            return False
        self._warnings.append(f"{self._what}: {said(error)}.")
        return True
