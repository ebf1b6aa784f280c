"""Results on disk: the whole file or none of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from calib.errors import OutputError
from calib.runtime.temporary import temporary_path


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 file so that a reader sees the old content or the new, never half of it; return its path.

    Missing folders are made. Lone surrogates (undecodable bytes of file names) are written as escapes.

    Raises:
        OutputError: The folder or the file can't be written.
    """
    path = Path(path)
    temporary = temporary_path(path.parent, path.suffix)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(text.encode("utf-8", errors="backslashreplace"))
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a parent that is a file makes this fail, too
            temporary.unlink()
        raise OutputError(
            f"{path} can't be written: {error.strerror or error}. Choose another place for it."
        ) from error
    return path
