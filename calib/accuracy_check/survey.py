"""Say of many configurations which would run here, and what the others lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calib.accuracy_check.build import build
from calib.accuracy_check.inputs import FILE_NAME
from calib.errors import ConfigError, UsageError


@dataclass(frozen=True)
class Surveyed:
    """One configuration.

    Attributes:
        file: Its path.
        metric: Metric that it would be judged by; "" if it would not run.
        problems: What is not supported, one sentence each; empty if it would run.
    """

    file: str
    metric: str
    problems: tuple[str, ...] = ()


def survey(places: Sequence[str], definitions: str | None = None) -> list[Surveyed]:
    """Return what becomes of each configuration; no data is read.

    Args:
        places: Files, and folders with files accuracy-check.yml anywhere below.
        definitions: Path of dataset_definitions.yml.

    Raises:
        UsageError: There is no such file, or none below a folder.
    """
    found: list[Path] = []
    for place in map(Path, places):
        inside = sorted(place.rglob(FILE_NAME)) if place.is_dir() else [place]
        if not inside or not place.exists():
            raise UsageError(f"{place}: no such file, or no {FILE_NAME} below it")
        found += inside
    return [_surveyed(path, definitions) for path in found]


def _surveyed(path: Path, definitions: str | None) -> Surveyed:
    try:
        made = build(path, definitions)
    except ConfigError as error:
        return Surveyed(str(path), "", error.mistakes)
    return Surveyed(str(path), made.title)
