"""Samples from a folder of images, or of one folder per class."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from calib.errors import DataError, UsageError
from calib.samples.files import (
    IMAGE_SUFFIXES,
    FeedReader,
    FileDataset,
    FileEntry,
    confined,
    in_sequences,
    read_classes,
)
from calib.samples.sample import Dataset
from calib.samples.source import Source

_log = logging.getLogger(__name__)


def open_images(source: Source) -> Dataset:
    """Return the images of a folder; with class folders the target is the class index.

    With ``?sequence=folder`` a folder of images is one sample: a sequence of frames, for a model that keeps state.
    Files of other kinds are skipped and counted, and hidden ones are ignored. Links to folders, and to files outside
    the folder, are refused unless ``?links=follow`` is given.

    Raises:
        DataError: There is no image, there are images next to class folders, or a link leads outside.
    """
    folder = source.path
    if not folder.is_dir():
        raise DataError(f"{source.text}: {folder} is not a folder. For a list of files use csv: or jsonl:")
    reader = FeedReader(source)
    _ = reader.preprocess  # a model that takes no image is told of now
    files = _images(source, folder)
    if "sequence" in source.options:
        return FileDataset(source.text, _sequences(source, folder, files), reader, source.inputs)
    inside = [path for path in files if path.parent != folder]
    if inside and len(inside) != len(files):
        lone = next(path for path in files if path.parent == folder)
        raise DataError(
            f"{source.text}: {lone.name} is next to class folders and has no class. Move the file or the folders"
        )
    classes = _classes(source, sorted({path.relative_to(folder).parts[0] for path in inside}))
    entries = [
        FileEntry(name, path, classes.get(path.relative_to(folder).parts[0]), f"{name} of {source.text}")
        for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files)
    ]
    guessed = {} if "classes" in source.options else classes
    return FileDataset(source.text, entries, reader, source.inputs, class_folders=guessed)


def _sequences(source: Source, folder: Path, files: list[Path]) -> list[FileEntry]:
    """Return one entry for each folder of images; the class of a sequence is the folder around its own, if any."""
    names = sorted((path.relative_to(folder).as_posix(), path) for path in files)
    plain = [FileEntry(name, path, None, f"{name} of {source.text}") for name, path in names]
    entries = in_sequences(source, plain)
    around = {entry.id: entry.id.split("/")[0] for entry in entries if "/" in entry.id}
    classes = _classes(source, sorted(set(around.values())))
    return [replace(entry, target=classes[around[entry.id]]) if entry.id in around else entry for entry in entries]


def _images(source: Source, folder: Path) -> list[Path]:
    follow = source.options.get("links", "")
    if follow not in ("", "follow"):
        raise UsageError(f"{source.text}: ?links=follow is the only value of links, got {follow!r}")
    found, skipped = [], []
    for path in _files(source, folder, bool(follow)):
        (found if path.suffix.lower() in IMAGE_SUFFIXES else skipped).append(path)
    for path in found:
        way_out = "Copy it, or allow such links with ?links=follow"
        if follow:
            confined(path, path.resolve().parent, source.text, way_out)
        else:
            confined(path, folder, source.text, way_out)
    if skipped:
        _log.info(
            "%s: %d files that are no images were skipped, such as %s", source.text, len(skipped), skipped[0].name
        )
    if not found:
        other = f"{len(skipped)} other files, such as {skipped[0].name}" if skipped else "nothing else either"
        raise DataError(f"{source.text}: no images in it ({other}). Images end in {', '.join(IMAGE_SUFFIXES)}")
    return found


def _files(source: Source, folder: Path, follow: bool) -> Iterator[Path]:
    """Yield all files below the folder, without hidden ones; no folder is entered twice."""
    entered = {folder.resolve()}
    for parent, folders, names in os.walk(folder, followlinks=follow):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            path = Path(parent) / name
            if path.is_symlink() and not follow:
                raise DataError(f"{source.text}: {path} is a link to a folder. Allow links with ?links=follow")
            if path.resolve() in entered:
                folders.remove(name)
            entered.add(path.resolve())
        yield from (Path(parent) / name for name in names if not name.startswith("."))


def _classes(source: Source, names: list[str]) -> dict[str, int]:
    listed = read_classes(source)
    if listed is not None:
        if unknown := [name for name in names if name not in listed]:
            raise DataError(f"{source.text}: the class folder {unknown[0]!r} is not in {source.options['classes']}")
        return listed
    if all(name.isdecimal() for name in names):  # "10" sorts before "2": numbers are meant as numbers
        return {name: int(name) for name in names}
    return {name: index for index, name in enumerate(names)}
