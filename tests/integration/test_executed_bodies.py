"""Layers inside the bodies of If, Loop and TensorIterator run in INT8, are named, left out and written like others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bodies import NETWORKS, choice, loop, samples
from cpu_features import TARGET
from proof import Proof, error, prove

from calib import ModelError, compare, inspect, quantize
from calib.graph.insert import Edits
from calib.graph.switches import switch_model
from calib.loading.load import load_model, save_model
from calib.runtime.session import SIMULATED, Session, ov, read_model

INSIDE = {"If": 4, "Loop": 2, "TensorIterator": 2}  # layers inside bodies

COMPILED = """
import sys
from calib.runtime.session import compile_model, read_model
compile_model(read_model(sys.argv[1]))
"""


def proof_of(kind: str) -> Proof:
    model = NETWORKS[kind]()
    return prove(model, samples(model, 4))


@pytest.mark.parametrize("kind", NETWORKS)
def test_layers_in_bodies_run_in_int8_as_planned(kind: str):
    proof = proof_of(kind)
    assert len([name for name in proof.planned if name in proof.view.inside]) == INSIDE[kind]
    assert not proof.broken and not proof.reasons
    assert proof.keeps_the_interface()
    assert proof.computes_what_it_says()
    assert error(proof.int8_outputs, proof.float_outputs) < 0.05


def made_by_onednn(model: ov.Model, folder: Path) -> set[str]:
    """Return the types of the inputs that oneDNN makes convolutions and products for, those of bodies included."""
    save_model(model, folder / "model.xml")
    said = subprocess.run(
        [sys.executable, "-c", COMPILED, str(folder / "model.xml")],
        env={**os.environ, "ONEDNN_VERBOSE": "profile_create"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    found = re.findall(r"primitive,create[^,]*,cpu,(?:convolution|inner_product|matmul),[^,]*,[^,]*,src:(\w+)", said)
    return set(found)


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_a_body_runs_inside_its_owner_is_what_it_runs_alone(kind: str, tmp_path: Path):
    """The executed graph shows the owner only; oneDNN lists every primitive that it makes."""
    proof = proof_of(kind)
    assert made_by_onednn(proof.original, tmp_path) <= {"f32"}  # rows of f32 may be a Subgraph, which is not oneDNN's
    made = made_by_onednn(proof.model, tmp_path)
    assert made and made <= {"u8", "s8"} and not proof.broken


def test_a_branch_that_no_sample_takes_is_left_out_with_that_reason_and_refused_alone():
    model = choice()
    taken = [(x, np.array(False)) for x, _ in samples(model, 6)]
    result = quantize(model, taken, effort="fast", target=TARGET, speed=False)
    reasons = {layer.name: layer.reason for layer in result.report.layers if layer.planned == "float"}
    assert list(reasons) == [f"branch/then/Convolution_{number}" for number in range(3)]
    assert all("no sample runs the body 'then' of 'branch'" in reason for reason in reasons.values())
    assert [layer.executed for layer in result.report.layers if layer.planned == "int8"] == ["i8"] * 3
    others = ["Convolution_0", "MatMul_0", "re:branch/else/.*"]
    with pytest.raises(ModelError, match="no sample runs the body 'then' of 'branch'"):
        quantize(model, taken, effort="fast", target=TARGET, ignore=others)


def test_a_loop_of_zero_iterations_in_some_samples_is_quantized_by_the_others():
    model = loop(trips=None)
    result = quantize(model, samples(model, 9), effort="fast", target=TARGET, speed=False)
    assert {layer.executed for layer in result.report.layers} == {"i8"}
    assert "loop/body/Convolution_0" in {layer.name for layer in result.report.layers}
    unseen = samples(model, 12, seed=1)
    outputs = [list(Session(one).each(unseen)) for one in (result.model, model)]
    assert error(*outputs) < 0.05


def test_layers_in_bodies_are_written_read_replayed_ignored_and_compared_under_their_names(tmp_path: Path):
    model = choice()
    ignored = "branch/then/Convolution_1"
    result = quantize(model, samples(model, 8), effort="fast", target=TARGET, ignore=[ignored], speed=False)
    result.save(tmp_path)
    (written,) = tmp_path.glob("*.xml")
    unseen = samples(model, 8, seed=1)
    expected = list(Session(result.model).each(unseen))
    assert error(list(Session(read_model(written)).each(unseen)), expected) < 1e-6
    assert error(expected, list(Session(model).each(unseen))) < 0.05
    facts = {layer.name: (layer.planned, layer.executed, layer.reason) for layer in inspect(written).layers}
    assert facts.pop(ignored)[:2] == ("float", "f32")
    assert set(facts.values()) == {("int8", "i8", "")} and len(facts) == 5
    again = quantize(model, plan=tmp_path / "plan.json")
    assert error(list(Session(again.model).each(unseen)), expected) == 0
    compared = compare(model, result.model, unseen[:2])
    inside = {layer.name: layer for layer in compared.layers if layer.name.startswith("branch/")}
    assert len(inside) == 4 and all(layer.sqnr_db is None for layer in inside.values())
    assert sorted(layer.executed_after for layer in inside.values()) == ["f32", "i8", "i8", "i8"]
    assert any("4 layers inside bodies have no output to compare" in note for note in compared.notes)


def test_layers_in_bodies_are_said_to_have_no_corrections_though_there_are_no_other_layers():
    model = loop(size=4)
    given = {"target": TARGET, "speed": False, "ignore": ["Convolution_0", "MatMul_0"]}
    report = quantize(model, samples(model, 6), **given).report
    assert [layer.name for layer in report.layers if layer.planned == "int8"] == [
        f"loop/body/Convolution_{number}" for number in range(2)
    ]
    (said,) = (warning for warning in report.warnings if "inside bodies" in warning)
    assert said.startswith("2 layers inside bodies, 'loop/body/Convolution_0' first, have the ranges of all runs")


@pytest.mark.parametrize("kind", NETWORKS)
def test_switches_reach_layers_in_bodies(kind: str):
    proof = proof_of(kind)
    original = load_model(NETWORKS[kind]()).model
    units = proof.plan.units()
    session = Session(switch_model(original, proof.plan, Edits(), units), SIMULATED)
    feed, plain = [*proof.feeds[0]], proof.float_outputs[0][0]
    off = session([*feed, np.zeros(len(units), np.float32)])[0]
    np.testing.assert_allclose(off, plain, rtol=1e-3, atol=1e-4)
    for number, unit in enumerate(units):
        switched = session([*feed, np.eye(len(units), dtype=np.float32)[number]])[0]
        taken = "branch/then" not in min(unit)  # the first sample takes the other branch
        assert (np.abs(switched - off).max() > 1e-6) == taken, unit
