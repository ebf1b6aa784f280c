"""Libraries of the user's own operations, which OpenVINO calls extensions.

Loading one runs its code, so what a file names is loaded only if the user allows it, as for ``python:``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calib.errors import ModelError, UsageError
from calib.runtime.session import core

_loaded: set[str] = set()


def load_extensions(libraries: Sequence[str], *, named_in: str = "", allowed: bool = False) -> None:
    """Load libraries into the Core of this process, each once; they stay there.

    Args:
        libraries: Paths of the libraries.
        named_in: Place in a file that names them; empty if the user gave them as an argument.
        allowed: Whether a file may name them.

    Raises:
        UsageError: A file names them, which is not allowed, or one does not exist.
        ModelError: One can't be loaded.
    """
    if libraries and named_in and not allowed:
        raise UsageError(f"{named_in}: {refusal_of(libraries[0])}")
    for text in libraries:
        path = Path(text).expanduser().absolute()
        if not path.is_file():
            raise UsageError(
                f"{path}: no such library. Give the path of an extension of OpenVINO, such as liboperations.so"
            )
        if str(path) in _loaded:
            continue
        try:
            core().add_extension(str(path))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].rstrip(".")
            raise ModelError(
                f"{path}: OpenVINO can't load it as an extension: {reason}. Build it for the OpenVINO that runs here"
            ) from error
        _loaded.add(str(path))


def refusal_of(library: str) -> str:
    """Return the message on why a library that a file names is not loaded and what to do about it."""
    return (
        f"{library} is a library of operations, whose code would run, which is not allowed here; give "
        "--allow-extension (in Python: allow_extension=True) if you trust where it comes from"
    )
