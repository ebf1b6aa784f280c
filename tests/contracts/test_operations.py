"""Every row of the table of layers against what OpenVINO computes: axes, scales, products, INT8 where the CPU has it.

A new row has to be in ``CASES`` with at least one network; everything else is asked of it as of the others.

covers: calib.graph.layers, calib.graph.operations, calib.graph.scalable
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_features import EXACT_INT8
from numpy.typing import NDArray
from proof import prove

from calib.corrections.rows import linear
from calib.graph.layers import (
    LAYERS,
    Axes,
    LayerRule,
    axes_of,
    channel_axis,
    multiply_accumulates,
    products,
    scale_shape,
)
from calib.graph.scalable import apply_factors, find_scalable
from calib.graph.view import GraphView
from calib.runtime.session import Session, make_model, ov
from calib.values.plan import Port, TensorId
from calib.zoo.cost import size_of

op = ov.opset13

Array = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One layer: how it is made of its data and its weights, which come in through ``port``.

    Attributes:
        large: the same operation as networks have it, of a size that an INT8 kernel pays for.
    """

    make: Callable[[Any, Any], Any]
    data: Shape
    weights: Shape
    large: Case | None = None
    port: int = 1

    def model(self, weights: Array, before: Callable[[Any], Any] = lambda x: x) -> ov.Model:
        """Return data → ``before`` → the layer, which is named "layer" and nothing else is."""
        x = op.parameter(list(self.data), np.float32, name="x")
        y = self.make(before(x), op.constant(weights, name="weights"))
        y.set_friendly_name("layer")
        return make_model([op.result(y)], [x])

    def view(self) -> GraphView:
        """Return an analysed model of the layer alone."""
        return GraphView(self.model(random(self.weights)))

    @property
    def at(self) -> Port:
        """The port of the weights."""
        return Port("layer", self.port)


def window(make: Callable[..., Any], data: Shape, weights: Shape, large: tuple[Shape, Shape]) -> Case:
    """Return a layer with strides and dilations that differ from axis to axis, and a large one without."""

    def strided(strides: list[int], dilations: list[int]) -> Callable[[Any, Any], Any]:
        none = [0, 0]
        return lambda x, w: make(x, w, strides=strides, pads_begin=none, pads_end=none, dilations=dilations)

    return Case(strided([2, 1], [1, 2]), data, weights, Case(strided([1, 1], [1, 1]), *large))


def product(port: int, left: bool, right: bool) -> Callable[[Any, Any], Any]:
    return lambda x, w: op.matmul(*((x, w) if port else (w, x)), left, right)


