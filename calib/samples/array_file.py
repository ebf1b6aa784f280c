"""Read one array in a file row by row: the file is not trusted, and at most one row is in memory.

An .npy header is checked against the size of the file before anything is allocated. Pickled objects are refused.
In an .npz the members are streamed, which checks their CRC; members that are not compressed can also be read by row.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from calib.errors import DataError

# An .npz that unpacks to more than both is refused: real samples never shrink a hundredfold, zip bombs do (deflate
# reaches 1032:1, overlapping members any ratio).
LARGEST_RATIO = 100
LARGEST_UNCHECKED = 1 << 30

# Arrays in Fortran order have to be read whole, and those that are one sample each are.
LARGEST_WHOLE = 1 << 32

# Rows without values, such as the empty past of first steps, cost no byte: a small file may claim a billion of them.
MOST_EMPTY = 1 << 20


class ArrayFile:
    """An array on disk.

    Attributes:
        name: Name for messages.
        shape: Shape of the whole array.
        dtype: Type of the values.
        random_access: Whether ``row`` works.
    """

    def __init__(self, name: str, path: Path, opened: Callable[[], IO[bytes]], size: int, start: int | None):
        """Read and check the header.

        Args:
            name: Name for messages.
            path: Path of the file that holds the array.
            opened: Function that opens a stream of the .npy bytes.
            size: Number of bytes of the stream.
            start: Position of the .npy bytes in ``path``; None if they are compressed.

        Raises:
            DataError: It is not .npy data, holds pickled objects, or has fewer bytes than the shape needs.
        """
        self.name = name
        self._path = path
        self._open = opened
        with opened() as stream:
            self.shape, self._fortran, self.dtype = _header(stream, f"{name!r} of {path}")
            header = stream.tell()
        self._check_size(size - header)
        self._start = None if start is None else start + header
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._stamp = _stamp(path)
        self.random_access = self._start is not None and not self._fortran

    def __iter__(self) -> Iterator[NDArray[Any]]:
        if self._fortran:
            yield from self.whole()
            return
        with self._open() as stream:
            _header(stream, self.name)
            for _ in range(self.shape[0]):
                yield self._row(stream)
            if stream.read(1):  # reading to the very end is also what checks the CRC of a zip member
                raise DataError(f"{self.name!r} of {self._path}: there are bytes after the end of the array")

    def row(self, number: int) -> NDArray[Any]:
        """Return one row, read from its position in the file."""
        assert self._start is not None
        if _stamp(self._path) != self._stamp:
            raise DataError(f"{self._path} changed while it was in use. Start again when it is complete")
        with self._path.open("rb") as stream:
            stream.seek(self._start + number * self._row_bytes)
            return self._row(stream)

    def whole(self) -> NDArray[Any]:
        """Return the whole array.

        Raises:
            DataError: It has more than ``LARGEST_WHOLE`` bytes.
        """
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > LARGEST_WHOLE:
            raise DataError(
                f"{self.name!r} of {self._path}: {size >> 20} MiB are too many to read at once "
                f"(limit {LARGEST_WHOLE >> 20}). An array in Fortran order: save numpy.ascontiguousarray(array)"
            )
        with self._open() as stream:
            _header(stream, self.name)
            flat = np.frombuffer(_exactly(stream, size, self.name), self.dtype)
        return flat.reshape(self.shape, order="F" if self._fortran else "C")

    def _row(self, stream: IO[bytes]) -> NDArray[Any]:
        data = _exactly(stream, self._row_bytes, f"{self.name!r} of {self._path}")
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def _check_size(self, there: int) -> None:
        needed = math.prod(self.shape) * self.dtype.itemsize
        if min(self.shape, default=0) < 0 or needed > there:
            raise DataError(
                f"{self.name!r} of {self._path} says shape {list(self.shape)} of {self.dtype}, which is {needed} "
                f"bytes, and only {there} are there: the file is truncated or damaged"
            )
        if needed == 0 and self.shape and self.shape[0] > MOST_EMPTY:
            raise DataError(
                f"{self.name!r} of {self._path} has shape {list(self.shape)} of {self.dtype}: {self.shape[0]} rows of "
                f"nothing (limit {MOST_EMPTY})"
            )


def open_npy_file(path: Path) -> ArrayFile:
    """Return the array in an .npy file.

    Raises:
        DataError: It is not .npy data, is truncated, or holds pickled objects.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a file")
    return ArrayFile(path.name, path, lambda: path.open("rb"), path.stat().st_size, 0)


