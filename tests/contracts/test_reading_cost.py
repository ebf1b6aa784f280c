"""How far a reader has to go to follow ``quantize()``: our own files, and our own call levels.

The target is 30 files and 12 levels for the plain way. The levels are kept. The files are not yet: the figures below
are what was measured, so that the way can only become shorter; lower them whenever it does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import calib
from calib.runtime.session import ov

ROOT = str(Path(calib.__file__).resolve().parent)

MOST_LEVELS = 12
MOST_FILES = [  # settings and files: 37 of them for the plain way, the rest for several estimators and for corrections
    ({"estimator": "minmax", "effort": "fast"}, 37),
    ({"estimator": "minmax"}, 47),
    ({}, 54),
]

COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


def tiny_model() -> ov.Model:
    """Convolution → ReLU → mean → MatMul."""
    opset, random = ov.opset13, np.random.default_rng(0)
    image = opset.parameter([1, 3, 8, 8], np.float32, name="image")
    weights = random.normal(size=(4, 3, 3, 3)).astype(np.float32)
    features = opset.relu(opset.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    pooled = opset.reduce_mean(features, np.array([2, 3]))
    scores = opset.matmul(pooled, random.normal(size=(4, 5)).astype(np.float32), False, False)
    return ov.Model([scores], [image], "tiny")


class Trace:
    """Which of our files ran, and how deep our own functions were nested.

    Frames of others between them do not count, nor do comprehensions: they stand inside the function that is read.
    """

    def __init__(self):
        self.files: set[str] = set()
        self.deepest: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(ROOT) or frame.f_code.co_name == "<module>":
            return
        self.files.add(frame.f_code.co_filename)
        levels, at = [], frame
        while at is not None:
            if at.f_code.co_filename.startswith(ROOT) and at.f_code.co_name not in COMPREHENSIONS:
                levels.append(f"{Path(at.f_code.co_filename).relative_to(ROOT)}:{at.f_code.co_qualname}")
            at = at.f_back
        if len(levels) > len(self.deepest):
            self.deepest = levels[::-1]


def traced(**settings: Any) -> Trace:
    model, trace = tiny_model(), Trace()
    samples = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32)
    calib.quantize(model, list(samples), **settings)  # once before, so that imports and caches are done
    sys.setprofile(trace)
    try:
        calib.quantize(model, list(samples), **settings)
    finally:
        sys.setprofile(None)
    return trace


@pytest.mark.parametrize(("settings", "most_files"), MOST_FILES)
def test_following_quantize_takes_few_files_and_few_levels(settings: dict[str, Any], most_files: int):
    trace = traced(**settings)
    assert len(trace.files) <= most_files, sorted(str(Path(file).relative_to(ROOT)) for file in trace.files)
    assert len(trace.deepest) <= MOST_LEVELS, "\n".join(trace.deepest)
