"""Which paths a studio may touch: what lies in its folder, or in what ``--allow`` names, with links resolved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calib.errors import UsageError
from calib.python_object import names_code, refusal
from calib.samples.source import parse_source
from calib.studio.bombs import check_there

# These formats name further files in a file of their own, anywhere on the disk.
_NAME_PLACES = {"accuracy-check": "calib quantize --accuracy-check FILE"}


@dataclass(frozen=True)
class Allowed:
    """What the page may reach.

    Attributes:
        folder: Folder that is served, resolved; relative paths start here.
        others: Further files and folders, resolved.
        python: Whether ``python:module:function`` may run.
        extensions: Whether libraries of operations may be loaded.
    """

    folder: Path
    others: tuple[Path, ...] = ()
    python: bool = False
    extensions: bool = False

    def path(self, text: str) -> Path:
        """Return a path with links resolved; it need not exist.

        Raises:
            UsageError: It is outside of what was allowed, or no path.
        """
        if not text or "\0" in text:
            raise UsageError("a path is missing, or is not one")
        try:
            found = (self.folder / text).resolve()
        except (OSError, RuntimeError) as error:  # a circle of links
            raise UsageError(f"{text}: can't be followed: {error}") from error
        if not any(found.is_relative_to(root) for root in (self.folder, *self.others)):
            raise UsageError(
                f"{text}: outside of {self.folder}; to use it, start the studio with --allow {found.parent}"
            )
        return found

    def existing(self, text: str) -> Path:
        """Return the path of a file or folder that is there.

        Raises:
            UsageError: There is none, or it is outside of what was allowed.
        """
        found = self.path(text)
        if not found.exists():
            raise UsageError(f"{text}: no such file or folder")
        return found

    def data(self, text: str) -> str:
        """Return a DATA argument as it was given, once every path in it is known to lie inside.

        Raises:
            UsageError: It reads something outside, would run code and may not, or would unpack to fill the memory.
            DataError: There is no such data.
        """
        if names_code(text):
            if not self.python:
                raise UsageError(refusal(text))
            return text
        source = parse_source(text, (), self.folder)
        if source.format in _NAME_PLACES:
            raise UsageError(f"{text}: its file names further places; give it to {_NAME_PLACES[source.format]}")
        place = self.path(source.place)
        for value in source.options.values():  # some are paths, from one of these folders
            for base in (self.folder, place if place.is_dir() else place.parent):
                self.path(str(base / value))
        check_there(place, text)
        return text

    def shown(self, path: Path) -> str:
        """Return how a path is written on the pages: relative to the folder where it lies in it."""
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)
