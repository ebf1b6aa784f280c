"""Converters of data sets whose annotations are images: class maps, mattes, and images to be restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from calib.accuracy_check import class_names
from calib.accuracy_check.annotated import Annotated, Convert, Masks, Pending, Pictures, Places, meta_labels
from calib.accuracy_check.fields import Fields
from calib.accuracy_check.values import Labels
from calib.errors import DataError
from calib.samples.annotations import text_lines


def voc_segmentation(fields: Fields) -> Convert:
    """Return the converter of a list of names and folders of images and of masks in the colours of classes."""
    listed, images, masks = fields.text("imageset_file"), fields.text("images_dir"), fields.text("mask_dir")
    meta = fields.text("dataset_meta_file")
    if not images or not masks:
        fields.refuse("images_dir and mask_dir are needed")
    fields.finish()

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        seen, marked = places.find(images, folder=True), places.find(masks, folder=True)
        names = [line.strip() for line in text_lines(places.find(listed), listed) if line.strip()]
        rows = [(_named(seen, one).name, Masks(_named(marked, one), colors=True)) for one in names]
        labels = meta_labels(places, meta, False)
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


def camvid(fields: Fields) -> Convert:
    """Return the converter of lines of an image and its mask."""
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
        labels = meta_labels(places, meta, False) or class_names.CAMVID
        return Annotated(rows, labels)

    return convert


def _mask_source(places: Places, entry: Mapping[str, Any]) -> Path:
    name = entry.get("segmentation_masks_source") or entry.get("additional_data_source") or entry.get("data_source")
    return places.find(str(name), folder=True) if name else places.source


def cityscapes(fields: Fields) -> Convert:
    """Return the converter of Cityscapes' folders of towns."""
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
        return Annotated(rows, meta_labels(places, meta, False) or class_names.CITYSCAPES)

    return convert


def segmentation(fields: Fields) -> Convert:
    """Return the converter of a folder of images and one of masks with alike names."""
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
        return Annotated(rows, meta_labels(places, named, False) or Labels({}))

    return convert


def pairs(first: str, second: str, defaults: tuple[str, str]) -> Callable[[Fields], Convert]:
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


def background_matting(fields: Fields) -> Convert:
    """Return the converter of a folder of images and one of mattes, whose names are alike; others are left out."""
    images, mattes = fields.text("images_dir"), fields.text("masks_dir")
    starts = fields.text("image_prefix"), fields.text("mask_prefix")
    ends = fields.text("image_postfix", ".png"), fields.text("mask_postfix", ".png")
    if fields.flag("mask_to_gray"):
        fields.refuse("mask_to_gray is not supported; use mattes of one channel")
    fields.finish("dataset_meta_file")

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        seen, marked = places.find(images, folder=True), places.find(mattes, folder=True)
        rows = list[tuple[str, Pending]]()
        for image in sorted(seen.iterdir()):
            middle = image.name.removeprefix(starts[0]).removesuffix(ends[0])
            matte = marked / f"{starts[1]}{middle}{ends[1]}"
            if image.name == f"{starts[0]}{middle}{ends[0]}" and matte.exists():
                rows.append((image.name, Masks(matte, alpha=True)))
        return Annotated(rows)

    return convert
