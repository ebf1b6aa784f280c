"""The manifest of a zoo: models, data, settings and resources of jobs. All mistakes are reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib.config.settings import Settings
from calib.config.types import Bytes, Count, Patterns, Seconds
from calib.documents.document import Document, Place, read_document
from calib.errors import ConfigError
from calib.python_object import names_code

SCHEMA = "https://json-schema.org/draft/2020-12/schema"

EXAMPLE = """\
sources:
  - glob: "nets/**/*.xml"       # every IR below nets/
defaults:                       # settings and data of every model
  calibration: images/
  effort: balanced
overrides:                      # for some of them
  - match: "**/resnet*"
    validation: val.csv
    metric: top-1
    max_drop: 0.5pt
resources: {threads: 2, memory: 4GiB, timeout: 2h}
"""

# A manifest that asks for more is a mistake in its patterns; the store is made for some 10,000 jobs.
MOST_CELLS = 1000

# What a block may hold beside the settings of ``quantize``.
DATA = ("calibration", "validation")


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(_Checked):
    """Where to find models: exactly one of glob, onnx, omz, huggingface and list, and what to exclude."""

    glob: Patterns | None = Field(
        default=None,
        description="Patterns of model files below root, IR (.xml) if they name no ending; ** matches any folders",
    )
    onnx: Patterns | None = Field(default=None, description="Patterns of ONNX files below root")
    omz: str | None = Field(
        default=None, description="Folder in the layout of Open Model Zoo, <model>/<precision>/<model>.xml"
    )
    precision: str = Field(default="FP32", description="Precision folder to read in the layout of Open Model Zoo")
    huggingface: str | None = Field(
        default=None, description="Folder with every openvino_*model.xml below it, as Optimum exports them"
    )
    list: str | None = Field(
        default=None, description="Text file with one model path per line, relative to root; # starts a comment"
    )
    exclude: Patterns = Field(default=(), description="Patterns of models to exclude")

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds that were given, of which there must be exactly one."""
        names = ("glob", "onnx", "omz", "huggingface", "list")
        return tuple(name for name in names if getattr(self, name) is not None)


class Resources(_Checked):
    """Resources of one job."""

    threads: Count = Field(default=1, description="Number of threads of one job")
    memory: Bytes | None = Field(
        default=None, description="Resident memory above which a job is stopped, in bytes or as 2GiB"
    )
    timeout: Seconds | None = Field(default=None, description="Longest time of one attempt, in seconds or as 30m or 2h")
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=2, description="Number of further attempts after a worker was killed or lost"
    )


class AccuracyCheckFiles(_Checked):
    """An Accuracy Checker configuration that gives data and metric; paths are relative to the manifest."""

    file: str | None = Field(
        default=None,
        description="accuracy-check.yml, or a folder with one in a folder of the model's name; by default the one in "
        "the model's folder, in the layout of Open Model Zoo",
    )
    definitions: str | None = Field(
        default=None, description="Its dataset_definitions.yml, which describes the data sets that it names"
    )
    source: str | None = Field(default=None, description="Folder of the data sets; required here or in defaults")
    annotations: str | None = Field(
        default=None, description="Folder of annotation files, if they are not below source"
    )
    dataset: str | None = Field(default=None, description="Name of the data set, if there are several")
    metric: str | None = Field(default=None, description="Name or type of one of its metrics; the first by default")


class Defaults(Settings):
    """Settings and data of every job."""

    calibration: str | None = Field(
        default=None,
        description="Samples to calibrate with, as DATA of 'calib quantize'; paths are relative to the manifest",
    )
    validation: str | None = Field(
        default=None, description="Samples with targets to measure accuracy on, in the same form"
    )
    accuracy_check: AccuracyCheckFiles | None = Field(
        default=None,
        description="Accuracy Checker configuration that gives calibration, validation and metric where they are not "
        "given; overrides replace single keys, and null turns it off",
    )


class Override(Defaults):
    """Settings for the models that match a pattern; later overrides win over earlier ones."""

    match: Patterns = Field(description="Patterns of model paths below root, with or without suffix")
    resources: Resources = Field(default=Resources(), description="Resources of the jobs of these models")


