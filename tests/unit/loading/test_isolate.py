"""Operations are kept out of a model's transformations, and the fewest that have to be are found."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest
from building import Net, ints, op

from calib.loading.isolate import can_be_isolated, fewest
from calib.loading.load import load_model
from calib.loading.normalize import normalize
from calib.runtime.session import Session


@pytest.mark.parametrize("needed", [(), ("b",), ("a", "h"), ("c", "d", "g"), tuple("abcdefgh")])
def test_the_fewest_names_that_fit_are_found_in_few_calls(needed: tuple[str, ...]):
    calls: list[frozenset[str]] = []

    def fits(names: Collection[str]) -> bool:
        calls.append(frozenset(names))
        return set(needed) <= set(names)

    found = fewest("abcdefgh", fits)
    # One name is the smallest set that is asked for: whether none is enough is the caller's first question.
    assert found == list(needed) if needed else len(found) <= 1
    assert len(calls) == len(set(calls)) <= 4 * max(1, len(needed)) * np.log2(8)


def scaled():
    """Return a convolution and a factor that is fused into it, twice, and an output in front of the second."""
    net = Net()
    first = op.multiply(net.conv(net.input(1, 3, 8, 8), 4), net.weights(1, 4, 1, 1))
    second = op.multiply(net.conv(op.relu(first), 4), net.weights(1, 4, 1, 1))
    return net.model(second, op.reshape(first, op.concat([op.shape_of(second), ints(1)], 0), False))


def test_an_isolated_operation_is_left_as_it_is_and_the_others_are_not():
    loaded = load_model(scaled())
    reference = {node.get_friendly_name(): node.get_type_name() for node in loaded.reference.get_ordered_ops()}
    (_, second) = [name for name, kind in reference.items() if kind == "Multiply"]
    kept = normalize(loaded.reference, apart={second}).model
    assert [node.get_friendly_name() for node in kept.get_ordered_ops() if node.get_type_name() == "Multiply"] == [
        second
    ]
    assert "Multiply" not in [node.get_type_name() for node in loaded.model.get_ordered_ops()]
    assert [port.get_partial_shape() for port in kept.outputs] == [p.get_partial_shape() for p in loaded.model.outputs]
    assert (len(kept.inputs), len(kept.outputs)) == (1, 2)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    for ours, theirs in zip(Session(kept)([x]), Session(loaded.reference)([x]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_everything_isolated_is_the_file():
    loaded = load_model(scaled())
    names = [node.get_friendly_name() for node in loaded.reference.get_ordered_ops() if can_be_isolated(node)]
    assert not any(name.startswith(("ShapeOf", "Concat")) for name in names)  # shapes are computed from them
    kept = normalize(loaded.reference, apart=names).model
    types = [[node.get_type_name() for node in model.get_ordered_ops()] for model in (kept, loaded.reference)]
    assert sorted(types[0]) == sorted(types[1])
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    for ours, theirs in zip(Session(kept)([x]), Session(loaded.reference)([x]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
