"""Read an XML file as elements, with entities off; safe on untrusted files.

A document type (DTD) is refused where it begins: entities are declared there, and a few of them expand to gigabytes
("billion laughs") or name other files. Nothing is expanded, and no other file is opened.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from calib.errors import DataError

MAX_BYTES = 1 << 28  # the annotations of a whole data set in one file
MAX_DEPTH = 64


def read_xml(path: Path, most: int = MAX_BYTES) -> Element:
    """Return the root element of an XML file.

    Args:
        path: The file.
        most: Largest size of the file in bytes.

    Raises:
        DataError: It can't be read, is larger, is not well-formed, declares a document type, or is nested deeper than
            64; the message names the file and the line.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    if len(raw) > most:
        raise DataError(f"{path}: larger than {most >> 10} KiB, which is refused; is it the right file?")
    return _parsed(raw, path)


def _parsed(raw: bytes, path: Path) -> Element:
    parser, builder, depth = expat.ParserCreate(), TreeBuilder(), 0

    def refuse(*_: object) -> None:
        raise DataError(
            f"{path}: line {parser.CurrentLineNumber}: a document type (<!DOCTYPE …>) can declare entities that expand "
            "without end or name other files, and is refused. Remove it from the file"
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise DataError(f"{path}: line {parser.CurrentLineNumber}: nested deeper than {MAX_DEPTH}")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(raw, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(f"{path}: no well-formed XML: {error}") from error
