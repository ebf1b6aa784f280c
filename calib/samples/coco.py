"""Boxes in COCO's format: one JSON file with images, annotations and categories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from calib.documents.json_text import load_json
from calib.errors import DataError, UsageError
from calib.samples.annotations import (
    Outside,
    SizedTarget,
    annotated,
    box_target,
    class_numbers,
    first_class,
    folder_of,
    number_of,
    said,
    whole_number,
)
from calib.samples.sample import Dataset
from calib.samples.source import Source

_LARGEST = 1 << 30  # bytes; COCO's own training set has 448 MB, most of it outlines


class _Image(NamedTuple):
    id: Any
    name: Any
    height: Any
    width: Any


class _Row(NamedTuple):
    id: Any
    image: Any
    category: Any
    box: Any
    crowd: Any


class _Found(NamedTuple):
    """Boxes of one image."""

    boxes: list[Any]
    labels: list[int]
    crowd: list[int]


def open_coco(source: Source) -> Dataset:
    """Return the images of an annotation file, each with its boxes in pixels.

    Categories become the classes 0, 1, … in the order of their ids. An image without annotations has no boxes.

    Raises:
        DataError: The file is no such JSON, an entry is wrong, or an image is missing; the message names the entry.
    """
    path = source.path
    content = coco_entries(path, source.text)
    numbers, note = _classes(source, content["categories"])
    images = coco_images(content["images"], source.text)
    outside = Outside(source)
    found = {key: _Found([], [], []) for key in images}
    for where, row in coco_rows(content["annotations"], source.text):
        if row.image not in images:
            raise DataError(f"{where}: there is no image with the id {row.image!r:.40} (image_id)")
        if row.category not in numbers:
            raise DataError(f"{where}: there is no category with the id {row.category!r:.40} (category_id)")
        _, size, _ = images[row.image]
        box = outside.box(_corners(row.box, where), size, where)
        if box is not None:
            boxes = found[row.image]
            boxes.boxes.append(box)
            boxes.labels.append(numbers[row.category])
            boxes.crowd.append(whole_number(row.crowd, f"{where}: iscrowd"))
    rows = []
    for key, (name, size, where) in images.items():
        target: Any = box_target(*found[key])
        rows.append((name, target if size is None else SizedTarget(size, target), where))
    return annotated(
        source, folder_of(source, "images", path.parent, "images", "."), rows, [note, *outside.notes(source)]
    )


def coco_entries(path: Path, text: str) -> dict[str, list[Any]]:
    """Return images, annotations and categories of a file; of the first two what a box needs, as named tuples.

    Args:
        path: The file.
        text: Its name in messages.

    Raises:
        DataError: It is no such file.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise DataError(f"{text}: not a file of at most {_LARGEST >> 20} MiB")
    try:
        content = load_json(path.read_bytes(), _compact, finite=False)
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{text}: no usable JSON: {error}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        has = f"the keys {', '.join(map(str, content))}"[:80] if isinstance(content, dict) else type(content).__name__
        raise DataError(
            f'{text}: COCO\'s format is {{"images": […], "annotations": […], "categories": […]}}, and the file '
            f"holds {has}"
        )
    return content


def _compact(fields: dict[str, Any]) -> Any:
    """Keep of an entry what a box needs: outlines would take the memory many times over."""
    if "image_id" in fields:
        get = fields.get
        return _Row(get("id"), get("image_id"), get("category_id"), get("bbox"), get("iscrowd", 0))
    if "file_name" in fields:
        return _Image(fields.get("id"), fields["file_name"], fields.get("height"), fields.get("width"))
    return fields


def coco_names(categories: Sequence[Any], text: str) -> dict[int, str]:
    """Return the name of each category by its id, in the order of the file; ``text`` names it in messages.

    Raises:
        DataError: An entry is wrong, or an id stands twice.
    """
    names: dict[int, str] = {}
    for position, entry in enumerate(categories):
        where = f"categories[{position}] of {text}"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise DataError(f'{where}: a category is {{"id": …, "name": …}}, got {str(entry)[:60]}')
        number = whole_number(entry.get("id"), f"{where}: id")
        if number in names:
            raise DataError(f"{where}: the id {number} stands twice; an id belongs to one category")
        names[number] = entry["name"]
    return names


