"""``calib quantize`` and ``calib inspect`` as a user runs them, on a tiny real IR.

covers: calib.cli.quantize, calib.pipeline
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib import cli
from calib.runtime.session import ov
from calib.values.facts import Report
from calib.values.inspection import Inspection
from calib.values.plan_file import read_plan


@dataclass(frozen=True)
class Ended:
    code: Any
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command line in this process; what native code prints is seen too."""

    def calib(*arguments: str | os.PathLike[str]) -> Ended:
        with pytest.raises(SystemExit) as caught:
            cli.main.main([os.fspath(a) for a in arguments], prog_name="calib")
        captured = capfd.readouterr()
        return Ended(caught.value.code or 0, captured.out, captured.err)

    return calib


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with model.xml/.bin (convolution and MatMul) and data.npz."""
    opset, random = ov.opset13, np.random.default_rng(0)
    image = opset.parameter([1, 3, 8, 8], np.float32, name="image")
    image.output(0).set_names({"image"})
    weights = random.normal(size=(8, 3, 3, 3)).astype(np.float32)
    convolution = opset.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    convolution.set_friendly_name("evil\u202e<b>")
    pooled = opset.reduce_mean(opset.relu(convolution), np.array([2, 3]))
    scores = opset.matmul(pooled, random.normal(size=(8, 5)).astype(np.float32), False, False)
    scores.set_friendly_name("head")
    ov.save_model(ov.Model([scores], [image], "model"), tmp_path / "model.xml", compress_to_fp16=False)
    np.savez(tmp_path / "data.npz", image=random.normal(size=(6, 3, 8, 8)).astype(np.float32))
    return tmp_path


def test_quantize_writes_the_model_and_its_reports(work: Path, run: Callable[..., Ended]):
    ended = run("quantize", work / "model.xml", "--calibration", work / "data.npz", "-o", work / "out", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert sorted(path.name for path in (work / "out").iterdir()) == [
        "job.yaml",
        "model.bin",
        "model.xml",
        "plan.json",
        "plan.npz",
        "report.html",
        "report.json",
    ]
    assert "INT8" in ended.out and "\u202e" not in ended.out and "\x1b" not in ended.out


def test_json_is_exactly_the_report_file(work: Path, run: Callable[..., Ended]):
    flags = ["--json", "--no-report", "--samples", "4", "--set", "salt=x", "--ignore", "head"]
    ended = run("quantize", work / "model.xml", "--calibration", work / "data.npz", "-o", work / "out", *flags)
    assert ended.code == 0
    assert ended.out == (work / "out" / "report.json").read_text()
    assert not (work / "out" / "report.html").exists()
    report = Report.model_validate_json(ended.out)
    origins = {fact.key: (fact.value, fact.origin) for fact in report.settings}
    assert origins["samples"] == (4, "flag") and origins["salt"] == ("x", "--set")
    assert origins["ignore"] == (["head"], "flag") and origins["estimator"] == ("auto", "default")
    assert report.calibration_samples == 4


def test_a_dry_run_prints_the_plan_and_writes_nothing(work: Path, run: Callable[..., Ended]):
    before = sorted(work.iterdir())
    ended = run("quantize", work / "model.xml", "--dry-run", "--ignore", "type:MatMul")
    assert ended.code == 0
    assert "1 layer in INT8: 1 Convolution" in ended.out and "ignored by" in ended.out
    assert sorted(work.iterdir()) == before


def test_a_dry_run_in_json_is_a_plan_file(work: Path, run: Callable[..., Ended]):
    ended = run("quantize", work / "model.xml", "--dry-run", "--json")
    (work / "plan.json").write_text(ended.out)
    assert len(read_plan(work / "plan.json").layers) == 2


def test_the_input_is_never_overwritten(work: Path, run: Callable[..., Ended]):
    before = (work / "model.xml").read_bytes()
    ended = run("quantize", work / "model.xml", "--calibration", work / "data.npz", "-o", work)
    assert ended.code == 2 and "overwritten" in ended.err and ended.out == ""
    assert (work / "model.xml").read_bytes() == before


def test_inspect_says_what_would_run_and_then_what_runs(work: Path, run: Callable[..., Ended]):
    found = Inspection.model_validate_json(run("inspect", work / "model.xml", "--json").out)
    assert not found.quantized and [layer.planned for layer in found.layers] == ["int8", "int8"]
    assert "2 of 2 layers would run in INT8" in run("inspect", work / "model.xml").out
    run("quantize", work / "model.xml", "--calibration", work / "data.npz", "-o", work / "out")
    after = Inspection.model_validate_json(run("inspect", work / "out" / "model.xml", "--json").out)
    assert after.quantized and all(layer.executed for layer in after.layers)


@pytest.mark.parametrize("missing", ["model.bin", "data.npz"])
def test_what_is_missing_is_named_and_nothing_is_written(missing: str, work: Path, run: Callable[..., Ended]):
    (work / missing).unlink()
    ended = run("quantize", work / "model.xml", "--calibration", work / "data.npz", "-o", work / "out")
    assert ended.code == 1 and missing in ended.err and ended.out == ""
    assert "Traceback" not in ended.err and not (work / "out").exists()


def test_an_output_that_is_a_file_is_refused(work: Path, run: Callable[..., Ended]):
    (work / "out").write_text("mine")
    ended = run("quantize", work / "model.xml", "--calibration", work / "data.npz", "-o", work / "out")
    assert ended.code == 2 and "is a file" in ended.err
    assert (work / "out").read_text() == "mine"


def test_json_of_a_run_can_be_parsed_with_progress_on(work: Path, run: Callable[..., Ended]):
    ended = run("quantize", work / "model.xml", "--calibration", work / "data.npz", "-o", work / "out", "--json")
    assert json.loads(ended.out)["status"] == "quantized"
