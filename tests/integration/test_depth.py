"""What a run costs grows with the depth of the network, not with its square."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from building import Net, op

import calib
import calib.graph.pieces as pieces_of
from calib.runtime.session import ov


def residual(blocks: int) -> ov.Model:
    """Return blocks of two convolutions each, the second of which is added to what went into the block."""
    net = Net()
    x = op.relu(net.conv(net.input(1, 4, 6, 6), 4))
    for _ in range(blocks):
        x = op.relu(op.add(net.conv(op.relu(net.conv(x, 4)), 4), x))
    return net.model(x)


def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 4, 6, 6)).astype(np.float32)


def quantized(blocks: int) -> calib.Result:
    settings = {"effort": "fast", "estimator": "minmax", "speed": False, "threads": 1, "target": "cpu-no-vnni"}
    return calib.quantize(residual(blocks), images(), **settings)


def calls_of(blocks: int, folder) -> Counter[str]:
    """Return how often each piece of calib's code is entered in a run that is saved."""
    found: Counter[str] = Counter()

    def count(frame, event, _):
        if event == "call" and "/calib/" in (code := frame.f_code).co_filename:
            found[f"{code.co_filename}:{code.co_firstlineno} {code.co_name}"] += 1

    sys.setprofile(count)
    try:
        quantized(blocks).save(folder)
    finally:
        sys.setprofile(None)
    return found


def test_no_code_runs_more_than_in_proportion_to_the_layers(tmp_path):
    calls_of(2, tmp_path / "first")  # what is imported and cached
    few, many = (calls_of(blocks, tmp_path / str(blocks)) for blocks in (10, 20))
    # n log n grows by a factor of 2.5 at most from 21 to 41 layers, n² by 3.8
    grown = {code: (few[code], count) for code, count in many.items() if count > 100 and count > 2.6 * few[code]}
    assert sum(many.values()) > 10_000 and not grown


def test_the_report_says_that_a_deep_network_was_compiled_in_pieces(monkeypatch):
    said = [text for text in quantized(3).report.warnings if "pieces" in text]
    assert not said
    monkeypatch.setattr(pieces_of, "NODES", 8)
    (said,) = [text for text in quantized(20).report.warnings if "pieces" in text]
    assert "for statistics the network was compiled in" in said


def test_groups_of_a_plan_are_found_once_each_in_the_order_of_layers():
    plan = calib.plan(residual(2))
    units = plan.units()
    assert len(units) == len(set(units)) and frozenset().union(*units) == {layer.name for layer in plan.layers}
    first = [next(index for index, layer in enumerate(plan.layers) if layer.name in unit) for unit in units]
    assert first == sorted(first)
