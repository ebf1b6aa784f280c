"""Which metrics read the outputs of a model, and what so many samples can show: from shapes and counts alone."""

from __future__ import annotations

import re

import numpy as np

from calib.accuracy.budget import score_interval
from calib.errors import CalibError
from calib.metrics import METRICS
from calib.metrics.label_free import is_class_scores
from calib.outputs.decoder import ModelFacts, OutputFact
from calib.outputs.resolve import resolve_decoder
from calib.values.inspection import Inspection

_SCORES = ("top-1", "top-5", "class-accuracy", "f1")
_TEXTS = ("word-accuracy", "character-accuracy", "cer", "wer")
_BOXES = ("coco-map", "voc-map")
_IMAGES = ("psnr", "ssim")
_ANY = ("mae", "mse", "cosine")

# What a fraction is allowed to lose where nobody says; other metrics are in any unit, so a share of the baseline.
_POINTS = {*_SCORES, *_BOXES, "mean-iou", "word-accuracy", "character-accuracy"}
DEFAULT_POINTS, DEFAULT_SHARE = "0.5pt", "1%rel"

# Of samples whose answer changes in INT8, as many for the better as for the worse: what is common near a small budget.
_CHANGED = 0.01


def fitting(found: Inspection) -> list[str]:
    """Return the metrics that read these outputs, the likeliest first; none of the others would run."""
    outputs = [(_shape(one.shape), _dtype(one.type)) for one in found.model.outputs]
    if not outputs:
        return []
    shape, kind = outputs[0]
    alone = len(outputs) == 1
    names: list[str] = []
    if alone and is_class_scores(shape, kind):
        names += [*_SCORES, *(["auc"] if shape[1] == 2 else [])]
    elif _takes_boxes(found, outputs):
        names += _BOXES
    elif alone and (len(shape) == 4 or (len(shape) == 3 and kind.kind in "iu")) and min(_sides(shape)) > 1:
        channels = shape[1] if len(shape) == 4 else None
        names += [*(_IMAGES if channels in (1, 3) else ()), "mean-iou"]
    elif alone and len(shape) == 3:
        names += _TEXTS
    elif alone and len(shape) <= 2:
        names += ["spearman"]
    names += _ANY if alone else ()
    return [name for name in names if name in METRICS]


def default_budget(metric: str) -> str:
    """Return the drop that is allowed where nobody says."""
    return DEFAULT_POINTS if metric in _POINTS else DEFAULT_SHARE


def resolution(samples: int) -> tuple[float, float]:
    """Return the half-widths of a drop's 95 % interval that so many right-or-wrong samples can give.

    The first is the least there is, with no answer changed; the second that of one answer in a hundred changed.
    """
    least = score_interval(0, 0, samples)
    changed = samples * _CHANGED / 2
    usual = score_interval(changed, changed, samples)
    return (least[1] - least[0]) / 2, (usual[1] - usual[0]) / 2


def _takes_boxes(found: Inspection, outputs: list[tuple[tuple[int | None, ...], np.dtype]]) -> bool:
    if any(len(shape) == 4 and shape[-1] == 7 for shape, _ in outputs):  # rows of a DetectionOutput
        return True
    facts = ModelFacts(
        tuple(
            OutputFact((one.name,), shape, kind)
            for one, (shape, kind) in zip(found.model.outputs, outputs, strict=True)
        )
    )
    try:
        return resolve_decoder(None, "boxes", facts) is not None
    except CalibError as error:  # several families, or none
        return "of several families" in str(error)


def _shape(text: str) -> tuple[int | None, ...]:
    return tuple(int(part) if part.isdecimal() else None for part in re.findall(r"\d+(?:\.\.\d*)?|\?|\.\.\d+", text))


def _sides(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(side or 2 for side in shape[-2:])


def _dtype(text: str) -> np.dtype:
    known = {"f32": "float32", "f16": "float16", "f64": "float64", "bf16": "float32", "boolean": "bool"}
    name = known.get(text) or text.replace("i", "int", 1).replace("u", "uint", 1)
    try:
        return np.dtype(name)
    except TypeError:
        return np.dtype("float32")
