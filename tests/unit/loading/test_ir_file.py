from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openvino import opset13 as opset

from calib.errors import ModelError
from calib.loading.ir_file import check_ir
from calib.loading.load import load_model
from calib.runtime.session import ov


def _write(folder):
    x = opset.parameter([1, 3, 8, 8], np.float32, name="x")
    w = opset.constant(np.ones((4, 3, 3, 3), np.float32), name="w")
    y = opset.relu(opset.convolution(x, w, [1, 1], [0, 0], [0, 0], [1, 1], name="conv"), name="relu")
    path = folder / "net.xml"
    ov.save_model(ov.Model([opset.result(y, name="out")], [x], "net"), str(path), compress_to_fp16=False)
    return path


@pytest.fixture
def ir(tmp_path):
    return _write(tmp_path)


@pytest.fixture(scope="module")
def shared_ir(tmp_path_factory):
    return _write(tmp_path_factory.mktemp("ir"))


def _edit(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def test_a_sound_ir_gives_the_names_of_its_layers(ir):
    assert check_ir(ir) == {"x", "w", "conv", "relu", "out"}


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_control_characters_that_openvino_writes_into_names_are_no_damage(tmp_path, monkeypatch, block):
    monkeypatch.setattr("calib.loading.ir_file._BLOCK", block)
    x = opset.parameter([1, 4], np.float32, name="x\x1b[31m")
    path = tmp_path / "net.xml"
    ov.save_model(ov.Model([opset.relu(x, name="\x01\x1f")], [x], "net"), path)
    assert b"&#27;" in path.read_bytes()
    assert {"x?[31m", "??"} <= check_ir(path)
    assert load_model(path).model.get_parameters()[0].get_friendly_name() == "x\x1b[31m"


@pytest.mark.parametrize("reference", ["&#0;", "&#99999999;", "&none;", "&#27", "&"])
def test_other_references_are_refused(ir, reference):
    _edit(ir, 'name="relu"', f'name="{reference}"')
    with pytest.raises(ModelError, match="not well-formed XML"):
        check_ir(ir)


def test_a_billion_laughs_is_refused_before_it_expands(ir):
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(30))
    ir.write_text(ir.read_text().replace("<net ", f"<!DOCTYPE net [{entities}]><net ", 1).replace('"relu"', '"&l29;"'))
    with pytest.raises(ModelError, match="DOCTYPE"):
        check_ir(ir)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('size="432"', 'size="433"', "too short: constant 'w' needs bytes 0 to 433"),
        ('offset="0"', 'offset="18446744073709551615"', "too short"),
        ('offset="0"', 'offset="-8"', "can't be negative"),
        ('offset="0"', 'offset="zero"', "whole numbers"),
        ('version="11">', 'version="7">', "version '7'"),
        ("<net ", "<svg ", "root element is <svg>"),
        ('to-layer="3"', 'to-layer="99"', "no such layer"),
        ('id="2" name="conv"', 'id="1" name="conv"', "two layers have the id '1'"),
    ],
)
def test_a_damaged_ir_is_refused_with_what_is_wrong(ir, old, new, message):
    _edit(ir, old, new)
    with pytest.raises(ModelError, match=message):
        check_ir(ir)


def test_a_cycle_is_refused(ir):
    text = ir.read_text().replace('from-layer="0" from-port="0"', 'from-layer="3" from-port="1"', 1)
    ir.write_text(text)
    with pytest.raises(ModelError, match="cycle"):
        check_ir(ir)


def test_other_xml_is_no_ir(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<html><body/></html>")
    with pytest.raises(ModelError, match="root element is <html>"):
        check_ir(path)
    path.write_text("")
    with pytest.raises(ModelError, match="empty file"):
        check_ir(path)
    path.write_text("<net version='11'>" + "<a>" * 1000)
    with pytest.raises(ModelError, match="nested deeper"):
        check_ir(path)


def test_missing_and_truncated_weights_are_named(ir):
    weights = ir.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"net\.bin: too short"):
        load_model(ir)
    weights.unlink()
    with pytest.raises(ModelError, match=r"net\.bin: not found"):
        load_model(ir)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), text=st.sampled_from(["9", "-1", "<", '"', "", "4294967296", "\x00"]))
def test_a_mutated_ir_loads_or_is_refused_but_never_crashes(shared_ir, tmp_path_factory, place, text):
    original = shared_ir.read_text()
    start = int(place * len(original))
    path = tmp_path_factory.mktemp("mutated") / "net.xml"
    path.write_text(original[:start] + text + original[start + 1 :])
    path.with_suffix(".bin").write_bytes(shared_ir.with_suffix(".bin").read_bytes())
    try:
        load_model(path)
    except ModelError as error:
        assert str(path.parent) in str(error)
