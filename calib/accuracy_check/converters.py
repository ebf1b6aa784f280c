"""Annotation converters: how a data set's own files become annotations, in Accuracy Checker's conventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from calib.accuracy_check import class_names, image_converters, text
from calib.accuracy_check.annotated import Annotated, Convert, Pending, Places, meta_labels, numbered, read_json
from calib.accuracy_check.fields import Fields
from calib.accuracy_check.values import Boxes, Labels, Scores
from calib.documents.xml_file import read_xml
from calib.errors import DataError
from calib.samples.annotations import number_of, text_lines, whole_number
from calib.samples.coco import coco_entries, coco_images, coco_names, coco_rows
from calib.samples.wider import blocks


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
        labels = meta_labels(places, meta, background) or Labels({})
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
        given = meta_labels(places, meta, background)
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
            labels = meta_labels(places, meta, background) or numbered(names, background, "__background__")
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
        labels = meta_labels(places, meta, background)
        if labels is None and listed:
            given = read_json(places.find(listed)).get("labels")
            if not isinstance(given, Mapping):
                raise DataError(f'{listed}: needs {{"labels": {{name: number}}}}')
            labels = Labels({whole_number(number, f"{listed}: labels"): str(key) for key, number in given.items()})
        if labels is None:
            found = [one.findtext("name", "") for one in root.iter("label")]
            labels = numbered([text for text in found if text], background, "background")
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


CONVERTERS: dict[str, Callable[[Fields], Convert]] = {
    "imagenet": _imagenet,
    "mscoco_detection": _coco,
    "voc_detection": _voc_detection(class_names.VOC),
    "syg_detection": _voc_detection(class_names.SYG),
    "wider": _wider,
    "cvat_object_detection": _cvat,
    "voc_segmentation": image_converters.voc_segmentation,
    "camvid": image_converters.camvid,
    "cityscapes": image_converters.cityscapes,
    "common_semantic_segmentation": image_converters.segmentation,
    "background_matting": image_converters.background_matting,
    "image_processing": image_converters.pairs("input_suffix", "target_suffix", ("in", "out")),
    "super_resolution": image_converters.pairs("lr_suffix", "hr_suffix", ("lr", "hr")),
    "icdar13_recognition": text.words,
    "unicode_character_recognition": text.lines,
    "lpr_txt": text.plate_texts,
}
