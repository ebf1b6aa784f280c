"""Find the model files of a manifest's sources; patterns never leave the root, despite links or ``..``."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from calib.errors import ModelError
from calib.zoo.manifest import Read, Source, mistakes
from calib.zoo.urls import is_url, open_place

# A root with more entries is the wrong folder ("/"), and walking it would take minutes.
MOST_ENTRIES = 1_000_000

# Endings of files that OpenVINO reads as a model; a SavedModel is known by its saved_model.pb.
ENDINGS = (".xml", ".onnx", ".tflite", ".pb", ".pdmodel")
_COMPANIONS = ("openvino_tokenizer.xml", "openvino_detokenizer.xml")


class Mistake(ValueError):
    """A mistake in one source, whose line the caller knows."""


@dataclass(frozen=True, order=True)
class ModelFile:
    """A model of the zoo.

    Attributes:
        name: Path below the root with ``/``; protocol and path for a URL.
        location: Absolute path, or URL.
    """

    name: str
    location: str


def find_models(read: Read) -> list[ModelFile]:
    """Return the models of all sources, each once, in order of their names.

    Raises:
        ConfigError: A source is wrong or names nothing; all such sources are listed with their lines.
    """
    root = root_of(read)
    if not root.is_dir():
        raise mistakes(read.document, [(("root",), f"is no folder: {root}")])
    tree = _Tree(root)
    found: dict[str, ModelFile] = {}
    wrong = []
    for index, source in enumerate(read.manifest.sources):
        kinds = source.kinds()
        try:
            listed = SOURCES[kinds[0]](source, tree)
            kept = [one for one in listed if not any(matches(p, one.name) for p in source.exclude)]
            if not kept:
                raise Mistake(f"names no model below {root}")
            found |= {one.name: one for one in kept}
        except (Mistake, ModelError) as error:
            wrong.append((("sources", index, kinds[0]), str(error)))
    if wrong:
        raise mistakes(read.document, wrong)
    return sorted(found.values())


def root_of(read: Read) -> Path:
    """Return the absolute folder that all models of a manifest lie below."""
    return Path(os.path.abspath(read.folder / Path(read.manifest.root).expanduser()))


def matches(pattern: str, name: str) -> bool:
    """Return whether a model, by its path below the root with or without suffix or by its ``shown_name``, matches.

    In a pattern ``*`` stays within one folder, and ``**`` matches any folders.

    A pattern without ``/`` is matched against the file's name alone.
    """
    bare = name.removesuffix(_ending(name))
    called = shown_name(bare)
    wanted = [part for part in pattern.split("/") if part not in ("", ".")]
    for text in (name, bare, called):
        parts = text.split("/")
        if _fits(wanted, parts) or (len(wanted) == 1 and _fits(wanted, parts[-1:])):
            return True
    return False


def shown_name(name: str) -> str:
    """Return the name of a job as people call the model: that of its folder where the file's own name says nothing.

    So it is in the layout of Hugging Face (``bert/openvino_model``) and where each folder holds a ``model.xml``. What
    follows, the cell of a matrix, stays.
    """
    return re.sub(r"(?<=[^/])/(openvino_model|model)(?=/[^/]*=|$)", "", name)


def _fits(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    """Match part by part; the time is at most the product of both lengths, whatever the pattern."""
    reached = {0}
    for part in wanted:
        if part == "**":
            reached = set(range(min(reached), len(parts) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(parts) and fnmatch.fnmatchcase(parts[at], part)}
    return len(parts) in reached


class _Tree:
    """The files below a root, listed once; links to folders are not followed, links to files only inside the root."""

    def __init__(self, root: Path):
        self.root = root
        self.real = os.path.realpath(root)

    @cached_property
    def files(self) -> tuple[str, ...]:
        found, entries = [], 0
        for folder, folders, names in os.walk(self.root):
            folders.sort()
            entries += len(folders) + len(names)
            if entries > MOST_ENTRIES:
                raise Mistake(f"more than {MOST_ENTRIES} files are below {self.root}; set root to a smaller folder")
            below = os.path.relpath(folder, self.root)
            found += [name if below == "." else f"{below}/{name}" for name in names if _is_model(name)]
        return tuple(sorted(found))

    def matching(self, patterns: Iterable[str], suffix: str) -> Iterator[ModelFile]:
        for pattern in patterns:
            if is_url(pattern):
                yield from _remote(pattern, suffix)
                continue
            wanted = _inside(pattern)
            for name in self.files:
                if name.lower().endswith(suffix) and _fits(wanted, name.split("/")):
                    yield self.model(name)

    def model(self, name: str) -> ModelFile:
        """Return a file that is inside the root, even after following links."""
        path = self.root / name
        if not os.path.realpath(path).startswith(self.real.rstrip("/") + "/"):
            raise Mistake(f"{name} is a link that leads out of {self.root}; copy the file, or set another root")
        return ModelFile(name, str(path))


def _inside(pattern: str) -> list[str]:
    """Return the parts of a pattern that stays below the root."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith(("/", "~")) or ".." in parts:
        raise Mistake(f"{pattern!r} leaves the root; set root to the folder that holds all models")
    return parts


def _is_model(name: str) -> bool:
    return bool(_ending(name)) and name not in _COMPANIONS


def _ending(name: str) -> str:
    """Return the ending of a model file, "" if it is none."""
    return next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")


def _remote(pattern: str, suffix: str) -> Iterator[ModelFile]:
    """List the files of a URL pattern, which its file system matches."""
    system, path = open_place(pattern)
    protocol = pattern.partition("://")[0]
    for found in sorted(system.glob(path)):
        parts = PurePosixPath(str(found)).parts
        if found.lower().endswith(suffix) and ".." not in parts and _is_model(parts[-1]):
            yield ModelFile("/".join([protocol, *(p for p in parts if p != "/")]), system.unstrip_protocol(found))


def _glob(source: Source, tree: _Tree) -> Iterator[ModelFile]:
    for pattern in source.glob or ():
        yield from tree.matching([pattern], _ending(pattern) or ".xml")


def _onnx(source: Source, tree: _Tree) -> Iterator[ModelFile]:
    return tree.matching(source.onnx or (), ".onnx")


def _omz(source: Source, tree: _Tree) -> Iterator[ModelFile]:
    """Open Model Zoo's downloader and converter write <model>/FP32/<model>.xml, for some below a group's folder."""
    for one in tree.matching([f"{source.omz}/**/{source.precision}/*.xml"], ".xml"):
        parts = one.name.split("/")
        if len(parts) >= 3 and parts[-1].removesuffix(".xml") == parts[-3]:
            yield one


def _huggingface(source: Source, tree: _Tree) -> Iterator[ModelFile]:
    return tree.matching([f"{source.huggingface}/**/openvino_*model.xml"], ".xml")


def _list(source: Source, tree: _Tree) -> Iterator[ModelFile]:
    path = tree.root / "/".join(_inside(source.list or ""))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Mistake(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{path} can't be read: {error}") from error
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if is_url(text):
            yield from _remote(text, Path(text).suffix.lower())
            continue
        name = "/".join(_inside(text))
        if not _is_model(name) or not (tree.root / name).is_file():
            raise Mistake(f"line {number} of {path.name}: {text!r} is no model file below {tree.root}")
        yield tree.model(name)


# kind → the function that lists it; a new kind is a field of Source and a row here
SOURCES: dict[str, Callable[[Source, _Tree], Iterator[ModelFile]]] = {
    "glob": _glob,
    "onnx": _onnx,
    "omz": _omz,
    "huggingface": _huggingface,
    "list": _list,
}
