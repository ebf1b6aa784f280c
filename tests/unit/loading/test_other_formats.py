"""Files of TensorFlow, TensorFlow Lite and PaddlePaddle are models like an IR.

covers: calib.loading.find
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cpu_features import TARGET
from foreign_files import FILES

from calib import inspect, quantize
from calib.errors import ModelError
from calib.loading.find import find_model
from calib.loading.load import load_model
from calib.loading.normalize import walk
from calib.runtime.session import Session, core, ov
from calib.values.sqnr import decibel, squared_error

CASES = [(form, make) for form, makers in FILES.items() for make in makers]


def ports(model: ov.Model) -> list[tuple[str, set[str]]]:
    """Return the friendly names of inputs and results, "" for those of a counter, and the names of their tensors."""
    found = [(port.get_node().get_friendly_name(), port.get_names()) for port in (*model.inputs, *model.outputs)]
    return [(re.sub(r"Result_\d+", "", name), names) for name, names in found]


def samples(model: ov.Model) -> list[np.ndarray]:
    shape = model.inputs[0].get_shape()
    return [np.random.default_rng(seed).standard_normal(shape).astype(np.float32) for seed in range(12)]


@pytest.mark.parametrize(("form", "make"), CASES)
def test_a_file_is_quantized_and_keeps_the_names_that_convert_model_gives(form, make, tmp_path: Path):
    path = make(tmp_path)
    model = ov.convert_model(str(path))
    found = quantize(path, samples(model), effort="fast", speed=False, target=TARGET)
    assert found.report.model.format == form and found.report.model.name == path.stem
    assert [layer.executed for layer in found.report.layers] == ["i8", "i8"]
    pairs = [
        (x, y)
        for [x], [y] in zip(
            *(Session(one).each([one] for one in samples(model)) for one in (model, found.model)), strict=True
        )
    ]
    assert decibel(*np.sum([squared_error(*pair) for pair in pairs], axis=0)) > 30
    found.save(tmp_path / "out")
    assert ports(core().read_model(tmp_path / "out" / f"{path.stem}.xml")) == ports(model)


@pytest.mark.parametrize(("form", "make"), CASES)
def test_a_file_gives_the_same_names_and_the_same_fingerprint_each_time(form, make, tmp_path: Path):
    path = make(tmp_path)
    one, two = load_model(path), load_model(path)
    names = [[node.get_friendly_name() for _, nodes in walk(m) for node in nodes] for m in (one.model, two.model)]
    assert names[0] == names[1] and len(set(names[0])) == len(names[0])
    assert one.facts == two.facts and one.facts.bytes_before > 8 * 8 * 9 * 4
    if form == "paddle":  # the only one of these readers that keeps the name
        assert "Relu_7" in names[0]
    assert not any(name.partition("_")[2].isdigit() and int(name.partition("_")[2]) > 20 for name in names[0])


def test_other_weights_beside_the_same_file_are_another_model(tmp_path: Path):
    (make,) = FILES["paddle"]
    path = make(tmp_path)
    before = load_model(path).facts.fingerprint
    data = bytearray(path.with_suffix(".pdiparams").read_bytes())
    data[-1] ^= 1
    path.with_suffix(".pdiparams").write_bytes(data)
    assert load_model(path).facts.fingerprint != before


@pytest.mark.parametrize(("form", "make"), CASES)
def test_a_folder_with_one_such_file_is_that_model(form, make, tmp_path: Path):
    path = make(tmp_path)
    assert find_model(path) == path and inspect(path).model.format == form
    assert find_model(tmp_path if path.is_file() else path) == path


def test_the_graph_of_a_saved_model_stands_for_its_folder(tmp_path: Path):
    path = FILES["tensorflow"][1](tmp_path)
    assert find_model(path / "saved_model.pb") == path


@pytest.mark.parametrize("ending", [".pb", ".tflite", ".pdmodel"])
def test_a_damaged_or_empty_file_is_refused_by_name(ending, tmp_path: Path):
    path = tmp_path / f"net{ending}"
    for content in (b"", b"\x00nothing of the kind" * 9):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=re.escape(str(path))):
            load_model(path)


@pytest.mark.parametrize("ending", [".pt", ".keras", ".safetensors"])
def test_what_a_framework_has_to_load_first_is_refused_with_the_way_out(ending, tmp_path: Path):
    path = tmp_path / f"net{ending}"
    path.write_bytes(b"anything")
    with pytest.raises(ModelError, match=r"ov\.convert_model\(model, example_input=…\)"):
        load_model(path)


def test_a_model_of_a_framework_in_memory_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Module:
        """Stands for a network of a framework that need not be installed."""

    model = ov.convert_model(str(FILES["tensorflow"][0](tmp_path)))
    monkeypatch.setattr(ov, "convert_model", lambda given: model if isinstance(given, Module) else None)
    found = quantize(Module(), samples(model), effort="fast", speed=False, target=TARGET)
    assert [layer.executed for layer in found.report.layers] == ["i8", "i8"]


def test_an_object_that_is_no_model_is_refused_with_what_can_be_given():
    with pytest.raises(ModelError, match=r"a model of builtins\.int: OpenVINO can't convert it"):
        load_model(3)
