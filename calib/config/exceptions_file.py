"""Read patterns of operations to leave in floating point from a text file, one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.errors import ConfigError

PREFIX = "file:"
MAX_BYTES = 1 << 20  # 10,000 names of 100 characters


def with_files(patterns: str | Sequence[Any], folder: Path) -> list[Any]:
    """Return patterns with the lines of each ``file:FILE`` in place of it.

    Args:
        patterns: Patterns as for ``--ignore``, or one; what is no text stays, for the check of the settings.
        folder: Folder that relative names of files are in.

    Raises:
        ConfigError: A file can't be read, is no text, or names another file.
    """
    found: list[Any] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        of_file = isinstance(pattern, str) and pattern.startswith(PREFIX) and pattern != PREFIX
        found += _lines(folder / Path(pattern.removeprefix(PREFIX)).expanduser()) if of_file else [pattern]
    return found


def _lines(path: Path) -> list[str]:
    """Return the patterns in a file: lines without those that are empty or begin with ``#``."""
    source = f"ignore: {PREFIX}{path}"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(source, [f"can't be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(source, [f"is not UTF-8 text (byte {error.start}); write one pattern a line"]) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(source, [f"larger than {MAX_BYTES >> 20} MiB, which no list of patterns needs"])
    lines = [line.strip() for line in text.splitlines()]
    if nested := next((line for line in lines if line.startswith(PREFIX)), ""):
        raise ConfigError(source, [f"names another file, {nested!r}; name that one beside it"])
    return [line for line in lines if line and not line.startswith("#")]
