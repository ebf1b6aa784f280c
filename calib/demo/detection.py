"""Write the pictures of the detection demo, with their boxes in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from calib.demo.scenes import SIDE, compose

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# How the outputs of each network are read; None where it is found from the model. The classes of an SSD start behind
# the background, and those of the annotations at 0.
DECODERS = {"yolo": None, "ssd": "ssd-raw?label_shift=-1"}
# Name of the shipped images that a part is composed from → number of pictures, and the seed of what is drawn.
PARTS = {"calibration": (300, 1), "validation": (2000, 2)}


def write_part(items: Path, folder: Path, part: str, count: int | None = None) -> tuple[Path, Path]:
    """Compose the pictures of a part and write them as PNG, with one file of their boxes.

    Args:
        items: Folder with the shipped images of single items, ``calibration.npz`` and ``validation.npz``.
        folder: Folder to write to; ``<part>/`` and ``<part>.json`` are made in it.
        part: "calibration" or "validation".
        count: Number of pictures; by default that of `PARTS`. Fewer are the first of them.

    Returns:
        Paths of the folder of pictures and of the annotations.
    """
    from PIL import Image

    number, seed = PARTS[part]
    with np.load(items / f"{part}.npz", allow_pickle=False) as file:
        images, labels = file["image"][:, 0], file["labels"]
    pictures = folder / part
    pictures.mkdir(parents=True, exist_ok=True)
    listed, boxes = list[dict[str, Any]](), list[dict[str, Any]]()
    for index, scene in enumerate(compose(images, labels, number if count is None else count, seed)):
        name = f"{index:04}.png"
        Image.fromarray(scene.image).save(pictures / name, compress_level=1)
        listed.append({"id": index, "file_name": name, "height": SIDE, "width": SIDE})
        for (left, top, right, bottom), label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
            box = [left, top, right - left, bottom - top]
            boxes.append(
                {
                    "id": len(boxes),
                    "image_id": index,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    kinds = [{"id": label, "name": name} for label, name in enumerate(CLASSES)]
    annotations = folder / f"{part}.json"
    annotations.write_text(json.dumps({"images": listed, "annotations": boxes, "categories": kinds}))
    return pictures, annotations
