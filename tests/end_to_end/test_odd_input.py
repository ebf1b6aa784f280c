"""Odd models, names, places and flags through the command line: each works or is a clear error, and nothing is lost."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images, left_behind, opset, parameter, weights, write_ir

from calib.report.json_report import read_report
from calib.runtime.session import core, ov


def rows(weight: Any, dtype: Any = np.float32) -> ov.Model:
    """Return a MatMul of [1,8] · weight."""
    given = parameter("rows", [1, 8], dtype)
    return ov.Model([opset.matmul(given, weight, False, False)], [given], "model")


def bfloat16() -> ov.Model:
    tensor = ov.Tensor(ov.Type.bf16, ov.Shape([8, 4]))
    tensor.data[:] = weights(8, 4).astype(tensor.data.dtype)
    return rows(opset.convert(ov.op.Constant(tensor), np.float32))


def twice() -> ov.Model:
    image = parameter("image", [1, 3, 8, 8])
    layer = opset.convolution(image, weights(4, 3, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1])
    return ov.Model([opset.result(layer), opset.result(layer), opset.result(image)], [image], "model")


MODELS = {
    "weights of bfloat16": (bfloat16, "rows"),
    "weights of half precision": (lambda: rows(opset.convert(weights(8, 4).astype(np.float16), np.float32)), "rows"),
    "weights that are all zero": (lambda: rows(np.zeros((8, 4), np.float32)), "rows"),
    "weights below the smallest normal number": (lambda: rows((weights(8, 4) * 1e-42).astype(np.float32)), "rows"),
    "weights near the largest number": (lambda: rows(weights(8, 4) * np.float32(1e37)), "rows"),
    "double precision": (lambda: rows(weights(8, 4).astype(np.float64), np.float64), "rows"),
    "half precision": (lambda: rows(weights(8, 4).astype(np.float16), np.float16), "rows"),
    "an output twice, and the input as an output": (twice, "image"),
    "layers without a name": (lambda: convnet(names=("", "", "")), "image"),
    "layers of one name": (lambda: convnet(names=("same", "same", "same")), "image"),
    "names that calib gives": (lambda: convnet(names=("image:0/fq", "image:0/fq_low", "second/i8")), "image"),
    "names that look like places": (lambda: convnet(names=("../../x", "/etc/passwd", "a:0")), "image"),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_odd_model_is_quantized_and_its_file_runs(name: str, quantize: Any, work: Path):
    build, source = MODELS[name]
    write_ir(build(), work / "model.xml")
    data = weights(16, 8) * np.float32(0.1) if source == "rows" else images(16)
    np.savez(work / "data.npz", **{source: data})
    ended = quantize("--no-speed")
    assert ended.code == 0, ended.err
    outputs = core().compile_model(work / "out" / "model.xml", "CPU")([data[:1]])
    assert all(np.isfinite(value).all() for value in outputs.values())


REFUSED = {
    "no convolution and no MatMul": (lambda: ov.Model([opset.relu(x := parameter("image", [1, 3, 8, 8]))], [x], "m"),
                                     "there is nothing to quantize. It holds no convolution"),
    "integers": (lambda: rows(np.ones((8, 4), np.int32), np.int32), "(rows:0) is i32, not f32"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_without_a_layer_for_int8_says_why(name: str, quantize: Any, work: Path):
    build, said = REFUSED[name]
    write_ir(build(), work / "model.xml")
    np.savez(work / "data.npz", image=images(4), rows=np.ones((4, 8), np.int32))
    ended = quantize()
    assert (ended.code, ended.out) == (1, "") and said in ended.err
    assert left_behind(work) == []


def test_an_input_of_dynamic_rank_is_refused_with_the_way_out(quantize: Any, work: Path):
    given = opset.parameter(ov.PartialShape.dynamic(), np.float32, name="rows")
    given.output(0).set_names({"rows"})
    write_ir(ov.Model([opset.matmul(given, weights(8, 4), False, False)], [given], "m"), work / "model.xml")
    ended = quantize()
    assert ended.code == 1 and "'rows' has a dynamic rank" in ended.err and "reshape it" in ended.err
    assert left_behind(work) == []


def test_numbers_for_an_input_of_text_are_refused_by_what_it_takes(quantize: Any, work: Path):
    words, given = opset.parameter(ov.PartialShape([1]), ov.Type.string, name="words"), parameter("rows", [1, 8])
    words.output(0).set_names({"words"})
    layer = opset.matmul(given, weights(8, 4), False, False)
    write_ir(ov.Model([opset.result(layer), opset.result(words)], [given, words], "m"), work / "model.xml")
    np.savez(work / "data.npz", rows=weights(4, 8), words=np.ones((4, 1), np.float32))
    ended = quantize()
    assert ended.code == 1 and "'words'" in ended.err and "needs strings" in ended.err


SHORTENING = """
import os
from pathlib import Path
import numpy as np

