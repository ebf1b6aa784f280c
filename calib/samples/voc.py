"""Pascal VOC: one XML file an image with boxes, and masks whose pixel values are classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from calib.documents.xml_file import read_xml
from calib.errors import DataError, UsageError
from calib.samples.annotations import (
    Outside,
    SizedTarget,
    annotated,
    box_target,
    class_numbers,
    folder_of,
    images_in,
    number_of,
    said,
    text_lines,
    whole_number,
)
from calib.samples.masks import MaskTarget
from calib.samples.sample import Dataset
from calib.samples.source import Source

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_LARGEST = 4 << 20  # bytes of the annotations of one image


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float]
    difficult: int
    where: str


def open_voc(source: Source) -> Dataset:
    """Return the images of a VOC folder with their boxes, or with ``?target=masks`` with their class maps.

    The folder holds Annotations (XML) or SegmentationClass (PNG), JPEGImages, and ImageSets/Main or
    ImageSets/Segmentation with the names of each set. A pixel has the coordinates 1, 2, …, so the corners
    (xmin, ymin, xmax, ymax) become (xmin − 1, ymin − 1, xmax, ymax). Masks hold 255 where a pixel belongs to no class.

    Raises:
        DataError: The folder does not hold that, or an entry is wrong; the message names the file.
    """
    kind = source.options.get("target", "boxes")
    if kind not in ("boxes", "masks"):
        raise UsageError(f"{source.text}: target is boxes (the default) or masks, got {kind!r}")
    folder = source.path
    if not folder.is_dir():
        raise DataError(f"{source.text}: {folder} is not a folder. Give the one that holds Annotations and JPEGImages")
    images = folder_of(source, "images", folder, "JPEGImages", "images")
    files = images_in(images)
    if kind == "masks":
        return _masked(source, folder, images, files)
    marked = folder_of(source, "annotations", folder, "Annotations", "annotations")
    names = _names(source, folder, "Main", sorted(path.stem for path in marked.glob("*.xml")))
    read = {name: _objects(marked / f"{name}.xml", source) for name in names}
    numbers, note = _classes(source, [one for _, objects in read.values() for one in objects])
    outside, rows = Outside(source), []
    for name, (size, objects) in read.items():
        kept = [(one, outside.box(one.box, size, one.where)) for one in objects]
        boxes = [(one, box) for one, box in kept if box is not None]
        target: Any = box_target(
            [box for _, box in boxes], [numbers[one.name] for one, _ in boxes], (), [one.difficult for one, _ in boxes]
        )
        file = files[name].name if name in files else f"{name}.jpg"
        rows.append((file, target if size is None else SizedTarget(size, target), f"{name}.xml"))
    return annotated(source, images, rows, [note, *outside.notes(source)])


def _masked(source: Source, folder: Path, images: Path, files: dict[str, Path]) -> Dataset:
    masks = folder_of(source, "masks", folder, "SegmentationClass", "masks")
    names = _names(source, folder, "Segmentation", sorted(path.stem for path in masks.glob("*.png")))
    rows = [
        (files[name].name if name in files else f"{name}.jpg", MaskTarget(masks / f"{name}.png", masks), f"{name}.png")
        for name in names
    ]
    return annotated(source, images, rows)


def _names(source: Source, folder: Path, kind: str, every: Sequence[str]) -> list[str]:
    """Return the names of the images in ``?set=``: a name in ImageSets or a file; all that are annotated unless given.

    In lists of a class a second column of -1 says that the image does not hold it: all lines count.
    """
    text = source.options.get("set")
    if text is None:
        if not every:
            raise DataError(f"{source.text}: nothing is annotated in it. Give the folder: ?annotations= or ?masks=")
        return list(every)
    listed = folder / "ImageSets" / kind / f"{text}.txt"
    try:
        path = listed if listed.is_file() else source.existing(text)
    except DataError as error:
        others = sorted(one.stem for one in listed.parent.glob("*.txt"))
        sets = f"Sets there: {', '.join(others[:8])}" if others else "Give a file with the names of images: ?set=FILE"
        raise DataError(f"{source.text}: there is no set {text!r}, neither {listed} nor a file. {sets}") from error
    names = [line.split()[0] for line in text_lines(path, source.text) if line.strip()]
    for name in names:
        if "/" in name or "\\" in name or name in ("", ".", "..") or "\0" in name:
            raise DataError(f"{path}: {name!r} is not the name of an image, without folder and suffix")
    return list(dict.fromkeys(names))


def _objects(path: Path, source: Source) -> tuple[tuple[int, int] | None, list[_Object]]:
    """Return the height and width that an annotation gives, and its objects."""
    if not path.is_file():
        raise DataError(f"{source.text}: {path} does not exist, and the set names it")
    root = read_xml(path, _LARGEST)
    size = root.find("size")
    sides: tuple[int, int] | None = None
    if size is not None:
        height, width = (whole_number(_text(size, key, path), f"{path}: size/{key}") for key in ("height", "width"))
        sides = (height, width) if height and width else None  # some tools write 0 where they did not look
    return sides, list(_each(root, path))


def _each(root: Element, path: Path) -> Iterator[_Object]:
    for position, entry in enumerate(root.findall("object")):
        where = f"{path}: object {position}"
        box = entry.find("bndbox")
        if box is None:
            raise DataError(f"{where}: has no bndbox")
        x1, y1, x2, y2 = (
            number_of(_text(box, key, path), f"{where}: bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")
        )
        difficult = whole_number(entry.findtext("difficult", "0").strip() or "0", f"{where}: difficult")
        yield _Object(_text(entry, "name", path), (x1 - 1, y1 - 1, x2, y2), difficult, where)


def _text(element: Element, key: str, path: Path) -> str:
    text = (element.findtext(key) or "").strip()
    if not text:
        raise DataError(f"{path}: {element.tag} has no {key}")
    return text


def _classes(source: Source, objects: Sequence[_Object]) -> tuple[dict[str, int], str]:
    found = sorted({one.name for one in objects})
    if "classes" in source.options:
        numbers = class_numbers(source, found)
        return numbers, said(source, numbers, f"numbered by {source.options['classes']}")
    own = set(found) <= set(CLASSES)
    numbers = class_numbers(source, list(CLASSES) if own else found)
    how = "the 20 of Pascal VOC" if own else "numbered in the order of their names"
    return numbers, said(source, numbers, f"{how} (?first=1 starts at 1, ?classes=FILE orders them)")