class Manifest(_Checked):
    """A zoo: models to quantize with their settings."""

    version: Literal[1] = Field(default=1, description="Version of the manifest's form")
    root: str = Field(default=".", description="Folder that all models lie below, relative to the manifest")
    output: str | None = Field(
        default=None, description="Folder or fsspec URL to write the models to; next to zoo.sqlite unless given"
    )
    defaults: Defaults = Field(default=Defaults(), description="Settings and data of every job")
    sources: list[Source] = Field(min_length=1, description="Where to find the models")
    matrix: dict[str, list[Any]] = Field(
        default={}, description="Mapping from a setting to a list of values; each combination is one job per model"
    )
    overrides: list[Override] = Field(
        default=[], description="Settings for the models that match a pattern; later ones win over earlier ones"
    )
    resources: Resources = Field(default=Resources(), description="Resources of every job")


@dataclass(frozen=True)
class Read:
    """A checked manifest and its document.

    Attributes:
        manifest: Checked manifest.
        document: Document with the lines for mistakes found later, such as a pattern that names no file.
        folder: Absolute folder of the file, which relative paths start from.
    """

    manifest: Manifest
    document: Document
    folder: Path

    def given(self, *place: str | int) -> dict[str, Any]:
        """Return the block at a place as it is in the file; {} if there is none."""
        found: Any = self.document.data
        for part in place:
            found = found.get(part, {}) if isinstance(found, Mapping) else found[int(part)]
        return dict(found or {})


def read_manifest(path: str | Path) -> Read:
    """Read and check a manifest.

    Raises:
        ConfigError: The manifest has mistakes; all are listed with their lines.
    """
    document = read_document(path)
    if not isinstance(document.data, Mapping):
        raise ConfigError(document.source, ["must be a mapping with the key sources; see calib schema manifest"])
    data = _with_direction(document.data)
    found: list[tuple[Place, str]] = []
    manifest = None
    try:
        manifest = Manifest(**data)
    except ValidationError as error:
        found += [_mistake(dict(one)) for one in error.errors(include_url=False)]
    found += _source_mistakes(data.get("sources"))
    found += _matrix_mistakes(data)
    found += _thread_mistakes(data)
    if manifest is None or found:
        raise mistakes(document, found)
    return Read(manifest, document, Path(path).resolve().parent)


def mistakes(document: Document, found: Sequence[tuple[Place, str]]) -> ConfigError:
    """Return the error with all mistakes of a document in the order of their lines."""
    ordered = sorted(found, key=lambda one: (_line(document, one[0]), str(one[0])))
    return ConfigError(document.source, list(dict.fromkeys(f"{document.where(p)}: {text}" for p, text in ordered)))


def named_code(document: Document) -> Iterator[tuple[Place, str]]:
    """Yield each ``python:module:name`` of a manifest, with its place."""
    for place, block in _blocks(document.data):
        for key in (*DATA, "metric"):
            if names_code(block.get(key)):
                yield (*place, key), block[key]
    for index, value in enumerate((document.data.get("matrix") or {}).get("metric") or ()):
        if names_code(value):
            yield ("matrix", "metric", index), value


def named_libraries(document: Document) -> Iterator[tuple[Place, str]]:
    """Yield each library of operations that a manifest names, with its place."""
    for place, block in _blocks(document.data):
        given = block.get("extensions") or ()
        for text in [given] if isinstance(given, str) else given:
            yield (*place, "extensions"), str(text)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest (draft 2020-12), with the settings of ``quantize``."""
    return {"$schema": SCHEMA, **Manifest.model_json_schema(), "title": "calib manifest"}


def _line(document: Document, place: Place) -> int:
    for length in range(len(place), -1, -1):
        if place[:length] in document.lines:
            return document.lines[place[:length]]
    return 0


def _blocks(data: Mapping[str, Any]) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Yield the blocks of settings with their places, without those that are not mappings."""
    overrides = data.get("overrides")
    found = [(("defaults",), data.get("defaults"))]
    found += [(("overrides", i), one) for i, one in enumerate(overrides if isinstance(overrides, list) else [])]
    for place, block in found:
        if isinstance(block, Mapping):
            yield place, block