class Shortening:
    def __iter__(self):
        assert "model.bin" not in Path("/proc/self/maps").read_text(), "mapped: the next line would end the process"
        os.truncate("model.bin", 8)
        return iter(np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype("float32"))

def data():
    return Shortening()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_weights_that_are_cut_short_during_a_run_do_not_matter(
    quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(work)
    (work / "shortening_data.py").write_text(SHORTENING)
    ended = quantize("--no-speed", data="python:shortening_data:data")
    assert ended.code == 0, ended.err
    assert os.path.getsize(work / "model.bin") == 8  # it was cut while it was in use


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_in_the_output_folder_do_not_lead_back_to_the_input(link: Any, quantize: Any, work: Path):
    (work / "out").mkdir()
    for name in ("model.xml", "model.bin"):
        link(work / name, work / "out" / name)
    before = [(work / name).read_bytes() for name in ("model.xml", "model.bin")]
    assert quantize("--no-speed").code == 0
    assert [(work / name).read_bytes() for name in ("model.xml", "model.bin")] == before
    assert (work / "out" / "model.xml").read_bytes() != before[0]


@pytest.mark.parametrize("way", ["link", "dots"])
def test_the_input_is_not_overwritten_by_another_name_of_its_folder(way: str, quantize: Any, work: Path):
    (work / "link").symlink_to(work)
    ended = quantize(output=work / "link" if way == "link" else work / "nothing" / "..")
    assert ended.code == 2 and "would be overwritten" in ended.err


@pytest.mark.parametrize("name", ["z.npz", "z.xml", "z.onnx"])
def test_a_file_without_an_end_is_not_read(name: str, quantize: Any, work: Path):
    (work / name).symlink_to("/dev/zero")
    ended = quantize(data=work / name) if name.endswith("npz") else quantize(model=work / name)
    assert ended.code == 1 and name in ended.err and "file" in ended.err


def test_paths_of_any_characters_work_and_are_read_back(quantize: Any, work: Path):
    folder = os.fsdecode(os.fsencode(work) + b"/\xff\xfe \xe6\xa8\xa1 'a\nb\x1b[31m")
    os.mkdir(folder)
    for name in ("model.xml", "model.bin", "data.npz"):
        os.rename(work / name, os.path.join(folder, name))
    ended = quantize(
        "--no-speed", "--json", model=f"{folder}/model.xml", data=f"{folder}/data.npz", output=f"{folder}/out"
    )
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err
    assert read_report(Path(folder) / "out").model.source == f"{folder}/model.xml"
    assert json.loads(ended.out)["model"]["source"] == f"{folder}/model.xml"


@pytest.mark.parametrize("what", ["model", "data", "output"])
def test_a_name_that_no_file_can_have_is_an_error_of_one_line(what: str, quantize: Any, work: Path):
    name = str(work / ("n" * 300 + {"model": ".xml", "data": ".npz", "output": ""}[what]))
    ended = quantize(**{what: name})
    assert (ended.code, ended.out) == (1, "") and ended.err == f"error: {name}: File name too long. Give another path\n"
    assert left_behind(work) == []


@pytest.mark.parametrize("target", ["loop", "nowhere"])
def test_an_output_that_is_a_link_to_nothing_is_refused_before_anything_runs(
    target: str, quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("calib.quantize", lambda *_, **__: pytest.fail("it ran"))
    (work / "loop").symlink_to(work / target)
    ended = quantize(output=work / "loop")
    assert ended.code == 2 and "broken link" in ended.err


BUDGETS = ("-1", "nan", "inf", "1e400", " ", "a lot")


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_budget_that_is_none_is_refused_before_anything_runs(budget: str, quantize: Any, work: Path):
    ended = quantize("--max-drop", budget, "--metric", "relative-l2")
    assert ended.code == 2 and "max_drop: must be" in ended.err
    assert left_behind(work) == []


METRICS = {
    "nan": ("return float('nan')", "it has to be finite"),
    "nothing": ("return None", "has to return a float"),
    "an exit": ("import sys; sys.exit(7)", "sys.exit(7)"),
    "endless recursion": ("return measure(predict)", "RecursionError"),
    "no memory": ("raise MemoryError", "MemoryError"),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_misbehaves_is_an_error_and_no_crash(
    name: str, quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    body, said = METRICS[name]
    module = "odd_metric_" + name.replace(" ", "_")
    (work / f"{module}.py").write_text(f"def measure(predict):\n    {body}\n")
    monkeypatch.chdir(work)
    ended = quantize("--metric", f"python:{module}:measure", "--higher-is-better", "--max-drop", "0.1")
    assert (ended.code, ended.out) == (1, "") and said in ended.err and "unexpected" not in ended.err
    assert not (work / "out" / "report.json").exists()


def test_the_calibration_file_may_be_the_validation_file_too(quantize: Any, work: Path):
    flags = ("--validation", work / "data.npz", "--metric", "relative-l2", "--max-drop", "0.9", "--no-speed")
    assert quantize(*flags).code == 0


def test_samples_that_are_all_the_same_are_told_apart_by_their_place(quantize: Any, work: Path):
    np.savez(work / "data.npz", image=np.repeat(images(1), 16, axis=0))
    assert quantize("--no-speed", "--set", "effort=balanced").code == 0
    assert read_report(work / "out").calibration_samples == 16


@pytest.fixture
def plan(quantize: Any, work: Path) -> dict[str, Any]:
    """Return the plan of a run, with ranges."""
    assert quantize("--no-speed", output=work / "before").code == 0
    return json.loads((work / "before" / "plan.json").read_text())


SPOILT: dict[str, tuple[Any, str]] = {
    "a range of NaN": (lambda p: p["activations"][0]["range"].update(high=float("nan")), "is damaged: the range of"),
    "a range without an end": (lambda p: p["activations"][0]["range"].update(high=1e999), "is damaged: the range of"),
    "a range upside down": (lambda p: p["activations"][0]["range"].update(high=-1e9), "is damaged: the range of"),
    "too many levels": (lambda p: p["weights"][0].update(levels=100000), "100000 levels"),
    "an input too many": (lambda p: p["activations"][0]["routes"][0]["entry"].update(input=99), "input 99 of"),
    "weights on no input": (lambda p: p["weights"][0]["port"].update(input=9), "input 9 of"),
    "weights that are none": (lambda p: p["weights"][0]["port"].update(input=0), "is no constant"),
    "another tensor": (lambda p: p["activations"][0]["tensor"].update(output=7), "which is not so in model"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_plan_that_does_not_fit_is_refused(name: str, quantize: Any, plan: dict[str, Any], work: Path):
    spoil, said = SPOILT[name]
    spoil(plan["plan"])
    (work / "plan.json").write_text(json.dumps(plan))
    ended = quantize("--plan", work / "plan.json", "--no-speed")
    assert (ended.code, ended.out) == (1, "") and said in ended.err and "unexpected" not in ended.err, ended.err
    assert not (work / "out").exists()


def test_a_time_that_is_no_number_is_refused(run: Any, work: Path):
    ended = run("bench", work / "model.xml", "--seconds", "nan")
    assert ended.code == 2 and "--seconds" in ended.err
