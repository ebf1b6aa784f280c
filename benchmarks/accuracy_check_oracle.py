"""Compare calib's reading of Accuracy Checker configurations with the original program: same YAML, images and IR.

The original runs in an environment of its own (Python 3.11):

    python3 -m venv ORACLE
    ORACLE/bin/pip install openvino-dev==2023.3.0 "numpy==1.26.4" "opencv-python==4.10.0.84" pycocotools
    python benchmarks/accuracy_check_oracle.py ORACLE/bin/accuracy_check

Each case makes a small data set of PNG files and a model whose outputs are noise that depends on the image, writes one
configuration, and asks both programs for every metric in it. A difference above 1e-4 without an explanation in `STAY`,
or an explanation of none, makes it fail.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import record
from checked_data import LETTERS, PLACES, TEXT, write_data
from checked_outputs import COUNT, KINDS, agnostic_rows, grid, labels, ssd_rows, steps, yolox_rows
from openvino import opset13 as opset

import calib

IMAGES = 12
TOLERANCE = 1e-4
RESULTS = Path(__file__).with_name("results") / "accuracy_check_oracle.json"


@dataclass
class Case:
    """One configuration: its data set and how the outputs are read.

    Attributes:
        dataset: Entry of its data set.
        adapter: Adapter with its parameters.
        outputs: Name → values for every image, to which noise that depends on the image is added.
        metrics: Metrics to compare.
        noise: Size of the noise.
        size: Height and width of the model's input.
        channels: Channels of it.
        classes: Number of classes of the data set; None for what `CLASSES` says.
    """

    dataset: dict[str, Any]
    adapter: Any
    outputs: dict[str, Any]
    metrics: list[dict[str, Any]]
    preprocessing: list[dict[str, Any]] = field(default_factory=list)
    postprocessing: list[dict[str, Any]] = field(default_factory=list)
    noise: float = 0.02
    size: tuple[int, int] = (32, 32)
    channels: int = 3
    classes: int | None = None


def data(conversion: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the entry of a data set."""
    return {"annotation_conversion": conversion, "data_source": "images", **more}


ANCHORS_2 = (1.0, 1.5, 2.0, 2.5, 3.0, 1.0, 1.2, 3.0, 2.2, 2.0)
ANCHORS_3 = (4, 6, 8, 10, 14, 9, 12, 20, 20, 16, 24, 28)
BOXES = {"converter": "mscoco_detection", "annotation_file": "boxes.json"}
MASKS = {"images_dir": "images", "imageset_file": "set.txt", "mask_dir": "masks"}
IMAGENET = data({"converter": "imagenet", "annotation_file": "val.txt"})
NAMED = data({"converter": "imagenet", "annotation_file": "val.txt", "dataset_meta_file": "meta.json"})
WORDS = data({"converter": "icdar13_recognition", "annotation_file": "words.txt"})
LINES = data({"converter": "unicode_character_recognition", "annotation_file": "lines.txt",
              "decoding_char_file": "letters.txt"})  # fmt: skip
MATTES = data({"converter": "background_matting", "images_dir": "images", "masks_dir": "mattes"},
              additional_data_source="mattes")  # fmt: skip
COCO = data({**BOXES, "has_background": False})
COCO_BACKGROUND = data({**BOXES, "has_background": True})
VOC = data({"converter": "voc_detection", "annotations_dir": "xml", "images_dir": "images", "imageset_file": "set.txt"})
WIDER = data({"converter": "wider", "annotation_file": "gt.txt"})
CVAT = data({"converter": "cvat_object_detection", "annotation_file": "cvat.xml", "has_background": True})
CAMVID = data({"converter": "camvid", "annotation_file": "list.txt"})
VOC_MASKS = data({"converter": "voc_segmentation", **MASKS}, segmentation_masks_source="masks")
CITYSCAPES = data({"converter": "cityscapes", "dataset_root_dir": "city"}, data_source="city")
COMMON = data(
    {"converter": "common_semantic_segmentation", "images_dir": "images", "masks_dir": "masks",
     "dataset_meta_file": "meta.json"}, segmentation_masks_source="masks",
)  # fmt: skip
RESTORED = data({"converter": "image_processing", "data_dir": "images", "input_suffix": "in", "target_suffix": "out"})
SUPER = data({"converter": "super_resolution", "data_dir": "images", "lr_suffix": "in", "hr_suffix": "out"})
VECTOR = {"presenter": "print_vector"}  # otherwise the original averages the mean over images and its spread
ERRORS = [{"type": name, **VECTOR} for name in ("mae", "mse", "rmse")]
RIGHT = [{"type": "character_recognition_accuracy"}, {"type": "label_level_recognition_accuracy"}]
CLASSES = {"imagenet": 5, "camvid": 12, "voc_segmentation": 21, "cityscapes": 20, "common_semantic_segmentation": 4}