def _with_direction(data: Mapping[str, Any]) -> dict[str, Any]:
    """Let overrides inherit the direction of a user's own metric, which is checked block by block."""
    defaults, overrides = data.get("defaults"), data.get("overrides")
    if not isinstance(defaults, Mapping) or "higher_is_better" not in defaults or not isinstance(overrides, list):
        return dict(data)
    direction = {"higher_is_better": defaults["higher_is_better"]}
    return {**data, "overrides": [{**direction, **o} if isinstance(o, Mapping) else o for o in overrides]}


def _source_mistakes(sources: Any) -> Iterator[tuple[Place, str]]:
    for index, source in enumerate(sources if isinstance(sources, list) else []):
        try:
            kinds = Source(**source).kinds()
        except (ValidationError, TypeError):
            continue  # reported already
        if len(kinds) != 1:
            rule = "a source has exactly one of glob, onnx, omz, huggingface and list"
            yield ("sources", index), f"{rule}, got {' and '.join(kinds) or 'none'}"


def _matrix_mistakes(data: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    matrix = data.get("matrix")
    if not isinstance(matrix, Mapping):
        return
    cells = 1
    for key, values in matrix.items():
        if not isinstance(values, list):
            continue  # reported already
        cells *= max(1, len(values))
        if key not in Settings.model_fields:
            yield ("matrix", key), f"there is no such setting{_near(key, Settings.model_fields)}"
            continue
        if not values or len({repr(value) for value in values}) < len(values):
            yield ("matrix", key), "must be a list of different values"
        for index, value in enumerate(values):
            yield from _value_mistakes(key, value, ("matrix", key, index))
    if cells > MOST_CELLS:
        yield ("matrix",), f"{cells} combinations are more than {MOST_CELLS}"


def _value_mistakes(key: str, value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    try:
        Settings(**{key: value})
    except ValidationError as error:
        for one in error.errors(include_url=False):
            if one["loc"][0] == key:
                yield place, _mistake(dict(one))[1]


def _thread_mistakes(data: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield mistakes where threads are set outside resources, which the supervisor relies on."""
    places = [(*place, "threads") for place, block in _blocks(data) if "threads" in block]
    matrix = data.get("matrix")
    places += [("matrix", "threads")] if isinstance(matrix, Mapping) and "threads" in matrix else []
    for place in places:
        yield place, "threads of a job stand under resources"


def _mistake(error: dict[str, Any]) -> tuple[Place, str]:
    """Return the place and the message (rule and value) of one of pydantic's errors."""
    place: Place = error["loc"]
    if error["type"] == "extra_forbidden":
        return place, f"there is no such key{_instead(str(place[-1]), place)}"
    if error["type"] == "missing":
        return place, "is missing"
    rule = str(error.get("ctx", {}).get("error", error["msg"])).replace("Input should be", "must be")
    value = "" if isinstance(error.get("input"), Mapping | list) else f", got {error.get('input')!r:.80}"
    return place, rule + value


def _instead(name: str, place: Place) -> str:
    """Return the nearest right spelling of a key, or else where it belongs, or else what there is."""
    names = _names(place)
    if near := _near(name, names):
        return near
    if name in Override.model_fields and place[0] not in ("defaults", "overrides"):
        return "; settings and data stand under defaults, or under overrides for some of the models"
    return f"; there are {', '.join(names)}" if len(names) < 12 else "; see calib help manifest and calib help settings"


def _names(place: Place) -> Sequence[str]:
    kinds = {"defaults": Defaults, "overrides": Override, "sources": Source, "resources": Resources}
    nested = {"resources": Resources, "accuracy_check": AccuracyCheckFiles}
    inner = next((kind for name, kind in nested.items() if name in place[1:-1]), kinds.get(str(place[0])))
    return list((inner if inner and len(place) > 1 else Manifest).model_fields)


def _near(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""
