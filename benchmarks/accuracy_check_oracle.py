"""Compare calib's reading of Accuracy Checker configurations with the original program: same YAML, images and IR.

The original runs in an environment of its own (Python 3.11):

    python3 -m venv ORACLE
    ORACLE/bin/pip install openvino-dev==2023.3.0 "numpy==1.26.4" "opencv-python==4.10.0.84" pycocotools
    python benchmarks/accuracy_check_oracle.py ORACLE/bin/accuracy_check

Each case makes a small data set of PNG files and a model whose outputs are noise that depends on the image, writes one
configuration, and asks both programs for every metric in it. Differences above 1e-4 are printed and make it fail.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as opset
from PIL import Image

import calib

IMAGES = 12
TOLERANCE = 1e-4
RESULTS = Path(__file__).with_name("results") / "accuracy_check_oracle.json"


@dataclass
class Case:
    """One configuration: its data set and how the outputs are read.

    Attributes:
        dataset: Function that writes the data set and returns its entry.
        adapter: Adapter with its parameters.
        outputs: Name → values for every image, to which noise that depends on the image is added.
        metrics: Metrics to compare.
        noise: Size of the noise.
        size: Height and width of the model's input.
    """

    dataset: Callable[[Path], dict[str, Any]]
    adapter: Any
    outputs: dict[str, Any]
    metrics: list[dict[str, Any]]
    preprocessing: list[dict[str, Any]] = field(default_factory=list)
    postprocessing: list[dict[str, Any]] = field(default_factory=list)
    noise: float = 0.02
    size: tuple[int, int] = (32, 32)
    channels: int = 3


def random() -> np.random.Generator:
    return np.random.default_rng(7)


def pictures(folder: Path, suffix: str = ".png") -> list[tuple[str, tuple[int, int]]]:
    """Write smooth images of many sizes; return names and sizes."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    generator, found = random(), []
    for number in range(IMAGES):
        size = tuple(int(side) for side in generator.integers(40, 90, 2))
        small = generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        image.save(folder / "images" / f"{number}{suffix}", format="PNG")
        found.append((f"{number}{suffix}", (size[0], size[1])))
    return found


def imagenet(folder: Path) -> dict[str, Any]:
    names = pictures(folder)
    labels = random().integers(0, 5, len(names))
    lines = [f"{name} {label}\n" for (name, _), label in zip(names, labels, strict=True)]
    (folder / "val.txt").write_text("".join(lines))
    return {"data_source": "images", "annotation_conversion": {"converter": "imagenet", "annotation_file": "val.txt"}}


def truth(size: tuple[int, int], generator: np.random.Generator) -> list[tuple[int, list[float]]]:
    """Return some boxes, (class, [x, y, width, height])."""
    rows = []
    for _ in range(int(generator.integers(0, 5))):
        corner = generator.uniform(0, 0.6, 2) * (size[1], size[0])
        sides = generator.uniform(0.15, 0.4, 2) * (size[1], size[0])
        rows.append((int(generator.integers(0, 3)), [round(float(v), 2) for v in (*corner, *sides)]))
    return rows


def coco(folder: Path, **more: Any) -> dict[str, Any]:
    generator, images, boxes = random(), [], []
    for number, (name, size) in enumerate(pictures(folder)):
        images.append({"id": number + 1, "file_name": name, "height": size[0], "width": size[1]})
        for label, box in truth(size, generator):
            crowd = int(generator.random() < 0.15)
            entry = {"image_id": number + 1, "category_id": label + 1, "bbox": box, "iscrowd": crowd}
            boxes.append({"id": len(boxes) + 1, "segmentation": [], "area": box[2] * box[3], **entry})
    categories = [{"id": label + 1, "name": f"c{label}"} for label in range(3)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    conversion = {"converter": "mscoco_detection", "annotation_file": "boxes.json", **more}
    return {"data_source": "images", "annotation_conversion": conversion}


def with_background(folder: Path) -> dict[str, Any]:
    return coco(folder, has_background=True)


def voc(folder: Path) -> dict[str, Any]:
    generator, names = random(), pictures(folder)
    (folder / "xml").mkdir(exist_ok=True)
    for name, size in names:
        things = ""
        for label, (x, y, w, h) in truth(size, generator):
            hard = int(generator.random() < 0.3)
            sides = "".join(
                f"<{key}>{round(value) + 1}</{key}>"
                for key, value in zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h), strict=True)
            )
            kind = ("aeroplane", "bicycle", "bird")[label]
            things += f"<object><name>{kind}</name><difficult>{hard}</difficult><bndbox>{sides}</bndbox></object>"
        text = f"<annotation><filename>{name}</filename>{things}</annotation>"
        (folder / "xml" / f"{Path(name).stem}.xml").write_text(text)
    (folder / "set.txt").write_text("".join(f"{Path(name).stem}\n" for name, _ in names))
    conversion = {"converter": "voc_detection", "annotations_dir": "xml", "images_dir": "images"}
    return {"data_source": "images", "annotation_conversion": {**conversion, "imageset_file": "set.txt"}}