def said(anchors: tuple[float, ...]) -> str:
    return ", ".join(map(str, anchors))


def logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=shape)


def grid_3(part: int, raw: bool) -> np.ndarray:
    """Return one of two grids of YOLO v3: the coarse one has the larger anchors."""
    anchors, cells = ANCHORS_3[6:] if part == 0 else ANCHORS_3[:6], (2, 2) if part == 0 else (4, 4)
    return grid(anchors, (32, 32), cells, KINDS, raw, slice(part, None, 2))


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
LOGITS = {"scores": logits(1, 5) * 0.1}
IOU = [{"type": "mean_iou"}, {"type": "mean_accuracy"}, {"type": "segmentation_accuracy"}]


SOFT = (
    "The original keeps the boxes in their order and writes the lowered scores in the order in which they were chosen, "
    "so that a box gets another one's score; with the scores in that order calib's figure is the same to 1e-16."
)
# Differences that stay: why the original's figure is not taken over.
STAY = {
    ("segmentation, one matrix", "mean_accuracy"): (
        "The original keeps one confusion matrix for all metrics of a data set, filled by the first of them, so that "
        "the ignore_label of mean_iou takes its class from mean_accuracy too, which does not ask for it."
    ),
    ("ssd, soft suppression", "max"): SOFT,
    ("ssd, soft suppression", "11"): SOFT,
    ("image processing", "ssim of print_scalar"): (
        "Without presenter: print_vector the original prints the mean of two numbers, the mean over the images and "
        "its standard deviation; calib gives the mean over the images."
    ),
}


def psnr(name: str = "psnr", **more: Any) -> dict[str, Any]:
    return {"type": "psnr", "name": name, **more, **VECTOR}


def size(side: int, **more: Any) -> dict[str, Any]:
    return {"type": "resize", "size": side, **more}


CENTRED = [size(32), {"type": "normalization", "mean": 127.0, "std": 127.0}]

