"""Each class of error ends a command that people type, with its exit code and one message.

covers: calib.errors
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import images

from calib import cli, errors


def labelled(work: Path) -> Path:
    np.savez(work / "validation.npz", image=images(40), labels=np.arange(40) % 5)
    return work / "validation.npz"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def quantizing(work: Path, *more: object, output: object = None) -> list[object]:
    places = [work / "model.xml", "--calibration", work / "data.npz", "-o", output or work / "out"]
    return ["quantize", *places, "--effort", "fast", "--estimator", "minmax", "--no-report", "--no-speed", *more]


def never_agreeing(work: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    for floor in ("SIMULATION_FLOOR_DB", "PROVEN_DB"):
        monkeypatch.setattr(f"calib.engine.verify.{floor}", 1e6)
    monkeypatch.setattr("calib.engine.miscomputed.NOISE_DB", -1e6)
    monkeypatch.setattr("calib.pipeline.as_simulated", lambda _, *found: found)  # or every layer would be left out
    return quantizing(work)


def without_the_extra(work: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    return ["evaluate", work / "model.xml", "--validation", labelled(work), "--metric", "wer"]


WAYS: dict[type[errors.CalibError], Callable[[Path, pytest.MonkeyPatch], list[object]]] = {
    errors.ModelError: lambda work, _: ["inspect", work / "missing.xml"],
    errors.DataError: lambda work, _: ["compare", work / "model.xml", work / "model.xml", "--data", work / "no.npz"],
    errors.MetricError: lambda work, _: ["evaluate", work / "model.xml", "--validation", work / "data.npz",
                                         "--metric", "top-1"],
    errors.BaselineError: lambda work, _: quantizing(work, "--validation", labelled(work), "--metric", "top-1",
                                                     "--max-drop", "0.01", "--reference", "0.99"),
    errors.StatisticsError: lambda work, _: quantizing(work, "--statistics", written(work / "s.npz", "no zip")),
    errors.ExecutionError: never_agreeing,
    errors.OutputError: lambda work, _: quantizing(work, output="/dev/null/out"),
    errors.UsageError: lambda work, _: quantizing(work, "--ignore", "no such layer"),
    errors.ConfigError: lambda work, _: quantizing(work, "--config", written(work / "c.yaml", "samples: 0")),
    errors.MissingExtraError: without_the_extra,
}  # fmt: skip


def test_every_class_has_its_way():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CalibError)}
    assert set(WAYS) == kinds - {errors.CalibError}


@pytest.mark.parametrize("kind", WAYS, ids=lambda kind: kind.__name__)
def test_a_command_that_fails_so_ends_with_this_error(
    kind: type[errors.CalibError], run: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    arguments, fail, seen = WAYS[kind](work, monkeypatch), cli._fail, []

    def noting(*what: Any) -> None:
        seen.append(type(sys.exc_info()[1]))
        fail(*what)

    monkeypatch.setattr(cli, "_fail", noting)
    ended = run("-q", *arguments)
    assert seen == [kind] and (ended.code, ended.out) == (kind.exit_code, "")
    said = [line for line in ended.err.splitlines() if not line.startswith("warning: ")]
    assert said[0].startswith("error: ") and "Traceback" not in ended.err and not (work / "out" / "model.xml").exists()
