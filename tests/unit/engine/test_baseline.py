"""The FP32 baseline is measured and checked before calibration is paid for, and once for all later steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images

import calib
from calib.engine.baseline import measure_baseline
from calib.engine.evaluation import open_evaluator
from calib.engine.prepare import prepare
from calib.errors import BaselineError
from calib.progress import Stage, silent
from calib.runtime.session import Session


def labelled(shift: int = 0) -> list[tuple[Any, int]]:
    """Return samples whose label, for a shift of 0, is the class that FP32 finds."""
    model = Session(convnet())
    return [(image, (int(model([image[None]])[0].argmax()) + shift) % 5) for image in images(40)]


class Said:
    """A stage that keeps its remarks."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def update(self, count: int = 1, note: str = "") -> None:
        pass

    def say(self, line: str) -> None:
        self.lines.append(line)


def stages_until_the_end(**settings: Any) -> list[str]:
    """Return the stages that a run entered, also where it failed."""
    entered: list[str] = []

    @contextmanager
    def progress(stage: str, total: int | None = None) -> Iterator[Stage]:
        entered.append(stage)
        with silent(stage, total) as inside:
            yield inside

    with pytest.raises(BaselineError):
        calib.quantize(convnet(), list(images(4)), progress=progress, **settings)
    return entered


def test_wrong_labels_are_found_before_anything_is_calibrated():
    wrong = stages_until_the_end(validation=labelled(1), metric="top-1", max_drop=0.01)
    assert wrong == ["load", "baseline"]


def test_a_baseline_far_from_the_published_one_ends_the_run_at_once():
    assert stages_until_the_end(validation=labelled(), metric="top-1", reference=0.3) == ["load", "baseline"]


def test_a_stored_baseline_is_read_again_and_a_changed_label_is_noticed(tmp_path: Path):
    def measured(validation: list[tuple[Any, int]], resume: bool) -> tuple[Any, list[str]]:
        evaluator = open_evaluator(prepare(convnet(), list(images(4)), flags={"metric": "top-1"}), validation)
        assert evaluator is not None
        stage = Said()
        return measure_baseline(evaluator, store=tmp_path / "s.sqlite", resume=resume, stage=stage), stage.lines

    first, _ = measured(labelled(), False)
    again, said = measured(labelled(), True)
    assert again.parts == first.parts == (1.0,) * 40 and again.seconds == first.seconds
    assert said == ["FP32: top-1 100.00 % on 40 samples"]
    changed = labelled()
    changed[3] = (changed[3][0], (changed[3][1] + 1) % 5)
    other, said = measured(changed, True)
    assert np.sum(other.parts) == 39 and "1 of 40" in said[0] and other.warnings == tuple(said[:1])
