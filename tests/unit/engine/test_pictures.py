"""The samples that change most are found by what was measured of them, and drawn with what both models found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images

import calib
from calib.accuracy.baseline import MarginMetric
from calib.engine.compare import compare
from calib.engine.evaluators import SampleEvaluator
from calib.engine.pictures import MOST, boxes_changed, most_changed, target_in_words
from calib.metrics.classification import TopK
from calib.metrics.resolve import resolve_metric, resolve_metrics
from calib.report.compare import render_comparison_html
from calib.runtime.session import core, ov

FAST: dict[str, Any] = {"effort": "fast", "estimator": "minmax", "speed": False, "target": "cpu-no-vnni"}
BOX = [10.0, 10.0, 30.0, 30.0]


def test_verdicts_that_changed_come_first_and_margins_order_the_rest():
    metric = MarginMetric(TopK(1))
    before = {i: [1.0, margin] for i, margin in enumerate([0.1, 3.0, 0.2, 2.0])}
    after = {0: [1.0, 0.1], 1: [1.0, 1.0], 2: [0.0, -0.1], 3: [1.0, 2.1]}
    found = most_changed(metric, before, after)
    assert [change.index for change in found] == [2, 1, 3]  # sample 0 did not change
    assert found[0].words == "top-1 1 → 0"


def test_of_equal_changes_the_one_that_got_worse_comes_first_and_they_are_few():
    metric = resolve_metric("mae")
    before = dict.fromkeys(range(20), 1.0)
    after = {i: 1.0 + (0.5 if i % 2 else -0.5) for i in range(20)}
    assert [change.index for change in most_changed(metric, before, after)] == [1, 3, 5, 7, 9, 11][:MOST]


def test_only_samples_that_were_measured_in_both_count_and_the_first_metric_decides():
    several = resolve_metrics(["mae", "mse"])
    before = {i: [1.0, 1.0] for i in range(4)}
    after = {1: [1.1, 9.0], 3: [1.2, 1.0]}
    assert [change.index for change in most_changed(several, before, after)] == [3, 1]
    assert most_changed(several, before, {}) == ()


def test_a_metric_that_is_no_mean_is_taken_of_each_sample_alone():
    class Most:
        """The largest of all parts."""

        name, higher_is_better = "most", True

        def aggregate(self, parts: list[float]) -> float:
            return max(parts)

        def per_sample(self, parts: list[float]) -> None:
            return None

    found = most_changed(Most(), {0: 1.0, 1: 5.0}, {0: 0.0, 1: 5.0})
    assert [(change.index, change.words) for change in found] == [(0, "most 1 → 0")]


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ([[*BOX, 0.9, 1]], 0.0),
        ([[*BOX, 0.6, 1]], 0.3),
        ([[*BOX, 0.9, 2]], 1.8),  # another class: one box is gone and one is new
        ([], 0.9),
        ([[10, 10, 20, 30, 0.9, 1]], 0.9 * 0.5),
        ([[*BOX, 0.9, 1], [50, 50, 60, 60, 0.2, 1]], 0.2),
    ],
)
def test_boxes_change_by_score_overlap_and_class(after: list[list[float]], change: float):
    assert boxes_changed([[*BOX, 0.9, 1]], after) == pytest.approx(change)
    assert boxes_changed(after, [[*BOX, 0.9, 1]]) == pytest.approx(change)


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
    assert len(found.pictures) == MOST and found.pictures_note == ""
    pair = [core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for path in files]
    old, new = ([run(image[None])[0] for image in samples] for run in pair)
    errors = [float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in zip(old, new, strict=True)]
    for picture, error in zip(found.pictures, sorted(errors, reverse=True)[:MOST], strict=True):
        assert float(picture.change.rpartition(" ")[2]) == pytest.approx(error, rel=0.02)
        assert len(picture.before) == len(picture.after) == 3
        assert (tmp_path / picture.file).is_file()
    page = render_comparison_html(found, tmp_path)
    assert page.count("data:image/png;base64,") == MOST and "Samples that change most" in page
    assert compare(*files, samples).pictures == []
