"""Bad input through the command line: each is named, with the way out, and leaves no half-written file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images, left_behind, opset, parameter, weights, write_ir

import calib
from calib.errors import DataError, ModelError
from calib.runtime.session import core, ov
from calib.values.facts import Report


def embedding() -> ov.Model:
    """Return tokens (i64) → Gather → MatMul."""
    tokens = parameter("tokens", [1, 4], np.int64)
    words = opset.gather(weights(10, 8), tokens, np.int64(0))
    return ov.Model([opset.matmul(words, weights(8, 5, seed=1), False, False)], [tokens], "model")


def dynamic() -> ov.Model:
    """Return a MatMul whose input says nothing of its size: [?,?] · [8,4]."""
    rows = parameter("rows", [-1, -1])
    return ov.Model([opset.matmul(rows, weights(8, 4), False, False)], [rows], "model")


def save(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


MODELS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "no .bin": (lambda work: (work / "model.bin").unlink(), ("model.bin: not found", "Copy it next to")),
    "a truncated .bin": (lambda work: truncate(work / "model.bin"), ("model.bin: too short", "copy both files")),
    "XML that is no IR": (lambda work: (work / "model.xml").write_text("<html></html>"), ("no OpenVINO IR", "<html>")),
    "no XML": (lambda work: (work / "model.xml").write_text("hello"), ("not well-formed", "Pass the .xml of an IR")),
    "an empty file": (lambda work: (work / "model.xml").write_bytes(b""), ("empty file", "export the model again")),
    "no model": (lambda work: (work / "model.xml").unlink(), ("no such file", ".xml, .onnx")),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_can_not_be_read_is_named(name: str, quantize: Any, work: Path):
    spoil, said = MODELS[name]
    spoil(work)
    ended = quantize()
    assert (ended.code, ended.out) == (1, "") and "model.xml" in ended.err + "model.xml" * ("model.bin" in ended.err)
    assert all(part in ended.err for part in said), ended.err
    assert left_behind(work) == []


DATA: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "another shape": ({"image": images(4)[:, :, :7]}, ("row 0", "'image' [1,3,8,8]", "[3, 7, 8]", "batch axis of 1")),
    "channels last": ({"image": images(4).transpose(0, 2, 3, 1)}, ("[8, 8, 3]", "transpose them")),
    "another name": ({"picture": images(4), "mask": images(4)}, ("no array for the input 'image'", "'picture'")),
    "text": ({"image": np.array([["cat"], ["dog"]])}, ("needs numbers", "dtype")),
    "no samples": ({"image": images(4)[:0]}, ("no samples in it", "at least one")),
    "no arrays": ({}, (".npz file is empty", "no array")),
    "arrays of several lengths": ({"image": images(4), "labels": np.arange(3)}, ("'image' has 4", "'labels' has 3")),
    "NaN": ({"image": np.where(np.arange(4)[:, None, None, None] == 2, np.nan, images(4))}, ("row 2", "nan", "Leave")),
    "infinity": ({"image": np.where(np.arange(4)[:, None, None, None] == 3, np.inf, images(4))}, ("row 3", "inf")),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_do_not_fit_are_named_with_their_row(name: str, quantize: Any, work: Path):
    arrays, said = DATA[name]
    ended = quantize(data=save(work, **arrays))
    assert (ended.code, ended.out) == (1, "") and "data.npz" in ended.err
    assert all(part in ended.err for part in said), ended.err
    assert left_behind(work) == []


def test_floats_for_an_integer_input_are_refused_where_openvino_would_cut_them(quantize: Any, work: Path):
    write_ir(embedding(), work / "model.xml")
    ended = quantize(data=save(work, tokens=np.full((4, 4), 1.5, np.float32)))
    assert ended.code == 1 and "takes integers, got float32" in ended.err and "astype(np.int64)" in ended.err
    assert left_behind(work) == []


def test_a_tensor_that_overflows_is_named_with_the_sample(quantize: Any, work: Path):
    data = images(4)
    data[1] = 3e38
    ended = quantize(data=save(work, image=data))
    assert ended.code == 1 and "row 1" in ended.err and "is not finite" in ended.err and "first" in ended.err
    assert left_behind(work) == []


def test_fewer_samples_than_asked_for_are_said_in_the_report(quantize: Any, work: Path):
    assert quantize("--samples", "50").code == 0
    report = Report.model_validate_json((work / "out" / "report.json").read_text())
    assert report.calibration_samples == 16
    assert any("50 calibration samples were asked for, but there are only 16" in warning for warning in report.warnings)


def test_constant_tensors_are_quantized_without_a_word_from_numpy(quantize: Any, work: Path):
    ended = quantize(data=save(work, image=np.zeros((4, 3, 8, 8), np.float32)))
    assert ended.code == 0
    model = core().compile_model(work / "out" / "model.xml", "CPU")
    assert np.isfinite(model(np.zeros((1, 3, 8, 8), np.float32))[0]).all()


def test_a_quantized_model_is_refused(quantize: Any, work: Path):
    assert quantize().code == 0
    ended = quantize(model=work / "out" / "model.xml", output=work / "again")
    assert ended.code == 1 and "already quantized" in ended.err and "calib inspect" in ended.err
    assert not (work / "again").exists()


def test_a_weight_compressed_model_is_refused(quantize: Any, work: Path):
    rows = parameter("rows", [1, 6])
    small = opset.constant(np.arange(24, dtype=np.int8).reshape(6, 4))
    scaled = opset.multiply(opset.convert(small, np.float32), opset.constant(np.full((1, 4), 0.1, np.float32)))
    write_ir(ov.Model([opset.matmul(rows, scaled, False, False)], [rows], "model"), work / "model.xml")
    ended = quantize(data=save(work, rows=weights(4, 6)))
    assert ended.code == 1 and "compressed to integers already" in ended.err and "FP32 or FP16" in ended.err
    assert left_behind(work) == []


def test_a_folder_of_several_models_names_them(quantize: Any, work: Path):
    for name in ("a", "b"):
        shutil.copy(work / "model.xml", work / f"{name}.xml")
    ended = quantize(model=work, output=work / "out")
    assert ended.code == 1 and "a.xml, b.xml, model.xml. Name one" in ended.err and not (work / "out").exists()


@pytest.mark.parametrize("batch", [1, 4])
def test_stacked_data_fit_a_fixed_batch(batch: int, quantize: Any, work: Path):
    write_ir(convnet(batch=batch), work / "model.xml")
    stacks = [images(8)] if batch == 1 else list(images(16).reshape(4, 4, 3, 8, 8))
    for stack in stacks:
        result = calib.quantize(work / "model.xml", [stack], effort="fast", estimator="minmax")
        assert result.report.calibration_samples == len(stack) // batch
    if batch > 1:
        assert "fixed at 4" in quantize().err
        assert quantize(data=save(work, image=np.stack(stacks))).code == 0


@pytest.mark.parametrize("target", ["GPU", "npu"])
def test_a_target_that_is_not_there_yet_is_refused_with_the_reason(target: str, quantize: Any, work: Path):
    ended = quantize("--target", target)
    assert ended.code == 2 and "not supported" in ended.err and "choose cpu" in ended.err
    assert left_behind(work) == []


def test_a_model_with_nothing_to_quantize_says_why(quantize: Any, work: Path):
    ended = quantize("--ignore", "re:.*")
    assert ended.code == 1 and "nothing to quantize" in ended.err and "first (Convolution): ignored" in ended.err
    image = parameter("image", [1, 3, 8, 8])
    write_ir(ov.Model([opset.relu(image)], [image], "model"), work / "model.xml")
    ended = quantize()
    assert ended.code == 1 and "no convolution and no MatMul" in ended.err
    assert left_behind(work) == []


def test_the_input_is_not_overwritten_and_nothing_runs_before_that_is_said(
    quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    before = (work / "model.xml").read_bytes()
    monkeypatch.setattr("calib.quantize", lambda *_, **__: pytest.fail("it ran"))
    for model in (work / "model.xml", work):
        ended = quantize(model=model, output=work)
        assert ended.code == 2 and "would be overwritten" in ended.err
    assert (work / "model.xml").read_bytes() == before


def test_a_generator_that_ends_is_refused_where_a_second_pass_is_needed(
    quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    (work / "one_shot.py").write_text("def data():\n    yield from [[[[0.0] * 8] * 8] * 3] * 4\n")
    monkeypatch.chdir(work)
    ended = quantize(data="python:one_shot:data")
    assert ended.code == 1 and "only once" in ended.err and "iterated more than once" in ended.err
    with pytest.raises(DataError, match="only once"):
        calib.quantize(work / "model.xml", iter(images(4)))


def test_a_feed_that_no_layer_can_take_is_refused_where_openvino_would_read_beyond_it(quantize: Any, work: Path):
    write_ir(dynamic(), work / "model.xml")
    good, bad = weights(4, 1, 8), weights(4, 1, 5)
    ended = quantize(data=save(work, rows=bad))
    assert ended.code == 1 and "[1,5]" in ended.err and "data.npz" in ended.err
    assert left_behind(work) == []
    validation = work / "validation.npz"
    np.savez(validation, rows=bad)
    ended = quantize("--validation", validation, data=save(work, rows=good))
    assert ended.code == 1 and "[1,5]" in ended.err and "validation.npz" in ended.err
    validation.unlink()
    assert quantize(data=save(work, rows=good)).code == 0


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_other_commands_refuse_such_a_feed_too(command: str, run: Any, work: Path):
    write_ir(dynamic(), work / "model.xml")
    data = save(work, rows=weights(4, 1, 5))
    flags = (
        ["--validation", data, "--metric", "psnr"] if command == "evaluate" else [work / "model.xml", "--data", data]
    )
    ended = run(command, work / "model.xml", *flags)
    assert ended.code != 0 and ended.out == "" and "Traceback" not in ended.err


def test_nan_weights_are_an_error_that_names_the_layer(quantize: Any, work: Path):
    model = convnet()
    spoilt = next(node for node in model.get_ops() if node.get_friendly_name() == "second").input_value(1).get_node()
    values = spoilt.get_data().copy()
    values[0, 0, 0, 0] = np.nan
    for target in spoilt.output(0).get_target_inputs():
        target.replace_source_output(opset.constant(values).output(0))
    write_ir(model, work / "model.xml")
    ended = quantize()
    assert ended.code == 1 and "'second'" in ended.err and "not finite" in ended.err and "first is nan" in ended.err
    assert left_behind(work) == []
    with pytest.raises(ModelError, match="'second'"):
        calib.quantize(model, list(images(4)), effort="fast")


def test_all_mistakes_of_settings_come_before_the_model_is_read(quantize: Any, work: Path):
    config = work / "job.json"
    config.write_text(json.dumps({"samples": 0, "estimator": "best"}))
    (work / "model.bin").unlink()
    ended = quantize("--set", "effort=most", "--config", config, "--threads", "0")
    assert ended.code == 2 and all(word in ended.err for word in ("samples", "threads")), ended.err


def test_a_plan_of_another_model_is_refused(quantize: Any, run: Any, work: Path):
    (work / "plan.json").write_text(run("quantize", work / "model.xml", "--dry-run", "--json").out)
    write_ir(convnet(names=("a", "b", "c")), work / "model.xml")
    ended = quantize("--plan", work / "plan.json")
    assert ended.code == 1 and "made for another model" in ended.err and not (work / "out").exists()


def test_a_baseline_far_from_the_published_figure_stops_the_run(quantize: Any, work: Path):
    np.savez(work / "validation.npz", image=images(40), labels=np.arange(40) % 5)
    flags = ("--metric", "top-1", "--max-drop", "0.01", "--reference", "0.99")
    ended = quantize("--validation", work / "validation.npz", *flags)
    assert ended.code == 1 and "baseline" in ended.err and not (work / "out" / "report.json").exists()


def test_labels_that_are_off_by_one_stop_the_run_and_are_named(quantize: Any, work: Path):
    seen, session = images(40, seed=5), core().compile_model(work / "model.xml", "CPU")
    right = np.array([int(session(image[None])[0].argmax()) for image in seen])
    flags = ("--metric", "top-1", "--max-drop", "0.9", "--validation", work / "validation.npz")
    np.savez(work / "validation.npz", image=seen, labels=(right + 1) % 5)
    ended = quantize(*flags)
    assert ended.code == 1 and "labels are off by one. Move them by -1" in ended.err
    assert not (work / "out" / "report.json").exists()
    assert quantize(*flags, "--reference", "0").code == 0  # whoever says that this is right is believed