def _classes(source: Source, categories: Sequence[Any]) -> tuple[dict[Any, int], str]:
    """Return category id → class number, and the sentence about it."""
    names = coco_names(categories, source.text)
    how = source.options.get("labels", "order")
    if how not in ("order", "ids"):
        raise UsageError(f"{source.text}: labels is order (the default) or ids, got {how!r}")
    ordered = dict(sorted(names.items()))
    if how == "ids" and "classes" not in source.options:
        ids = {number: number + first_class(source) for number in ordered}
        return ids, said(source, {ordered[key]: number for key, number in ids.items()}, "numbered by their ids")
    if len(set(ordered.values())) != len(ordered):
        raise DataError(f"{source.text}: two categories have the same name; number them by their ids: ?labels=ids")
    by_name = class_numbers(source, list(ordered.values()))
    order = "numbered in the order of their ids (?labels=ids keeps the ids, ?first=1 starts at 1)"
    order = f"numbered by {source.options['classes']}" if "classes" in source.options else order
    return {key: by_name[name] for key, name in ordered.items()}, said(source, by_name, order)


def coco_images(entries: Sequence[Any], text: str) -> dict[Any, tuple[str, tuple[int, int] | None, str]]:
    """Return image id → (file name, height and width if they are given, place in the file).

    Raises:
        DataError: An entry is wrong, or an id stands twice.
    """
    found: dict[Any, tuple[str, tuple[int, int] | None, str]] = {}
    for position, entry in enumerate(entries):
        where = f"images[{position}]"
        if not isinstance(entry, _Image) or not isinstance(entry.name, str) or not entry.name:
            raise DataError(f'{where} of {text}: an image is {{"id": …, "file_name": …}}, got {str(entry)[:60]}')
        if not isinstance(entry.id, int | str):
            raise DataError(f"{where} of {text}: the id of an image is a number or text, got {entry.id!r:.40}")
        if entry.id in found:
            raise DataError(f"{where} of {text}: the id {entry.id!r} stands twice; an id belongs to one image")
        size = None
        if entry.height is not None and entry.width is not None:
            height = whole_number(entry.height, f"{where} of {text}: height", 1)
            size = (height, whole_number(entry.width, f"{where} of {text}: width", 1))
        found[entry.id] = (entry.name, size, f"{where} (id {entry.id})")
    return found


def coco_rows(entries: Sequence[Any], text: str) -> Iterator[tuple[str, Any]]:
    """Yield the place in the file and what a box needs of each annotation.

    Raises:
        DataError: An entry is wrong, or an id stands twice.
    """
    seen: set[Any] = set()
    for position, entry in enumerate(entries):
        where = f"annotations[{position}] of {text}"
        if not isinstance(entry, _Row) or not isinstance(entry.box, list) or len(entry.box) != 4:
            got = str(entry.box if isinstance(entry, _Row) else entry)[:60]
            raise DataError(f'{where}: needs "image_id", "category_id" and "bbox": [x, y, width, height], got {got}')
        if not all(isinstance(one, int | str) for one in (entry.image, entry.category)):
            raise DataError(f"{where}: image_id and category_id are numbers or text, got {entry.image!r:.40}")
        if isinstance(entry.id, int | str):
            where = f"{where} (id {entry.id})"
            if entry.id in seen:
                raise DataError(f"{where}: the id {entry.id!r} stands twice; an id belongs to one annotation")
            seen.add(entry.id)
        yield where, entry


def _corners(box: Sequence[Any], where: str) -> tuple[float, float, float, float]:
    x, y, width, height = (number_of(value, f"{where}: bbox") for value in box)
    return x, y, x + width, y + height
