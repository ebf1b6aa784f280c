"""Numbers that no network should hold and files that hold no numbers get a clear answer, and no warning of numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import images, opset, parameter, write_ir

import calib
from calib.errors import DataError, MetricError
from calib.runtime.session import ov


def overflowing(work: Path) -> Path:
    """Write a model whose second convolution overflows f32."""
    image = parameter("image", [1, 3, 8, 8])
    features, dice = image, np.random.default_rng(0)
    for channels in (3, 4):
        weights = (dice.normal(size=(4, channels, 3, 3)) * 1e30).astype(np.float32)
        features = opset.relu(opset.convolution(features, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    write_ir(ov.Model([opset.reduce_mean(features, np.array([2, 3]))], [image], "model"), work / "model.xml")
    return work / "model.xml"


def test_a_model_that_overflows_says_so(work: Path, quantize: Any, run: Any):
    model = overflowing(work)
    ended = quantize("--no-speed", model=model)
    assert ended.code == 0 and "The FP32 model itself gives NaN or infinity" in " ".join(ended.out.split())
    assert "all zero in FP32" not in ended.out
    compared = run("compare", model, model, "--data", work / "data.npz", "-q")
    assert compared.code == 0 and "Warning" not in compared.err


def test_inputs_of_1e30_are_quantized_like_others(work: Path):
    samples = [1e30 * one for one in images(40)]
    found = calib.quantize(str(work / "model.xml"), samples, effort="fast").report
    plain = calib.quantize(str(work / "model.xml"), images(40), effort="fast").report
    (large,), (small,) = found.output_sqnr_db.values(), plain.output_sqnr_db.values()
    assert abs(large - small) < 6


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 8)])
def test_images_of_one_pixel_are_images(shape: tuple[int, ...], tmp_path: Path):
    image = parameter("image", [1, *shape])
    weights = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
    convolution = opset.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    write_ir(ov.Model([convolution], [image], "model"), tmp_path / "model.xml")
    samples = list(np.random.default_rng(1).normal(size=(30, *shape)).astype(np.float32))
    found = calib.quantize(str(tmp_path / "model.xml"), samples, effort="fast").report
    assert min(found.output_sqnr_db.values()) > 25


def test_axes_of_size_zero_are_refused_with_the_shape(work: Path, quantize: Any):
    np.savez(work / "empty.npz", image=np.zeros((4, 3, 0, 8), np.float32))
    ended = quantize(data=work / "empty.npz")
    assert ended.code == 1 and "got an array of shape [3, 0, 8]" in ended.err


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_label_of_1e999_is_named_with_its_line(name: str, work: Path):
    for number, one in enumerate(images(4)):
        np.save(work / f"{number}.npy", one)
    csv = "".join(f"{i}.npy,{label}\n" for i, label in enumerate(("0", "1e999", "1", "2")))
    rows = "".join(f'{{"path": "{i}.npy", "label": {label}}}\n' for i, label in enumerate(("0", "1e999", "1", "2")))
    (work / name).write_text(csv if name == "list.csv" else rows)
    with pytest.raises(DataError, match=r"line 2 of .*1e999"):
        calib.evaluate(work / "model.xml", str(work / name), "top-1")


def test_a_label_too_large_for_a_class_is_no_warning_of_numpy(work: Path):
    labelled = [(one, 1e30) for one in images(4)]
    with pytest.raises(MetricError, match="a target is a class index"):
        calib.evaluate(work / "model.xml", labelled, "top-1")


@pytest.mark.parametrize("row", [r'{"path": "\ud800.npy", "label": 1}', r'{"path": "0.npy", "label": "\udfff"}'])
def test_half_a_character_in_a_list_is_named_with_its_line(row: str, work: Path):
    (work / "list.jsonl").write_text(row + "\n")
    with pytest.raises(DataError, match=r"line 1 of .* is half of a character"):
        calib.evaluate(work / "model.xml", str(work / "list.jsonl"), "top-1")


def test_half_a_character_in_a_config_is_named(work: Path, quantize: Any):
    (work / "config.json").write_text(r'{"\ud800": 1, "samples": 3}')
    ended = quantize("--config", work / "config.json")
    assert ended.code == 2 and "is half of a character" in ended.err