def wider(folder: Path) -> dict[str, Any]:
    generator, lines = random(), []
    for name, size in pictures(folder, ".jpg"):
        boxes = truth(size, generator)
        rows = [" ".join(str(int(v)) for v in box) + " 0 0 0 0 0 0\n" for _, box in boxes]
        lines += [f"{name}\n", f"{len(rows)}\n", *(rows or ["0 0 0 0 0 0 0 0 0 0\n"])]
    (folder / "gt.txt").write_text("".join(lines))
    return {"data_source": "images", "annotation_conversion": {"converter": "wider", "annotation_file": "gt.txt"}}


def cvat(folder: Path) -> dict[str, Any]:
    generator, names, images = random(), pictures(folder), ""
    for name, size in names:
        rows = ""
        for label, (x, y, w, h) in truth(size, generator):
            hidden = int(generator.random() < 0.3)
            sides = f'xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"'
            rows += f'<box label="c{label}" occluded="{hidden}" {sides}/>'
        images += f'<image name="{name}" width="{size[1]}" height="{size[0]}">{rows}</image>'
    labels = "".join(f"<label><name>c{label}</name></label>" for label in range(3))
    meta = f"<meta><task><size>{len(names)}</size><labels>{labels}</labels></task></meta>"
    (folder / "cvat.xml").write_text(f"<annotations>{meta}{images}</annotations>")
    conversion = {"converter": "cvat_object_detection", "annotation_file": "cvat.xml", "has_background": True}
    return {"data_source": "images", "annotation_conversion": conversion}


def mask(size: tuple[int, int], classes: int, generator: np.random.Generator) -> np.ndarray:
    small = generator.integers(0, classes, (5, 4), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.NEAREST))


def camvid(folder: Path) -> dict[str, Any]:
    generator, lines = random(), []
    (folder / "masks").mkdir(exist_ok=True)
    for name, size in pictures(folder):
        Image.fromarray(mask(size, 12, generator)).save(folder / "masks" / name)
        lines.append(f"/SegNet/images/{name} /SegNet/masks/{name}\n")
    (folder / "list.txt").write_text("".join(lines))
    return {"annotation_conversion": {"converter": "camvid", "annotation_file": "list.txt"}, "data_source": "."}


def voc_masks(folder: Path) -> dict[str, Any]:
    from calib.accuracy_check.class_names import VOC_COLORS

    generator, names = random(), pictures(folder)
    (folder / "masks").mkdir(exist_ok=True)
    for name, size in names:
        image = Image.frombytes("P", (size[1], size[0]), mask(size, 21, generator).tobytes())
        image.putpalette([channel for color in VOC_COLORS for channel in color])
        image.save(folder / "masks" / name)
    (folder / "set.txt").write_text("".join(f"{Path(name).stem}\n" for name, _ in names))
    conversion = {"converter": "voc_segmentation", "imageset_file": "set.txt", "images_dir": "images"}
    source = {"data_source": "images", "segmentation_masks_source": "masks"}
    return {**source, "annotation_conversion": {**conversion, "mask_dir": "masks"}}


def cityscapes(folder: Path) -> dict[str, Any]:
    generator = random()
    for name, size in pictures(folder):
        stem = Path(name).stem
        for place, file, values in (
            ("imgsFine/leftImg8bit/val/town", f"{stem}_leftImg8bit.png", None),
            ("gtFine/val/town", f"{stem}_gtFine_labelTrainIds.png", mask(size, 20, generator)),
        ):
            (folder / "city" / place).mkdir(parents=True, exist_ok=True)
            if values is None:
                (folder / "city" / place / file).write_bytes((folder / "images" / name).read_bytes())
            else:
                Image.fromarray(values).save(folder / "city" / place / file)
    conversion = {"converter": "cityscapes", "dataset_root_dir": "city"}
    return {"data_source": "city", "annotation_conversion": conversion}


