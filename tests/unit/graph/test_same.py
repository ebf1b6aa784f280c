"""Two models are the same only if every node, connection and number of them is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from building import Net, op

import calib
from calib.graph.same import same
from calib.graph.view import PART_OF
from calib.runtime.session import ov, read_model

SAMPLES = list(np.random.default_rng(1).normal(size=(8, 1, 3, 8, 8)).astype(np.float32))


def network(seed: int = 0, *, swapped: bool = False) -> ov.Model:
    net = Net(seed)
    one = net.conv(net.input(1, 3, 8, 8), 4)
    two = op.relu(one)
    return net.model(op.subtract(two, one) if swapped else op.subtract(one, two))


def test_what_calib_notes_of_attention_that_was_written_out_is_in_no_file():
    plain, noted = network(), network()
    noted.get_ordered_ops()[2].get_rt_info()[PART_OF] = "SDPA attention"
    assert same(noted, plain) and same(plain, noted)


def test_a_model_is_the_same_as_its_clone_and_as_what_is_read_from_its_file(tmp_path: Path):
    assert same(network(), network().clone())
    ov.save_model(network(), tmp_path / "net.xml", compress_to_fp16=False)
    assert same(network(), read_model(tmp_path / "net.xml"))


def test_other_numbers_connections_or_attributes_are_another_model(tmp_path: Path):
    assert not same(network(), network(seed=1))
    assert not same(network(), network(swapped=True))
    net = Net()
    image = net.input(1, 4)
    first, second = (net.model(op.softmax(op.reshape(image, np.array([2, 2]), False), axis)) for axis in (0, 1))
    assert not same(first, second)
    ov.save_model(network(), tmp_path / "half.xml", compress_to_fp16=True)
    assert not same(network(), read_model(tmp_path / "half.xml"))


@pytest.mark.parametrize(("effort", "most"), [("fast", 4), ("balanced", 9)])
def test_a_run_compiles_no_more_models_than_it_did_and_saving_compiles_none(effort, most, tmp_path, monkeypatch):
    """Statistics, INT8 for one thread and for two, and FP32; balanced equalizes, rounds and scores candidates too."""
    from calib.runtime import session

    class Counting:
        def __init__(self, core: ov.Core):
            self._core, self.compiled = core, 0

        def __getattr__(self, name: str):
            return getattr(self._core, name)

        def compile_model(self, *arguments):
            self.compiled += 1
            return self._core.compile_model(*arguments)

    counting = Counting(session.core())
    monkeypatch.setattr(session, "core", lambda: counting)
    net = Net()
    x = net.input(1, 3, 8, 8)
    for _ in range(3):
        x = op.relu(net.conv(x, 8))
    found = calib.quantize(net.model(x), SAMPLES, effort=effort, speed=False, target="cpu-no-vnni")
    assert 0 < counting.compiled <= most
    before = counting.compiled
    found.save(tmp_path)
    assert counting.compiled == before and (tmp_path / "report.json").exists()