def open_npz_members(path: Path) -> dict[str, ArrayFile]:
    """Return the arrays of an .npz file by name.

    Raises:
        DataError: It is not a zip file, is a zip bomb, or a member is not a plain array.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_bomb(path, sum(member.file_size for member in members))
            starts = {member.filename: _data_start(archive, member, path) for member in members}
    except DataError:
        raise
    except Exception as error:  # BadZipFile, struct.error, NotImplementedError…: damaged in one way or another
        raise DataError(f"{path}: not a readable .npz file ({error}). Write it again with numpy.savez") from error
    return {
        member.filename.removesuffix(".npy"): ArrayFile(
            member.filename.removesuffix(".npy"),
            path,
            lambda name=member.filename: _open_member(path, name),
            member.file_size,
            starts[member.filename],
        )
        for member in members
    }


def _check_bomb(path: Path, unpacked: int) -> None:
    packed = path.stat().st_size
    if unpacked > LARGEST_UNCHECKED and unpacked > LARGEST_RATIO * packed:
        raise DataError(
            f"{path}: {packed} bytes that unpack to {unpacked >> 20} MiB look like a zip bomb (more than "
            f"{LARGEST_UNCHECKED >> 20} MiB and {LARGEST_RATIO}:1). If it is yours, write it with numpy.savez, "
            "uncompressed"
        )


def _data_start(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> int | None:
    """Return the position of a stored member's bytes in the file; None if it is compressed."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        raise DataError(f"{path}: {member.filename!r} is encrypted or packed in a way numpy never writes")
    if member.compress_type != zipfile.ZIP_STORED:
        return None
    with archive.open(member), path.open("rb") as file:  # opening checks the local header against the directory
        file.seek(member.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        return member.header_offset + 30 + name + extra


class _Member:
    """Stream of a zip member that closes the archive with it."""

    def __init__(self, path: Path, name: str):
        self._archive = zipfile.ZipFile(path)
        try:
            self._stream = self._archive.open(name)
        except BaseException:
            self._archive.close()
            raise
        self.read = self._stream.read
        self.tell = self._stream.tell

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._archive.close()


def _open_member(path: Path, name: str) -> Any:
    try:
        return _Member(path, name)
    except Exception as error:  # the member's own header may be damaged too
        raise DataError(f"{path}: {name!r} can't be read ({error}). Write it again with numpy.savez") from error


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy_format.read_magic(stream)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:  # numpy and zipfile raise a dozen kinds on damaged bytes, zlib.error among them
        raise DataError(
            f"{where} is no numpy array: {error}. Write plain arrays with numpy.savez or numpy.save"
        ) from error
    if dtype.hasobject:
        raise DataError(
            f"{where} holds pickled Python objects, which can run code when they are read, and is refused. "
            "Save plain arrays of numbers or text (all rows of one shape, no dtype=object)"
        )
    return shape, fortran, dtype


def _exactly(stream: IO[bytes], size: int, where: str) -> bytes:
    try:
        data = stream.read(size)
    except Exception as error:  # zlib.error, BadZipFile, EOFError, OSError: all mean the same here
        raise DataError(f"{where} can't be read: {error}. The file is damaged") from error
    if len(data) != size:
        raise DataError(f"{where} ends early: the file is truncated")
    return data


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
