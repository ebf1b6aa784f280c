"""A deep network in pieces is the same network."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op

import calib.graph.pieces as pieces_of
from calib.graph.pieces import cut, divided
from calib.runtime.session import Session, compile_model, ov


def chain(layers: int, image: list[int] | None = None) -> ov.Model:
    """Return layers of convolution → ReLU."""
    x = first = op.parameter(image or [1, 4, 6, 6], np.float32, name="image")
    weights = np.random.default_rng(0).normal(size=(layers, 4, 4, 3, 3)).astype(np.float32) / 4
    for number in range(layers):
        x = op.relu(op.convolution(x, weights[number], [1, 1], [1, 1], [1, 1], [1, 1]), name=f"relu{number}")
    return ov.Model([x], [first], "chain")


def reaching() -> ov.Model:
    """Return a network whose input and whose first and integer tensors are read much later, by nodes of two pieces."""
    net = Net()
    image = net.input(1, 4, 6, 6)
    first = x = op.relu(net.conv(image, 4))
    found = op.topk(op.reshape(first, np.array([1, -1]), False), np.int64(3), 1, "max", "value")
    for _ in range(8):
        x = op.relu(op.add(net.conv(x, 4), first))
    x = op.add(x, image)
    return net.model(op.gather(op.reshape(x, np.array([-1]), False), found.output(1), np.int64(0)), x)


def shape_of(model: ov.Model) -> list[int]:
    ordered = model.get_ordered_ops()
    return divided(model, ordered, {node.get_friendly_name() for node in ordered if node.get_type_name() == "Relu"})


def run(model: ov.Model, image: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Return the outputs of the network, run in its pieces, and the number of pieces."""
    clone = model.clone()
    pieces = cut(clone, clone.get_ordered_ops(), shape_of(clone), {})
    seen: list[list[np.ndarray]] = []
    for piece in pieces:
        request = compile_model(piece.model).create_infer_request()
        feed = {
            position: image if source.piece < 0 else seen[source.piece][source.output]
            for position, source in enumerate(piece.sources)
        }
        request.infer(feed)
        seen.append([request.get_output_tensor(i).data.copy() for i in range(len(piece.model.outputs))])
    read = [{s.output for other in pieces for s in other.sources if s.piece == number} for number in range(len(pieces))]
    outputs = [y for ys, inner in zip(seen, read, strict=True) for i, y in enumerate(ys) if i not in inner]
    return outputs, len(pieces)


def test_a_network_that_is_not_deep_stays_whole_and_a_deep_one_has_pieces_of_similar_size(monkeypatch):
    assert set(shape_of(chain(100))) == {0}
    found = shape_of(chain(700))  # 1,400 nodes that compute
    assert found == sorted(found) and 5 <= found[-1] + 1 <= 7
    monkeypatch.setattr(pieces_of, "NODES", 5)
    assert shape_of(chain(40))[-1] + 1 >= 6


@pytest.mark.parametrize("network", [chain(12), reaching()], ids=["chain", "reaching"])
def test_the_pieces_compute_what_the_network_does(network: ov.Model, monkeypatch):
    monkeypatch.setattr(pieces_of, "NODES", 3)
    image = np.random.default_rng(1).normal(size=(1, 4, 6, 6)).astype(np.float32)
    outputs, count = run(network, image)
    expected = Session(network)([image])
    assert count >= 3 and len(outputs) == len(expected)
    by_size = sorted(
        zip(sorted(outputs, key=np.size), sorted(expected, key=np.size), strict=True), key=lambda p: p[0].size
    )
    for y, wanted in by_size:
        np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


def test_a_chain_is_cut_behind_activations_and_not_between_them_and_their_convolutions(monkeypatch):
    monkeypatch.setattr(pieces_of, "NODES", 3)
    clone = chain(12)
    ordered = clone.get_ordered_ops()
    pieces = cut(clone, ordered, shape_of(clone), {})
    for piece in pieces[1:]:
        (reader,) = piece.model.inputs[0].get_target_inputs()
        assert reader.get_node().get_type_name() == "Convolution"


def test_what_keeps_state_or_draws_or_is_of_unknown_size_or_large_stays_whole(monkeypatch):
    monkeypatch.setattr(pieces_of, "NODES", 3)
    assert set(shape_of(chain(12, [-1, 4, 6, 6]))) == {0}
    noisy = chain(12)
    noise = op.random_uniform(np.array([1]), np.float32(0), np.float32(1), "f32")
    noisy.add_results([op.result(noise)])
    assert set(shape_of(noisy)) == {0}
    monkeypatch.setattr(pieces_of, "BYTES", 1000)
    assert set(shape_of(chain(12))) == {0}
