"""Wrong models never leave quietly: the written file is run against the model in memory and its own simulation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import left_behind

from calib.engine import result, verify
from calib.runtime.session import Session


def damage(xml: Path, shape: str) -> None:
    """Give the i8 weights of a shape other values in the file."""
    text = xml.read_text()
    constants = re.findall(r'<data element_type="i8" shape="([^"]*)" offset="(\d+)" size="(\d+)"', text)
    offset, size = next((int(o), int(s)) for given, o, s in constants if given == shape)
    values = bytearray(xml.with_suffix(".bin").read_bytes())
    weights = np.frombuffer(bytes(values[offset : offset + size]), np.int8)
    values[offset : offset + size] = (-np.roll(weights, 7)).tobytes()
    xml.with_suffix(".bin").write_bytes(values)


def test_a_file_that_is_not_the_model_in_memory_is_refused_with_the_layer(
    quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    save = result.save_model

    def save_and_damage(model: Any, path: Path, **options: Any) -> None:
        save(model, path, **options)
        damage(path, "8, 8, 3, 3")

    monkeypatch.setattr(result, "save_model", save_and_damage)
    ended = quantize()
    assert (ended.code, ended.out) == (1, "") and "differs from the model in memory" in ended.err
    assert "first at layer 'second'" in ended.err, ended.err
    assert left_behind(work) == []


class Miscomputing(Session):
    """Stands for a CPU whose kernel of the layer "second" is wrong: only its simulation in f32 is right."""

    def __init__(self, model: Any, config: Any):
        super().__init__(model, config)
        self._simulated = "LP_TRANSFORMS_MODE" in config

    def __call__(self, feed: Any) -> list[Any]:
        outputs = super().__call__(feed)
        # Tapped: the model's output, first, second, head. Plain: the model's output alone.
        wrong = {0, 2, 3} if not self._simulated else set()
        return [-output if i in wrong else output for i, output in enumerate(outputs)]


def test_execution_that_is_not_what_was_simulated_is_refused_with_the_layer(
    quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verify, "Session", Miscomputing)
    ended = quantize()
    assert (ended.code, ended.out) == (1, "") and "differs from its simulation" in ended.err
    assert "first at layer 'second'" in ended.err and "--ignore" in ended.err, ended.err
    assert left_behind(work) == []
