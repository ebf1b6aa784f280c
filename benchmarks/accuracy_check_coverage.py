"""How many of a folder's Accuracy Checker configurations run here, from reader to metric, and what the others lack.

A file counts only if it is built and then evaluated: with every metric that it names, on two synthetic images in the
form of its own data set, and a model with the inputs and outputs that it declares. The others have to be refused by
name, before anything runs; any other end is a defect, and makes this fail.

    git clone --depth 1 https://github.com/openvinotoolkit/open_model_zoo
    python benchmarks/accuracy_check_coverage.py open_model_zoo/models open_model_zoo/data/dataset_definitions.yml
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import record
from checked_data import LETTERS, PLACES, TEXT, write_data
from checked_outputs import CONFIDENCE, COUNT, KINDS, agnostic_rows, grid, labels, ssd_rows, steps, yolox_rows
from openvino import opset13 as opset

import calib
from calib.accuracy_check.build import Judgement, build
from calib.errors import CalibError, ConfigError
from calib.outputs.grid import ANCHORS

IMAGES = 2
SIZE = (480, 640)  # of the model's input where a configuration leaves it open
RESULTS = Path(__file__).with_name("results") / "accuracy_check_coverage.json"
# Classes of the data sets whose masks or labels have a fixed number of them; three kinds of boxes otherwise.
CLASSES = {"imagenet": 1000, "camvid": 12, "cityscapes": 20, "voc_segmentation": 20, "common_semantic_segmentation": 4}


def sides(made: Judgement) -> tuple[int, int] | None:
    """Return the height and width that preprocessing ends in; None if they depend on the image."""
    found: tuple[int, int] | None = None
    goal = None  # of a resize that keeps the ratio, which padding without a size fills
    for step in made.entry.dataset.get("preprocessing") or ():
        size = step.get("size")
        wanted = (step.get("dst_height", size), step.get("dst_width", size))
        if step["type"] in ("resize", "crop", "padding"):
            goal = (int(wanted[0]), int(wanted[1])) if None not in wanted else goal
            found = None if step.get("aspect_ratio_scale") else goal
        elif step["type"] == "auto_resize":
            found = (224, 224)
    return found


def prediction_size(made: Judgement) -> tuple[int, int] | None:
    """Return the height and width that class maps are resized to: (0, 0) for that of the image, None for no resize."""
    for step in made.entry.dataset.get("postprocessing") or ():
        if "resize" in step["type"] and step.get("apply_to", "all") != "annotation":
            return int(step.get("dst_height", 0)), int(step.get("dst_width", 0))
    return None


def grids(adapter: dict[str, Any], size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    """Return the grids that a YOLO v2 or v3 is declared to have."""
    first = adapter["type"] == "yolo_v2"
    given = adapter.get("anchors", "yolo_v2" if first else "yolo_v3").replace("_", "-")
    named = "yolo-v2-voc" if given == "yolo-v2" else given
    anchors = ANCHORS[named] if named in ANCHORS else [float(side) for side in given.split(",")]
    classes, raw = adapter.get("classes", 20 if first else 80), bool(adapter.get("raw_output"))
    if first:
        cells = adapter.get("cells", 13)
        return [("out", grid(anchors, (cells, cells), (cells, cells), classes, raw))]
    masks = adapter.get("anchor_masks") or [range(adapter.get("num", 3))] * len(adapter["outputs"])
    order = sorted(
        range(len(masks)), key=lambda position: -sum(masks[position])
    )  # the coarsest has the largest anchors
    made = []
    for position, (name, mask) in enumerate(zip(adapter["outputs"], masks, strict=True)):
        level = 5 - order.index(position)
        cells = (size[0] >> level, size[1] >> level)
        sides = [side for anchor in mask for side in anchors[2 * anchor : 2 * anchor + 2]]
        values = grid(sides, size, cells, classes, raw, slice(position, None, len(masks)))
        made.append((name, values if adapter.get("output_format", "BHW") == "BHW" else values.transpose(0, 2, 3, 1)))
    return made


def outputs(made: Judgement, size: tuple[int, int], classes: int) -> list[tuple[str, np.ndarray]]:
    """Return name and values of each output that the adapter reads."""
    given: Any = made.entry.launcher.get("adapter")
    adapter: dict[str, Any] = {"type": given} if isinstance(given, str) else dict(given)
    kind, random = adapter["type"], np.random.default_rng(0)
    if kind == "classification":
        scores = random.random((1, classes + 1)) + (np.arange(classes + 1) < 5)
        return [(adapter.get("classification_output", "out"), scores)]
    if kind == "ssd":
        conversion = made.entry.dataset["annotation_conversion"]
        nothing = conversion.get("label_start", conversion.get("has_background", conversion["converter"] == "wider"))
        return [("out", ssd_rows(classes, int(nothing)))]
    if kind == "class_agnostic_detection":
        scale = np.ravel(adapter.get("scale", 1.0))
        return [("boxes", agnostic_rows(list(np.broadcast_to(scale, 2)))), ("labels", labels(classes))]
    if kind == "segmentation":
        scored = adapter.get("make_argmax") or made.metric.get("use_argmax", True)
        shape = size if prediction_size(made) is None else (size[0] // 8, size[1] // 8)
        return [("out", random.random((1, classes, *shape)) if scored else random.integers(0, classes, (1, *shape)))]
    if kind in ("yolo_v2", "yolo_v3"):
        return grids(adapter, size)
    if kind == "yolo_v3_onnx":
        corners = PLACES[None][..., [1, 0, 3, 2]] * np.tile(size, 2)
        chosen = np.stack([np.zeros(COUNT, int), labels(classes), np.arange(COUNT)], 1)[None]
        found = {"boxes_out": corners, "scores_out": random.random((1, classes, COUNT)), "indices_out": chosen}
        return [(adapter[key], value) for key, value in found.items()]
    if kind == "yolox":
        return [("out", yolox_rows(size, adapter.get("classes", 80)))]
    if kind == "ultra_lightweight_face_detection":
        scores = np.column_stack([1 - CONFIDENCE, CONFIDENCE])[None]
        return [(adapter["scores_out"], scores), (adapter["boxes_out"], PLACES[None])]
    if kind == "ctc_greedy_search_decoder":
        return [(adapter.get("logits_output", "out"), steps(TEXT, LETTERS, 0, 1)[:, None])]
    if kind == "beam_search_decoder":
        return [("out", steps(TEXT, LETTERS, len(LETTERS))[:, None])]
    if kind == "lpr":
        return [("out", np.array([[LETTERS.index(letter) for letter in TEXT] + [-1]], float))]
    if kind == "background_matting":
        return [("out", random.random((1, 1, *size)))]
    raise NotImplementedError(f"no outputs are made for the adapter {kind}")


def model(made: Judgement, classes: int) -> ov.Model:
    """Return a model with the inputs and outputs that a configuration declares; every output depends on the image."""
    size = sides(made)
    channels = 1 if any("gray" in step["type"] for step in made.entry.dataset.get("preprocessing") or ()) else 3
    name = made.image or "image"
    image = opset.parameter([1, channels, *(size or (-1, -1))], np.float32, name=name)
    image.output(0).tensor.set_names({name})
    inputs = [image]
    for other in made.inputs:
        shape = np.shape(other.value)[-2:] if other.kind == "CONST_INPUT" else (1, 3)
        inputs.append(opset.parameter(list(shape), np.float32, name=other.name))
        inputs[-1].output(0).tensor.set_names({other.name})
    bit = np.float32(1)  # a factor a little above 1, which leaves whole numbers what they are
    for one in inputs:
        mean = opset.reduce_mean(one, np.arange(len(one.partial_shape)), False)
        bit = opset.add(bit, opset.multiply(opset.multiply(mean, mean), np.float32(1e-9)))
    results = []
    if made.entry.launcher["adapter"] == {"type": "super_resolution"}:
        results.append(opset.multiply(image, np.float32(1 / 255)))
    for title, values in [] if results else outputs(made, size or SIZE, classes):
        out = opset.multiply(opset.constant(values.astype(np.float32)), bit)
        out = out if values.dtype.kind == "f" else opset.convert(opset.constant(values), np.int64)
        out.set_friendly_name(title)
        out.output(0).tensor.set_names({title})
        results.append(out)
    return ov.Model(results, inputs, "declared")


def run(file: Path, definitions: Path, made: Judgement) -> dict[str, float]:
    """Return the value of each metric of a configuration."""
    data = made.entry.dataset
    classes = CLASSES.get(data["annotation_conversion"]["converter"], KINDS)
    declared = model(made, classes)
    with tempfile.TemporaryDirectory() as folder:
        masks = "segmentation_masks_source" in data or "segmentation" in str(made.entry.launcher["adapter"])
        fixed = prediction_size(made) or sides(made) or SIZE
        written = min(classes, 5) if classes == CLASSES["imagenet"] else classes
        write_data(Path(folder), data, IMAGES, written, sides=(240, 400), fixed=fixed if masks and any(fixed) else None)
        values = {}
        for metric in data["metrics"]:
            title = metric.get("name") or metric["type"]
            given = calib.read_accuracy_check(file, source=folder, definitions=definitions, metric=title)
            values[title] = float(calib.evaluate(declared, given.data, given.metric).value)
            assert np.isfinite(values[title]), (title, values[title])
    return values


def tried(file: Path, definitions: Path) -> dict[str, Any]:
    """Return how a configuration ends: its metrics, or why it was refused, or what went wrong."""
    try:
        made = build(file, definitions)
    except ConfigError as error:
        return {"end": "refused", "reasons": list(error.mistakes)}
    except Exception:  # what is looked for here is anything else
        return {"end": "crashed", "reasons": [traceback.format_exc(limit=-2)]}
    try:
        return {"end": "runs", "metrics": run(file, definitions, made)}
    except CalibError as error:
        return {"end": "failed", "reasons": [str(error)]}
    except Exception:
        return {"end": "crashed", "reasons": [traceback.format_exc(limit=-2)]}


# Reasons that name a thing of one file → the kind of them.
_KINDS = (
    (r"the input .* of type (\w+).*", r"inputs of type \1 besides the image"),
    (r"the annotations .* are converted already.*", "annotations given as a pickle alone"),
    (r"'evaluations'.*", "evaluations, which are Python modules"),
    (r" is not supported.*", ""),
)


def lacking(found: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return for each missing kind how many files name it, the commonest first."""
    counts: Counter[str] = Counter()
    for one in found.values():
        if one["end"] == "refused":
            kinds = set()
            for reason in one["reasons"]:
                for pattern, kind in _KINDS:
                    reason = re.sub(pattern, kind, reason)
                kinds.add(reason)
            counts.update(kinds)
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("definitions", type=Path)
    parser.add_argument("--only", default="", help="part of the paths of the files to try")
    parser.add_argument("--refused", action="store_true", help="try those that are on record as refused, keep the rest")
    given = parser.parse_args()
    files = sorted(given.folder.rglob("accuracy-check.yml"))
    known = record.on_file(RESULTS, {"images": IMAGES}).get("files", {}) if given.refused else {}
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        name = file.parent.relative_to(given.folder).as_posix()
        if name in known and known[name]["end"] != "refused":
            found[name] = known[name]
        elif given.only in name:
            found[name] = tried(file, given.definitions)
            shown = found[name].get("metrics") or found[name]["reasons"]
            print(f"{found[name]['end']:8} {name:60} {json.dumps(shown)[:2000]}", flush=True)
    ends = dict(Counter(one["end"] for one in found.values()).most_common())
    print(f"{len(found)} files: {ends}")
    if not given.only:
        record.write(RESULTS, {"images": IMAGES}, {"ends": ends, "lacking": lacking(found), "files": found})
    raise SystemExit(bool(ends.get("crashed") or ends.get("failed")))


if __name__ == "__main__":
    main()
