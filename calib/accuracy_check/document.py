"""Read accuracy-check.yml and dataset_definitions.yml, and choose the entry that is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from calib.documents.document import read_document
from calib.errors import ConfigError

# What a launcher runs is the model that calib is given; of several, those for OpenVINO say what its outputs are called.
_OWN = ("openvino", "dlsdk")


@dataclass(frozen=True)
class Entry:
    """One data set for one launcher of a model.

    Attributes:
        file: The configuration, for messages.
        launcher: Its adapter and inputs.
        dataset: The data set with what its definition adds.
        folders: Folders of the configuration and the definitions, for files that they name.
    """

    file: str
    launcher: Mapping[str, Any]
    dataset: Mapping[str, Any]
    folders: tuple[Path, ...]


def read_entry(file: Path, definitions: Path | None, dataset: str = "") -> Entry:
    """Return the entry of a configuration: the first launcher for OpenVINO, or else the first, and its first data set.

    Args:
        file: Path of accuracy-check.yml.
        definitions: Path of dataset_definitions.yml; None if there is none.
        dataset: Name of the data set that is meant; "" for the first.

    Raises:
        ConfigError: A file can't be read, has no such entry, or asks to run code.
    """
    content = _mapping(file)
    if "evaluations" in content:
        raise ConfigError(
            str(file),
            [
                "'evaluations' names Python modules that evaluate the model, and no code of a configuration is run; "
                "write such an evaluation as a function of your own: --metric python:module:function"
            ],
        )
    every = list(_entries(content))
    if not every:
        raise ConfigError(
            str(file), ["it has no model with a launcher and a data set: models: [{launchers: […], datasets: […]}]"]
        )
    found = [one for one in every if not dataset or one[1].get("name") == dataset]
    if not found:
        names = ", ".join(dict.fromkeys(str(one[1].get("name") or "one without a name") for one in every))
        raise ConfigError(str(file), [f"it has no data set {dataset!r} for a model; data sets: {names}"])
    launcher, chosen = next((one for one in found if one[0].get("framework") in _OWN), found[0])
    known = _definitions(definitions) if definitions is not None else {}
    name = str(chosen.get("name") or "")
    if not name and "annotation_conversion" not in chosen and "annotation" not in chosen:
        raise ConfigError(
            str(file),
            ["a data set has neither a name, by which it is defined, nor an annotation_conversion of its own"],
        )
    if definitions is None and "annotation_conversion" not in chosen and "annotation" not in chosen:
        raise ConfigError(
            str(file),
            [
                f"the data set {name!r} is defined in another file: give it, --definitions dataset_definitions.yml "
                "(Open Model Zoo: data/dataset_definitions.yml)"
            ],
        )
    folders = tuple(path.parent for path in (file, definitions) if path is not None)
    return Entry(str(file), launcher, {**known.get(name, {}), **chosen}, folders)


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each pair of launcher and data set."""
    for model in _mappings(content.get("models")):
        for launcher in _mappings(model.get("launchers")):
            for dataset in _mappings(model.get("datasets")):
                yield launcher, dataset


def _definitions(path: Path) -> dict[str, Mapping[str, Any]]:
    return {str(one.get("name")): one for one in _mappings(_mapping(path).get("datasets"))}


def _mapping(path: Path) -> Mapping[str, Any]:
    """Return the content of a file, which is read once as long as it does not change: a zoo shares its definitions."""
    try:
        state = path.stat()
    except OSError as error:
        raise ConfigError(str(path), [f"can't be read: {error.strerror or error}"]) from error
    return _content(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _content(path: Path, _changed: int, _size: int) -> Mapping[str, Any]:
    document = read_document(path)
    if not isinstance(document.data, Mapping):
        raise ConfigError(str(path), ["must be a mapping with 'models' or 'datasets'"])
    return document.data


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
