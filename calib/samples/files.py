"""Samples with one file each: images, .npy and .npz."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

import numpy as np

from calib.errors import DataError, UsageError, one_line
from calib.samples.array_file import open_npy_file, open_npz_members
from calib.samples.content import choose_ids
from calib.samples.feed import Arrays, Splits, as_batch, normalize_feed
from calib.samples.preprocess import Preprocess
from calib.samples.sample import Frames, FrameTargets, InputSpec, Sample
from calib.samples.sample import Sequence as FrameSequence
from calib.samples.source import Source
from calib.values.detections import ImageGeometry

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")

# Only these decoders may run: others of Pillow's start programs (EPS calls Ghostscript) or were written for rare uses.
_DECODERS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")


@dataclass(frozen=True)
class FileEntry:
    """One file of a dataset, or the files of one sequence, not yet read.

    Attributes:
        id: Path relative to the dataset, with "/".
        path: Path of the file; of several, that of their folder.
        target: Target from the list or the class folder; a PendingTarget is read with the image.
        where: Name of the sample in messages.
        frames: Files of a sequence, in order; empty for a sample of one file.
        stacked: Whether the file holds the frames of a sequence, along its first axis.
    """

    id: str
    path: Path
    target: Any
    where: str
    frames: tuple[FileEntry, ...] = ()
    stacked: bool = False


@dataclass(frozen=True)
class Read:
    """What a file holds.

    Attributes:
        feed: Feed of the model.
        geometry: How an image became the feed; None for arrays.
    """

    feed: Any
    geometry: ImageGeometry | None = None


@runtime_checkable
class PendingTarget(Protocol):
    """A target that is only known when the image is read: from its size, or from another file."""

    def read(self, size: tuple[int, int]) -> Any:
        """Return the target of an image of this height and width.

        Raises:
            DataError: It does not belong to such an image, or its file can't be read.
        """
        ...


class FileDataset:
    """Dataset of files; choosing samples reads no file."""

    def __init__(
        self,
        source: str,
        entries: Sequence[FileEntry],
        read: Callable[[FileEntry], Read],
        inputs: Sequence[InputSpec],
        class_folders: Mapping[str, int] | None = None,
        splits: Splits = as_batch,
        notes: Sequence[str] = (),
    ):
        self._source = source
        self._splits = splits
        self._entries = {entry.id: entry for entry in entries}
        self._read = read
        self._inputs = tuple(inputs)
        self.class_folders: Mapping[str, int] = class_folders or {}
        self.notes = tuple(notes)

    @property
    def source(self) -> str:
        """Description of the data, for messages and reports."""
        return self._source

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Sample]:
        return self.load(list(self._entries))

    def choose(self, count: int | None, salt: str = "") -> Sequence[str]:
        """Return the sorted ids of ``count`` samples, or all for None, chosen by a hash; fewer if there are fewer."""
        return choose_ids(self._entries, count, salt)

    def reading_order(self, ids: Sequence[str]) -> Sequence[str]:
        """Return the ids as they are: each can be read by itself."""
        return ids

    def load(self, ids: Sequence[str]) -> Iterator[Sample]:
        """Yield the samples with these ids, in this order.

        Raises:
            DataError: An id is unknown, or a file can't be read, does not fit the model or holds several samples.
        """
        for one in ids:
            entry = self._entries.get(one)
            if entry is None:
                raise DataError(f"{self._source}: no sample with the id {one!r} ({len(self._entries)} samples)")
            if entry.frames or entry.stacked:
                yield Sample(self._frames(entry), entry.target, entry.id, entry.where)
            else:
                read = self._read(entry)
                yield Sample(self._single(read, entry), self._target(read, entry), entry.id, entry.where, read.geometry)

    def _frames(self, entry: FileEntry) -> Frames:
        if entry.frames:
            return Frames(self._single(self._read(frame), frame) for frame in entry.frames)
        from calib.samples.sequence import frames_of  # here: few models keep state

        return frames_of(FrameSequence(self._read(entry).feed), self._inputs, entry.where)

    def _target(self, read: Read, entry: FileEntry) -> Any:
        if not isinstance(entry.target, PendingTarget):
            return entry.target
        if read.geometry is None:
            raise DataError(f"{entry.where}: its annotations are those of an image, and the file is none")
        try:
            return entry.target.read(read.geometry.original)
        except DataError as error:
            raise DataError(f"{entry.where}: {error}") from error

    def _single(self, read: Read, entry: FileEntry) -> Arrays:
        feeds = normalize_feed(read.feed, self._inputs, entry.where, self._splits)
        if len(feeds) != 1:
            raise DataError(
                f"{entry.where}: holds {len(feeds)} samples; each file of a list has to hold one sample. Frames of a "
                "sequence, for a model that keeps state: ?sequence=file"
            )
        return feeds[0]


class FeedReader:
    """Turns a file into a feed: images through ``preprocess``, .npy and .npz unchanged."""

    def __init__(self, source: Source):
        self._inputs = source.inputs
        self._asked = source.preprocess or Preprocess()
        self._preprocess: Preprocess | None = None

    def __call__(self, entry: FileEntry) -> Read:
        """Return the feed in a file, and of an image its geometry.

        Raises:
            DataError: The file can't be read; the message names it.
        """
        try:
            suffix = entry.path.suffix.lower()
            if suffix == ".npy":
                return Read(np.array(open_npy_file(entry.path).whole()))
            if suffix == ".npz":
                return Read({name: array.whole() for name, array in open_npz_members(entry.path).items()})
            return self._image(entry.path)
        except DataError as error:
            raise DataError(f"{entry.where}: {error}") from error
        except Exception as error:  # decoders raise whatever they like on damaged files
            raise DataError(f"{entry.where} can't be read: {type(error).__name__}: {one_line(error)}") from error

    @property
    def preprocess(self) -> Preprocess:
        """Complete preprocessing of an image.

        Raises:
            DataError: The model does not take a single image.
        """
        if self._preprocess is None:
            if len(self._inputs) != 1:
                names = ", ".join(repr(spec.name) for spec in self._inputs)
                raise DataError(f"an image is one array, and the model has the inputs {names}. Use .npz files")
            self._preprocess = self._asked.resolve(self._inputs[0])
        return self._preprocess

    def _image(self, path: Path) -> Read:
        from PIL import Image

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata; and the bomb's warning is made an error below
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            try:
                with Image.open(path, formats=_DECODERS) as image:
                    geometry = self.preprocess.geometry(image.height, image.width)
                    return Read(self.preprocess.apply(image), geometry)
            except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
                raise DataError(f"a decompression bomb, refused ({error})") from error


def in_sequences(source: Source, entries: Sequence[FileEntry]) -> list[FileEntry]:
    """Return the entries as ``?sequence=`` asks: as they are, each file a sequence, or the files of a folder one.

    Files of a folder stay in the order of the entries; their targets become those of the frames.

    Raises:
        UsageError: The option has another value.
    """
    how = source.options.get("sequence")
    if how is None:
        return list(entries)
    if how == "file" and source.format != "images":
        return [replace(entry, stacked=True) for entry in entries]
    if how != "folder":
        allowed = "?sequence=folder" if source.format == "images" else "?sequence=file or ?sequence=folder"
        raise UsageError(f"{source.text}: ?sequence={how} is not known here; give {allowed}")
    folders: dict[str, list[FileEntry]] = {}
    for entry in entries:
        folders.setdefault(PurePosixPath(entry.id).parent.as_posix(), []).append(entry)
    return [_folder(source, name, files) for name, files in folders.items()]


def _folder(source: Source, name: str, files: Sequence[FileEntry]) -> FileEntry:
    targets = FrameTargets(entry.target for entry in files)
    target = None if all(one is None for one in targets) else targets
    return FileEntry(name, files[0].path.parent, target, f"folder {name} of {source.text}", tuple(files))


def confined(path: Path, root: Path, where: str, way_out: str) -> Path:
    """Return the path if, after following links, it is a regular file inside ``root``.

    Raises:
        DataError: It is missing, not a regular file (a pipe would block, a device never end), or outside.
    """
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise DataError(f"{where}: {path} is outside of {root} and is not read. {way_out}")
    if not real.exists():
        raise DataError(f"{where}: no such file: {path}")
    if not real.is_file():
        raise DataError(f"{where}: {path} is not a regular file")
    return path


def read_classes(source: Source) -> dict[str, int] | None:
    """Return class name → index from the lines of ``?classes=FILE``; None without that option.

    Raises:
        DataError: The file is missing or empty, or a name occurs twice.
    """
    text = source.options.get("classes")
    if text is None:
        return None
    path = source.existing(text)
    names = [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    if not names or len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(
            f"{path}: one class name a line, each once; {f'{twice[0]!r} stands twice' if twice else 'empty'}"
        )
    return {name: index for index, name in enumerate(names)}
