"""The samples that change most are drawn, with what both models found in them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images

import calib
from calib.engine.changes import MOST
from calib.engine.compare import compare
from calib.engine.evaluators import SampleEvaluator
from calib.engine.pictures import image_of, target_in_words
from calib.report.compare import render_comparison_html
from calib.runtime.session import core, ov
from calib.samples.sample import Sample
from calib.values.pictures import SHOWN

FAST: dict[str, Any] = {"effort": "fast", "estimator": "minmax", "speed": False, "target": "cpu-no-vnni"}


def labelled(model: Any, count: int = 40) -> list[tuple[Any, int]]:
    """Images with the class that FP32 finds best."""
    run = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [(image[None], int(np.argmax(run(image[None])[0]))) for image in images(count)]


def test_what_changed_in_images_is_drawn_beside_the_report_without_another_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = convnet(imbalance=60.0)
    samples = labelled(model)
    ran = list[int]()
    run = SampleEvaluator.run

    def counted(self: SampleEvaluator, compiled: Any, indices: Any) -> list[Any]:
        ran.append(len(indices))
        return run(self, compiled, indices)

    result = calib.quantize(model, images(24), validation=samples, metric="top-1", **FAST)
    monkeypatch.setattr(SampleEvaluator, "run", counted)
    report = result.save(tmp_path, pictures=True)
    assert 0 < len(report.pictures) <= MOST and report.pictures_note == ""
    assert ran == [len(report.pictures)] * 2  # these samples once in each model
    assert report.changed and report.changed.right_or_wrong and report.changed.samples == len(samples)
    assert report.changed.names[:1] == [report.pictures[0].id][: report.changed.worse]
    first = report.pictures[0]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted(
        Path(picture.file).name for picture in report.pictures
    )
    assert first.before[0].partition(":")[0] == first.target, "FP32 finds the class that it was asked for"
    assert len(first.before) == len(first.after) == 3


def test_pictures_of_an_earlier_run_are_replaced_and_other_files_stay(tmp_path: Path):
    model = convnet(imbalance=60.0)
    result = calib.quantize(model, images(24), validation=labelled(model), metric="top-1", **FAST)
    (tmp_path / "pictures").mkdir()
    for name in ("9.png", "mine.txt"):
        (tmp_path / "pictures" / name).write_text("before")
    report = result.save(tmp_path, pictures=True)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "mine.txt",
        *(Path(picture.file).name for picture in report.pictures),
    }
    assert result.save(tmp_path / "plain").pictures == [] and not (tmp_path / "plain" / "pictures").exists()


def test_where_samples_are_no_images_the_report_says_so(tmp_path: Path):
    rows = np.random.default_rng(0).normal(size=(30, 3, 4, 4)).astype(np.float32)
    opset = ov.opset13
    data = opset.parameter([1, 3, 4, 4], np.float32, name="data")
    flat = opset.reshape(data, np.array([1, 48]), False)
    weights = np.random.default_rng(1).normal(size=(48, 5)).astype(np.float32)
    model = ov.Model([opset.matmul(flat, weights, False, False)], [data], "flat")
    result = calib.quantize(model, rows, validation=labelled_rows(model, rows), metric="mae", **FAST)
    report = result.save(tmp_path, pictures=True)
    assert report.pictures == [] and "no images" in report.pictures_note


def labelled_rows(model: Any, rows: np.ndarray) -> list[tuple[Any, Any]]:
    run = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [(row[None], run(row[None])[0]) for row in rows]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (3, "3"),
        (1, "dress"),
        ({"boxes": [], "labels": [1, 0]}, "dress, coat"),
        ({"boxes": [], "labels": []}, "nothing"),
        ({"labels": ["a"]}, "a"),
        ("a <b>", "a <b>"),
        (None, ""),
        ([[1], [2, 3]], "[1], [2, 3]"),
        (np.zeros((30, 30)), ""),
        (np.array([1]), "dress"),
    ],
)
def test_targets_of_any_kind_have_words_or_none(target: Any, words: str):
    assert target_in_words(target, ["coat", "dress"]) == words


def test_compare_draws_the_samples_whose_outputs_differ_most(tmp_path: Path):
    model, samples = convnet(imbalance=60.0), images(12)
    result = calib.quantize(model, images(24), **FAST)
    result.save(tmp_path)
    ov.save_model(model, tmp_path / "fp32.xml", compress_to_fp16=False)
    files = tmp_path / "fp32.xml", tmp_path / "model.xml"
    found = compare(*files, samples, pictures=tmp_path)
    assert len(found.pictures) == SHOWN and found.pictures_note == ""
    pair = [core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for path in files]
    old, new = ([run(image[None])[0] for image in samples] for run in pair)
    errors = [float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in zip(old, new, strict=True)]
    for picture, error in zip(found.pictures, sorted(errors, reverse=True)[:SHOWN], strict=True):
        assert float(picture.change.rpartition(" ")[2]) == pytest.approx(error, rel=0.02)
        assert len(picture.before) == len(picture.after) == 3
        assert (tmp_path / picture.file).is_file()
    page = render_comparison_html(found, tmp_path)
    assert page.count("data:image/png;base64,") == SHOWN and "Samples that change most" in page
    assert compare(*files, samples).pictures == []


@pytest.mark.parametrize(
    ("low", "high", "drawn"),
    [(0.0, 255.0, (0, 255)), (10.0, 200.0, (10, 200)), (0.0, 1.0, (0, 255)), (-0.81, 2.02, (0, 255)), (3, 7, (0, 255))],
)
def test_numbers_that_are_no_pixels_are_spread_so_that_something_is_seen(
    low: float, high: float, drawn: tuple[int, int]
):
    image = np.linspace(low, high, 3 * 8 * 8, dtype=np.float32).reshape(1, 3, 8, 8)
    job: Any = SimpleNamespace(loaded=SimpleNamespace(model=convnet()), host=None)
    found = image_of(job, Sample((image,)))
    assert found is not None and (found.min(), found.max()) == drawn
