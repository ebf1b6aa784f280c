"""Operations marked to run in f32 stay marked through files and clones, and a CPU without bf16 runs the same."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from building import Net, op
from cpu_features import needs

from calib.loading.ir_file import save_model
from calib.loading.load import load_model
from calib.loading.precise import kept_in_f32
from calib.runtime.session import F32, Session, compile_model, ov, precision_config, read_model


def two_layers() -> ov.Model:
    net = Net()
    first = op.relu(net.conv(net.input(1, 3, 8, 8), 8))
    first.set_friendly_name('a <"name"> & more')
    second = op.tanh(net.conv(first, 4))
    second.set_friendly_name("last")
    return net.model(second)


def marked_in(path: Path) -> list[str]:
    """Return the names of the layers of an IR that are marked, as the file has them."""
    layers = re.findall(r"<layer .*?</layer>", path.read_text(), re.DOTALL)
    names = [re.search(r'name="([^"]*)"', layer) for layer in layers if "DisablePrecisionConversion" in layer]
    return [found[1] for found in names if found]


def saved(model: ov.Model, path: Path) -> Path:
    save_model(model, path)
    return path


def test_marks_survive_saving_reading_cloning_and_loading(tmp_path: Path):
    marked = kept_in_f32(two_layers(), ["last", 'a <"name"> & more'])
    first = saved(marked, tmp_path / "first.xml")
    assert marked_in(first) == ["a &lt;&quot;name&quot;> &amp; more", "last"]
    again = saved(read_model(first).clone(), tmp_path / "again.xml")
    assert again.read_text() == first.read_text()
    assert marked_in(saved(load_model(first).model, tmp_path / "loaded.xml")) == marked_in(first)
    assert marked_in(saved(two_layers(), tmp_path / "plain.xml")) == []


@pytest.mark.parametrize("config", [F32, {}], ids=["f32", "default"])
def test_marks_change_neither_what_runs_nor_its_result_in_f32(config: dict[str, str]):
    plain, x = two_layers(), np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    every = [node.get_friendly_name() for node in plain.get_ordered_ops()]
    forms = [compile_model(model, config) for model in (plain, kept_in_f32(plain, every))]
    if forms[0].get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32:
        ran = [
            [str(node.get_rt_info()["primitiveType"].value) for node in form.get_runtime_model().get_ordered_ops()]
            for form in forms
        ]
        assert ran[0] == ran[1]
        before, after = (Session.of(form)((x,))[0] for form in forms)
        np.testing.assert_array_equal(before, after)


@needs("bf16")
def test_marks_keep_a_network_in_f32_under_bf16():
    plain, x = two_layers(), np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    every = [node.get_friendly_name() for node in plain.get_ordered_ops()]
    exact = Session(plain)((x,))[0]
    low, kept = (
        Session.of(compile_model(model, precision_config("bf16")))((x,))[0]
        for model in (plain, kept_in_f32(plain, every))
    )
    assert np.abs(low - exact).max() > 100 * np.abs(kept - exact).max()
