"""Read a config or manifest in YAML or JSON as plain data with line numbers; safe on untrusted files.

These are refused: anchors and aliases (a few lines of them expand to gigabytes, "billion laughs"), tags
(``!!python/…``), several documents in one file, keys given twice, nesting deeper than 32, more than 1 MiB of YAML or
4 MiB of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionStartEvent, Event, NodeEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from calib.documents.json_text import load_json
from calib.errors import ConfigError

Place = tuple[str | int, ...]

# Bytes. YAML is read at 50 KB/s (ruamel.yaml in pure Python, once for what is refused and once for the content), so
# that 1 MiB takes some 20 s; a manifest of 10,000 overrides has about that.
MAX_YAML, MAX_JSON = 1 << 20, 4 << 20
MAX_DEPTH = 32

# Everything else is text. A timestamp too: no setting is a date, and a model may well be called 2024-01-01.
_TYPED = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")}


@dataclass(frozen=True)
class Document:
    """The content of a file.

    Attributes:
        source: The file, for messages.
        data: Mappings, lists and scalars; None for an empty file.
        lines: Mapping from place (keys and indices from the root) to line number from 1; empty for JSON.
    """

    source: str
    data: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def where(self, place: Place) -> str:
        """Return ``line 3: search.samples``, with the line of the nearest place that has one."""
        path = ".".join(str(part) for part in place)
        for length in range(len(place), 0, -1):
            if place[:length] in self.lines:
                return f"line {self.lines[place[:length]]}: {path}"
        return path


def read_document(path: str | Path) -> Document:
    """Read a file: JSON if the name ends in ``.json``, else YAML 1.2.

    Raises:
        ConfigError: It can't be read, or holds something that is refused; the message names every such place.
    """
    source = str(path)
    in_json = source.lower().endswith(".json")
    most = MAX_JSON if in_json else MAX_YAML
    try:
        with open(path, "rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            also = "" if in_json else f", or write it as JSON, of which {MAX_JSON >> 20} MiB are read in a moment"
            raise ConfigError(
                source,
                [f"larger than {most >> 20} MiB, which no config needs; is it the right file? If so, split it{also}"],
            )
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(source, [f"can't be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(source, [f"is not UTF-8 text (byte {error.start})"]) from error
    return parse_json(text, source) if in_json else parse_yaml(text, source)


def parse_yaml(text: str, source: str) -> Document:
    """Parse YAML 1.2 text; ``read_document`` says what is refused."""
    yaml = YAML(typ="safe", pure=True)
    try:
        if refused := list(_refused(YAML(typ="safe", pure=True).parse(text))):
            raise ConfigError(source, refused)
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(source, [f"{line}no valid YAML: {error.problem or error}"]) from error
    except YAMLError as error:
        raise ConfigError(source, [f"no valid YAML: {error}".split("\n")[0]]) from error
    builder = _Builder(yaml)
    data = builder.build(root, ()) if root is not None else None
    if builder.mistakes:
        raise ConfigError(source, builder.mistakes)
    return Document(source, data, builder.lines)


def parse_json(text: str, source: str) -> Document:
    """Parse JSON text; a key given twice is an error."""
    repeated: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                repeated.append(f"the key {key!r} is given twice in one mapping")
            found[key] = value
        return found

    try:
        data = json.loads(text, object_pairs_hook=mapping)
    except json.JSONDecodeError as error:
        raise ConfigError(source, [f"line {error.lineno}: no valid JSON: {error.msg}"]) from error
    except (RecursionError, ValueError) as error:  # ValueError: a number of more than 4,300 digits
        raise ConfigError(source, [f"no usable JSON: {error}"]) from error
    if repeated:
        raise ConfigError(source, repeated)
    if "\\u" in text:
        try:
            load_json(text)
        except ValueError as error:
            raise ConfigError(source, [f"no usable JSON: {error}"]) from error
    return Document(source, data)


def _refused(events: Iterator[Event]) -> Iterator[str]:
    """Yield a message for everything that is refused; this reads tokens only, before anything is expanded."""
    depth = 0
    for event in events:
        line = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
        if isinstance(event, AliasEvent):
            yield f"{line}aliases (*{event.anchor}) are not allowed; write the value out"
        elif isinstance(event, NodeEvent) and event.anchor:
            yield f"{line}anchors (&{event.anchor}) are not allowed; write the value where it is used"
        if tag := getattr(event, "tag", None):
            yield f"{line}tags ({tag}) are not allowed; write a plain value"
        if isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                yield f"{line}nested deeper than {MAX_DEPTH}"
                return
        elif type(event).__name__ in ("MappingEndEvent", "SequenceEndEvent"):
            depth -= 1


class _Builder:
    """Turns composed nodes into plain data and notes the line of each place."""

    def __init__(self, yaml: YAML):
        self._construct = yaml.constructor.construct_object
        self.lines: dict[Place, int] = {}
        self.mistakes: list[str] = []

    def build(self, node: Node, place: Place) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        assert isinstance(node, ScalarNode)
        if node.tag not in _TYPED:
            return node.value
        try:
            return self._construct(node)
        except ValueError as error:  # a number of more than 4,300 digits
            self.mistakes.append(f"line {node.start_mark.line + 1}: no usable value: {error}")
            return None

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self.mistakes.append(f"line {line}: a key must be text, not a list or mapping")
                continue
            key = str(key_node.value)
            self.lines[(*place, key)] = line
            if key in found:
                self.mistakes.append(f"line {line}: the key {key!r} is given twice in one mapping")
            found[key] = self.build(value_node, (*place, key))
        return found
