"""``calib bench``, ``calib doctor`` and ``calib compare`` as a user runs them, on tiny real IRs.

covers: calib.cli.bench, calib.cli.compare, calib.cli.doctor, calib.engine.bench, calib.engine.compare,
calib.loading.alike
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from calib.cli import main
from calib.engine.layer_errors import known_outputs, layer_sqnr
from calib.errors import UsageError
from calib.graph.view import GraphView
from calib.runtime.session import Session, core, ov
from calib.values.benchmark import Benchmark
from calib.values.comparison import Comparison
from calib.values.doctor import Doctor

op = ov.opset13
WEIGHTS = np.random.default_rng(0).normal(0, 1 / 12, (2, 16, 16, 3, 3)).astype(np.float32)  # 1 / √(16 · 3 · 3)


def convolution(x: ov.Node, weights: np.ndarray, name: str, high: float | None, low: float | None = None) -> ov.Node:
    """A convolution; with ``high`` it is quantized, its input to [low, high], −high where there is no ``low``.

    Weights have half range: sums of their products are exact on every CPU.
    """
    if high is not None:
        ends = [np.float32(-high if low is None else low), np.float32(high)] * 2
        x = op.fake_quantize(x, *ends, 256)
        scale = np.abs(weights).max((1, 2, 3), keepdims=True) / 63
        integers = op.constant(np.round(weights / scale).astype(np.int8))
        kernel = op.multiply(op.convert(integers, "f32"), op.constant(scale))
    else:
        kernel = op.constant(weights)
    y = op.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    y.set_friendly_name(name)
    return y


def write(path: Path, highs: tuple[float | None, float | None], names: tuple[str, str] = ("first", "second")) -> Path:
    image = op.parameter([1, 16, 12, 12], np.float32, name="image")
    image.output(0).set_names({"image"})
    hidden = op.tanh(convolution(image, WEIGHTS[0], names[0], highs[0]))
    head = convolution(hidden, WEIGHTS[1], names[1], highs[1])
    head.output(0).set_names({"map"})
    ov.save_model(ov.Model([op.result(head)], [image], path.stem), path, compress_to_fp16=False)
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write(tmp_path / "fp32.xml", (None, None))
    write(tmp_path / "int8.xml", (4.0, 1.0))
    write(tmp_path / "clipped.xml", (4.0, 0.05))
    write(tmp_path / "renamed.xml", (4.0, 1.0), ("uno", "due"))
    data = np.random.default_rng(1).normal(size=(6, 16, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=data)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def compared(work: Path, before: str, after: str, *more: object) -> Comparison:
    ended = run("compare", work / before, work / after, "--data", work / "data.npz", "--json", *more)
    assert ended.exit_code == 0, ended.output
    return Comparison.model_validate_json(ended.stdout)


def test_compare_finds_every_layer_close_where_nothing_is_wrong(work: Path):
    found = compared(work, "fp32.xml", "int8.xml")
    assert [layer.name for layer in found.layers] == ["first", "second"]
    assert all(layer.sqnr_db > 30 and layer.cosine > 0.999 for layer in found.layers)
    assert [layer.executed_after for layer in found.layers] == ["i8", "i8"]
    assert [layer.executed_before for layer in found.layers] == ["f32", "f32"]
    assert all(layer.time_after_ms is not None for layer in found.layers)
    assert found.first_jump == ""
    assert found.samples == 6


def test_compare_names_the_layer_whose_input_was_clipped(work: Path):
    found = compared(work, "fp32.xml", "clipped.xml")
    assert found.first_jump == "second"
    assert found.layers[1].jump_db > 6
    assert found.layers[0].sqnr_db > 30
    assert found.output_sqnr_db["map"] < 20


def test_compare_matches_layers_with_other_names_by_type_shape_and_order(work: Path):
    found = compared(work, "fp32.xml", "renamed.xml")
    assert [(layer.other_name, layer.matched) for layer in found.layers] == [("uno", "position"), ("due", "position")]
    assert all(layer.sqnr_db > 30 for layer in found.layers)
    assert any("matched by type" in note for note in found.notes)


def test_compare_of_a_model_with_itself_finds_no_error(work: Path):
    found = compared(work, "fp32.xml", "fp32.xml", "--samples", "2")
    assert all(layer.sqnr_db == float("inf") and layer.cosine == pytest.approx(1) for layer in found.layers)
    assert found.samples == 2


def test_compare_is_the_same_each_time_but_for_its_times(work: Path):
    def untimed() -> list[dict[str, object]]:
        layers = compared(work, "fp32.xml", "clipped.xml").layers
        return [
            layer.model_copy(update={"time_before_ms": None, "time_after_ms": None}).model_dump() for layer in layers
        ]

    assert untimed() == untimed()


def test_compare_writes_text_and_a_page(work: Path):
    page = work / "out" / "c.html"
    ended = run("compare", work / "fp32.xml", work / "clipped.xml", "--data", work / "data.npz", "--html", page)
    assert ended.exit_code == 0, ended.output
    assert "first jumps at second" in ended.stdout and "f32 → i8" in ended.stdout
    assert "wrote" in ended.stderr and "wrote" not in ended.stdout
    assert "second" in page.read_text(encoding="utf-8")


def test_compare_refuses_models_of_different_inputs(work: Path):
    x = op.parameter([1, 4], np.float32, name="x")
    ov.save_model(ov.Model([op.result(op.relu(x))], [x], "other"), work / "other.xml")
    ended = run("compare", work / "fp32.xml", work / "other.xml", "--data", work / "data.npz")
    assert ended.exit_code == UsageError.exit_code
    assert "take different inputs" in ended.stderr


def with_outputs(path: Path, *channels: int) -> Path:
    """Write a network of the same input with one output for each number of channels."""
    image = op.parameter([1, 16, 12, 12], np.float32, name="image")
    heads = [convolution(image, np.resize(WEIGHTS[1], (count, 16, 3, 3)), f"head{count}", None) for count in channels]
    ov.save_model(ov.Model([op.result(head) for head in heads], [image], path.stem), path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("fp32.xml", "two.xml", "has 1 output ('map') and"),
        ("two.xml", "fp32.xml", "has 2 outputs"),
        ("fp32.xml", "wide.xml", "'map' [1,16,12,12], and of"),
        ("int8.xml", "fp32.xml", "is quantized and"),
    ],
)
def test_compare_refuses_what_can_not_be_of_one_network_and_names_both_files(
    before: str, after: str, rule: str, work: Path
):
    with_outputs(work / "two.xml", 16, 8)
    with_outputs(work / "wide.xml", 20)
    ended = run("compare", work / before, work / after, "--data", work / "data.npz")
    assert ended.exit_code == 2 and rule in ended.output, ended.output
    assert str(work / before) in ended.output and str(work / after) in ended.output
    assert "Compare a model with what was made from it" in ended.output or "floating point first" in ended.output


def test_compare_doubts_models_whose_outputs_have_nothing_in_common(work: Path):
    with_outputs(work / "unrelated.xml", 16)
    found = compared(work, "fp32.xml", "unrelated.xml")
    (sqnr,) = found.output_sqnr_db.values()
    (doubt,) = [note for note in found.notes if "may not be of one network" in note]
    assert sqnr < 10 and str(work / "unrelated.xml") in doubt and "no layer has the same name" in doubt
    assert [
        note for note in compared(work, "fp32.xml", "renamed.xml").notes if "may not be of one network" in note
    ] == []


def test_compare_takes_large_networks_in_several_passes(work: Path, monkeypatch: pytest.MonkeyPatch):
    whole = compared(work, "fp32.xml", "clipped.xml")
    monkeypatch.setattr("calib.engine.layer_errors.TAPPED_BYTES", 1)
    parts = compared(work, "fp32.xml", "clipped.xml")
    assert [layer.sqnr_db for layer in parts.layers] == pytest.approx([layer.sqnr_db for layer in whole.layers])
    assert parts.output_sqnr_db == pytest.approx(whole.output_sqnr_db)


def test_layers_of_a_report_have_the_sqnr_that_compare_finds(tmp_path: Path):
    """Convolution → ReLU → FakeQuantize from zero: tapped, OpenVINO without snippets computes that wrongly in INT8."""
    for name, quantized in (("fp32", False), ("int8", True)):
        image = op.parameter([1, 16, 12, 12], np.float32, name="image")
        hidden = op.relu(convolution(image, WEIGHTS[0], "first", 4.0 if quantized else None))
        head = convolution(hidden, WEIGHTS[1], "second", 4.0 if quantized else None, low=0.0)
        ov.save_model(ov.Model([op.result(head)], [image], name), tmp_path / f"{name}.xml", compress_to_fp16=False)
    np.savez(tmp_path / "data.npz", image=np.random.default_rng(1).normal(size=(2, 16, 12, 12)).astype(np.float32))
    found = {layer.name: layer.sqnr_db for layer in compared(tmp_path, "fp32.xml", "int8.xml").layers}
    before, after = (core().read_model(tmp_path / f"{name}.xml") for name in ("fp32", "int8"))
    feeds = [[image[None]] for image in np.load(tmp_path / "data.npz")["image"]]
    assert min(found.values()) > 30
    known = known_outputs(*(Session(one).each(feeds) for one in (before, after)))
    sqnr, notes = layer_sqnr(before, GraphView(before), after, feeds, known)
    assert sqnr == pytest.approx(found, abs=0.1)
    assert not notes


def test_images_are_preprocessed_as_the_settings_say(tmp_path: Path):
    x = op.parameter([1, 3, 8, 8], np.float32, name="x")
    head = op.reduce_mean(op.relu(x), np.array([2, 3]), keep_dims=False)
    scores = op.matmul(head, op.constant(np.eye(3, dtype=np.float32)), False, False)
    ov.save_model(ov.Model([op.result(scores)], [x], "net"), tmp_path / "net.xml", compress_to_fp16=False)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (16, 16), (250, 10, 20)).save(tmp_path / "images" / "a.png")
    data = ("--data", tmp_path / "images", "--set", "preprocessing.resize=8", "--json")
    for command in (("compare", tmp_path / "net.xml"), ("bench", "--seconds", "0.05", "--streams", "0")):
        ended = run(*command, tmp_path / "net.xml", *data)
        assert ended.exit_code == 0, ended.output
        refused = run(*command, tmp_path / "net.xml", *data, "--set", "no_such_setting=1")
        assert refused.exit_code == UsageError.exit_code


@pytest.mark.parametrize("streams", [0, 2])
def test_bench_times_every_model_in_f32_and_in_the_default_precision(work: Path, streams: int):
    ended = run(
        *("bench", work / "fp32.xml", work / "int8.xml", "--data", work / "data.npz"),
        *("--streams", streams, "--seconds", "0.05", "--json"),
    )
    assert ended.exit_code == 0, ended.output
    found = Benchmark.model_validate_json(ended.stdout)
    default = found.environment["default precision"]
    precisions = ["f32"] if default == "f32" else ["f32", default]
    expected = [(model, precision) for model in ("fp32", "int8") for precision in precisions]
    assert [(entry.model, entry.precision) for entry in found.entries] == expected
    assert found.entries[0].speedup == 1
    assert [entry.int8_share for entry in found.entries if entry.precision == "f32"] == [0, 1]
    assert all((entry.throughput is not None) == bool(streams) for entry in found.entries)
    for entry in found.entries:
        assert entry.speedup_interval[0] <= entry.speedup <= entry.speedup_interval[1]


def test_bench_tells_models_of_one_name_apart(work: Path):
    ended = run("bench", work / "fp32.xml", work / "fp32.xml", "--seconds", "0.05", "--streams", "0", "--json")
    assert ended.exit_code == 0, ended.output
    found = Benchmark.model_validate_json(ended.stdout)
    assert len({entry.model for entry in found.entries}) == 2
    assert any("random numbers" in note for note in found.notes)


def test_bench_prints_a_table(work: Path):
    ended = run("bench", work / "int8.xml", "--seconds", "0.05", "--batch", "2")
    assert ended.exit_code == 0, ended.output
    assert "interleaved rounds" in ended.stdout and "batch 2" in ended.stdout and "int8" in ended.stdout


def test_bench_asks_for_data_where_sizes_are_dynamic(work: Path):
    x = op.parameter([1, -1], np.float32, name="tokens")
    ov.save_model(ov.Model([op.result(op.relu(x))], [x], "dynamic"), work / "dynamic.xml")
    ended = run("bench", work / "dynamic.xml")
    assert ended.exit_code == UsageError.exit_code
    assert "give --data" in ended.stderr


@pytest.mark.parametrize("option", [("--threads", "0"), ("--batch", "0"), ("--seconds", "0"), ("--streams", "-1")])
def test_bench_refuses_numbers_that_make_no_sense(work: Path, option: tuple[str, str]):
    assert run("bench", work / "fp32.xml", *option).exit_code == UsageError.exit_code


def test_doctor_says_what_the_machine_is_and_what_that_means():
    found = Doctor.model_validate_json(run("doctor", "--json").stdout)
    assert found.versions["openvino"].startswith("20")
    assert found.default_precision in ("f32", "bf16", "f16")
    assert found.cores >= 1 and found.threads >= 1 and found.memory > 0
    assert found.extras["text"].keys() == {"jiwer"}
    gone = {extra for extra, packages in found.extras.items() if not all(packages.values())}
    assert found.missing.keys() == gone
    assert any("--target cpu-no-vnni" in sentence for sentence in found.advice)
    text = run("doctor")
    assert text.exit_code == 0
    assert found.default_precision in text.stdout and "what this means" in text.stdout


def test_json_is_all_there_is_on_stdout(work: Path):
    for arguments in (("doctor",), ("bench", work / "fp32.xml", "--seconds", "0.05")):
        json.loads(run(*arguments, "--json").stdout)
