"""Operations written out as MatMuls compute what they did, name what they came from, and say why others stay whole.

covers: calib.graph.attention, calib.graph.einsum
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from building import Net, ints, op
from numpy.typing import NDArray

from calib.graph.finder import Found, find
from calib.graph.ignored import Ignored
from calib.graph.view import GraphView
from calib.loading.load import load_model
from calib.loading.normalize import normalize
from calib.runtime.session import Session, make_model, ov

HEADS = (2, 4, 72, 16)


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def einsum(equation: str, *shapes: tuple[int, ...], weights: int | None = None, unknown: tuple[int, ...] = ()):
    """Return a model of one Einsum and the values of its inputs; one may be a constant, and axes may be unknown."""
    values = [random(*shape, seed=index) for index, shape in enumerate(shapes)]
    ports = [
        op.constant(value)
        if index == weights
        else op.parameter([-1 if axis in unknown else size for axis, size in enumerate(value.shape)], np.float32)
        for index, value in enumerate(values)
    ]
    made = op.einsum(ports, equation)
    model = make_model([op.result(made)], [port for index, port in enumerate(ports) if index != weights])
    return model, values, [value for index, value in enumerate(values) if index != weights]


def types(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def found_in(model: ov.Model, *ignore: str) -> Found:
    view = GraphView(load_model(model).model)
    return find(view, Ignored(view, ignore))


PRODUCTS = {
    "a projection onto heads": ("bti,ihd->bhtd", [(2, 5, 16), (16, 4, 8)], 1),
    "its weights on the left": ("ihd,bti->bhtd", [(16, 4, 8), (2, 5, 16)], 0),
    "a projection from heads": ("bhtd,hdo->bto", [(2, 4, 5, 8), (4, 8, 16)], 1),
    "a stack of weights": ("bhd,hde->bhe", [(2, 4, 8), (4, 8, 6)], 1),
    "one output": ("bijk,k->bij", [(2, 3, 4, 5), (5,)], 1),
    "scores": ("bthd,bshd->bhts", [(2, 5, 4, 8), (2, 7, 4, 8)], None),
    "values": ("bhts,bshd->bthd", [(2, 4, 5, 7), (2, 7, 4, 8)], None),
    "an ellipsis": ("...i,ij->...j", [(2, 3, 16), (16, 4)], 1),
    "an ellipsis in both": ("...ij,...jk->...ik", [(2, 3, 4, 5), (2, 3, 5, 6)], None),
    "no output named": ("ij,jk", [(5, 6), (6, 7)], None),
    "three factors": ("bij,bjk,bkl->bil", [(2, 3, 4), (2, 4, 5), (2, 5, 6)], None),
    "a label of one factor alone": ("bij,jkl->bi", [(2, 3, 4), (4, 5, 6)], 1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_an_einsum_becomes_matmuls_that_compute_it(name: str):
    equation, shapes, weights = PRODUCTS[name]
    model, values, feed = einsum(equation, *shapes, weights=weights)
    normal = normalize(model)
    assert "Einsum" not in types(normal.model) and types(normal.model).count("MatMul") == len(shapes) - 1
    expected = np.einsum(equation, *values)
    np.testing.assert_allclose(Session(normal.model)(feed)[0], expected, atol=1e-5 * abs(expected).max())
    assert model.output(0).get_names() == normal.model.output(0).get_names()


@pytest.mark.parametrize(("name", "unknown"), [("a projection onto heads", (0, 1)), ("a projection from heads", (0, 2)),
                                               ("scores", (0, 1)), ("a stack of weights", (0,))])  # fmt: skip
def test_an_einsum_of_unknown_lengths_is_written_out_for_all_of_them(name: str, unknown: tuple[int, ...]):
    equation, shapes, weights = PRODUCTS[name]
    model, values, feed = einsum(equation, *shapes, weights=weights, unknown=unknown)
    normal = normalize(model).model
    assert "Einsum" not in types(normal)
    np.testing.assert_allclose(Session(normal)(feed)[0], np.einsum(equation, *values), atol=1e-4)


WHOLE = {
    "it multiplies nothing": ("bij->bji", [(2, 3, 4)]),
    "it sums no products": ("bi,bj->bij", [(2, 3), (2, 4)]),
    "vectors with vectors": ("bi,bi->b", [(5, 6), (5, 6)]),
    "a diagonal": ("bii,ij->bj", [(2, 3, 3), (3, 4)]),
}


@pytest.mark.parametrize("reason", WHOLE)
def test_an_einsum_without_a_matrix_product_stays_and_says_why(reason: str):
    equation, shapes = WHOLE[reason]
    model, values, feed = einsum(equation, *shapes)
    (skipped,) = found_in(model).skipped
    assert (skipped.type, reason in skipped.reason) == ("Einsum", True)
    np.testing.assert_allclose(Session(load_model(model).model)(feed)[0], np.einsum(equation, *values), atol=1e-5)


def test_axes_of_unknown_length_that_would_be_joined_stay_and_say_so():
    model, _, _ = einsum("abcd,cde->abe", (2, 3, 4, 5), (4, 5, 6), unknown=(0, 1, 2))
    (skipped,) = found_in(model).skipped
    assert "several axes of unknown length" in skipped.reason


def attention(shapes: Any = (HEADS, HEADS, HEADS), *, unknown: tuple[int, ...] = (), **more: Any):
    """Return a model of one attention and the values of its inputs."""
    ports = [op.parameter([-1 if i in unknown else n for i, n in enumerate(shape)], np.float32) for shape in shapes]
    made = op.scaled_dot_product_attention(*ports, **more)
    made.set_friendly_name("block/attention")
    return make_model([op.result(made)], ports), [random(*shape, seed=index) for index, shape in enumerate(shapes)]


def attended(q: Any, k: Any, v: Any, mask: Any = None, scale: Any = None) -> NDArray[np.float64]:
    """Return attention as its specification says, in float64."""
    scores = np.matmul(q, np.swapaxes(k, -1, -2), dtype=np.float64) * (scale or q.shape[-1] ** -0.5)
    if mask is not None:
        scores = scores + (np.where(mask, 0, -np.inf) if mask.dtype == bool else mask)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)) @ v


SEEN = np.random.default_rng(9).random((2, 1, 72, 72)) > 0.3
ADDED = random(72, 72, seed=9)
LOWER = np.tri(72, dtype=bool)
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "causal": ({"causal": True}, {"mask": LOWER}),
    "masked by truth values": ({"attention_mask": op.constant(SEEN)}, {"mask": SEEN}),
    "masked by numbers": ({"attention_mask": op.constant(ADDED)}, {"mask": ADDED}),
    "scaled": ({"scale": op.constant(np.float32(0.3))}, {"scale": 0.3}),
}


@pytest.mark.parametrize("unknown", [(), (0, 2), (0, 1, 2, 3)])
@pytest.mark.parametrize("name", FORMS)
def test_attention_becomes_two_matmuls_that_compute_it(name: str, unknown: tuple[int, ...]):
    made, says = FORMS[name]
    model, feed = attention(unknown=unknown, **made)
    normal = normalize(model).model
    assert "ScaledDotProductAttention" not in types(normal)
    np.testing.assert_allclose(Session(normal)(feed)[0], attended(*feed, **says), atol=1e-5)


@pytest.mark.parametrize("shapes", [(HEADS, (2, 1, 72, 16), (2, 1, 72, 16)), (HEADS, HEADS, (2, 4, 72, 24)),
                                    ((2, 4, 20, 16), HEADS, HEADS), ((4, 72, 16),) * 3])  # fmt: skip
def test_attention_of_other_shapes_becomes_two_matmuls_too(shapes: Any):
    model, feed = attention(shapes)
    normal = normalize(model).model
    assert types(normal).count("MatMul") == 2
    np.testing.assert_allclose(Session(normal)(feed)[0], attended(*feed), atol=1e-5)


def test_causal_attention_of_fewer_queries_than_keys_starts_at_the_first_key():
    model, feed = attention(((2, 4, 20, 16), HEADS, HEADS), causal=True)
    expected = attended(*feed, mask=np.tri(20, 72, dtype=bool))
    np.testing.assert_allclose(Session(model)(feed)[0], expected, atol=1e-5)  # and so does OpenVINO's own
    np.testing.assert_allclose(Session(normalize(model).model)(feed)[0], expected, atol=1e-5)


def test_a_causal_mask_is_computed_and_not_stored():
    model, _ = attention(((1, 1, 512, 16),) * 3, causal=True)
    stored = [node.get_output_shape(0) for node in normalize(model).model.get_ops() if "Constant" in str(node)]
    assert max(np.prod(list(shape)) for shape in stored) < 16


def test_parts_are_named_after_what_they_are_made_of_and_the_last_one_keeps_its_name():
    model, _ = attention()
    names = [layer.name for layer in found_in(model).layers]
    assert names == ["block/attention/scores", "block/attention"]
    view = GraphView(load_model(model).model)
    assert {view.part_of(name) for name in names} == {("block/attention", "ScaledDotProductAttention")}


@pytest.mark.parametrize("pattern", ["block/attention", "type:ScaledDotProductAttention", "re:^block/att"])
def test_what_an_operation_was_made_into_is_ignored_by_its_name_and_type(pattern: str):
    model, _ = attention()
    found = found_in(model, pattern)
    assert not found.layers and len(found.skipped) == 2
    assert all(f"ignored by '{pattern}'" == skipped.reason for skipped in found.skipped)


def test_one_part_alone_can_be_ignored():
    model, _ = attention()
    assert [layer.name for layer in found_in(model, "block/attention/scores").layers] == ["block/attention"]


def test_unnamed_einsums_are_numbered_and_their_parts_named_after_them():
    net = Net()
    x = op.einsum([net.input(1, 80, 32), net.weights(32, 4, 8)], "bti,ihd->bhtd")
    model = net.model(op.einsum([x, net.weights(4, 8, 16)], "bhtd,hdo->bto"))
    assert [layer.name for layer in found_in(model).layers] == ["Einsum_0/product", "Einsum_1"]
    (first,) = found_in(model, "Einsum_0").skipped
    assert first.name == "Einsum_0/product"


def test_attention_over_few_keys_stays_whole_and_says_on_which_cpu_that_is_faster():
    model, _ = attention(((2, 4, 32, 16),) * 3)
    (skipped,) = found_in(model).skipped
    assert (skipped.name, skipped.type) == ("block/attention", "ScaledDotProductAttention")
    assert "fewer than 64 keys" in skipped.reason and "AMX" in skipped.reason


def test_without_normalization_both_stay_whole_and_say_so():
    for model in (attention()[0], einsum("ij,jk", (5, 6), (6, 7))[0]):
        (skipped,) = find(GraphView(normalize(model, rewrite=False).model)).skipped
        assert "was not normalized" in skipped.reason


def cached(*, written: bool) -> ov.Model:
    """Return attention of one query over keys and values in a state, as one operation or as MatMuls."""
    net = Net()
    x, sinks = net.input(1, -1, 64), []

    def split(y: Any) -> Any:
        return op.transpose(op.reshape(net.dense(y, 64), ints(0, -1, 4, 16), True), ints(0, 2, 1, 3))

    def kept(new: Any, name: str) -> Any:
        none = op.constant(np.zeros((1, 4, 0, 16), np.float32))
        past = op.read_value(none, name, ov.Type.f32, ov.PartialShape([1, 4, -1, 16]))
        whole = op.concat([past, new], 2)
        sinks.append(op.assign(whole, name))
        return whole

    query, key, value = split(x), kept(split(x), "k"), kept(split(x), "v")
    if written:
        scores = op.multiply(op.matmul(query, key, False, True), np.float32(0.25))
        mixed = op.matmul(op.softmax(scores, -1), value, False, False)
    else:
        mixed = op.scaled_dot_product_attention(query, key, value)
    flat = op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(0, -1, 64), True)
    return net.model(net.dense(flat, 64), sinks=sinks)


@pytest.mark.parametrize("written", [True, False])
def test_attention_over_a_state_is_one_operation_in_floating_point_with_the_figure(written: bool):
    found = found_in(cached(written=written))
    (skipped,) = found.skipped
    assert skipped.type == "ScaledDotProductAttention" and ".40 → 4.26 ms a token" in skipped.reason
    assert len(found.layers) == 4  # the projections


def test_a_product_with_a_state_that_is_not_fused_stays_in_floating_point_too():
    view = GraphView(normalize(cached(written=True), rewrite=False).model)
    reasons = [skipped.reason for skipped in find(view).skipped]
    assert len(reasons) == 2 and all("KV cache" in reason for reason in reasons)


def test_attention_inside_a_body_stays_whole_and_says_that_it_is_in_one():
    inner = [op.parameter(list(HEADS), np.float32) for _ in range(2)]
    body = make_model([op.result(op.scaled_dot_product_attention(*inner, inner[1]))], inner)
    outer = [op.parameter(list(HEADS), np.float32) for _ in range(2)]
    loop = op.tensor_iterator()
    loop.set_function(body)
    loop.set_sliced_input(inner[0], outer[0].output(0), 0, 2, 2, -1, 0)
    loop.set_invariant_input(inner[1], outer[1].output(0))
    output = loop.get_concatenated_slices(body.get_results()[0].output(0), 0, 2, 2, -1, 0)
    (skipped,) = found_in(make_model([op.result(output)], outer)).skipped
    assert (skipped.type, "inside a body" in skipped.reason) == ("ScaledDotProductAttention", True)
