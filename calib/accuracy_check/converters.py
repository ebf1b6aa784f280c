"""Annotation converters: how a data set's own files become annotations, in Accuracy Checker's conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check import class_names
from calib.accuracy_check.fields import Fields
from calib.accuracy_check.values import Boxes, Labels, Picture, Scores, Value
from calib.documents.json_text import load_json
from calib.documents.xml_file import read_xml
from calib.errors import DataError, one_line
from calib.samples.annotations import number_of, text_lines, whole_number
from calib.samples.coco import coco_entries, coco_images, coco_names, coco_rows
from calib.samples.wider import blocks

_JSON = 64 << 20  # bytes of a file of labels


@dataclass(frozen=True)
class Places:
    """Folders that a configuration's relative names are looked for in.

    Attributes:
        source: Folder of the data sets, ``--source``.
        annotations: Folder of annotation files, ``--annotations``; None if they are in ``source``.
        folders: Folders of the configuration itself, for lists of labels.
    """

    source: Path
    annotations: Path | None
    folders: tuple[Path, ...] = ()

    def find(self, name: str, *, folder: bool = False) -> Path:
        """Return an existing file, or folder, of that relative name.

        Raises:
            DataError: There is none, or the name leaves the folders.
        """
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise DataError(f"{name!r} leaves the folder of the data sets; names in a configuration are relative to it")
        roots = [self.annotations, self.source] if self.annotations is not None else [self.source]
        roots += [] if folder else list(self.folders)
        for root in roots:
            path = root / name
            if (path.is_dir() if folder else path.is_file()) and path.resolve().is_relative_to(root.resolve()):
                return path
        kind = "folder" if folder else "file"
        raise DataError(
            f"there is no {kind} {name!r} in {' or '.join(map(str, roots))}. Give the folder of the data sets, "
            "--source DIR, and if the annotations are elsewhere --annotations DIR"
        )


@dataclass(frozen=True)
class Masks:
    """Where class maps are read: by Pillow as they are, or with palettes turned into colours.

    Attributes:
        path: The image of the mask.
        colors: Whether a palette becomes colours.
    """

    path: Path
    colors: bool = False


@dataclass(frozen=True)
class Pictures:
    """An image that outputs are compared with.

    Attributes:
        path: The image.
        bgr: Whether it is read in BGR.
    """

    path: Path
    bgr: bool = False


Pending = Value | Masks | Pictures


@dataclass(frozen=True)
class Annotated:
    """A data set.

    Attributes:
        rows: Name of each image relative to the data source, and its annotation.
        labels: Its classes.
        masks: Whether masks are named relative to ``segmentation_masks_source``.
    """

    rows: Sequence[tuple[str, Pending]]
    labels: Labels = field(default_factory=lambda: Labels({}))


Convert = Callable[[Places, Mapping[str, Any]], Annotated]
"""Function of where files are and of the data set's entry."""


def _imagenet(fields: Fields) -> Convert:
    name, background = fields.text("annotation_file"), fields.flag("has_background")
    meta = fields.text("dataset_meta_file")
    fields.finish("images_dir", "labels_file")

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        path, rows = places.find(name), list[tuple[str, Pending]]()
        for number, line in enumerate(text_lines(path, name), 1):
            cells = line.split()
            if len(cells) != 2:
                raise DataError(f"line {number} of {path}: a line is path and class number, got {line[:60]!r}")
            label = whole_number(cells[1], f"line {number} of {path}: the class") + background
            rows.append((PurePosixPath(cells[0]).name.split("@")[-1], Scores(np.array(label))))
        labels = _meta_labels(places, meta, background) or Labels({})
        return Annotated(rows, labels)

    return convert


def _coco(fields: Fields) -> Convert:
    name, background = fields.text("annotation_file"), fields.flag("has_background")
    whole, ordered = fields.flag("use_full_label_map"), fields.flag("sort_annotations", True)
    key = fields.choice("sort_key", ("image_id", "image_size"), "image_id")
    meta = fields.text("dataset_meta_file")
    if fields.get("convert_COCO_to_VOC_labels"):
        fields.refuse("convert_COCO_to_VOC_labels is not supported; write the annotations with VOC's classes")
    fields.finish("images_dir")

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        content = coco_entries(places.find(name), name)
        offset = int(background)
        names = coco_names(content["categories"], name)
        numbers = {one: one if whole else position + offset for position, one in enumerate(names)}
        labels = {numbers[one]: text for one, text in names.items()}
        given = _meta_labels(places, meta, background)
        if given is not None:
            numbers, labels = {number: number for number in given.names}, dict(given.names)
        labels |= {0: "background"} if background else {}
        images = coco_images(content["images"], name)
        keys = list(images)
        if ordered:
            keys.sort(key=lambda one: (isinstance(one, str), one) if key == "image_id" else images[one][1] or (0, 0))
        of: dict[Any, list[Any]] = {one: [] for one in keys}
        for where, row in coco_rows(content["annotations"], name):
            if row.image not in of or row.category not in numbers:
                raise DataError(f"{where}: image_id {row.image!r} or category_id {row.category!r} is not in the file")
            of[row.image].append((where, row))
        rows = [(images[one][0], _coco_boxes(of[one], numbers)) for one in keys]
        return Annotated(rows, Labels(labels, 0 if background else None))

    return convert


