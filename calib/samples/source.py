"""Parse and check DATA arguments: ``[format:]PATH[?key=value&…]``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from calib.errors import DataError, UsageError
from calib.samples import FORMATS
from calib.samples.feed import Splits, as_batch
from calib.samples.preprocess import Preprocess
from calib.samples.sample import InputSpec
from calib.values.options import options_in


@dataclass(frozen=True)
class Source:
    """A parsed DATA argument, and what else an opener needs.

    Attributes:
        text: Argument as the user wrote it, for messages.
        format: Name in ``FORMATS``.
        place: Path, or "module:function".
        options: Options after the ``?``.
        inputs: Inputs of the model.
        base: Folder that relative paths start from.
        preprocess: Preprocessing of images; None to derive it all from the model's input.
        splits: Function that tells a batch from a sample, see ``calib.samples.feed.normalize_feed``.
    """

    text: str
    format: str
    place: str
    options: Mapping[str, str]
    inputs: Sequence[InputSpec]
    base: Path
    preprocess: Preprocess | None = None
    splits: Splits = as_batch

    @property
    def path(self) -> Path:
        """Path of the data, which exists.

        Raises:
            DataError: There is nothing at that path.
        """
        return self.existing(self.place)

    def existing(self, text: str) -> Path:
        """Return ``text`` as a path from ``base``.

        Raises:
            DataError: There is nothing at that path.
        """
        path = self.base / Path(text).expanduser()
        if not path.exists():
            raise DataError(f"{self.text}: no such file or folder: {path}")
        return path


def parse_source(
    text: str,
    inputs: Sequence[InputSpec],
    base: Path | None = None,
    preprocess: Preprocess | None = None,
    splits: Splits = as_batch,
) -> Source:
    """Parse a DATA argument.

    Raises:
        DataError: The path does not exist.
        UsageError: It is empty, the format is unknown or can't be told from the name, or the format has no such
            option.
    """
    base = base or Path()
    name, colon, rest = text.partition(":")
    if not colon or name not in FORMATS:
        name, rest = "", text
    if not rest:
        raise UsageError(f"{text!r} names no data. A DATA argument is [format:]PATH[?key=value&…]")
    # A path may hold a question mark itself: what exists under the whole text is a path without options.
    place, _, query = (rest, "", "") if name != "python" and (base / rest).exists() else rest.partition("?")
    name = name or _guess(text, base / Path(place).expanduser())
    pairs = options_in(query) if query else []
    options = dict(pairs)
    if len(pairs) > len(options):
        raise UsageError(f"{text}: an option is given twice. Give each of {', '.join(options)} once")
    known = FORMATS[name].options
    if unknown := sorted(set(options) - set(known)):
        allowed = ", ".join(f"?{key}=" for key in known) or "none"
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f" (did you mean ?{near[0]}=?)" if near else ""
        raise UsageError(f"{text}: the format {name} has no option {unknown[0]!r}{hint}; its options: {allowed}")
    return Source(text, name, place, options, tuple(inputs), base, preprocess, splits)


# Options of a DATA argument that name a file or a folder, where there is one.
_PLACES = ("images", "masks", "annotations", "labels", "root", "classes", "definitions", "source")


def absolute(text: str, folder: Path) -> str:
    """Return a DATA argument whose paths, relative to ``folder``, are made absolute; ``python:`` names a module."""
    name, colon, rest = text.partition(":")
    if not colon or name not in FORMATS:
        name, colon, rest = "", "", text
    if name == "python" or not rest:
        return text
    whole = f"{name}{colon}{folder / Path(rest).expanduser()}"
    place, mark, query = whole.partition("?")
    if not mark or (folder / Path(rest).expanduser()).exists():
        return whole
    options = []
    for option in query.split("&"):
        key, _, value = option.partition("=")
        path = folder / Path(unquote(value)).expanduser()
        options.append(f"{key}={quote(str(path), safe='/')}" if key in _PLACES and value and path.exists() else option)
    return f"{place}?{'&'.join(options)}"


# What files of such a name are usually, of formats that have no suffix of their own.
_USUAL = {".json": "coco", ".xml": "voc", ".txt": "imagenet", ".lst": "imagenet", ".tsv": "imagenet"}


def _guess(text: str, path: Path) -> str:
    if not path.exists():
        raise DataError(f"{text}: no such file or folder: {path}. A DATA argument is [format:]PATH[?key=value&…]")
    if path.is_dir():
        return "images"
    for name, entry in FORMATS.items():
        if path.suffix.lower() in entry.suffixes:
            return name
    raise UsageError(
        f"{text}: the format can't be told from the suffix {path.suffix!r}. Write it in front, such as "
        f"{_USUAL.get(path.suffix.lower(), 'npz')}:{text}; "
        f"formats: {', '.join(FORMATS)}"
    )
