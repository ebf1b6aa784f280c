"""Files that were dropped on the page: bounded, checked, unpacked without surprises, and never run."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from anyio.to_thread import run_sync
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from calib.errors import UsageError
from calib.runtime.temporary import temporary_folder
from calib.studio.bombs import check_arrays, check_growth, check_image
from calib.studio.files import IMAGES, MODELS
from calib.studio.rendering import address

FOLDER = "uploads"  # in the folder that is served
TAKEN = {*MODELS, *IMAGES, ".bin", ".pdiparams", ".npz", ".npy", ".csv", ".jsonl", ".ndjson", ".json", ".txt", ".yaml"}
MOST_FILES = 20_000  # of one request


async def receive(request: Request) -> Response:
    """Keep the files of a form; show the models or the data, whichever they are."""
    studio = request.app.state.studio
    async with request.form(max_files=MOST_FILES, max_fields=8) as form:
        files = [one for one in form.getlist("file") if isinstance(one, UploadFile) and one.filename]
        if not files:
            raise UsageError("no file was chosen")
        given = [(str(one.filename), one.file) for one in files]
        names = await run_sync(keep, given, studio.allowed.folder / FOLDER)
    models = [name for name in names if Path(name).suffix in MODELS]
    if len(models) == 1:
        return RedirectResponse(address("/model", {}, model=f"{FOLDER}/{models[0]}"), 303)
    return RedirectResponse("/data" if not models else "/", 303)


def keep(files: Iterable[tuple[str, IO[bytes]]], folder: Path) -> list[str]:
    """Check files and keep all of them, or none; return their paths in the folder.

    Args:
        files: Name and content of each; a .zip becomes a folder.
        folder: Folder to keep them in; what has the same name there is replaced.

    Raises:
        UsageError: One of them is not taken: its kind, a name that leaves the folder, a link, a bomb, a broken image.
    """
    folder.mkdir(exist_ok=True)
    with temporary_folder(folder) as at:
        names: list[str] = []
        for name, content in files:
            bare = safe_name(name)
            if Path(bare).suffix.lower() == ".zip":
                names += _unpack(name, content, at, Path(bare).stem)
            else:
                _check_kind(bare)
                with open(at / bare, "wb") as target:
                    shutil.copyfileobj(content, target)
                names.append(bare)
        for name in names:
            _check_content(at / name, name)
        for top in sorted(path.name for path in at.iterdir()):
            _replace(at / top, folder / top)
    return names


def safe_name(name: str) -> str:
    """Return the last part of a name, in letters that are the same everywhere."""
    last = re.split(r"[/\\]", name)[-1]
    found = re.sub(r"[^\w.+=@ -]+", "_", last).strip(" .")[:120]
    if not found or found.startswith("-"):
        raise UsageError(f"{name[:80]!r} is no name for a file")
    return found


def _unpack(name: str, content: IO[bytes], at: Path, stem: str) -> list[str]:
    try:
        archive = zipfile.ZipFile(content)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UsageError(f"{name}: no zip file, or broken: {error}") from error
    with archive:
        entries = [one for one in archive.infolist() if not one.is_dir()]
        check_growth(name, entries)
        names = []
        for entry in entries:
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise UsageError(f"{name}: holds the link {entry.filename}")
            parts = [part for part in re.split(r"[/\\]", entry.filename) if part not in ("", ".")]
            if ".." in parts or entry.filename.startswith(("/", "\\")) or any(part.startswith(".") for part in parts):
                raise UsageError(f"{name}: {entry.filename!r} leaves its folder or is hidden")
            inner = "/".join([stem, *map(safe_name, parts)])
            _check_kind(inner)
            (at / inner).parent.mkdir(parents=True, exist_ok=True)
            _extract(archive, entry, at / inner, name)
            names.append(inner)
    return names


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, name: str) -> None:
    """Write one entry; what it says of its size is held to."""
    left = entry.file_size
    try:
        with archive.open(entry) as source, open(target, "wb") as stream:
            while block := source.read(min(1 << 20, left + 1)):
                left -= len(block)
                if left < 0:
                    raise UsageError(f"{name}: {entry.filename} is larger than it says")
                stream.write(block)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise UsageError(f"{name}: {entry.filename} can't be unpacked: {error}") from error


def _check_kind(name: str) -> None:
    if Path(name).suffix.lower() not in TAKEN:
        raise UsageError(f"{name}: files of this kind are not taken; those are: {', '.join(sorted(TAKEN))}, .zip")


def _check_content(path: Path, name: str) -> None:
    """Refuse an array file that would fill the memory, and an image that is none or has too many pixels."""
    if path.suffix.lower() == ".npz":
        check_arrays(path, name)
    if path.suffix.lower() in IMAGES:
        check_image(path, name)


def _replace(made: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    elif target.exists() or target.is_symlink():
        target.unlink()
    made.rename(target)
