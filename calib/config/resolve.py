"""Merge the sources of settings: flags, ``--set``, ``--config`` and the IR's rt_info, each value with its origin.

Flags override ``--set``, which overrides ``--config``, which overrides the IR's rt_info, which overrides defaults.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from calib.config.preprocessing import Preprocessing
from calib.config.run_inputs import MEANING, RunInputs, input_mistakes, run_inputs
from calib.config.settings import Settings, preprocessing_blocks
from calib.documents.document import Document, Place, parse_yaml, read_document
from calib.errors import ConfigError
from calib.values.facts import SettingFacts

# What a model's own rt_info may say. Nothing that names code, costs time or changes the model: the file may be hostile.
RT_INFO_FIELDS = (
    *("layout", "color", "resize_short", "resize_long", "resize", "letterbox", "crop"),
    *("pad", "pad_value", "pad_position", "filter", "mean", "scale"),
)

_DEFAULT = "default"  # origin of what nobody gave


@dataclass(frozen=True)
class Resolved:
    """Settings and where each of them comes from.

    Attributes:
        origins: Mapping from dotted key to "flag", "--set", "--config FILE" or "rt_info"; keys not in it have defaults.
        places: Mapping from dotted key to file, line and key, for values of the config file that nothing overrides.
        notes: Values of rt_info that were ignored, one sentence each.
        inputs: Model, data and output that the config file names.
    """

    settings: Settings
    origins: dict[str, str]
    places: dict[str, str]
    notes: tuple[str, ...] = ()
    inputs: RunInputs = field(default_factory=RunInputs)

    def facts(self) -> list[SettingFacts]:
        """Return every setting with its value and origin for the report."""
        shown = _leaves({name: getattr(self.settings, name) for name in Settings.model_fields})
        values = {name: plain_value(given.value) for name, given in shown.items()}
        return [SettingFacts(key=key, value=v, origin=self.origins.get(key, _DEFAULT)) for key, v in values.items()]


@dataclass(frozen=True)
class Fallback:
    """A value that a command takes where nobody gave one: every source overrides it, and its origin is "default"."""

    value: Any


@dataclass(frozen=True)
class _Given:
    """A value given for a dotted key, and the name of its place (plus indices inside) for messages."""

    value: Any
    origin: str = ""
    place: Place = ()
    document: Document | None = None

    @property
    def line(self) -> int:
        """Line in the document; 0 if it is not from one."""
        return self.document.lines.get(self.place, 0) if self.document else 0

    def where(self, inside: Place) -> str:
        if self.document:
            return self.document.where((*self.place, *inside))
        prefix = "--set " if self.origin == "--set" else ""
        return prefix + ".".join(map(str, (*self.place, *inside)))


def resolve(
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    config: str | Path | None = None,
    rt_info: Mapping[str, Any] | None = None,
    model_inputs: Sequence[Sequence[str]] | None = None,
) -> Resolved:
    """Merge the sources of settings, setting by setting, and check the result once.

    Args:
        flags: Mapping from dotted key to value; None means not given, and a `Fallback` that nobody gave it.
        sets: Settings as "key=value", where the value is YAML.
        config: Path of a YAML or JSON file.
        rt_info: Mapping from dotted key to value; all but ``preprocessing`` with RT_INFO_FIELDS is ignored.
        model_inputs: Names of each input of the model, for settings of an input; None before the model is read.

    Raises:
        ConfigError: There are mistakes; all of them are listed, each with its place.
    """
    kept, notes = _from_rt_info(rt_info or {})
    untyped = {key: one.value for key, one in (flags or {}).items() if isinstance(one, Fallback)}
    given = _leaves(untyped, _DEFAULT) | kept
    mistakes: list[_Mistake] = []
    inputs = RunInputs()
    if config is not None:
        document = read_document(config)
        if document.data is not None and not isinstance(document.data, Mapping):
            raise ConfigError(document.source, ["must be a mapping of settings to values"])
        for place, rule in input_mistakes(document):
            mistakes.append(_Mistake(f"{document.where(place)}: {rule}", document, document.lines.get(place, 0)))
        inputs = run_inputs(document)
        settings_given = {key: value for key, value in (document.data or {}).items() if key not in MEANING}
        given |= _leaves(settings_given, f"--config {config}", document)
    for text in [sets] if isinstance(sets, str) else sets:
        try:
            given |= _from_set(text)
        except ConfigError as error:
            mistakes += [_Mistake(f"{error.source}: {mistake}") for mistake in error.mistakes]
    typed = {key: one for key, one in (flags or {}).items() if one is not None and key not in untyped}
    given |= _leaves(typed, "flag")
    if "ignore" in given:
        try:
            given["ignore"] = _with_patterns_of_files(given["ignore"])
        except ConfigError as error:
            mistakes += [_Mistake(f"{error.source}: {mistake}") for mistake in error.mistakes]
    if "extensions" in given:
        given["extensions"] = _with_whole_paths(given["extensions"])
    settings = None
    try:
        settings = Settings(**nested({key: one.value for key, one in given.items()}))
    except ValidationError as error:
        mistakes += [_mistake(dict(one), given) for one in error.errors(include_url=False)]
    if model_inputs is not None:
        mistakes += _misplaced(given, model_inputs)
    if settings is None or mistakes:
        raise _config_error(mistakes)
    places = {key: f"{one.document.source}: {one.where(())}" for key, one in given.items() if one.document}
    origins = {key: one.origin for key, one in given.items() if one.origin != _DEFAULT}
    return Resolved(settings, origins, places, notes, inputs)


def plain_value(value: Any) -> Any:
    """Return a value that JSON can hold; a user's own object becomes its name."""
    if isinstance(value, tuple | list):
        return [plain_value(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(getattr(value, "name", None) or getattr(value, "__qualname__", None) or type(value).__qualname__)


def _leaves(data: Mapping[str, Any], origin: str = "", document: Document | None = None) -> dict[str, _Given]:
    """Flatten to dotted keys; only ``preprocessing`` is nested: preprocessing[.INPUT].FIELD."""
    found: dict[str, _Given] = {}
    for key, value in data.items():
        blocks = preprocessing_blocks(value) if key == "preprocessing" else None
        if not isinstance(blocks, Mapping):
            found[key] = _Given(value, origin, (key,), document)
            continue
        for name, block in blocks.items():
            alone = blocks is not value
            fields = (
                {f: getattr(block, f) for f in block.model_fields_set} if isinstance(block, Preprocessing) else block
            )
            for part, inner in fields.items():
                place = (key, part) if alone else (key, name, part)
                found[f"{key}.{name}.{part}" if name else f"{key}.{part}"] = _Given(inner, origin, place, document)
    return found


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Undo the flattening. The field is the last part of a key, because input names may contain dots."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        head, _, rest = key.partition(".")
        if head != "preprocessing" or not rest:
            nested[key] = value
            continue
        name, _, field = rest.rpartition(".")
        blocks = nested.setdefault(head, {})
        if isinstance(blocks, dict):  # else another source gave nonsense, which the check names
            blocks.setdefault(name, {})[field] = value
    return nested


def _from_set(text: str) -> dict[str, _Given]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}", ["must be key=value, such as samples=100 or preprocessing.mean=[0,0,0]"])
    data = parse_yaml(value, f"--set {text}").data
    return _leaves({key.strip(): data}, "--set")


def _with_patterns_of_files(one: _Given) -> _Given:
    """Return patterns of operations to ignore, with the lines of each ``file:FILE`` in place of it."""
    listed = [one.value] if isinstance(one.value, str) else one.value
    if not isinstance(listed, list | tuple) or not any(str(pattern).startswith("file:") for pattern in listed):
        return one
    from calib.config.exceptions_file import with_files  # here: few runs have such a file

    folder = Path(one.document.source).absolute().parent if one.document else Path.cwd()
    return replace(one, value=with_files(listed, folder))


def _with_whole_paths(one: _Given) -> _Given:
    """Return paths with those that are relative made absolute: to the file that names them, else to here."""
    listed = [one.value] if isinstance(one.value, str | os.PathLike) else one.value
    if not isinstance(listed, list | tuple):
        return one
    folder = Path(one.document.source).absolute().parent if one.document else Path.cwd()
    whole = [str(folder / Path(p).expanduser()) if isinstance(p, str | os.PathLike) and p else p for p in listed]
    return replace(one, value=whole)


def _from_rt_info(rt_info: Mapping[str, Any]) -> tuple[dict[str, _Given], tuple[str, ...]]:
    """Keep the preprocessing that a model declares, if it is valid; anything else is noted and ignored."""
    kept: dict[str, _Given] = {}
    notes: list[str] = []
    for key, given in _leaves(rt_info, "rt_info").items():
        if key.partition(".")[0] != "preprocessing" or key.rpartition(".")[2] not in RT_INFO_FIELDS:
            notes.append(f"rt_info sets {key!r}, which a model file may not; it is ignored")
            continue
        try:
            Settings(**nested({key: given.value}))
        except ValidationError as error:
            notes.append(f"rt_info is ignored: {_mistake(dict(error.errors()[0]), {key: given}).text}")
        else:
            kept[key] = given
    return kept, tuple(notes)


class _Mistake(NamedTuple):
    text: str
    document: Document | None = None
    line: int = 0


def _misplaced(given: Mapping[str, _Given], inputs: Sequence[Sequence[str]]) -> list[_Mistake]:
    """Return a mistake for each block of preprocessing that no input of the model takes."""
    found: dict[str, _Mistake] = {}
    for key, one in given.items():
        head, _, rest = key.partition(".")
        name = rest.rpartition(".")[0]
        rule = _no_such_input(name, inputs) if head == "preprocessing" and rest and one.origin != "rt_info" else ""
        if rule:
            found.setdefault(name, _Mistake(f"{one.where(())}: {rule}", one.document, one.line))
    return list(found.values())


def _no_such_input(name: str, inputs: Sequence[Sequence[str]]) -> str:
    """Return why preprocessing under this name reaches no input; "" where it does. Only the first takes images."""
    every = [alias for aliases in inputs for alias in aliases]
    listed = ", ".join(repr(aliases[0]) for aliases in inputs)
    if not name:
        return "" if len(inputs) < 2 else f"the model has several inputs, {listed}: put its name before the field"
    if name not in every:
        near = difflib.get_close_matches(name, every, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"the model has no input {name!r}{hint}; its inputs: {listed}"
    return "" if name in inputs[0] else f"only the first input, {inputs[0][0]!r}, is preprocessed, and not {name!r}"


def _mistake(error: dict[str, Any], given: Mapping[str, _Given]) -> _Mistake:
    """Return the message for one of pydantic's errors: place, rule and value."""
    place: Place = error["loc"] or ("settings",)
    depth = 3 if place[0] == "preprocessing" and len(place) >= 3 else 1
    key = ".".join(str(part) for part in place[:depth] if part != "")
    source = given.get(key, _Given(None, place=(key,)))
    if error["type"] == "extra_forbidden":
        text = f"{source.where(())}: there is no such setting{_suggestion(place)}"
        return _Mistake(text, source.document, source.line)
    rule = str(error.get("ctx", {}).get("error", error["msg"])).replace("Input should be", "must be")
    value = "" if error.get("input") is None else f", got {plain_value(error['input'])!r:.80}"
    return _Mistake(f"{source.where(place[depth:])}: {rule}{value}", source.document, source.line)


def _suggestion(place: Place) -> str:
    """Return the nearest existing name, or all names."""
    names = list(Preprocessing.model_fields) if len(place) > 1 else [*Settings.model_fields, *MEANING]
    near = difflib.get_close_matches(str(place[len(place) - 1]), names, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"


def _config_error(mistakes: Sequence[_Mistake]) -> ConfigError:
    """Name the file once if all mistakes are in it, else before each of its mistakes."""
    ordered = sorted(mistakes, key=lambda one: (one.document is None, one.line))
    documents = {one.document.source if one.document else None for one in mistakes}
    if len(documents) == 1 and (source := documents.pop()):
        return ConfigError(source, [one.text for one in ordered])
    return ConfigError("settings", [f"{m.document.source}: {m.text}" if m.document else m.text for m in ordered])
