"""A flag that is typed is obeyed whatever its value, and one that is not typed leaves the other sources their say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from zoo_faults.nursery import Nursery
from zoo_faults.tiny_zoo import FAST, run_undisturbed, write_zoo

from calib.values.evaluation import Evaluation
from calib.values.facts import Report

BUDGET = ("--metric", "relative-l2", "--max-drop", "0.9", "--validation")
CHEAP = ("--effort", "fast", "--estimator", "minmax", "--target", "cpu-no-vnni", "--no-report")
METRIC = """import numpy as np

images = np.load("data.npz")["image"]


def error(predict):
    return float(np.mean([np.abs(predict(image[None])[0]).mean() for image in images]))
"""


@pytest.fixture
def own_metric(work: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A metric of the user's own in the current folder."""
    (work / "typed_flags_metric.py").write_text(METRIC)
    monkeypatch.chdir(work)
    return "python:typed_flags_metric:error"


def report(work: Path) -> Report:
    return Report.model_validate_json((work / "out" / "report.json").read_text())


@pytest.fixture
def unsaid(run: Any, work: Path) -> Any:
    """Quantize the model of ``work`` without a word on speed."""
    places = [work / "model.xml", "--calibration", work / "data.npz", "-o", work / "out"]
    return lambda *more: run("quantize", *places, *CHEAP, *more)


@pytest.mark.parametrize("way", ["higher", "lower"])
def test_the_direction_of_a_metric_is_the_one_typed(way: str, own_metric: str, quantize: Any, run: Any, work: Path):
    metric = ("--metric", own_metric, f"--{way}-is-better")
    ended = quantize(*metric, "--max-drop", "1e6")
    assert ended.code == 0, ended.err
    accuracy = report(work).accuracy
    assert accuracy is not None and accuracy.higher_is_better == (way == "higher")
    evaluated = run("evaluate", work / "model.xml", "--validation", work / "data.npz", "--json", *metric)
    assert Evaluation.model_validate_json(evaluated.out).higher_is_better == (way == "higher")


@pytest.mark.parametrize(
    ("config", "flags", "timed"),
    [
        ("", ("--no-speed",), False),
        ("speed: false", (), False),
        ("", ("--set", "speed=false"), False),
        ("speed: false", ("--set", "speed=true"), True),
        ("speed: false", ("--speed",), True),
        ("speed: true", ("--no-speed",), False),
        ("", (), True),
    ],
)
def test_int8_is_timed_with_a_budget_unless_the_strongest_source_says_no(
    config: str, flags: tuple[str, ...], timed: bool, unsaid: Any, work: Path
):
    (work / "settings.yaml").write_text(config)
    ended = unsaid(*BUDGET, work / "data.npz", "--config", work / "settings.yaml", *flags)
    assert ended.code == 0, ended.err
    assert (report(work).speed is not None) == timed


@pytest.mark.parametrize(("flags", "timed"), [((), True), (("--no-speed",), False), (("--set", "speed=false"), False)])
def test_int8_is_timed_without_a_budget_unless_somebody_says_no(
    flags: tuple[str, ...], timed: bool, unsaid: Any, work: Path
):
    assert unsaid(*flags).code == 0
    assert (report(work).speed is not None) == timed
    origin = next(fact.origin for fact in report(work).settings if fact.key == "speed")
    assert origin == {"--no-speed": "flag", "--set": "--set"}.get(flags[0] if flags else "", "default")


@pytest.mark.parametrize("flag", ["--report", "--no-report"])
def test_the_page_is_written_unless_it_was_refused(flag: str, quantize: Any, work: Path):
    assert quantize(flag).code == 0
    assert (work / "out" / "report.html").exists() == (flag == "--report")


@pytest.mark.parametrize("speed", ["false", "true"])
def test_a_zoo_times_int8_as_its_manifest_says(speed: str, nursery: Nursery, tmp_path: Path):
    budget = "validation: data.npz, metric: relative-l2, max_drop: 0.9"
    manifest = write_zoo(tmp_path, "a", f"{FAST}, {budget}, speed: {speed}")
    run_undisturbed(nursery, manifest, tmp_path / "zoo")
    found = json.loads((tmp_path / "zoo" / "models" / "a" / "report.json").read_text())
    assert (found["speed"] is not None) == (speed == "true")
    assert {"key": "speed", "value": speed == "true", "origin": "flag"} in found["settings"]
