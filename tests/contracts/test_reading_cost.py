"""How far a reader has to go to follow ``quantize()``: our own files, and our own call levels.

Counted with ``sys.setprofile`` over a second run on a tiny network: a file counts if any function of it runs, a level
is a frame of our own code on the stack, comprehensions and generators included; frames of others in between do not
count. ``fast`` with one estimator and the default effort are traced without a budget, with one that is missed, so that
layers are ranked and reverted, and with one that is kept. Meant were 30 files and 12 levels, 42 and 12, and with a
budget 48 and 14, 55 and 14. The files are not there, nor are the levels of a search that ranks (its deepest way is
through the model with switches). Part of what the levels came down by is comprehensions written as loops: without
comprehensions the ways without a budget were 11 levels deep and are 10. The figures below are what was measured, so
that the way can only become shorter; a later capability may add two files, with its reason beside the figure. With a
metric it is one more than the first time: the FP32 baseline is measured before calibration, in a module of its own.

Added since: ``engine/checks.py``, which warns of suspicious data, for ``fast`` ``corrections/scoring.py``, as every
effort reports the SQNR of the outputs, and ``engine/output_sqnr.py``: which samples that is from and how sure it is.
What is compared of the outputs (``graph/comparable.py``, ``values/compared.py``) is asked by every effort, for scores,
metrics, the ranking and the check of the written file.
With a budget ``values/drops.py`` came in: the search and the report write drops in the same unit.
One more came with corrections that OpenVINO can't compile: what is left out is named in one way, whatever it is.
With a budget ``accuracy/drop_posterior.py`` and ``accuracy/proposals.py`` (before it is missed ``prediction.py``):
without margins plans are judged on a part of the samples too, which a search needs to use its budget up within 4.3
validation sets.
Two more: ``engine/replay.py`` is asked whether there is a plan to apply, and ``runtime/temporary.py`` names temporary
files after their process, so that those of a killed one are swept.
With a metric ``engine/precisions.py``: whether the budget is kept in f32 and in the precision that the model will run
in is one question, asked by the search's result and by the report.
Two more with a metric and a budget are no capability but splits: what measures a model (``engine/evaluators.py``) is
apart from where its samples and metric come from, and how a budget is written (``config/types.py``) from the settings.
Two more: what is suspicious of the samples (``engine/data_checks.py``) is said before the long part of a run, and names
in it are escaped there (``report/escape.py``), as these few samples are worth a warning.
Two more for statistics: ``graph/pieces.py`` divides a deep network, which would take minutes to compile with taps, and
``statistics/flat.py`` runs it whole or in pieces.
One more with equalization: where a scale can be inserted in front of layers (``graph/inserted_scales.py``) is asked of
each tensor that no constant can divide, as behind GELU or at an input.
Two more with a metric: there may be several, each with a budget of its own, so that the baseline is checked metric by
metric (``metrics/several.py``), and a budget is looked up by the name of its metric (``engine/budgets.py``).
One more with a metric: whether a baseline has nothing right (``accuracy/baseline.py``) is asked of every metric, since
a drop from 0 keeps any budget.
One more where candidates are scored is a split: those so far and the one that is ahead (``corrections/tried.py``) are
apart from what is tried, which took on what the lower efforts make.
One more with a metric: the baseline and INT8 are said as they come, and values are written in one way
(``report/numbers.py``).
Two more for every run: FP32 runs once on the samples that others are compared on (``engine/first_run.py``), and what
that took says what the rest will cost (``config/cost.py``).
One more for ``fast``: what a model has levels for already (``graph/levels.py``) is asked of every layer that is found.
Two more where layers are ranked: what the return of layers brings for their work (``accuracy/knee.py``), and the report
of it (``engine/knee.py``).
One more where ranges that clip are ahead: whether they are on what they clip most too (``engine/clipped.py``).
One more for every run: how layers follow each other (``graph/flow.py``), which the report's graph is drawn from.
One more where plans are simulated is a split: i8 weights are converted apart from compiling
(``runtime/float_weights.py``), as several streams ask for that too.
One more for every run is a split: what is taken of a tensor (``graph/taken.py``) is apart from which tensors.
Two more for every run are splits: how the inputs of a run are checked (``engine/prepare.py``) is apart from what they
are, and what a model holds of quantization already (``loading/quantized_already.py``) from reading it.
"""

