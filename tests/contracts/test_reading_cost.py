"""How far a reader has to go to follow ``quantize()``: our own files, and our own call levels.

Counted with ``sys.setprofile`` over a second run on a tiny network: a file counts if any function of it runs, a level
is a frame of our own code on the stack, comprehensions and generators included; frames of others in between do not
count. Four runs are traced: ``fast`` with one estimator and the default effort, each without and with an accuracy
budget that makes the search revert layers. The levels are where they were meant to be (12, 12, 14, 14). The files are
not yet (30, 42, 48, 55 were meant): the figures below are what was measured, so that the way can only become shorter.
Lower them whenever it does; a later capability may add two files, with its reason beside the figure.
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

BUDGET = {"metric": "relative-l2", "max_drop": 1e-9}  # nothing in INT8 keeps it
FAST = {"effort": "fast", "estimator": "minmax"}
LIMITS = [  # settings, files, levels
    (FAST, 39, 12),
    ({}, 54, 12),
    (FAST | BUDGET, 59, 14),
    (BUDGET, 76, 14),
]


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
    """Which of our files ran, and how deep our own functions were nested."""

    def __init__(self):
        self.files: set[str] = set()
        self.deepest: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(ROOT) or frame.f_code.co_name == "<module>":
            return
        self.files.add(frame.f_code.co_filename)
        levels, at = [], frame
        while at is not None:
            if at.f_code.co_filename.startswith(ROOT):
                levels.append(f"{Path(at.f_code.co_filename).relative_to(ROOT)}:{at.f_code.co_qualname}")
            at = at.f_back
        if len(levels) > len(self.deepest):
            self.deepest = levels[::-1]


def traced(**settings: Any) -> Trace:
    model, trace = tiny_model(), Trace()
    samples = list(np.random.default_rng(1).normal(size=(10, 3, 8, 8)).astype(np.float32))
    if "max_drop" in settings:
        settings["validation"] = samples
    calib.quantize(model, samples[:6], **settings)  # once before, so that imports and caches are done
    sys.setprofile(trace)
    try:
        calib.quantize(model, samples[:6], **settings)
    finally:
        sys.setprofile(None)
    return trace


@pytest.mark.parametrize(("settings", "most_files", "most_levels"), LIMITS)
def test_following_quantize_takes_few_files_and_few_levels(settings: dict[str, Any], most_files: int, most_levels: int):
    trace = traced(**settings)
    assert len(trace.files) <= most_files, sorted(str(Path(file).relative_to(ROOT)) for file in trace.files)
    assert len(trace.deepest) <= most_levels, "\n".join(trace.deepest)
