"""A result in one zip: model, plan, settings, report, the command that made it, and a program that runs it."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from calib.engine.reproduce import JOB_NAME
from calib.engine.result import PLAN_NAME, WEIGHTS_NAME
from calib.engine.snippet import run_snippet
from calib.errors import OutputError, UsageError
from calib.report.html import FILE_NAME as PAGE
from calib.report.json_report import FILE_NAME as REPORT
from calib.report.json_report import read_report
from calib.runtime.temporary import temporary_path
from calib.values.facts import Report
from calib.values.pictures import FOLDER

_WHEN = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same result gives the same bytes; the first that zip knows
_BLOCK = 1 << 20


def write_zip(folder: str | Path, stream: IO[bytes]) -> None:
    """Write the result in a folder as a zip: the same result gives the same bytes. A block is in memory at a time.

    Args:
        folder: Folder that ``calib quantize`` or a zoo wrote.
        stream: Stream to write to, which need not be able to seek.

    Raises:
        UsageError: The folder holds no complete result, or a file in it is a link.
    """
    folder = Path(folder)
    report = read_report(folder)
    name = report.model.name
    files = _files(folder, name)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file, text in (("README.txt", _readme(report)), ("run.py", run_snippet(report))):
            archive.writestr(_entry(f"{name}-int8/{file}"), text.encode("utf-8", "backslashreplace"))
        for path in files:
            entry = _entry(f"{name}-int8/{path.relative_to(folder).as_posix()}")
            entry.file_size = path.stat().st_size  # tells zipfile whether it takes the form for large files
            with path.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _BLOCK)


def take_away(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the result in a folder as a zip file, all of it or nothing, and return its path.

    Args:
        folder: Folder of the result.
        path: File to write; ``<model>-int8.zip`` in the current folder by default.

    Raises:
        UsageError: As for ``write_zip``.
        OutputError: The file can't be written.
    """
    target = Path(path) if path is not None else Path(f"{read_report(folder).model.name}-int8.zip")
    temporary = temporary_path(target.parent, ".zip")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            write_zip(folder, stream)
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"{target} can't be written: {error.strerror or error}. Choose another place") from error
    finally:
        if temporary.exists():
            temporary.unlink()
    return target


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _WHEN)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # Unix, whatever the machine
    return entry


def _files(folder: Path, name: str) -> list[Path]:
    """Return the files of the result, in order.

    Raises:
        UsageError: The model is missing, or a file is a link, which may lead anywhere.
    """
    found = list(_present(folder, name))
    missing = [part for part in (f"{name}.xml", f"{name}.bin") if folder / part not in found]
    if missing:
        raise UsageError(f"{folder}: {missing[0]} is missing, so the result is not complete. Quantize the model again")
    for path in found:
        if path.is_symlink():
            raise UsageError(f"{path} is a link; put the file itself there")
    return found


def _present(folder: Path, name: str) -> Iterator[Path]:
    for part in (f"{name}.bin", f"{name}.xml", JOB_NAME, PLAN_NAME, WEIGHTS_NAME, PAGE, REPORT):
        if (folder / part).is_file():
            yield folder / part
    yield from sorted((folder / FOLDER).glob("[0-9]*.png"))


def _readme(report: Report) -> str:
    lines = [
        f"{report.model.name} in INT8, made by calib {report.calib_version}: {report.status.replace('_', ' ')}.",
        *([report.status_reason] if report.status_reason else []),
        "",
        "Run it (needs openvino and numpy):",
        "",
        "    python run.py SAMPLE",
        "",
        "report.json holds all figures. plan.json and plan.npz give the same INT8 model again, without data:",
        "",
        f"    calib quantize FP32_MODEL --plan plan.json -o {report.model.name}-again",
    ]
    if report.reproduce:
        lines += [
            "",
            "The command that made it; job.yaml is the same as a file:",
            "",
            f"    {report.reproduce.command}",
        ]
    else:
        lines += ["", "It was made from Python objects, so there is no command that repeats the run."]
    return "\n".join(lines) + "\n"
