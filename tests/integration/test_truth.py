"""A sample of benchmarks/truth.py: reports of generated networks, held against a judge that shares no code with calib.

The judge's own process and sums are tested on figures whose answer is known, since nothing else checks the judge.
"""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import truth  # noqa: E402
import truth_judge  # noqa: E402

from calib.runtime.session import ov  # noqa: E402

# Cheap ones, of kinds that the other generated networks of the suite don't have.
SEEDS = {
    13: "rows in a dynamic batch, boxes and scores joined",
    22: "two outputs",
    28: "tokens, a GRU and attention",
    31: "a network that keeps state, given sequences",
    43: "three-dimensional convolutions, one depthwise, one transposed",
}


def test_the_judge_imports_nothing_of_calib():
    tree = ast.parse((BENCHMARKS / "truth_judge.py").read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names - set(sys.stdlib_module_names) <= {"numpy", "openvino", "onnxruntime"}


def test_the_judges_process_refuses_calib():
    code = (
        f"import runpy, sys; sys.argv = ['truth_judge.py', 'nowhere']; sys.path.insert(0, {str(BENCHMARKS.parent)!r})\n"
        f"try: runpy.run_path({str(BENCHMARKS / 'truth_judge.py')!r}, run_name='__main__')\n"
        "except FileNotFoundError: pass\n"
        "import calib"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "the judge shares no code with calib" in done.stderr


def test_energies_of_a_sample_are_sums_of_squares_over_its_frames():
    y, q = np.float32([3, 4, np.inf]), np.float32([3, 5, 0])
    assert truth_judge.energies([[[y]]], [[[q]]]) == [[[25.0, 1.0]]]
    assert truth_judge.energies([[[y, y]]], [[[q, y]]]) == [[[50.0, 1.0]]]
    assert truth_judge.energies([[[y[:2]]]], [[[q]]]) == [[[25.0, 25.0]]]  # another shape
    assert truth_judge.energies([[[y[:2]]]], [[[q[:2] * np.inf]]]) == [[[25.0, math.inf]]]
    assert truth_judge.energies([[[np.int64([1, 2])]]], [[[np.int64([1, 3])]]]) == [[[2.0, 1.0]]]


def test_decibels_are_of_the_sums_over_samples():
    assert truth.decibel([[90.0, 0.5], [10.0, 0.5]]) == pytest.approx(20.0)
    assert truth.decibel([[1.0, 0.0]]) == math.inf
    assert truth.decibel([[1.0, math.inf]]) == -math.inf


def _said(noise: float = 1.0, **other: Any) -> dict[str, Any]:
    """Return what a judge says of one output with one INT8 layer, at 20 dB on four samples."""
    rows = [[[100.0, noise]] * 4]
    named = {"int8": rows, "int8 default": rows, "fp32 default": [[[100.0, 0.0]] * 4]}
    ports = [[["x"], "[1]", "f32"], [["y"], "[1]", "f32"]]
    said = {"names": [["y"]], "floats": [True], "selected": [False], "named": named, "unseen": {"int8": rows}}
    said["parts"] = {"y": {"named": named, "unseen": {"int8": rows}}}
    return said | {"claims": {"conv": {"default": "gemm_i8"}}, "interface": [ports, ports]} | other


def _report(sqnr: float = 20.0, interval: tuple[float, float] | None = (19.0, 21.0), **other: Any) -> dict[str, Any]:
    part = {"held_out_db": sqnr, "interval": interval, "written_db": sqnr, "default_db": sqnr}
    part["fp32_default_db"] = "Infinity"
    return {"output_sqnr": {"samples": ["a"], "parts": {"y": part}, "notes": []}, "warnings": []} | other


def test_a_true_report_has_no_fault():
    assert not truth.verdict(_report(), _said())["faults"]


def test_a_figure_that_is_not_the_judges_is_a_fault():
    found = truth.verdict(_report(20.6), _said())
    assert found["faults"] == ["y: written 20.6 dB, the judge 20.00 dB", "y: default 20.6 dB, the judge 20.00 dB"]


def test_a_layer_called_int8_without_an_int8_primitive_is_a_fault():
    found = truth.verdict(_report(), _said(claims={"conv": {"default": "jit_gemm_f32"}}))
    assert found["faults"] == ["conv is called INT8 and ran {'default': 'jit_gemm_f32'}"]


def test_inputs_or_outputs_that_changed_are_a_fault():
    ports = _said()["interface"][0]
    renamed = [[["x"], "[1]", "f32"], [["z"], "[1]", "f32"]]
    assert "inputs or outputs changed" in truth.verdict(_report(), _said(interface=[ports, renamed]))["faults"][0]


def test_a_useless_model_needs_a_warning():
    said, report = _said(50.0), _report(3.01, (2.0, 4.0))
    assert truth.verdict(report, said)["faults"] == ["y: 3.0 dB on unseen samples and no warning"]
    assert not truth.verdict(report | {"warnings": ["the output SQNR is low"]}, said)["faults"]


def test_a_figure_without_an_interval_needs_a_reason():
    report = _report(interval=None)
    assert truth.verdict(report, _said())["faults"] == ["y: neither an interval nor a reason why there is none"]
    report["output_sqnr"]["notes"].append("too few samples")
    assert not truth.verdict(report, _said())["faults"]


def test_a_file_that_openvino_misreads_needs_a_warning():
    said = _said(reader=[[[100.0, 1.0]] * 4])
    assert truth.verdict(_report(), said)["faults"] == ["y: OpenVINO and onnxruntime are 20.0 dB apart, not warned of"]


def test_a_file_that_onnxruntime_has_no_kernel_for_needs_a_warning():
    report, said = _report(), {**_said(), "not read": "no Gemm(6)"}
    assert truth.verdict(report, said)["faults"] == ["onnxruntime does not run the file, not said: no Gemm(6)"]
    report["warnings"].append("not compared with onnxruntime")
    assert not truth.verdict(report, said)["faults"]


def test_an_interval_counts_as_held_only_where_the_figure_lies_in_it():
    verdicts = [truth.verdict(_report(interval=ends), _said()) for ends in ((19.0, 21.0), (20.5, 22.0), None)]
    rows = {str(place): {"status": "judged", "int8": 1, **row} for place, row in enumerate(verdicts)}
    counted = truth.tally(rows)
    assert [counted[key] for key in ("parts with an interval", "that hold", "where it holds")] == [2, 1, 1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("y", [0, 1, 2, 3, 4, 5]), ("y[:, 1:]", [1, 2, 4, 5]), ("y[1:2, :2]", [3, 4])],
)
def test_parts_are_read_from_their_names(name: str, expected: list[int]):
    parameter = ov.opset13.parameter([2, 3], np.float32)
    model = ov.Model([ov.opset13.relu(parameter)], [parameter])
    model.outputs[0].get_tensor().set_names({"y"})
    part = truth_judge.Part(name, model)
    assert part.output == 0
    assert truth_judge.part_of(np.arange(6).reshape(2, 3), part.positions).ravel().tolist() == expected


def test_a_death_counts_as_openvinos_only_where_it_dies_of_the_file_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    died = {"status": "crashed", "reason": "the process died: -11"}
    assert truth.without_calib(died, tmp_path) == died  # there is no file
    parameter = ov.opset13.parameter([2, 3], np.float32)
    ov.save_model(ov.Model([ov.opset13.relu(parameter)], [parameter]), tmp_path / "network.xml")
    assert truth.without_calib(died, tmp_path) == died  # OpenVINO compiles it
    monkeypatch.setattr(truth, "PLAIN", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    slow = {"status": "took too long", "reason": "not done after 600 s of CPU time"}
    assert truth.without_calib(slow, tmp_path) == slow
    found = truth.without_calib(died, tmp_path)
    assert found["status"] == "OpenVINO died" and "dies on compiling the file as given (signal 11)" in found["reason"]


def test_a_network_that_takes_too_much_cpu_time_is_no_crash_and_the_next_gets_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    worker, asked = truth.Worker(), {"name": "generated/13", "folder": str(tmp_path), "others": "", "effort": "fast"}
    with monkeypatch.context() as limited:
        limited.setattr(truth, "SECONDS", 0.01)
        found = worker(asked)
    assert found["status"] == "took too long" and "s of CPU time" in found["reason"]
    assert worker(asked)["status"] == "written"
    worker.stop()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_report_holds_against_the_judge(seed: int, tmp_path: Path):
    found = truth.calibrate(f"generated/{seed}", tmp_path, None, "balanced")
    assert found["status"] == "written", found
    said = truth.judge(tmp_path)
    report = json.loads((tmp_path / "int8" / "report.json").read_text(encoding="utf-8"))
    assert not truth.verdict(report, said)["faults"]


def test_a_closer_bound_of_an_output_is_the_same_interface_and_one_of_an_input_is_not():
    op = ov.opset13

    def model(rows: str, *, bounded: bool = False) -> ov.Model:
        x = op.parameter(ov.PartialShape(f"[{rows},4]"), np.float32, name="x")
        first_two = op.slice(x, np.array([0]), np.array([2]), np.array([1]), np.array([0]))
        made = ov.Model([op.relu(first_two if bounded else x)], [x], "shapes")
        made.outputs[0].get_tensor().set_names({"y"})
        return made

    free, bounded = model("?"), model("?", bounded=True)
    assert str(bounded.outputs[0].get_partial_shape()) == "[..2,4]"
    closer, wider, narrowed = (
        truth_judge.interfaces(*pair) for pair in ((free, bounded), (bounded, free), (free, model("1..")))
    )
    assert closer[0] == closer[1]
    assert wider[0] != wider[1]
    assert narrowed[0][0] != narrowed[1][0]