from __future__ import annotations

import sys
import tempfile
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import calib
from calib.runtime.session import ov

ROOT = str(Path(calib.__file__).resolve().parent)

FAST = {"effort": "fast", "estimator": "minmax"}
MISSED = {"metric": "relative-l2", "max_drop": 1e-9}  # by everything in INT8 and by every plan
KEPT = {"metric": "relative-l2", "max_drop": 0.9}
# One file of each compares the normalized model with the file as it was read, another says how sure the SQNR is.
LIMITS = [  # settings, files, levels
    (FAST, 59, 12),
    ({}, 76, 12),
    (FAST | MISSED, 98, 19),
    (MISSED, 117, 19),
    (FAST | KEPT, 91, 14),
    (KEPT, 109, 14),
]


def tiny_model() -> ov.Model:
    """Return four times convolution → ReLU, then mean → MatMul: units enough for a search to rank and bisect."""
    opset, random = ov.opset13, np.random.default_rng(0)
    features = image = opset.parameter([1, 3, 8, 8], np.float32, name="image")
    for channels in (3, 8, 8, 8):
        weights = random.normal(size=(8, channels, 3, 3)).astype(np.float32)
        features = opset.relu(opset.convolution(features, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    pooled = opset.reduce_mean(features, np.array([2, 3]))
    scores = opset.matmul(pooled, random.normal(size=(8, 5)).astype(np.float32), False, False)
    return ov.Model([scores], [image], "tiny")


class Trace:
    """Which of our files ran, and how deep our own functions were nested."""

    def __init__(self):
        self.files: set[str] = set()
        self.deepest: list[str] = []
        self._ours: dict[str, bool] = {}  # file name → whether it is ours; asked several times for each call

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self._is_ours(frame) or frame.f_code.co_name == "<module>":
            return
        self.files.add(frame.f_code.co_filename)
        levels, at = [], frame
        while at is not None:
            if self._is_ours(at):
                levels.append(at.f_code)
            at = at.f_back
        if len(levels) > len(self.deepest):
            self.deepest = [f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}" for code in levels[::-1]]

    def _is_ours(self, frame: FrameType) -> bool:
        file = frame.f_code.co_filename
        if file not in self._ours:
            self._ours[file] = file.startswith(ROOT)
        return self._ours[file]


@cache
def traced(settings: frozenset[tuple[str, Any]]) -> Trace:
    return _traced(**dict(settings))


def _traced(**settings: Any) -> Trace:
    model, trace = tiny_model(), Trace()
    samples = list(np.random.default_rng(1).normal(size=(10, 3, 8, 8)).astype(np.float32))
    if "max_drop" in settings:
        settings["validation"] = samples
    settings = {"target": "cpu"} | settings  # the default one asks more of a CPU without VNNI
    calib.quantize(model, samples[:6], **settings)  # once before, so that imports and caches are done
    sys.setprofile(trace)
    try:
        calib.quantize(model, samples[:6], **settings)
    finally:
        sys.setprofile(None)
    return trace


@pytest.mark.parametrize(("settings", "most_files", "most_levels"), LIMITS)
def test_following_quantize_takes_few_files_and_few_levels(
    settings: dict[str, Any], most_files: int, most_levels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what other processes leave takes a longer way
    trace = traced(frozenset(settings.items()))
    assert len(trace.files) <= most_files, sorted(str(Path(file).relative_to(ROOT)) for file in trace.files)
    assert len(trace.deepest) <= most_levels, "\n".join(trace.deepest)


def test_a_missed_budget_is_traced_through_the_ranking_and_the_search():
    trace = traced(frozenset((FAST | MISSED).items()))
    assert {"screening.py", "proposals.py", "sensitivity.py", "switches.py"} <= {
        Path(file).name for file in trace.files
    }