def common_masks(folder: Path) -> dict[str, Any]:
    generator = random()
    (folder / "masks").mkdir(exist_ok=True)
    for name, size in pictures(folder):
        Image.fromarray(mask(size, 4, generator)).save(folder / "masks" / name)
    (folder / "meta.json").write_text(json.dumps({"label_map": {str(n): f"c{n}" for n in range(4)}}))
    conversion = {"converter": "common_semantic_segmentation", "images_dir": "images", "masks_dir": "masks"}
    source = {"data_source": "images", "segmentation_masks_source": "masks"}
    return {**source, "annotation_conversion": {**conversion, "dataset_meta_file": "meta.json"}}


def restored(folder: Path) -> dict[str, Any]:
    generator = random()
    (folder / "images").mkdir(exist_ok=True, parents=True)
    for number in range(IMAGES):
        small = generator.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
        noisy = np.clip(image + generator.integers(-20, 20, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{number}_out.png")
        Image.fromarray(noisy).save(folder / "images" / f"{number}_in.png")
    conversion = {"converter": "image_processing", "data_dir": "images", "input_suffix": "_in"}
    return {"data_source": "images", "annotation_conversion": {**conversion, "target_suffix": "_out"}}


def superresolution(folder: Path) -> dict[str, Any]:
    entry = restored(folder)
    conversion = {"converter": "super_resolution", "data_dir": "images", "lr_suffix": "_in", "hr_suffix": "_out"}
    return {**entry, "annotation_conversion": conversion}


def ssd_rows(count: int = 40) -> np.ndarray:
    generator = random()
    corner, sides = generator.uniform(0, 0.6, (count, 2)), generator.uniform(0.1, 0.4, (count, 2))
    columns = [np.zeros(count), generator.integers(1, 4, count), generator.random(count)]
    rows = np.column_stack([*columns, corner, corner + sides])
    return np.concatenate([rows, -np.ones((1, 7))])[None, None].astype(np.float32)


def agnostic_rows(count: int = 40) -> np.ndarray:
    rows = ssd_rows(count)[0, 0, :count]
    return np.column_stack([rows[:, 3:7], rows[:, 2]]).astype(np.float32)


def grid(anchors: int, classes: int, cells: int, scale: float = 1.0) -> np.ndarray:
    shape = (1, anchors * (classes + 5), cells, cells)
    return (random().normal(size=shape) * scale).astype(np.float32)


def region(anchors: int, classes: int, cells: int) -> np.ndarray:
    """Return a grid as RegionYolo gives it: probabilities, and centres in a cell."""
    values = grid(anchors, classes, cells).reshape(anchors, classes + 5, cells, cells)
    bounded = 1 / (1 + np.exp(-values))
    bounded[:, 2:4] = values[:, 2:4] * 0.3
    return bounded.reshape(1, -1, cells, cells).astype(np.float32)


def map_metrics() -> list[dict[str, Any]]:
    return [
        {"type": "map", "name": "max"},
        {"type": "map", "name": "11", "integral": "11point", "include_boundaries": False},
        {"type": "map", "name": "hard", "ignore_difficult": False, "distinct_conf": True},
        {"type": "map", "name": "ignored", "allow_multiple_matches_per_ignored": True, "use_filtered_tp": True},
        {"type": "map", "name": "ioa", "overlap_method": "ioa", "overlap_threshold": 0.4},
    ]


def coco_metrics() -> list[dict[str, Any]]:
    return [
        {"type": "coco_precision", "name": "AP", "max_detections": 100},
        {"type": "coco_precision", "name": "AP50", "threshold": 0.5},
        {"type": "coco_orig_precision", "name": "orig"},
        {"type": "coco_orig_precision", "name": "orig0", "include_boundaries": False},
    ]


ACCURACY = [{"type": "accuracy", "name": "top1"}, {"type": "accuracy", "name": "top2", "top_k": 2}]
BACK = {"type": "resize_prediction_boxes"}
KEPT = [
    {"type": "filter", "apply_to": "prediction", "min_confidence": 0.3, "remove_filtered": True},
    {"type": "nms", "overlap": 0.5},
    {"type": "clip_boxes", "apply_to": "prediction"},
]
LOGITS = {"scores": random().normal(size=(1, 5)) * 0.1}
IOU = [{"type": "mean_iou"}, {"type": "mean_accuracy"}, {"type": "segmentation_accuracy"}]
ANCHORS_2 = "1.0,1.5, 2.0,2.5, 3.0,1.0, 1.2,3.0, 2.2,2.0"
ANCHORS_3 = "4,6, 8,10, 14,9, 12,20, 20,16, 24,28"


def size(side: int, **more: Any) -> dict[str, Any]:
    return {"type": "resize", "size": side, **more}


CASES: dict[str, Case] = {
    "classification, OpenCV": Case(
        imagenet, "classification", LOGITS, ACCURACY,
        [size(40, aspect_ratio_scale="greater"), {"type": "crop", "size": 32}, {"type": "normalization", "std": 255.0}],
        noise=3.0,
    ),
    "classification, Pillow": Case(
        lambda f: {**imagenet(f), "reader": "pillow_imread"}, "classification", LOGITS, ACCURACY,
        [size(40, aspect_ratio_scale="greater", use_pillow=True, interpolation="BICUBIC"),
         {"type": "crop", "size": 32, "use_pillow": True}, {"type": "rgb_to_bgr"},
         {"type": "normalization", "mean": "104, 117, 123", "std": 58.0}],
        noise=3.0,
    ),
    "classification, central fraction": Case(
        imagenet, "classification", LOGITS, ACCURACY,
        [{"type": "crop", "central_fraction": 0.875}, {"type": "bgr_to_rgb"}, size(32),
         {"type": "normalization", "mean": "imagenet", "std": 255.0}],
        noise=3.0,
    ),
    "classification, gray and padding": Case(
        imagenet, "classification", LOGITS, ACCURACY,
        [size(32, aspect_ratio_scale="fit_to_window"), {"type": "padding", "size": 32, "pad_value": "9,8,7"},
         {"type": "bgr_to_gray"}, {"type": "normalization", "std": 255.0}],
        noise=3.0, channels=1,
    ),
    "ssd, COCO": Case(
        with_background, "ssd", {"out": ssd_rows()}, [*coco_metrics(), *map_metrics()], [{"type": "auto_resize"}],
        [BACK],
    ),
    "ssd, VOC, steps": Case(
        voc, "ssd", {"out": ssd_rows()}, map_metrics(), [size(32)], [BACK, {"type": "cast_to_int"}, *KEPT]
    ),
    "ssd, WIDER, filters": Case(
        wider, "ssd", {"out": ssd_rows()}, map_metrics()[:2], [size(32)],
        [BACK, {"type": "filter", "apply_to": "annotation", "height_range": "12", "is_empty": True},
         {"type": "filter", "apply_to": "prediction", "height_range": "12, 60"},
         {"type": "clip_boxes", "apply_to": "annotation"}],
    ),
    "ssd, CVAT, ratios": Case(
        cvat, "ssd", {"out": ssd_rows()}, [*map_metrics(), *coco_metrics()[:2]], [size(32)],
        [BACK, {"type": "filter", "apply_to": "annotation", "aspect_ratio": "0.5, 3", "area_ratio": 0.2},
         {"type": "filter", "apply_to": "prediction", "aspect_ratio": "0.5, 3"}, {"type": "diou_nms", "overlap": 0.4}],
    ),
    "ssd, Faster R-CNN's way back": Case(
        with_background, "ssd", {"out": ssd_rows()}, coco_metrics()[:2],
        [size(32, aspect_ratio_scale="fit_to_window"), {"type": "padding", "size": 32, "pad_type": "right_bottom"}],
        [{"type": "faster_rcnn_postprocessing_resize", "size": 32}],
    ),
    "class agnostic": Case(
        with_background, {"type": "class_agnostic_detection", "scale": [0.9, 1.1]}, {"boxes": agnostic_rows()},
        map_metrics()[:2], [size(32)], [BACK],
    ),
    "light faces": Case(
        wider,
        {"type": "ultra_lightweight_face_detection", "scores_out": "s", "boxes_out": "b", "score_threshold": 0.4},
        {"s": np.stack([1 - agnostic_rows()[None, :, 4], agnostic_rows()[None, :, 4]], 2),
         "b": agnostic_rows()[None, :, :4]},
        map_metrics()[:2], [size(32)], [BACK, *KEPT],
    ),
    "yolo v2, region": Case(
        coco, {"type": "yolo_v2", "anchors": ANCHORS_2, "classes": 3, "num": 5, "cells": 4, "coords": 4},
        {"out": region(5, 3, 4)}, [*map_metrics()[:2], *coco_metrics()[:2]], [size(32)], [BACK, *KEPT],
    ),
    "yolo v2, raw": Case(
        coco, {"type": "yolo_v2", "anchors": ANCHORS_2, "classes": 3, "num": 5, "cells": 4, "raw_output": True},
        {"out": grid(5, 3, 4)}, map_metrics()[:2], [size(32)], [BACK, {"type": "nms", "overlap": 0.5}],
    ),
    "yolo v3, region": Case(
        coco,
        {"type": "yolo_v3", "anchors": ANCHORS_3, "classes": 3, "num": 6, "coords": 4,
         "anchor_masks": [[3, 4, 5], [0, 1, 2]], "outputs": ["a", "b"]},
        {"a": region(3, 3, 2), "b": region(3, 3, 4)}, [*map_metrics()[:2], *coco_metrics()[:2]], [size(32)],
        [BACK, *KEPT],
    ),
    "yolo v3, raw, several labels": Case(
        coco,
        {"type": "yolo_v3", "anchors": ANCHORS_3, "classes": 3, "num": 6, "raw_output": True, "multiple_labels": True,
         "threshold": 0.2, "anchor_masks": [[3, 4, 5], [0, 1, 2]], "outputs": ["a", "b"]},
        {"a": grid(3, 3, 2), "b": grid(3, 3, 4)}, map_metrics()[:2], [size(32)], [BACK, *KEPT[1:]],
    ),
    "yolox": Case(
        coco, {"type": "yolox"},
        {"out": np.concatenate([random().normal(size=(1, 21, 4)) * 0.5, random().random((1, 21, 4))], 2)},
        map_metrics()[:2], [size(32, aspect_ratio_scale="fit_to_window"),
                            {"type": "padding", "size": 32, "pad_value": "114, 114, 114", "pad_type": "right_bottom"}],
        [{"type": "faster_rcnn_postprocessing_resize", "size": 32, "rescale": True}, *KEPT[1:]],
    ),
    "segmentation, CamVid": Case(
        camvid, "segmentation", {"out": random().normal(size=(1, 12, 8, 8))},
        [{"type": "mean_iou", "ignore_label": 11}, *IOU[1:]], [size(32)],
        [{"type": "resize_segmentation_mask", "apply_to": "prediction"}],
    ),
    "segmentation, VOC": Case(
        voc_masks, {"type": "segmentation", "make_argmax": True}, {"out": random().normal(size=(1, 21, 8, 8))},
        [{"type": "mean_iou", "use_argmax": False}], [size(32)],
        [{"type": "encode_segmentation_mask", "apply_to": "annotation"},
         {"type": "resize_segmentation_mask", "apply_to": "annotation", "size": 8}],
    ),
    "segmentation, Cityscapes": Case(
        cityscapes, "segmentation", {"out": random().normal(size=(1, 20, 8, 8))}, IOU, [size(32)],
        [{"type": "resize_segmentation_mask", "apply_to": "prediction"}],
    ),
    "segmentation, common": Case(
        common_masks, "segmentation", {"out": random().normal(size=(1, 4, 8, 8))}, IOU, [size(32)],
        [{"type": "resize", "apply_to": "prediction"}],
    ),
    "image processing": Case(
        restored, {"type": "image_processing", "reverse_channels": True}, {},
        [{"type": "psnr"}, {"type": "psnr", "name": "plain", "unweighted_average": True, "scale_border": 0},
         {"type": "ssim"}],
        [{"type": "normalization", "std": 255.0}],
    ),
    "super resolution": Case(
        superresolution, "super_resolution", {}, [{"type": "psnr", "color_order": "BGR"}, {"type": "ssim"}],
        [{"type": "normalization", "std": 255.0}],
    ),
}  # fmt: skip


def model(case: Case) -> ov.Model:
    """Return a model whose outputs are the case's values and noise from the image, or a smoothed image."""
    image = opset.parameter([1, case.channels, *case.size], np.float32, name="image")
    image.output(0).tensor.set_names({"image"})
    results = []
    if not case.outputs:
        weights = np.zeros((3, 3, 3, 3), np.float32)
        weights[range(3), range(3)] = 1 / 9
        results.append(opset.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
        results[0].output(0).tensor.set_names({"out"})
    features = opset.reshape(image, np.array([1, -1]), False)
    count = case.channels * case.size[0] * case.size[1]
    for number, (name, values) in enumerate(case.outputs.items()):
        values, generator = np.asarray(values, np.float32), np.random.default_rng(number)
        size = int(values.size)
        weights = generator.normal(size=(count, size)).astype(np.float32) * case.noise / count**0.5 / 255
        weights *= 255 if any(step.get("std") for step in case.preprocessing) else 1
        noise = opset.reshape(opset.matmul(features, weights, False, False), np.array(values.shape), False)
        if values.shape[-1] == 7:  # rows of DetectionOutput: the image and the class are no noise
            noise = opset.multiply(noise, np.array([0, 0, 1, 1, 1, 1, 1], np.float32))
            noise = opset.multiply(noise, (values[..., :1] >= 0).astype(np.float32))
        out = opset.add(noise, values)
        out.set_friendly_name(name)
        out.output(0).tensor.set_names({name})
        results.append(out)
    return ov.Model(results, [image], "oracle")


def original(command: str, folder: Path, metrics: list[dict[str, Any]]) -> Iterator[float]:
    """Yield what Accuracy Checker says of each metric: the mean where it has a value for each class."""
    table = folder / "out.csv"
    call = [command, "-c", "accuracy-check.yml", "-s", "data", "-m", ".", "-td", "CPU", "--csv_result", str(table)]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or not table.exists():
        raise SystemExit(f"{folder}: {done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    rows = list(csv.DictReader(table.open()))
    for metric in metrics:
        name = metric.get("name") or metric["type"]
        fitting = [row for row in rows if row["metric_name"].partition("@")[0] == name or row["metric_name"] == name]
        mean = [row for row in rows if row["metric_name"] == f"{name}@mean"]
        values = [float(row["metric_value"]) for row in mean or fitting]
        assert values, (name, rows)
        yield float(np.mean(values))


def compare(name: str, case: Case, command: str, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each metric of a case."""
    (folder / "data").mkdir(parents=True)
    dataset = case.dataset(folder / "data")
    steps = {"preprocessing": case.preprocessing, "postprocessing": case.postprocessing, "metrics": case.metrics}
    launcher = {"framework": "openvino", "device": "CPU", "model": "m.xml", "weights": "m.bin", "adapter": case.adapter}
    steps = {key: value for key, value in steps.items() if value}  # the original takes no empty list
    entry = {"name": "m", "launchers": [launcher], "datasets": [{"name": "d", **dataset, **steps}]}
    (folder / "accuracy-check.yml").write_text(json.dumps({"models": [entry]}))
    ov.save_model(model(case), folder / "m.xml", compress_to_fp16=False)
    rows = []
    for metric, theirs in zip(case.metrics, original(command, folder, case.metrics), strict=True):
        title = metric.get("name") or metric["type"]
        given = calib.read_accuracy_check(folder, source=folder / "data", metric=title)
        ours = calib.evaluate(folder / "m.xml", given.data, given.metric).value
        rows.append({"case": name, "metric": f"{metric['type']} {title}", "original": theirs, "calib": ours})
        apart = abs(ours - theirs)
        print(
            f"{name:34} {title:22} {theirs:10.6f} {ours:10.6f} {'' if apart <= TOLERANCE else 'DIFFERENT'}", flush=True
        )
    return rows


def main() -> None:
    command = str(Path(sys.argv[1]).absolute())
    chosen = [name for name in CASES if len(sys.argv) < 3 or any(word in name for word in sys.argv[2:])]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(chosen):
            rows += compare(name, CASES[name], command, Path(place) / str(number))
    different = [row for row in rows if abs(row["calib"] - row["original"]) > TOLERANCE]
    print(f"{len(rows) - len(different)} of {len(rows)} equal to {TOLERANCE}")
    if len(chosen) == len(CASES):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"tolerance": TOLERANCE, "rows": rows}, indent=1) + "\n")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
