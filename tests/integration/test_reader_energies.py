"""What the readers of a tensor multiply it with reaches its summary.

covers: calib.engine.placing
"""

from __future__ import annotations

import numpy as np
import pytest

from calib.engine.correcting import FloatNetwork, collect_statistics
from calib.engine.placing import place_quantizers
from calib.engine.prepare import prepare
from calib.graph.finder import find
from calib.graph.layers import reader_energies
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.progress import silent
from calib.runtime.session import ov
from calib.values.plan import TensorId

op = ov.opset13


def image(*shape: int) -> ov.Node:
    node = op.parameter(list(shape), np.float32, name="image")
    node.set_friendly_name("image")
    return node


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def energies(result: ov.Node, parameter: ov.Node) -> dict[TensorId, tuple[int, np.ndarray]]:
    view = GraphView(ov.Model([result], [parameter], "net"))
    return reader_energies(view, place(view, find(view)))


def mean_one(values: np.ndarray) -> np.ndarray:
    return values / values.mean()


def convolution() -> tuple[ov.Node, ov.Node, np.ndarray, int]:
    x, w = image(1, 16, 8, 8), weights(8, 16, 3, 3)
    return op.convolution(x, w, [1, 1], [1, 1], [1, 1], [1, 1]), x, mean_one((w**2).mean(axis=(0, 2, 3))), 1


def depthwise() -> tuple[ov.Node, ov.Node, np.ndarray, int]:
    x, w = image(1, 16, 8, 8), weights(16, 1, 1, 3, 3)
    return op.group_convolution(x, w, [1, 1], [1, 1], [1, 1], [1, 1]), x, mean_one((w**2).mean(axis=(1, 2, 3, 4))), 1


def matmul() -> tuple[ov.Node, ov.Node, np.ndarray, int]:
    x, w = image(1, 8, 16), weights(16, 32)
    return op.matmul(x, w, False, False), x, mean_one((w**2).mean(axis=1)), -1


def transposed_matmul() -> tuple[ov.Node, ov.Node, np.ndarray, int]:
    x, w = image(1, 8, 16), weights(32, 16)
    return op.matmul(x, w, False, True), x, mean_one((w**2).mean(axis=0)), -1


def matmul_from_the_left() -> tuple[ov.Node, ov.Node, np.ndarray, int]:
    x, w = image(1, 16, 8), weights(32, 16)
    return op.matmul(w, x, False, False), x, mean_one((w**2).mean(axis=0)), -2


@pytest.mark.parametrize("build", [convolution, depthwise, matmul, transposed_matmul, matmul_from_the_left])
def test_energies_are_those_of_the_weights_that_a_channel_meets(build):
    result, parameter, expected, axis = build()
    found = energies(result, parameter)
    assert list(found) == [TensorId("image")]
    assert found[TensorId("image")][0] == axis
    np.testing.assert_allclose(found[TensorId("image")][1], expected, rtol=1e-6)


def test_readers_of_one_tensor_are_averaged():
    x, one, other = image(1, 16, 8, 8), weights(8, 16, 1, 1), weights(8, 16, 1, 1)[:, ::-1].copy()
    y = op.add(*(op.convolution(x, w, [1, 1], [0, 0], [0, 0], [1, 1]) for w in (one, other)))
    expected = (mean_one((one**2).mean(axis=(0, 2, 3))) + mean_one((other**2).mean(axis=(0, 2, 3)))) / 2
    np.testing.assert_allclose(energies(y, x)[TensorId("image")][1], expected, rtol=1e-6)


def test_a_tensor_that_is_read_in_another_layout_has_none():
    x = image(1, 8, 6, 16)
    nchw = op.transpose(x, np.array([0, 3, 1, 2]))
    assert TensorId("image") not in energies(
        op.convolution(nchw, weights(8, 16, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]), x
    )


def test_statistics_for_auto_bring_extremes_and_energies_of_channels(tmp_path):
    result, parameter, expected, _ = convolution()
    samples = [
        np.full((1, 16, 8, 8), n + 1, np.float32) * np.arange(16, dtype=np.float32)[:, None, None] for n in range(4)
    ]
    model, file = ov.Model([result], [parameter], "net"), tmp_path / "statistics.npz"
    for _ in range(2):  # collected, then read from the file
        job = prepare(model, samples, flags={"effort": "fast", "estimator": "auto"})
        with silent("statistics") as stage:
            (summary,) = collect_statistics(
                job, FloatNetwork(job.loaded.model, job.view), place_quantizers(job), stage, file
            ).whole.values()
        assert summary.channel_high is not None
        assert summary.channel_energy is not None
        assert summary.channel_high.tolist() == (4 * np.arange(16)).tolist()
        np.testing.assert_allclose(summary.channel_energy, expected, rtol=1e-6)