CASES: dict[str, Case] = {
    "classification, OpenCV": Case(
        IMAGENET, "classification", LOGITS, ACCURACY,
        [size(40, aspect_ratio_scale="greater"), {"type": "crop", "size": 32}, {"type": "normalization", "std": 255.0}],
        noise=3.0,
    ),
    "classification, Pillow": Case(
        {**IMAGENET, "reader": "pillow_imread"}, "classification", LOGITS, ACCURACY,
        [size(40, aspect_ratio_scale="greater", use_pillow=True, interpolation="BICUBIC"),
         {"type": "crop", "size": 32, "use_pillow": True}, {"type": "rgb_to_bgr"},
         {"type": "normalization", "mean": "104, 117, 123", "std": 58.0}],
        noise=3.0,
    ),
    "classification, central fraction": Case(
        IMAGENET, "classification", LOGITS, ACCURACY,
        [{"type": "crop", "central_fraction": 0.875}, {"type": "bgr_to_rgb"}, size(32),
         {"type": "normalization", "mean": "imagenet", "std": 255.0}],
        noise=3.0,
    ),
    "classification, gray and padding": Case(
        IMAGENET, "classification", LOGITS, ACCURACY,
        [size(32, aspect_ratio_scale="fit_to_window"), {"type": "padding", "size": 32, "pad_value": "9,8,7"},
         {"type": "bgr_to_gray"}, {"type": "normalization", "std": 255.0}],
        noise=3.0, channels=1,
    ),
    "classification, by class": Case(
        NAMED, "classification", LOGITS,
        [{"type": "accuracy_per_class"}, {"type": "accuracy_per_class", "name": "two", "top_k": 2},
         {"type": "classification_f1-score"},
         *({"type": "classification_f1-score", "name": f"f1 of {label}", "pos_label": label} for label in range(1, 5))],
        [*CENTRED], noise=3.0,
    ),
    "classification, two classes": Case(
        NAMED, "classification", {"scores": logits(1, 2) * 0.1},
        [{"type": "classification_f1-score"}, {"type": "accuracy_per_class"}], [*CENTRED], noise=3.0,
        classes=2,
    ),
    "text, greedy": Case(
        LINES, {"type": "ctc_greedy_search_decoder", "logits_output": "out"},
        {"out": steps(TEXT, LETTERS, 0, 1)[:, None]}, RIGHT, [*CENTRED], noise=1.0,
    ),
    "text, greedy, own symbols": Case(
        LINES,
        {"type": "ctc_greedy_search_decoder", "shift_labels": True, "custom_label_map": dict(enumerate(LETTERS))},
        {"out": steps(TEXT, LETTERS, 0, 1)[:, None]}, RIGHT, [*CENTRED], noise=1.0,
    ),
    "text, beams": Case(
        WORDS, "beam_search_decoder", {"out": steps(TEXT, LETTERS, 36)[:, None]}, RIGHT, [*CENTRED], noise=1.0,
    ),
    "text, beams, probabilities": Case(
        WORDS, {"type": "beam_search_decoder", "beam_size": 4, "softmaxed_probabilities": True},
        {"out": (1 + 0.3 * steps(TEXT, LETTERS, 36)[None]) / 50}, RIGHT, [*CENTRED], noise=0.008,
    ),
    "text, simple": Case(
        WORDS, {"type": "simple_decoder", "start_index": 1, "do_lower": True,
                "custom_label_map": dict(enumerate([*LETTERS.upper(), "[s]"]))},
        {"out": 2.5 * np.eye(37)[None, [0, *(LETTERS.index(letter) for letter in TEXT), 36, 5]]}, RIGHT, [*CENTRED],
        noise=1.0,
    ),
    "text, plates": Case(
        LINES, "lpr", {"out": np.array([[LETTERS.index(letter) + 1 for letter in TEXT] + [-1, -1]], float)}, RIGHT,
        [size(32)],
    ),
    "ssd, COCO": Case(
        COCO_BACKGROUND, "ssd", {"out": ssd_rows(KINDS, 1)}, [*coco_metrics(), *map_metrics()],
        [{"type": "auto_resize"}], [BACK],
    ),
    "ssd, VOC, steps": Case(
        VOC, "ssd", {"out": ssd_rows(KINDS, 1)}, map_metrics(), [size(32)], [BACK, {"type": "cast_to_int"}, *KEPT]
    ),
    "ssd, WIDER, filters": Case(
        WIDER, "ssd", {"out": ssd_rows(KINDS, 1)}, map_metrics()[:2], [size(32)],
        [BACK, {"type": "filter", "apply_to": "annotation", "height_range": "12", "is_empty": True},
         {"type": "filter", "apply_to": "prediction", "height_range": "12, 60"},
         {"type": "clip_boxes", "apply_to": "annotation"}],
    ),
    "ssd, CVAT, ratios": Case(
        CVAT, "ssd", {"out": ssd_rows(KINDS, 1)}, [*map_metrics(), *coco_metrics()[:2]], [size(32)],
        [BACK, {"type": "filter", "apply_to": "annotation", "aspect_ratio": "0.5, 3", "area_ratio": 0.2},
         {"type": "filter", "apply_to": "prediction", "aspect_ratio": "0.5, 3"}, {"type": "diou_nms", "overlap": 0.4}],
    ),
    "ssd, Faster R-CNN's way back": Case(
        COCO_BACKGROUND, "ssd", {"out": ssd_rows(KINDS, 1)}, coco_metrics()[:2],
        [size(32, aspect_ratio_scale="fit_to_window"), {"type": "padding", "size": 32, "pad_type": "right_bottom"}],
        [{"type": "faster_rcnn_postprocessing_resize", "size": 32}],
    ),
    "ssd, soft suppression": Case(
        COCO_BACKGROUND, "ssd", {"out": ssd_rows(KINDS, 1)}, map_metrics()[:2], [size(32)],
        [BACK, {"type": "soft_nms", "sigma": 0.6, "min_score": 0.35}],
    ),
    "class agnostic": Case(
        COCO_BACKGROUND, {"type": "class_agnostic_detection", "scale": [0.9, 1.1]}, {"boxes": agnostic_rows()},
        map_metrics()[:2], [size(32)], [BACK],
    ),
    "light faces": Case(
        WIDER,
        {"type": "ultra_lightweight_face_detection", "scores_out": "s", "boxes_out": "b", "score_threshold": 0.4},
        {"s": np.stack([1 - agnostic_rows()[None, :, 4], agnostic_rows()[None, :, 4]], 2),
         "b": agnostic_rows()[None, :, :4]},
        map_metrics()[:2], [size(32)], [BACK, *KEPT],
    ),
    "yolo v2, region": Case(
        COCO, {"type": "yolo_v2", "anchors": said(ANCHORS_2), "classes": 3, "num": 5, "cells": 4, "coords": 4},
        {"out": grid(ANCHORS_2, (4, 4), (4, 4), KINDS, raw=False)},
        [*map_metrics()[:2], *coco_metrics()[:2]], [size(32)], [BACK, *KEPT],
    ),
    "yolo v2, raw": Case(
        COCO, {"type": "yolo_v2", "anchors": said(ANCHORS_2), "classes": 3, "num": 5, "cells": 4, "raw_output": True},
        {"out": grid(ANCHORS_2, (4, 4), (4, 4), KINDS, raw=True)},
        map_metrics()[:2], [size(32)], [BACK, {"type": "nms", "overlap": 0.5}],
    ),
    "yolo v3, region": Case(
        COCO,
        {"type": "yolo_v3", "anchors": said(ANCHORS_3), "classes": 3, "num": 6, "coords": 4,
         "anchor_masks": [[3, 4, 5], [0, 1, 2]], "outputs": ["a", "b"]},
        {"a": grid_3(0, raw=False), "b": grid_3(1, raw=False)}, [*map_metrics()[:2], *coco_metrics()[:2]], [size(32)],
        [BACK, *KEPT],
    ),
    "yolo v3, raw, several labels": Case(
        COCO,
        {"type": "yolo_v3", "anchors": said(ANCHORS_3), "classes": 3, "num": 6, "raw_output": True,
         "multiple_labels": True, "threshold": 0.2, "anchor_masks": [[3, 4, 5], [0, 1, 2]], "outputs": ["a", "b"]},
        {"a": grid_3(0, raw=True), "b": grid_3(1, raw=True)}, map_metrics()[:2], [size(32)], [BACK, *KEPT[1:]],
    ),
    "yolo v3, ONNX": Case(
        COCO, {"type": "yolo_v3_onnx", "boxes_out": "boxes", "scores_out": "scores", "indices_out": "chosen"},
        {"boxes": PLACES[None][..., [1, 0, 3, 2]] * 32, "scores": np.random.default_rng(7).random((1, KINDS, COUNT)),
         "chosen": np.stack([np.zeros(COUNT, int), labels(), np.arange(COUNT)], 1)[None]},
        map_metrics()[:2], [size(32)], [{**BACK, "rescale": True}],
    ),
    "yolox": Case(
        COCO, {"type": "yolox"},
        {"out": yolox_rows((32, 32), KINDS)},
        map_metrics()[:2], [size(32, aspect_ratio_scale="fit_to_window"),
                            {"type": "padding", "size": 32, "pad_value": "114, 114, 114", "pad_type": "right_bottom"}],
        [{"type": "faster_rcnn_postprocessing_resize", "size": 32, "rescale": True}, *KEPT[1:]],
    ),
    "segmentation, CamVid": Case(
        CAMVID, "segmentation", {"out": logits(1, 12, 8, 8)},
        [{**metric, "ignore_label": 11} for metric in IOU], [size(32)],
        [{"type": "resize_segmentation_mask", "apply_to": "prediction"}],
    ),
    "segmentation, one matrix": Case(
        CAMVID, "segmentation", {"out": logits(1, 12, 8, 8)},
        [{"type": "mean_iou", "ignore_label": 11}, {"type": "mean_accuracy"}], [size(32)],
        [{"type": "resize_segmentation_mask", "apply_to": "prediction"}],
    ),
    "segmentation, VOC": Case(
        VOC_MASKS, {"type": "segmentation", "make_argmax": True}, {"out": logits(1, 21, 8, 8)},
        [{"type": "mean_iou", "use_argmax": False}], [size(32)],
        [{"type": "encode_segmentation_mask", "apply_to": "annotation"},
         {"type": "resize_segmentation_mask", "apply_to": "annotation", "size": 8}],
    ),
    "segmentation, Cityscapes": Case(
        CITYSCAPES, "segmentation", {"out": logits(1, 20, 8, 8)}, IOU, [size(32)],
        [{"type": "resize_segmentation_mask", "apply_to": "prediction"}],
    ),
    "segmentation, common": Case(
        COMMON, "segmentation", {"out": logits(1, 4, 8, 8)}, IOU, [size(32)],
        [{"type": "resize", "apply_to": "prediction"}],
    ),
    "background matting": Case(
        MATTES, "background_matting", {"out": np.random.default_rng(7).random((1, 1, 16, 16)) * 0.9}, ERRORS,
        [size(32)],
        [{"type": "resize", "apply_to": "annotation", "size": 16}],
    ),
    "image processing": Case(
        RESTORED, {"type": "image_processing", "reverse_channels": True}, {},
        [psnr(), psnr("plain", unweighted_average=True, scale_border=0), {"type": "ssim", **VECTOR},
         {"type": "ssim", "name": "ssim of print_scalar"}, *ERRORS],
        [{"type": "normalization", "std": 255.0}],
    ),
    "super resolution": Case(
        SUPER, "super_resolution", {}, [psnr(color_order="BGR"), {"type": "ssim", **VECTOR}],
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
        whole = np.array_equal(values, np.rint(values))  # indices are no noise
        out = opset.constant(values.astype(np.int64)) if whole else opset.add(noise, values)
        out = opset.convert(out, np.int64) if whole else out
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
    steps = {"preprocessing": case.preprocessing, "postprocessing": case.postprocessing, "metrics": case.metrics}
    launcher = {"framework": "openvino", "device": "CPU", "model": "m.xml", "weights": "m.bin", "adapter": case.adapter}
    steps = {key: value for key, value in steps.items() if value}  # the original takes no empty list
    entry = {"name": "m", "launchers": [launcher], "datasets": [{"name": "d", **case.dataset, **steps}]}
    classes = case.classes or CLASSES.get(case.dataset["annotation_conversion"]["converter"], KINDS)
    write_data(folder / "data", entry["datasets"][0], IMAGES, classes)
    (folder / "accuracy-check.yml").write_text(json.dumps({"models": [entry]}))
    ov.save_model(model(case), folder / "m.xml", compress_to_fp16=False)
    rows = []
    for metric, theirs in zip(case.metrics, original(command, folder, case.metrics), strict=True):
        title = metric.get("name") or metric["type"]
        given = calib.read_accuracy_check(folder, source=folder / "data", metric=title)
        ours = calib.evaluate(folder / "m.xml", given.data, given.metric).value
        row = {"case": name, "metric": f"{metric['type']} {title}", "original": theirs, "calib": ours}
        rows.append(row | ({"why": STAY[name, title]} if (name, title) in STAY else {}))
        print(f"{name:34} {title:22} {theirs:10.6f} {ours:10.6f} {told(rows[-1])}", flush=True)
    return rows


def told(row: dict[str, Any]) -> str:
    """Return what is wrong with a row: it differs without an explanation, or does not differ in spite of one."""
    apart = not abs(row["calib"] - row["original"]) <= TOLERANCE  # also where one is no number
    return "" if apart == ("why" in row) else "DIFFERENT" if apart else "NOT DIFFERENT"


def main() -> None:
    command = str(Path(sys.argv[1]).absolute())
    chosen = [name for name in CASES if len(sys.argv) < 3 or any(word in name for word in sys.argv[2:])]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(chosen):
            rows += compare(name, CASES[name], command, Path(place) / str(number))
    wrong = [row for row in rows if told(row)]
    equal = sum("why" not in row for row in rows) - len(wrong)
    largest = max((abs(row["calib"] - row["original"]) for row in rows if "why" not in row), default=0.0)
    print(
        f"{equal} of {len(rows)} equal to {TOLERANCE}, the largest difference {largest:.1e}; {len(wrong)} unexplained"
    )
    settings = {"images": IMAGES, "tolerance": TOLERANCE}
    others = [row for row in record.on_file(RESULTS, settings).get("rows", ()) if row["case"] not in chosen]
    record.write(RESULTS, settings, {"rows": [*others, *rows]})
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