def swapped(shape: Shape, swap: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if swap else shape


def matmul(port: int, left: bool, right: bool, stack: Shape = ()) -> Case:
    """Return a product of (4, 6) and (6, 5), either of them transposed, the weights a stack where ``stack`` says so."""

    def shapes(m: int, k: int, n: int) -> tuple[Shape, Shape]:
        a, b = swapped((m, k), left), swapped((k, n), right)
        data, weights = (a, b) if port else (b, a)
        return (*(stack or (2,)), *data), (*stack, *weights)

    make = product(port, left, right)
    return Case(make, *shapes(4, 6, 5), Case(make, *shapes(64, 32, 48), port=port), port)


CASES: dict[str, dict[str, Case]] = {
    "Convolution": {
        "plain": window(op.convolution, (2, 6, 9, 8), (4, 6, 3, 2), ((1, 32, 16, 16), (32, 32, 3, 3))),
    },
    "GroupConvolution": {
        "groups": window(op.group_convolution, (2, 6, 9, 8), (3, 4, 2, 3, 2), ((1, 64, 16, 16), (2, 32, 32, 3, 3))),
        "depthwise": window(op.group_convolution, (2, 6, 9, 8), (6, 1, 1, 3, 2), ((1, 32, 16, 16), (32, 1, 1, 3, 3))),
        "multiplied": window(op.group_convolution, (2, 6, 9, 8), (6, 3, 1, 3, 2), ((1, 64, 16, 16), (2, 32, 32, 3, 3))),
    },
    "ConvolutionBackpropData": {
        "plain": window(op.convolution_backprop_data, (2, 6, 5, 4), (6, 4, 3, 2), ((1, 32, 8, 8), (32, 32, 4, 4))),
    },
    "GroupConvolutionBackpropData": {
        "groups": window(
            op.group_convolution_backprop_data,
            (2, 6, 5, 4),
            (3, 2, 4, 3, 2),
            ((1, 32, 8, 8), (2, 16, 16, 4, 4)),
        ),
        "depthwise": window(
            op.group_convolution_backprop_data, (2, 6, 5, 4), (6, 1, 1, 3, 2), ((1, 32, 8, 8), (32, 1, 1, 4, 4))
        ),
    },
    "MatMul": {
        f"{'ab'[port]}{' left' * left}{' right' * right}{' stack' * bool(stack)}": matmul(port, left, right, stack)
        for port in (0, 1)
        for left in (False, True)
        for right in (False, True)
        for stack in ((), (3,))
    },
}
EVERY = [pytest.param(case, id=f"{kind} {name}") for kind, cases in CASES.items() for name, case in cases.items()]


def random(shape: Shape, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def powers(shape: Shape, seed: int = 2) -> Array:
    """Return powers of two, by which multiplication is exact."""
    return (2.0 ** np.random.default_rng(seed).integers(-2, 3, shape)).astype(np.float32)


def run(model: ov.Model, *data: Array) -> Array:
    return Session(model)(list(data))[0]


def along(values: Array, axis: int, rank: int) -> Array:
    """Shape ``(channels,)`` or ``(stack, channels)`` for multiplication with data whose channels lie along an axis."""
    shape = [1] * rank
    shape[axis] = values.shape[-1]
    if values.ndim > 1:
        shape[0] = values.shape[0]
    return values.reshape(shape)


def test_every_row_is_asked():
    assert set(CASES) == set(LAYERS), "give the new row a network in CASES"
    weights = {(kind, case.port) for kind, cases in CASES.items() for case in cases.values()}
    assert weights == {(kind, port) for kind, rule in LAYERS.items() for port in rule.weights}


@pytest.mark.parametrize("case", EVERY)
def test_each_scale_of_the_weights_scales_one_channel_of_the_output(case: Case):
    view, x, w = case.view(), random(case.data, 1), random(case.weights)
    scales = powers(scale_shape(view, case.at))
    out = run(case.model(w), x)
    stack = [w.shape[axis] for axis in axes_of(view, case.at).stack]
    by_channel = along(scales.reshape(*stack, -1), channel_axis(view, "layer"), out.ndim)
    assert by_channel.size == scales.size > 1
    np.testing.assert_allclose(run(case.model(w * scales), x), out * by_channel, rtol=1e-5, atol=1e-5 * abs(out).max())


@pytest.mark.parametrize("case", EVERY)
def test_factors_of_input_channels_go_over_to_the_weights_that_meet_them(case: Case):
    axes, x, w = axes_of(case.view(), case.at), random(case.data, 1), random(case.weights)
    factors = powers((x.shape[axes.source],))
    meets = [size if axis in axes.read else 1 for axis, size in enumerate(w.shape)]
    moved = run(case.model(w / factors.reshape(meets)), x * along(factors, axes.source, x.ndim))
    out = run(case.model(w), x)
    np.testing.assert_allclose(moved, out, rtol=1e-5, atol=1e-5 * abs(out).max())


@pytest.mark.parametrize("case", EVERY)
def test_products_are_as_many_as_ones_add_up_to(case: Case, tmp_path: Path):
    """With ones for data and weights, and no padding, every product adds 1 to the output."""
    view, model = case.view(), case.model(np.ones(case.weights, np.float32))
    out = run(model, np.ones(case.data, np.float32))
    assert multiply_accumulates(view, "layer") == out.sum()
    if not LAYERS[view.types["layer"]].spreads:
        assert (out == products(view, case.at)).all()
    ov.serialize(model, str(tmp_path / "m.xml"), str(tmp_path / "m.bin"))
    size = size_of(str(tmp_path / "m.xml"))
    assert size is not None and (size.multiplications, size.layers) == (out.sum(), 1)


def test_the_weights_of_a_row_may_come_in_through_any_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    rule = LayerRule("DeformableConvolution", {2: Axes(outputs=0, inputs=1)}, never="a test's own")
    monkeypatch.setitem(LAYERS, rule.type, rule)
    offsets = np.zeros((1, 2 * 3 * 2, 7, 7), np.float32)  # (batch, 2 for each place of the kernel, height, width)
    x = op.parameter([1, 6, 9, 8], np.float32, name="x")
    ones = op.constant(np.ones((4, 6, 3, 2), np.float32))
    layer = op.deformable_convolution(x, op.constant(offsets), ones, [1, 1], [0, 0], [0, 0], [1, 1])
    layer.set_friendly_name("layer")
    model = make_model([op.result(layer)], [x])
    assert multiply_accumulates(GraphView(model), "layer") == (4 * 7 * 7) * (6 * 3 * 2)
    ov.serialize(model, str(tmp_path / "m.xml"), str(tmp_path / "m.bin"))
    size = size_of(str(tmp_path / "m.xml"))
    assert size is not None and (size.multiplications, size.layers) == ((4 * 7 * 7) * (6 * 3 * 2), 1)


@pytest.mark.parametrize("case", EVERY)
def test_a_layer_is_its_matrices_times_its_rows_or_says_why_not(case: Case):
    view, x, w = case.view(), random(case.data, 1), random(case.weights)
    described = linear(view, "layer", case.at)
    if LAYERS[view.types["layer"]].spreads:
        assert isinstance(described, str) and view.types["layer"] in described
        return
    assert not isinstance(described, str)
    matrices = described.matrices(w)
    np.testing.assert_array_equal(described.constant(matrices), w)
    ours = np.einsum("rgk,gok->rgo", described.take(x, None).rows(), matrices)
    out = np.moveaxis(run(case.model(w), x), channel_axis(view, "layer"), -1)
    if axes_of(view, case.at).stack:
        out = np.moveaxis(out, 0, -2)
    np.testing.assert_allclose(ours, out.reshape(ours.shape), rtol=1e-4, atol=1e-5 * abs(out).max())


def rescaled(model: ov.Model, x: Array, tensor: TensorId) -> bool:
    """Say whether a tensor's channels can be rescaled; where they can, nothing else may change."""
    view = GraphView(model)
    for scalable in find_scalable(view, [tensor]):
        other = apply_factors(model, [(scalable, powers((scalable.channels,)).astype(np.float64))])
        before, after = run(model, x), run(other, x)
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5 * abs(before).max())
        ports = [site.port for site in (*scalable.writers, *scalable.readers)]
        pairs = [[GraphView(m).values(GraphView(m).tensor(port)) for m in (model, other)] for port in ports]
        assert not any(np.array_equal(a, b) for a, b in pairs)
        return True
    return False


@pytest.mark.parametrize("case", EVERY)
def test_what_a_layer_reads_can_be_rescaled_where_each_channel_has_weights_of_its_own(case: Case):
    axes, w = axes_of(case.view(), case.at), random(case.weights)
    gain = along(random((case.data[axes.source],), 3), axes.source, len(case.data))

    def gained(x: Any) -> Any:
        node = op.multiply(x, op.constant(gain, name="gain"))
        node.set_friendly_name("gained")
        return node

    found = rescaled(case.model(w, gained), random(case.data, 1), TensorId("gained"))
    assert found == (not axes.stack)


@pytest.mark.parametrize("case", EVERY)
def test_what_a_layer_writes_can_be_rescaled(case: Case):
    view = case.view()
    axes, out = axes_of(view, case.at), view.shape(TensorId("layer"))
    assert out is not None
    channels = out[channel_axis(view, "layer")] or 0
    x = op.parameter(list(case.data), np.float32, name="x")
    layer = case.make(x, op.constant(random(case.weights), name="weights"))
    layer.set_friendly_name("layer")
    if LAYERS[view.types["layer"]].weights[case.port].channels == 1:
        behind = op.convolution(op.relu(layer), random((3, channels, 1, 1), 4), [1, 1], [0, 0], [0, 0], [1, 1])
    elif axes.channels == -1:
        behind = op.matmul(op.relu(layer), op.constant(random((channels, 3), 4)), False, False)
    else:
        behind = op.matmul(op.constant(random((3, channels), 4)), op.relu(layer), False, False)
    found = rescaled(make_model([op.result(behind)], [x]), random(case.data, 1), TensorId("layer"))
    assert found == (not axes.stack)


@pytest.mark.parametrize("case", EVERY)
def test_what_the_table_calls_int8_runs_in_int8(case: Case):
    assert case.large is not None
    model = case.large.model(random(case.large.weights), op.relu)
    proof = prove(model, target="cpu")
    rule = LAYERS[proof.view.types["layer"]]
    if rule.never:
        assert proof.reasons == {"layer": rule.never} and not proof.ran
        return
    assert proof.planned == {"layer"}
    assert not proof.broken
    exact = proof if EXACT_INT8 else prove(model, target="cpu-no-vnni")
    assert exact.computes_what_it_says()
