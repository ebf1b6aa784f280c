"""Errors of layers are those of the model that runs, whatever exposing a layer's output does to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from building import Net, op
from cpu_features import TARGET

import calib
from calib.accuracy.layer_error import LayerError
from calib.engine.layer_errors import (
    EXPOSED,
    SIMULATION,
    LayerComparer,
    LayerErrors,
    LayerPair,
    Reproduction,
    known_outputs,
    layer_sqnr,
)
from calib.engine.verify import _where
from calib.graph.taps import tapped_model
from calib.graph.view import GraphView
from calib.report.compare import summary
from calib.runtime.session import F32, Session, ov
from calib.values.sqnr import decibel, squared_error

FEEDS = [np.random.default_rng(1).standard_normal((1, 8, 8, 8)).astype(np.float32) for _ in range(8)]
ARRAYS = [[feed] for feed in FEEDS]
NAMES = ("first", "second", "head")


def residual() -> ov.Model:
    """Return a residual network with a free number of images.

    OpenVINO 2026.4 computes its INT8 form wrongly on a CPU with AVX2 once the output of ``first`` is exposed: the
    network's output falls from 35.7 to 7.2 dB.
    """
    net = Net(1)
    x = net.input(-1, 8, 8, 8)
    first = net.conv(x, 8)
    second = net.conv(op.relu(net.bias(first)), 8)
    head = net.conv(op.relu(op.add(net.bias(second), x)), 8)
    for node, name in zip((first, second, head), NAMES, strict=True):
        node.set_friendly_name(name)
    return net.model(head)


@pytest.fixture(scope="module")
def fp32() -> ov.Model:
    return residual()


@pytest.fixture(scope="module")
def int8(fp32: ov.Model) -> ov.Model:
    return calib.quantize(fp32, FEEDS, effort="fast", speed=False, target=TARGET).model


def outputs(model: ov.Model) -> list[Any]:
    return [outputs[0] for outputs in Session(model).each(ARRAYS)]


def sqnr(reference: list[Any], found: list[Any]) -> float:
    return decibel(*np.sum([squared_error(a, b) for a, b in zip(reference, found, strict=True)], axis=0))


def comparer(fp32: ov.Model, int8: ov.Model, known: Any) -> LayerComparer:
    return LayerComparer((fp32, int8), GraphView(fp32), lambda: ARRAYS, known)


PAIRS = [LayerPair(name, name) for name in NAMES]


def test_no_layer_is_blamed_for_what_exposing_it_does(fp32: ov.Model, int8: ov.Model):
    found = calib.compare(fp32, int8, FEEDS)
    layers = {layer.name: layer.sqnr_db for layer in found.layers}
    assert min(layers.values()) > 25  # exposed, the second is at 8 dB on a CPU with AVX2
    plain, tapped = (sqnr(outputs(fp32), outputs(model)) for model in (int8, tapped_model(int8, NAMES)))
    assert layers["head"] == pytest.approx(plain, abs=1.0)
    # The sentence is there on the CPUs where exposing the layers moves the output, and on no other.
    assert any("behind the activations and quantizers" in note for note in found.notes) == (abs(plain - tapped) > 1)
    assert not found.first_jump


def test_a_report_takes_its_figures_from_a_model_that_computes_the_same(fp32: ov.Model):
    result = calib.quantize(fp32, FEEDS, speed=True, target=TARGET)
    layers = {layer.name: layer.sqnr_db for layer in result.report.layers if layer.sqnr_db is not None}
    assert set(layers) == set(NAMES) and min(layers.values()) > 25
    plain, tapped = (sqnr(outputs(fp32), outputs(model)) for model in (result.model, tapped_model(result.model, NAMES)))
    assert layers["head"] == pytest.approx(plain, abs=1.0)
    moved = any("behind the activations and quantizers" in warning for warning in result.report.warnings)
    assert moved == (abs(plain - tapped) > 1)


def test_nothing_is_said_of_layers_that_can_not_be_looked_at(
    fp32: ov.Model, int8: ov.Model, monkeypatch: pytest.MonkeyPatch
):
    """Where exposing a layer changes the outputs in each form, no layer is blamed, and none is cleared."""
    monkeypatch.setattr(Reproduction, "holds", property(lambda _: False))
    found = calib.compare(fp32, int8, FEEDS[:1])
    assert {layer.sqnr_db for layer in found.layers} == {None} and not found.first_jump
    assert any(note.startswith("There is no figure for 3 of 3 layers since exposing") for note in found.notes)
    assert "no layer can be looked at" in summary(found) and "no layer can be looked at" in repr(found)
    assert "jump" not in f"{summary(found)} {found!r}"


def test_a_layer_is_not_blamed_alone_for_what_one_before_it_may_lose(fp32: ov.Model, monkeypatch: pytest.MonkeyPatch):
    """The output falls between ``first`` and ``head``, and of the layer between them there is no figure."""
    monkeypatch.setattr(LayerComparer, "errors", looked_at)
    found = calib.compare(fp32, fp32, FEEDS[:1])
    assert found.first_jump == "head"
    assert (
        "Right before 'head' there is no figure for 'second': what is lost at 'head' may be lost there." in found.notes
    )


def looked_at(self: LayerComparer, pairs: Any, halves: bool = False) -> LayerErrors:
    """Return 60 dB for ``first``, no figure for ``second`` and 6 dB for ``head``."""
    found = {"first": LayerError(None), "head": LayerError(None)}
    for name, noise in (("first", 1e-3), ("head", 0.5)):
        found[name].add(np.ones(4, np.float32), np.full(4, 1 + noise, np.float32))
    return LayerErrors(found, [])


def test_layers_have_no_figure_where_no_form_computes_what_the_model_does(fp32: ov.Model, int8: ov.Model):
    known = [([a], [a + 5]) for a in outputs(fp32)]  # no form of the INT8 model is off by 5
    for halves in (False, True):
        found = comparer(fp32, int8, known).errors(PAIRS, halves=halves)
        assert not found.errors
        (note,) = found.notes
        assert note.startswith("There is no figure for 3 of 3 layers since exposing the outputs of layers changes")
    figures, notes = layer_sqnr(fp32, GraphView(fp32), int8, ARRAYS, known)
    assert figures == {}
    assert len(notes) == 1


def test_fewer_layers_are_looked_at_where_all_together_change_the_outputs(
    fp32: ov.Model, int8: ov.Model, monkeypatch: pytest.MonkeyPatch
):
    broken = residual()
    for node in broken.get_ordered_ops():  # stands for a kernel that computes nothing as soon as "second" is exposed
        if node.get_friendly_name() == "head":
            node.input(1).replace_source_output(op.constant(np.zeros((8, 8, 3, 3), np.float32)).output(0))

    def tapped(model: ov.Model, names: list[str]) -> ov.Model:
        return tapped_model(broken if "second" in names else model, names)

    monkeypatch.setattr("calib.engine.layer_errors.tapped_model", tapped)
    monkeypatch.setattr("calib.engine.layer_errors.behind_quantizers", lambda models, names: names)
    known = known_outputs(*(Session(one).each(ARRAYS) for one in (fp32, fp32)))
    found = comparer(fp32, fp32, known).errors(PAIRS, halves=True)
    assert set(found.errors) == {"first", "head"}
    assert [note[:60] for note in found.notes] == [
        "The outputs of 2 of 3 layers were taken in several passes, s",
        "There is no figure for 1 of 3 layers, 'second' first, since ",
    ]


def test_a_model_reproduces_its_outputs_up_to_a_tenth_of_the_error_to_explain():
    a = np.ones(100, np.float32)
    for moved, holds in ((0.0, True), (0.02, True), (0.04, False), (np.nan, False)):
        reproduction = Reproduction()
        reproduction.add(([a], [a + 0.1]), ([a], [a + np.float32(0.1 + moved)]))
        assert reproduction.holds == holds, moved
    equal = Reproduction()  # nothing to explain: only what the order of sums does is allowed
    equal.add(([a], [a]), ([a * np.float32(1 + 1e-4)], [a]))
    assert equal.holds
    equal.add(([a], [a]), ([a * np.float32(1 + 1e-2)], [a]))
    assert not equal.holds


def test_a_simulation_reproduces_an_int8_model_where_its_sums_are_exact(fp32: ov.Model, int8: ov.Model):
    known = known_outputs(*(Session(one).each(ARRAYS) for one in (fp32, int8)))
    found = comparer(fp32, int8, known)._in(SIMULATION, PAIRS)
    assert found is not None
    assert found["head"].sqnr_db == pytest.approx(sqnr(outputs(fp32), outputs(int8)), abs=1.0)


def test_a_model_without_quantizers_is_looked_at_as_it_is(fp32: ov.Model):
    known = known_outputs(*(Session(one).each(ARRAYS) for one in (fp32, fp32)))
    compared = comparer(fp32, fp32, known)
    assert compared._in(EXPOSED, PAIRS) is not None
    found = compared.errors(PAIRS)
    assert not found.notes
    assert {error.sqnr_db for error in found.errors.values()} == {np.inf}


def test_the_first_layer_that_differs_is_named_as_it_computes_unexposed(fp32: ov.Model, int8: ov.Model):
    broken = int8.clone()
    bias = next(n for n in broken.get_ordered_ops() if n.get_friendly_name() == "head")
    weights = bias.input_value(1).get_node()
    bias.input(1).replace_source_output(op.multiply(weights, op.constant(np.float32(-1))).output(0))
    assert _where(int8, broken, ARRAYS, F32) == ", first at layer 'head'"
