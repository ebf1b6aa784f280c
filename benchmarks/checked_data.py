"""Write small data sets in the form that an entry of an Accuracy Checker configuration names, for the benchmarks of it.

Images are PNG whatever their names end in, so that every program decodes them to the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEED = 7
VOC = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
       "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")  # fmt: skip


@dataclass
class Writer:
    """One data set to be written.

    Attributes:
        source: Folder of the data sets, ``--source``.
        entry: The configuration's entry.
        count: Number of images.
        classes: Number of classes with boxes, or in masks.
        fixed: Height and width of every image; None for many sizes.
        sides: Smallest and largest side if there are many sizes.
        random: Where everything is drawn from.
    """

    source: Path
    entry: Mapping[str, Any]
    count: int
    classes: int
    fixed: tuple[int, int] | None = None
    sides: tuple[int, int] = (40, 90)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))

    def __getitem__(self, key: str) -> Any:
        return self.entry["annotation_conversion"].get(key)

    def path(self, name: str) -> Path:
        """Return the path of a file, in a folder that exists."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.source / self.entry.get("data_source", ".")

    def size(self) -> tuple[int, int]:
        """Return a height and width."""
        height, width = self.random.integers(*self.sides, 2)
        return self.fixed or (int(height), int(width))

    def pictures(self, folder: Path | None = None, suffix: str = ".png") -> Iterator[tuple[str, tuple[int, int]]]:
        """Write smooth images; yield their names and sizes."""
        for number in range(self.count):
            size = self.size()
            write_image(smooth(self.random, size), (folder or self.images) / f"{number}{suffix}")
            yield f"{number}{suffix}", size

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Return a map of classes of large areas."""
        small = self.random.integers(0, self.classes, (5, 4), dtype=np.uint8)
        return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.NEAREST))

    def boxes(self, size: tuple[int, int]) -> list[tuple[int, list[float]]]:
        """Return up to six of the common places, moved a little, as (class, [x, y, width, height])."""
        rows = []
        for place in self.random.choice(APART, int(self.random.integers(1, 7)), replace=False):
            corners = PLACES[place] * np.tile(size[::-1], 2)
            x1, y1, x2, y2 = corners + self.random.normal(size=4) * 0.05 * np.tile(corners[2:] - corners[:2], 2)
            rows.append((int(place) % self.classes, [round(float(v), 2) for v in (x1, y1, x2 - x1, y2 - y1)]))
        return rows


def places() -> np.ndarray:
    """Return boxes as shares of an image, (20, 4) corners: 12 apart from each other, and 8 that overlap these."""
    random = np.random.default_rng(SEED)
    cells = np.stack(np.meshgrid(np.arange(4) / 4, np.arange(3) / 3), 2).reshape(-1, 2)
    sides = random.uniform(0.6, 0.95, (APART, 2)) / (4, 3)
    corner = cells + random.random((APART, 2)) * ((1 / 4, 1 / 3) - sides)
    boxes = np.concatenate([corner, corner + sides], axis=1)
    moved = boxes[:8] + np.tile(random.uniform(-0.2, 0.2, (8, 2)) * sides[:8], 2)
    return np.concatenate([boxes, np.clip(moved, 0, 1)])


APART = 12  # of the common places; annotations are drawn from these
PLACES = places()


def smooth(random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    small = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def write_image(pixels: np.ndarray, path: Path, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels, "P" if palette else None)
    if palette:
        image.putpalette(palette)
    image.save(path, format="PNG")


def imagenet(to: Writer) -> None:
    lines = [f"{name} {int(to.random.integers(0, to.classes))}\n" for name, _ in to.pictures()]
    to.path(to["annotation_file"]).write_text("".join(lines))
    if to["dataset_meta_file"]:
        names = {str(number): f"c{number}" for number in range(to.classes)}
        to.path(to["dataset_meta_file"]).write_text(json.dumps({"label_map": names}))


TEXT, LETTERS = "c4l1brat3", "0123456789abcdefghijklmnopqrstuvwxyz"


def changed(random: np.random.Generator, text: str) -> str:
    """Return a text with up to two of its letters dropped, doubled or exchanged."""
    letters = list(text)
    for place in random.integers(0, len(letters), random.integers(0, 3)):
        letters[place] = ("", 2 * letters[place], str(random.choice(list(LETTERS))))[random.integers(0, 3)]
    return "".join(letters)


def texts(separator: str) -> Callable[[Writer], None]:
    """Return the writer of a list of images and texts that are mostly alike, with its files of symbols."""

    def write(to: Writer) -> None:
        rows = [f"{name}{separator}{changed(to.random, TEXT)}\n" for name, _ in to.pictures()]
        to.path(to["annotation_file"]).write_text("".join(rows))
        if to["decoding_char_file"]:
            to.path(to["decoding_char_file"]).write_text("\n".join(LETTERS) + "\n")
        if to["decoding_dictionary_file"]:
            numbered = "".join(f"{number} {letter}\n" for number, letter in enumerate(LETTERS))
            to.path(to["decoding_dictionary_file"]).write_text(numbered)

    return write


def mattes(to: Writer) -> None:
    end = to["image_postfix"] or ".png"
    for name, size in to.pictures(to.source / to["images_dir"], end):
        stem = name.removesuffix(end)
        write_image(
            smooth(to.random, size)[:, :, 0], to.source / to["masks_dir"] / f"{stem}{to['mask_postfix'] or '.png'}"
        )


def coco(to: Writer) -> None:
    images, boxes = [], []
    for number, (name, size) in enumerate(to.pictures()):
        images.append({"id": number + 1, "file_name": name, "height": size[0], "width": size[1]})
        for label, box in to.boxes(size):
            crowd = int(to.random.random() < 0.15)
            entry = {"image_id": number + 1, "category_id": label + 1, "bbox": box, "iscrowd": crowd}
            boxes.append({"id": len(boxes) + 1, "segmentation": [], "area": box[2] * box[3], **entry})
    kinds = [{"id": label + 1, "name": f"c{label}"} for label in range(to.classes)]
    content = {"images": images, "annotations": boxes, "categories": kinds}
    to.path(to["annotation_file"]).write_text(json.dumps(content))


def voc(names: tuple[str, ...]) -> Callable[[Writer], None]:
    def write(to: Writer) -> None:
        stems = []
        for name, size in to.pictures(suffix=".jpg"):
            things = ""
            for label, (x, y, w, h) in to.boxes(size):
                sides = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h), strict=True)
                box = "".join(f"<{key}>{round(value) + 1}</{key}>" for key, value in sides)
                hard = int(to.random.random() < 0.3)
                kind = f"<name>{names[label % len(names)]}</name><difficult>{hard}</difficult>"
                things += f"<object>{kind}<bndbox>{box}</bndbox></object>"
            stems.append(Path(name).stem)
            text = f"<annotation><filename>{name}</filename>{things}</annotation>"
            to.path(f"{to['annotations_dir']}/{stems[-1]}.xml").write_text(text)
        to.path(to["imageset_file"]).write_text("".join(f"{stem}\n" for stem in stems))

    return write


def wider(to: Writer) -> None:
    lines = []
    for name, size in to.pictures(suffix=".jpg"):
        rows = [" ".join(str(int(v)) for v in box) + " 0 0 0 0 0 0\n" for _, box in to.boxes(size)]
        lines += [f"{name}\n", f"{len(rows)}\n", *rows]
    to.path(to["annotation_file"]).write_text("".join(lines))


def cvat(to: Writer) -> None:
    images = ""
    for name, size in to.pictures():
        rows = ""
        for label, (x, y, w, h) in to.boxes(size):
            hidden = int(to.random.random() < 0.3)
            sides = f'xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"'
            rows += f'<box label="c{label}" occluded="{hidden}" {sides}/>'
        images += f'<image name="{name}" width="{size[1]}" height="{size[0]}">{rows}</image>'
    labels = "".join(f"<label><name>c{label}</name></label>" for label in range(to.classes))
    meta = f"<meta><task><size>{to.count}</size><labels>{labels}</labels></task></meta>"
    to.path(to["annotation_file"]).write_text(f"<annotations>{meta}{images}</annotations>")
    if to["labels_file"]:
        numbers = {f"c{label}": label + 1 for label in range(to.classes)}
        to.path(to["labels_file"]).write_text(json.dumps({"labels": numbers}))


def camvid(to: Writer) -> None:
    folder, lines = to.images.name, []
    for name, size in to.pictures(to.images / "val"):
        write_image(to.mask(size), to.images / "valannot" / name)
        lines.append(f"/SegNet/{folder}/val/{name} /SegNet/{folder}/valannot/{name}\n")
    to.path(to["annotation_file"]).write_text("".join(lines))


def voc_masks(to: Writer) -> None:
    from calib.accuracy_check.class_names import VOC_COLORS

    encoded = any(step["type"] == "encode_segmentation_mask" for step in to.entry.get("postprocessing") or ())
    palette = [channel for color in VOC_COLORS for channel in color] if encoded else None
    stems = []
    for name, size in to.pictures(to.source / to["images_dir"]):
        write_image(to.mask(size), to.source / to["mask_dir"] / name, palette)
        stems.append(Path(name).stem)
    to.path(to["imageset_file"]).write_text("".join(f"{stem}\n" for stem in stems))
    if to["dataset_meta_file"]:
        names = {str(number): f"c{number}" for number in range(to.classes)}
        content = {"label_map": names, "segmentation_colors": VOC_COLORS[: to.classes]}
        to.path(to["dataset_meta_file"]).write_text(json.dumps(content))


def cityscapes(to: Writer) -> None:
    root = to.source / to["dataset_root_dir"]
    for name, size in to.pictures(root / "imgsFine/leftImg8bit/val/town", "_leftImg8bit.png"):
        mask = name.replace("_leftImg8bit", "_gtFine_labelTrainIds")
        write_image(to.mask(size), root / "gtFine/val/town" / mask)


def common_masks(to: Writer) -> None:
    suffix, end = to["image_postfix"] or ".png", to["mask_postfix"] or ".png"
    for name, size in to.pictures(to.source / to["images_dir"], suffix):
        write_image(to.mask(size), to.source / to["masks_dir"] / f"{name.removesuffix(suffix)}{end}")
    meta = to["dataset_meta_file"] or to["dataset_meta"]
    if meta:
        names = {str(number): f"c{number}" for number in range(to.classes)}
        to.path(meta).write_text(json.dumps({"label_map": names}))


def pairs(given: str, wanted: str) -> Callable[[Writer], None]:
    """Return the writer of pairs of noisy and clean images of one size, whose names these suffixes tell apart."""

    def write(to: Writer) -> None:
        folder = to.source / (to["data_dir"] or to["images_dir"])
        gray = "gray" in to[wanted]
        for number in range(to.count):
            clean = smooth(to.random, (32, 32)).astype(int)
            noisy = np.clip(clean + to.random.integers(-20, 20, clean.shape), 0, 255).astype(np.uint8)
            clean = clean[:, :, 0] if gray else clean
            write_image(clean.astype(np.uint8), folder / f"{number}_{to[wanted]}.png")
            write_image(noisy, folder / f"{number}_{to[given]}.png")

    return write


WRITERS: dict[str, Callable[[Writer], None]] = {
    "imagenet": imagenet,
    "mscoco_detection": coco,
    "voc_detection": voc(VOC),
    "syg_detection": voc(("motor", "truck", "bus", "car")),
    "wider": wider,
    "cvat_object_detection": cvat,
    "camvid": camvid,
    "voc_segmentation": voc_masks,
    "cityscapes": cityscapes,
    "common_semantic_segmentation": common_masks,
    "icdar13_recognition": texts(" "),
    "unicode_character_recognition": texts(", "),
    "lpr_txt": texts(" "),
    "background_matting": mattes,
    "image_processing": pairs("input_suffix", "target_suffix"),
    "super_resolution": pairs("lr_suffix", "hr_suffix"),
}


def write_data(source: Path, entry: Mapping[str, Any], count: int, classes: int, **more: Any) -> None:
    """Write the data set that an entry of a configuration names.

    Args:
        source: Folder of the data sets.
        entry: Its entry, with what its definition adds.
        count: Number of images.
        classes: Number of classes of boxes, masks or labels.
        more: Sizes of the images, as `Writer` takes them.
    """
    WRITERS[entry["annotation_conversion"]["converter"]](Writer(source, entry, count, classes, **more))
