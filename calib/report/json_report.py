"""``report.json``: everything a run found, for machines and for every other report."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from calib.errors import UsageError
from calib.report.files import write_text
from calib.values.facts import Report
from calib.values.frozen import SCHEMA_VERSION

FILE_NAME = "report.json"


def write_report(report: Report, folder: str | Path) -> Path:
    """Write ``folder/report.json`` atomically and return its path.

    Raises:
        OutputError: The folder can't be written.
    """
    return write_text(Path(folder) / FILE_NAME, to_json(report) + "\n")


def to_json(value: BaseModel) -> str:
    """Return the JSON of a report, also where a path in it holds bytes that are no text (lone surrogates)."""
    try:
        return value.model_dump_json(indent=1)
    except PydanticSerializationError:
        return json.dumps(value.model_dump(), indent=1)  # ASCII: surrogates become escapes, which JSON reads back


def read_report(path: str | Path) -> Report:
    """Read a ``report.json``, or the one inside a folder.

    Raises:
        UsageError: It is no path, there is none, it is damaged, or another version of calib wrote it in another form.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"a {type(path).__name__} is no folder. Give the one that quantize or Result.save wrote.")
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist. Give the folder that `calib quantize` wrote.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    return parse_report(text, str(path))


def parse_report(text: str, source: str) -> Report:
    """Return the report that the text of a ``report.json`` holds; ``source`` names it in errors.

    Raises:
        UsageError: As in ``read_report``.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source} is damaged: it is no JSON ({error}). Run `calib quantize` again.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is None:
        raise UsageError(f"{source} is no report of calib: it has no schema_version.")
    if version != SCHEMA_VERSION:
        writer = content.get("calib_version", "another version")
        raise UsageError(
            f"{source} has schema_version {version!r}, written by calib {writer}; this calib reads {SCHEMA_VERSION}. "
            "Run `calib quantize` again, or read it with the version that wrote it."
        )
    try:
        return Report.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UsageError(f"{source} is damaged: {place}: {first['msg']}{more}. Run `calib quantize` again.") from error
