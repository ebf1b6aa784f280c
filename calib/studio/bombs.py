"""Refuse files that would become far larger than they are: archives and arrays that unpack, images that decode."""

from __future__ import annotations

import zipfile
from pathlib import Path

from calib.errors import UsageError

# Of weights and images hardly anything is compressed further; what grows a hundredfold is made to.
MOST_GROWTH = 100
FREE_GROWTH = 16 << 20  # bytes that anything may grow to
MOST_FILES = 20_000
MOST_PIXELS = 64_000_000

# A file that is there already may be a mask or one-hot rows, which are nearly all zeros: only what is close to the most
# that deflate can do, 1,032 times, and would fill a memory is refused.
MOST_GROWTH_THERE = 500
FREE_GROWTH_THERE = 1 << 30


def check_growth(name: str, entries: list[zipfile.ZipInfo], most: int = MOST_GROWTH, free: int = FREE_GROWTH) -> None:
    """Refuse an archive that holds too much.

    Args:
        name: Name of the archive, for the message.
        entries: Files in it, with the sizes that they say they have.
        most: Most times that it may grow.
        free: Bytes that it may grow to in any case.

    Raises:
        UsageError: It would grow by more, or holds too many files.
    """
    whole, packed = sum(one.file_size for one in entries), sum(one.compress_size for one in entries)
    if len(entries) > MOST_FILES:
        raise UsageError(f"{name}: holds {len(entries):,} files; at most {MOST_FILES:,} are taken")
    if whole > free and whole > most * packed:
        raise UsageError(f"{name}: {packed:,} bytes would become {whole:,}; more than {most} times is not unpacked")


def check_arrays(path: Path, name: str, most: int = MOST_GROWTH, free: int = FREE_GROWTH) -> None:
    """Refuse an .npz file whose arrays would fill the memory, or that is none; see ``check_growth``."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_growth(name, archive.infolist(), most, free)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise UsageError(f"{name}: no .npz file, or broken: {error}") from error


def check_there(path: Path, name: str) -> None:
    """Refuse data in the folder, which nobody uploaded, that would fill the memory.

    Images are refused one by one where they are read, and so is what is no .npz file.

    Raises:
        UsageError: They would.
    """
    if path.suffix.lower() == ".npz" and zipfile.is_zipfile(path):
        check_arrays(path, name, MOST_GROWTH_THERE, FREE_GROWTH_THERE)


def check_image(path: Path, name: str) -> None:
    """Refuse a file that is no image, or has too many pixels."""
    from PIL import Image  # here: few uploads are images

    try:
        with Image.open(path) as image:
            pixels = image.width * image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{name}: no image, or broken: {error}") from error
    if pixels > MOST_PIXELS:
        raise UsageError(f"{name}: {pixels:,} pixels are more than the {MOST_PIXELS:,} that are taken")
