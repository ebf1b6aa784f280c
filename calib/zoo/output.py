"""The output of a zoo: a folder or URL in which a result appears only when it is complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from calib.errors import OutputError
from calib.values.pictures import FOLDER as PICTURES
from calib.zoo.task import MARKER, file_text, files_of, read_marker, sync
from calib.zoo.urls import is_url, read_text, send


class Output:
    """The folder (or fsspec URL) that mirrors the models of the zoo."""

    def __init__(self, place: str):
        self.place = place.rstrip("/")

    def of(self, name: str) -> str:
        """Return the folder of a job."""
        return f"{self.place}/{name}"

    def board(self, name: str, key: str) -> dict[str, Any] | None:
        """Return the leaderboard's row of a job if its complete result is there; None otherwise."""
        path = f"{self.of(name)}/{MARKER}"
        return read_marker(read_text(path) if is_url(path) else file_text(Path(path)), key)

    def publish(self, result: Path, name: str) -> None:
        """Move a complete result to its place.

        This is one rename if nothing is there; otherwise files are replaced one by one, and the marker is removed first
        and written last.

        Raises:
            OutputError: The result can't be written.
        """
        if is_url(self.place):
            send(result, self.of(name), files_of(result))
            return
        target = Path(self.of(name))
        try:
            sync(result)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.rename(result, target)
                return
            (target / MARKER).unlink(missing_ok=True)
            shutil.rmtree(target / PICTURES, ignore_errors=True)
            for path in files_of(result):
                (target / path).parent.mkdir(exist_ok=True)
                os.replace(result / path, target / path)
        except OSError as error:
            raise OutputError(f"{target}: the result can't be written: {error.strerror or error}") from error
