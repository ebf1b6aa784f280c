"""Read models from and write outputs to fsspec URLs, if the extra is installed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from calib.errors import MissingExtraError, ModelError, OutputError
from calib.values.distribution import requirement


def is_url(text: str) -> bool:
    """Return whether a text is a URL such as ``s3://bucket/model.xml`` and not a path."""
    return "://" in text


def open_place(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL and the path in it.

    Raises:
        MissingExtraError: The package fsspec, or its package for this protocol, is not installed.
        ModelError: The URL can't be opened.
    """
    if importlib.util.find_spec("fsspec") is None:
        raise MissingExtraError(url, "fsspec", requirement("fsspec"))
    import fsspec.core

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        # fsspec knows which package speaks a protocol, and says so in words: "Install s3fs to access S3".
        said = re.search(r"install [\"'`]?([\w-]+)", str(error), re.IGNORECASE)
        raise MissingExtraError(url, said[1] if said else str(error.name or error)) from error
    except (ValueError, OSError) as error:
        raise ModelError(f"{url}: can't be opened: {error}") from error


def fetch(url: str, folder: Path) -> Path:
    """Copy a model with its weights into a folder and return the copy's path.

    Raises:
        ModelError: The model can't be read.
    """
    system, path = open_place(url)
    target = folder / PurePosixPath(path).name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts(path):
            if part == path or system.exists(part):
                with system.open(part, "rb") as source, open(folder / PurePosixPath(part).name, "wb") as copy:
                    while block := source.read(1 << 20):
                        copy.write(block)
    except OSError as error:
        raise ModelError(f"{url}: can't be read: {error}") from error
    return target


def send(folder: Path, url: str, files: Sequence[Path]) -> None:
    """Copy the files of a finished result to a URL in this order, the last of which marks it as complete.

    Object stores can't rename a folder in one step, so completeness is shown by a file and not by a name.

    Raises:
        OutputError: The result can't be written.
    """
    system, path = open_place(url)
    try:
        system.makedirs(path, exist_ok=True)
        last = f"{path}/{files[-1].as_posix()}"
        if system.exists(last):
            system.rm(last)
        for parent in sorted({file.parent for file in files if len(file.parts) > 1}):
            system.makedirs(f"{path}/{parent.as_posix()}", exist_ok=True)
        for file in files:
            system.put_file(str(folder / file), f"{path}/{file.as_posix()}")
    except OSError as error:
        raise OutputError(f"{url}: can't be written: {error}") from error


def read_text(url: str) -> str | None:
    """Return the text of a small file; None if there is none."""
    system, path = open_place(url)
    try:
        return system.cat_file(path).decode("utf-8", "replace")
    except OSError:
        return None


def parts(path: str) -> tuple[str, ...]:
    """Return the files of a model: an IR's and PaddlePaddle's weights are next to it, a SavedModel's in a folder."""
    for ending, weights in ((".xml", ".bin"), (".pdmodel", ".pdiparams")):
        if path.lower().endswith(ending):
            return (path, path[: -len(ending)] + weights)
    inside = Path(path).parent / "variables"
    if path.endswith("/saved_model.pb") and not is_url(path) and inside.is_dir():
        return (path, *(str(file) for file in sorted(inside.iterdir())))
    return (path,)