def _coco_boxes(rows: Sequence[tuple[str, Any]], numbers: Mapping[Any, int]) -> Boxes:
    corners = [[number_of(value, f"{where}: bbox") for value in row.box] for where, row in rows]
    boxes = np.array(corners, np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    crowd = np.array([bool(row.crowd) for _, row in rows], bool)
    return Boxes(np.array([numbers[row.category] for _, row in rows]), boxes, np.ones(len(rows)), crowd=crowd)


def _voc_detection(names: Sequence[str]) -> Callable[[Fields], Convert]:
    def build(fields: Fields) -> Convert:
        listed, folder = fields.text("imageset_file"), fields.text("annotations_dir")
        background, meta = fields.flag("has_background", True), fields.text("dataset_meta_file")
        fields.finish("images_dir")

        def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
            labels = _meta_labels(places, meta, background) or _numbered(names, background, "__background__")
            numbers, marked = {text: number for number, text in labels.names.items()}, places.find(folder, folder=True)
            rows = [_voc_row(marked, one, numbers) for one in text_lines(places.find(listed), listed) if one.strip()]
            return Annotated(rows, labels)

        return convert

    return build


def _voc_row(folder: Path, line: str, numbers: Mapping[str, int]) -> tuple[str, Pending]:
    name = line.split()[0]
    path = folder / f"{name}.xml"
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{name!r} leaves {folder}")
    root = read_xml(path, 4 << 20)
    labels, corners, difficult = [], [], []
    for position, entry in enumerate(root.findall("object")):
        where = f"{path}: object {position}"
        label = entry.findtext("name", "")
        if label not in numbers:
            raise DataError(f"{where}: the class {label!r} is none of the data set's: {', '.join(numbers)}")
        sides = [entry.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        labels.append(numbers[label])
        corners.append([number_of(side, f"{where}: bndbox") - 1 for side in sides])
        difficult.append(entry.findtext("difficult", "0").strip() == "1")
    boxes = Boxes(np.array(labels), np.array(corners, float), np.ones(len(labels)), np.array(difficult, bool))
    return root.findtext("filename", f"{name}.jpg").strip(), boxes


def _wider(fields: Fields) -> Convert:
    name, start = fields.text("annotation_file"), int(fields.number("label_start", 1, 0, 1000))
    fields.finish("images_dir")

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        rows = list[tuple[str, Pending]]()
        for image, lines in blocks(text_lines(places.find(name), name), name):
            corners = np.array([[number_of(c, f"line {n} of {name}") for c in cells[:4]] for n, cells in lines], float)
            corners = corners.reshape(-1, 4)
            corners[:, 2:] += corners[:, :2]
            rows.append((image, Boxes(np.full(len(lines), start), corners, np.ones(len(lines)))))
        names = {0: "__background__", start: "face"} if start else {0: "face"}
        return Annotated(rows, Labels(names, 0 if start else None))

    return convert


def _cvat(fields: Fields) -> Convert:
    name, background = fields.text("annotation_file"), fields.flag("has_background")
    listed, meta = fields.text("labels_file"), fields.text("dataset_meta_file")
    fields.finish("images_dir")

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        root = read_xml(places.find(name))
        labels = _meta_labels(places, meta, background)
        if labels is None and listed:
            given = _json(places.find(listed)).get("labels")
            if not isinstance(given, Mapping):
                raise DataError(f'{listed}: needs {{"labels": {{name: number}}}}')
            labels = Labels({whole_number(number, f"{listed}: labels"): str(key) for key, number in given.items()})
        if labels is None:
            found = [one.findtext("name", "") for one in root.iter("label")]
            labels = _numbered([text for text in found if text], background, "background")
        numbers = {text: number for number, text in labels.names.items()}
        return Annotated([_cvat_row(image, numbers, name) for image in root.iter("image")], labels)

    return convert


def _cvat_row(image: Any, numbers: Mapping[str, int], name: str) -> tuple[str, Pending]:
    labels, corners, occluded = [], [], []
    where = f"image {image.get('name')!r} of {name}"
    for box in image:
        if box.get("label") not in numbers:
            continue
        labels.append(numbers[box.get("label")])
        corners.append([number_of(box.get(key), f"{where}: {key}") for key in ("xtl", "ytl", "xbr", "ybr")])
        occluded.append(box.get("occluded", "0") not in ("0", ""))
    boxes = Boxes(np.array(labels), np.array(corners, float), np.ones(len(labels)), np.array(occluded, bool))
    return str(image.get("name", "")).split("/")[-1], boxes


def _voc_segmentation(fields: Fields) -> Convert:
    listed, images, masks = fields.text("imageset_file"), fields.text("images_dir"), fields.text("mask_dir")
    meta = fields.text("dataset_meta_file")
    if not images or not masks:
        fields.refuse("images_dir and mask_dir are needed")
    fields.finish()

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        seen, marked = places.find(images, folder=True), places.find(masks, folder=True)
        names = [line.strip() for line in text_lines(places.find(listed), listed) if line.strip()]
        rows = [(_named(seen, one).name, Masks(_named(marked, one), colors=True)) for one in names]
        labels = _meta_labels(places, meta, False)
        named = labels.names if labels else dict(enumerate(("__background__", *class_names.VOC)))
        colors = (labels.colors if labels else ()) or class_names.VOC_COLORS
        return Annotated(list[tuple[str, Pending]](rows), Labels(named, 0, colors))

    return convert


def _named(folder: Path, name: str) -> Path:
    """Return the image of a name without suffix.

    Raises:
        DataError: There is none, or the name leaves the folder.
    """
    found = sorted(folder.glob(f"{name}.*")) if "/" not in name and "*" not in name else []
    if not found:
        raise DataError(f"there is no image {name!r} in {folder}")
    return found[0]


def _camvid(fields: Fields) -> Convert:
    name, meta = fields.text("annotation_file"), fields.text("dataset_meta_file")
    fields.finish()

    def convert(places: Places, entry: Mapping[str, Any]) -> Annotated:
        marked, rows = _mask_source(places, entry), list[tuple[str, Pending]]()
        for number, line in enumerate(text_lines(places.find(name), name), 1):
            cells = line.split()
            if len(cells) != 2:
                raise DataError(f"line {number} of {name}: a line is the paths of image and mask, got {line[:60]!r}")
            image, mask = ("/".join(cell.split("/")[-2:]) for cell in cells)
            rows.append((image, Masks(marked / mask)))
        labels = _meta_labels(places, meta, False) or class_names.CAMVID
        return Annotated(rows, labels)

    return convert


def _mask_source(places: Places, entry: Mapping[str, Any]) -> Path:
    name = entry.get("segmentation_masks_source") or entry.get("additional_data_source") or entry.get("data_source")
    return places.find(str(name), folder=True) if name else places.source


def _cityscapes(fields: Fields) -> Convert:
    folder = fields.text("dataset_root_dir")
    images, masks = fields.text("images_subfolder", "imgsFine/leftImg8bit/val"), fields.text("masks_subfolder",
                                                                                             "gtFine/val")  # fmt: skip
    image_end, mask_end = (
        fields.text("images_suffix", "_leftImg8bit"),
        fields.text("masks_suffix", "_gtFine_labelTrainIds"),
    )
    if fields.get("use_full_label_map"):
        fields.refuse("use_full_label_map is not supported; use the masks of training classes")
    meta = fields.text("dataset_meta_file")
    fields.finish()

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        root = places.find(folder, folder=True)
        rows = list[tuple[str, Pending]]()
        for image in sorted((root / images).glob(f"*/*{image_end}.png")):
            mask = root / masks / image.parent.name / mask_end.join(image.name.split(image_end))
            rows.append((image.relative_to(root).as_posix(), Masks(mask)))
        return Annotated(rows, _meta_labels(places, meta, False) or class_names.CITYSCAPES)

    return convert


def _segmentation(fields: Fields) -> Convert:
    images, masks = fields.text("images_dir"), fields.text("masks_dir")
    image_start, mask_start = fields.text("image_prefix"), fields.text("mask_prefix")
    image_end, mask_end = fields.text("image_postfix", ".png"), fields.text("mask_postfix", ".png")
    colors = fields.choice("mask_loader", ("pillow", "scipy"), "pillow") == "scipy"
    meta = fields.text("dataset_meta_file") or fields.text("dataset_meta")  # Open Model Zoo says the latter
    fields.finish()

    def convert(places: Places, entry: Mapping[str, Any]) -> Annotated:
        seen, marked = places.find(images, folder=True), places.find(masks, folder=True)
        rows = list[tuple[str, Pending]]()
        for image in sorted(seen.iterdir()):
            if image.name.startswith(image_start) and image.name.endswith(image_end):
                middle = image.name.removeprefix(image_start).removesuffix(image_end)
                rows.append((image.name, Masks(marked / f"{mask_start}{middle}{mask_end}", colors)))
        named = meta or str(entry.get("dataset_meta") or entry.get("dataset_meta_file") or "")
        return Annotated(rows, _meta_labels(places, named, False) or Labels({}))

    return convert


def _pairs(first: str, second: str, defaults: tuple[str, str]) -> Callable[[Fields], Convert]:
    """Return the builder of a converter of a folder with pairs of images that suffixes tell apart."""

    def build(fields: Fields) -> Convert:
        folder = fields.text("data_dir") or fields.text("images_dir")
        given, wanted = fields.text(first, defaults[0]), fields.text(second, defaults[1])
        bgr = fields.choice("annotation_loader", ("pillow", "opencv"), "pillow") == "opencv"
        if fields.get("two_streams"):
            fields.refuse("two_streams, a second image beside the first, is not supported")
        fields.finish("two_streams", "upsample_suffix")

        def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
            root = places.find(folder, folder=True)
            inputs = [path for path in sorted(root.iterdir()) if given in path.name and path.is_file()]
            return Annotated(
                [(path.name, Pictures(root / wanted.join(path.name.split(given)), bgr)) for path in inputs]
            )

        return convert

    return build


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _JSON:
            raise DataError(f"{path}: larger than {_JSON >> 20} MiB")
        content = load_json(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path}: no usable JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: must be a JSON object")
    return content


def _color(color: Any, name: str) -> tuple[int, int, int]:
    """Return red, green and blue of a class.

    Raises:
        DataError: It is something else.
    """
    if not isinstance(color, list | tuple) or len(color) != 3:
        raise DataError(f"{name}: segmentation_colors: needs [red, green, blue] for each class, got {color!r}")
    red, green, blue = (whole_number(one, f"{name}: segmentation_colors", 0) for one in color)
    return red, green, blue


def _meta_labels(places: Places, name: str, background: bool) -> Labels | None:
    """Return the classes of a ``dataset_meta_file``; None if there is none."""
    if not name:
        return None
    content = _json(places.find(name))
    colors = tuple(_color(color, name) for color in content.get("segmentation_colors", ()))
    if isinstance(content.get("label_map"), Mapping):
        names = {whole_number(key, f"{name}: label_map", -1): str(text) for key, text in content["label_map"].items()}
        return Labels(names, content.get("background_label"), colors)
    if isinstance(content.get("labels"), list):
        return _numbered([str(text) for text in content["labels"]], background, "background", colors)
    raise DataError(f'{name}: needs {{"label_map": {{number: name}}}} or {{"labels": [name…]}}')


def _numbered(names: Sequence[str], background: bool, nothing: str, colors: Any = ()) -> Labels:
    offset = int(background)
    numbered = {number + offset: name for number, name in enumerate(names)}
    return Labels(({0: nothing} if background else {}) | numbered, 0 if background else None, colors)


CONVERTERS: dict[str, Callable[[Fields], Convert]] = {
    "imagenet": _imagenet,
    "mscoco_detection": _coco,
    "voc_detection": _voc_detection(class_names.VOC),
    "syg_detection": _voc_detection(class_names.SYG),
    "wider": _wider,
    "cvat_object_detection": _cvat,
    "voc_segmentation": _voc_segmentation,
    "camvid": _camvid,
    "cityscapes": _cityscapes,
    "common_semantic_segmentation": _segmentation,
    "image_processing": _pairs("input_suffix", "target_suffix", ("in", "out")),
    "super_resolution": _pairs("lr_suffix", "hr_suffix", ("lr", "hr")),
}


def read_pending(pending: Pending) -> Value:
    """Return an annotation whose file is read with its image.

    Raises:
        DataError: The file is missing or can't be read.
    """
    if isinstance(pending, Masks):
        return Picture(_pixels(pending.path, pending.colors))
    if isinstance(pending, Pictures):
        values = _pixels(pending.path, colors=True)
        return Picture(values[:, :, ::-1] if pending.bgr and values.ndim == 3 else values)
    return pending.copy()


def _pixels(path: Path, colors: bool) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF", "PPM", "GIF")) as image:
            if max(image.size) > 16384:
                raise DataError(f"{path}: an image of {image.height}x{image.width} is not read")
            return np.array(image.convert("RGB") if colors and image.mode == "P" else image)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise DataError(f"{path} can't be read: {type(error).__name__}: {one_line(error)}") from error
