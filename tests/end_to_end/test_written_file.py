"""Wrong models never leave quietly: the written file is run against the model in memory and its own simulation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_features import EXACT_INT8
from trust_fixtures.tiny import left_behind, opset, write_ir

from calib.engine import result, verify
from calib.runtime.executed import executed_nodes
from calib.runtime.isa import SATURATION
from calib.runtime.session import Session, infer_all, ov


def damage(xml: Path, shape: str) -> None:
    """Give the i8 weights of a shape other values in the file."""
    text = xml.read_text()
    constants = re.findall(r'<data element_type="i8" shape="([^"]*)" offset="(\d+)" size="(\d+)"', text)
    offset, size = next((int(o), int(s)) for given, o, s in constants if given == shape)
    values = bytearray(xml.with_suffix(".bin").read_bytes())
    weights = np.frombuffer(bytes(values[offset : offset + size]), np.int8)
    values[offset : offset + size] = (-np.roll(weights, 7)).tobytes()
    xml.with_suffix(".bin").write_bytes(values)


def test_a_file_that_is_not_the_model_in_memory_is_refused_with_the_layer(
    quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    save = result.save_model

    def save_and_damage(model: Any, path: Path, **options: Any) -> None:
        save(model, path, **options)
        damage(path, "8, 8, 3, 3")

    monkeypatch.setattr(result, "save_model", save_and_damage)
    ended = quantize()
    assert (ended.code, ended.out) == (1, "") and "differs from the model in memory" in ended.err
    assert "first at layer 'second'" in ended.err, ended.err
    assert left_behind(work) == []


class Miscomputing(Session):
    """Stands for a CPU whose kernel of the layer "second" is wrong: only its simulation in f32 is right."""

    simulated = False

    def __init__(self, model: Any, config: Any):
        super().__init__(model, config)
        int8 = any(node.int8 for node in executed_nodes(self.compiled))  # FP32 runs no kernel that is wrong
        self.simulated = "LP_TRANSFORMS_MODE" in config or not int8

    def each(self, samples: Any) -> Iterator[list[Any]]:
        # Tapped: the model's output, first, second, head. Plain: the model's output alone.
        wrong = {0, 2, 3} if not self.simulated else set()
        for outputs in super().each(samples):
            yield [-output if i in wrong else output for i, output in enumerate(outputs)]


def miscomputed(compiled: ov.CompiledModel, feeds: Any) -> Iterator[list[Any]]:
    """Run samples as infer_all does, on the CPU that ``Miscomputing`` stands for."""
    sign = -1 if any(node.int8 for node in executed_nodes(compiled)) else 1
    for outputs in infer_all(compiled, feeds):
        yield [sign * output for output in outputs]


@pytest.mark.parametrize(
    ("exact", "target", "advice"),
    [(True, "cpu", "--ignore"), (False, "cpu", "--target cpu-no-vnni"), (False, "cpu-no-vnni", "--ignore")],
    ids=["exact sums", "saturating sums", "weights in half range"],
)
def test_execution_that_is_not_what_was_simulated_is_refused_with_the_layer_and_the_advice_that_helps(
    quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch, exact: bool, target: str, advice: str
):
    monkeypatch.setattr(verify, "Session", Miscomputing)
    monkeypatch.setattr("calib.corrections.scoring.infer_all", miscomputed)  # so that the run's own SQNR is wrong too
    monkeypatch.setattr("calib.runtime.isa.exact_int8", lambda found, limit: exact)
    ended = quantize("--target", target)
    assert (ended.code, ended.out) == (1, "") and "differs from its simulation" in ended.err
    assert "first at layer 'second'" in ended.err, ended.err
    assert [words for words in ("--ignore", "--target cpu-no-vnni") if words in ended.err] == [advice]
    assert left_behind(work) == []


def saturating(path: Path) -> Path:
    """Write a 1x1 convolution whose sums of pairs take twice the 16 bits that they have without VNNI."""
    x = opset.parameter([1, 16, 8, 8], np.float32, name="x")
    unit = [[1, 1], [0, 0], [0, 0], [1, 1]]
    layer = opset.convolution(x, opset.constant(np.ones((16, 16, 1, 1), np.float32)), *unit)
    layer.set_friendly_name("layer")
    return write_ir(ov.Model([layer], [x], "saturating"), path)


@pytest.mark.parametrize("target", ["cpu", "cpu-no-vnni"])
def test_a_model_whose_sums_saturate_is_refused_here_and_written_where_they_do_not(
    quantize: Any, tmp_path: Path, target: str
):
    model, data = saturating(tmp_path / "saturating.xml"), tmp_path / "ones.npz"
    np.savez(data, x=np.ones((4, 16, 8, 8), np.float32))
    ended = quantize("--target", target, model=model, data=data)
    refused = target == "cpu" and not EXACT_INT8
    assert ended.code == (1 if refused else 0), ended.err
    assert ("sums of INT8 products saturate here" in ended.err) == refused


def test_the_report_says_where_sums_of_int8_products_can_saturate(quantize: Any, work: Path):
    warned = {}
    for target in ("cpu", "cpu-no-vnni", "auto"):
        assert quantize("--target", target, output=work / target).code == 0
        report = json.loads((work / target / "report.json").read_text())
        warned[target] = SATURATION in report["warnings"]
    assert warned == {"cpu": not EXACT_INT8, "cpu-no-vnni": False, "auto": False}
