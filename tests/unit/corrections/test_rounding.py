from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cpu_features import EXACT_INT8

from calib.corrections import bias_correction
from calib.corrections import rounding as wiring
from calib.corrections.candidate import Candidate
from calib.corrections.rounding import round_all
from calib.corrections.rounding_core import _libraries, one_blas_thread
from calib.corrections.rows import linear, paddings
from calib.graph.finder import find
from calib.graph.insert import Edits
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.ranges.affine import quantize_weights
from calib.runtime.executed import executed_layers
from calib.runtime.session import F32, Session, ov
from calib.samples.sample import Frames
from calib.values.plan import Port, Range

op = ov.opset13
rng = np.random.default_rng(7)


def values(*shape, spread=1.0):
    return (rng.normal(size=shape) * spread).astype(np.float32)


def parameter(*shape):
    node = op.parameter(shape, np.float32)
    node.set_friendly_name("x")
    return node


def convolution(x, weights, **changed):
    settings = {"strides": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1], "dilations": [1, 1], **changed}
    kind = op.group_convolution if weights.ndim == 5 else op.convolution
    return kind(x, op.constant(weights), **settings)


def named(node, name="layer"):
    node.set_friendly_name(name)
    return node


def dense():
    x = parameter(1, 8, 10, 9)
    return x, named(convolution(x, values(12, 8, 3, 3), strides=[2, 1], pads_end=[0, 1]))


def same_upper():
    x = parameter(1, 4, 10, 9)
    return x, named(convolution(x, values(8, 4, 3, 3), strides=[2, 2], dilations=[1, 2], auto_pad="same_upper"))


def depthwise():
    x = parameter(1, 16, 10, 9)
    return x, named(convolution(x, values(16, 1, 1, 3, 3)))


def grouped():
    x = parameter(1, 16, 10, 9)
    return x, named(convolution(x, values(4, 6, 4, 3, 3)))


def matmul_b():
    x = parameter(1, 20, 32)
    return x, named(op.matmul(x, op.constant(values(32, 24)), False, False))


def matmul_b_transposed():
    x = parameter(1, 20, 32)
    return x, named(op.matmul(x, op.constant(values(24, 32)), False, True))


def matmul_a():
    x = parameter(1, 32, 20)
    return x, named(op.matmul(op.constant(values(24, 32)), x, False, False))


def matmul_a_crossed():
    x = parameter(1, 20, 32)
    return x, named(op.matmul(op.constant(values(32, 24)), x, True, True))


def matmul_batched():
    x = parameter(1, 3, 20, 32)
    return x, named(op.matmul(x, op.constant(values(3, 32, 24)), False, False))


def matmul_broadcast():
    x = parameter(5, 1, 20, 16)
    return x, named(op.matmul(x, op.constant(values(3, 16, 8)), False, False))


NETS = [dense, same_upper, depthwise, grouped]
NETS += [matmul_b, matmul_b_transposed, matmul_a, matmul_a_crossed, matmul_batched, matmul_broadcast]


def candidate_of(build, levels=255, per_channel=False):
    x, last = build()
    model = ov.Model([op.result(last)], [x], build.__name__)
    view = GraphView(model)
    plan = place(view, find(view), weight_levels=levels)
    assert plan.layers, plan.skipped
    extent = 3.0 * np.sqrt(np.linspace(0.5, 2, x.get_shape()[1]))
    channels = tuple((-float(e), float(e)) for e in extent) if per_channel else ()
    ranged = tuple(replace(q, range=Range(-4.5, 4.5), channel_ranges=channels) for q in plan.activations)
    return Candidate(model, view, replace(plan, activations=ranged), Edits())


def samples_for(candidate, count=12):
    """Correlated inputs: what rounding to nearest leaves on the table."""
    shape = tuple(candidate.model.inputs[0].get_shape())
    source = np.random.default_rng(11)
    mix = source.normal(size=(shape[-1], shape[-1])) / np.sqrt(shape[-1])
    return [(0.5 + source.normal(size=shape) @ mix).astype(np.float32).clip(-4, 4) for _ in range(count)]


def fed(candidate, count=12):
    return [[sample] for sample in samples_for(candidate, count)]


@pytest.mark.parametrize("build", NETS)
def test_rows_times_matrices_are_the_layer(build):
    candidate = candidate_of(build)
    weight = candidate.plan.weights[0]
    form = linear(candidate.view, "layer", weight.port)
    assert not isinstance(form, str)
    x = samples_for(candidate, 1)[0]
    constant = candidate.view.nodes[candidate.view.tensor(weight.port).node].data
    matrices = form.matrices(constant)
    np.testing.assert_array_equal(form.constant(matrices), constant)
    rows = form.take(x, None).rows()
    ours = np.einsum("rgk,gok->rgo", rows.astype(np.float64), matrices.astype(np.float64))
    y = Session(candidate.model)([x])[0]
    assert ours.size == y.size
    # each output value once, in whatever order: the sums of squares and the values themselves agree
    np.testing.assert_allclose(np.sort(ours.ravel()), np.sort(y.ravel()), atol=2e-5)


def wide(*, dynamic=False, stride=1):
    def build():
        x = op.parameter(ov.PartialShape([1, 16, *((-1, -1) if dynamic else (21, 20))]), np.float32)
        x.set_friendly_name("x")
        return x, named(convolution(op.relu(x), values(16, 1, 1, 3, 3), strides=[stride, stride], pads_end=[0, 1]))

    return build


@pytest.mark.parametrize("limit", [40, 300])
def test_what_leaves_the_model_makes_up_the_rows_of_the_whole_input(limit):
    x, layer = wide(stride=1)()
    view = GraphView(ov.Model([op.result(layer)], [x], "wide"))
    form = linear(view, "layer", Port("layer", 1))
    assert not isinstance(form, str)
    output, pick = form.tap(view.output(view.tensor(Port("layer", 0))), limit)
    assert pick is not None and (list(output.get_shape()) == [420, 16]) == (limit == 300)
    image = values(1, 16, 21, 20)
    (left,) = Session(ov.Model([op.result(output)], [x], "tapped"))([image])
    taken, whole = form.take(left, limit, pick), form.take(np.maximum(image, 0), limit)
    assert taken.count == limit
    np.testing.assert_array_equal(taken.rows(), whole.rows())


def test_a_network_of_any_size_is_rounded_as_one_of_that_size():
    samples = [[values(1, 16, 21, 20)] for _ in range(8)]
    found = []
    for dynamic in (False, True):
        rng.bit_generator.state = np.random.default_rng(5).bit_generator.state
        x, layer = wide(dynamic=dynamic)()
        model = ov.Model([op.result(layer)], [x], "wide")
        view = GraphView(model)
        plan = place(view, find(view))
        ranged = tuple(replace(q, range=Range(0.0, 3.0)) for q in plan.activations)
        found.append(round_all(Candidate(model, view, replace(plan, activations=ranged), Edits()), samples)[0].edits)
    (q, _), (other, _) = (edits.rounded[Port("layer", 1)] for edits in found)
    assert q.tobytes() == other.tobytes()


@pytest.mark.parametrize("build", NETS)
def test_rounding_lowers_the_output_error_on_the_samples_it_came_from(build):
    candidate = candidate_of(build)
    samples = fed(candidate)
    rounded, facts = round_all(candidate, samples)
    fact = facts[0]
    assert fact.kept and fact.sqnr_after_db > fact.sqnr_before_db

    # the same layer in float, fed the quantized input: both halves of the samples, all rows
    layer, weight = candidate.model, candidate.plan.weights[0]
    before, after = error(layer, candidate, None), error(layer, candidate, rounded.edits.rounded[weight.port])
    assert after < before


def error(model, candidate, rounded):
    """Sum of squared output errors of weights alone, over all samples, with the input quantized."""
    weight = candidate.plan.weights[0]
    original = candidate.view.nodes[candidate.view.tensor(weight.port).node].data
    q, scale = rounded or quantize_weights(original, weight.scale_shape, weight.levels)
    delta = (original - q * scale).astype(np.float32)
    (layer,), _ = wiring._layers(candidate, 12)
    form = layer.linear
    rows = [wiring._levels(layer, form.take(x, None).rows()).astype(np.float64) for x in samples_for(candidate)]
    return sum(float((np.einsum("rgk,gok->rgo", r, form.matrices(delta)) ** 2).sum()) for r in rows)


@pytest.mark.parametrize("build", NETS)
def test_the_int8_model_is_what_was_rounded(build):
    candidate = candidate_of(build)
    rounded, _ = round_all(candidate, fed(candidate))
    model = rounded.quantized()
    fast, exact = Session(model), Session(model, {**F32, "LP_TRANSFORMS_MODE": "NO"})
    assert executed_layers(fast.compiled, {"layer": ()})["layer"].int8
    for (sample,) in fed(candidate, 2):
        # Without VNNI, samples of small products: 2 · 128 · 127 < 2¹⁵ and, as second factors, 2 · 255 · 57
        x = sample if EXACT_INT8 else -np.abs(sample) / 2
        np.testing.assert_allclose(fast([x])[0], exact([x])[0], atol=1e-4 * np.abs(exact([x])[0]).max())


def test_a_range_for_each_channel_is_a_scale_for_each_group():
    candidate = candidate_of(depthwise, per_channel=True)
    rounded, (fact, _) = round_all(candidate, fed(candidate))
    assert fact.kept
    assert rounded.edits.rounded[Port("layer", 1)][1].shape == (16, 1, 1, 1, 1)


def test_half_range_weights_stay_in_half_the_range():
    candidate = candidate_of(dense, levels=127)
    rounded, _ = round_all(candidate, fed(candidate))
    q, _ = rounded.edits.rounded[Port("layer", 1)]
    assert q.dtype == np.int8
    assert np.abs(q.astype(int)).max() == 63


@pytest.mark.parametrize("build", [dense, grouped, matmul_batched])
def test_bytes_do_not_depend_on_streams_order_or_memory(build, monkeypatch):
    candidate = candidate_of(build)
    samples = fed(candidate)
    first = round_all(candidate, samples)[0].edits.rounded
    shuffled = [samples[i] for i in (4, 1, 0, 5, 2, 3, 10, 11, 8, 9, 6, 7)]  # even ones stay even
    runs = [round_all(candidate, shuffled)]
    monkeypatch.setattr(wiring, "MEMORY", 1)
    runs.append(round_all(candidate, samples, streams=2))
    for other, _ in runs:
        for port, (q, scale) in first.items():
            assert q.tobytes() == other.edits.rounded[port][0].tobytes()
            assert scale.tobytes() == other.edits.rounded[port][1].tobytes()


def test_layers_beyond_the_limit_get_a_clip_by_the_diagonal(monkeypatch):
    candidate = candidate_of(dense)
    monkeypatch.setattr(wiring, "INPUTS_PER_SAMPLE", 1)
    _, (fact, _) = round_all(candidate, fed(candidate))
    assert "by the diagonal" in fact.detail
    assert fact.sqnr_after_db >= fact.sqnr_before_db


def chain():
    x = parameter(1, 8, 10, 9)
    y = op.relu(named(convolution(x, values(8, 8, 3, 3)), "first"))
    y = op.relu(named(convolution(y, values(8, 1, 1, 3, 3)), "second"))
    return x, named(convolution(y, values(8, 8, 1, 1), pads_begin=[0, 0], pads_end=[0, 0]))


def test_a_reverted_layer_takes_its_edits_along_and_those_behind_it_are_what_they_would_be_without_it():
    candidate = candidate_of(chain)
    # with a mean: each layer has a shift to correct
    samples = [[np.abs(x) + np.float32(0.3)] for (x,) in fed(candidate)]
    rounded, _ = round_all(candidate, samples)
    assert {port.node for port in rounded.edits.rounded} == rounded.edits.biases.keys() == {"first", "second", "layer"}
    left, anew = rounded.without({"first": "reverted"}), round_all(candidate.without({"first": "reverted"}), samples)[0]
    for found in (left, anew):
        assert {port.node for port in found.edits.rounded} == found.edits.biases.keys() == {"second", "layer"}
    for port, (q, scale) in left.edits.rounded.items():
        assert q.tobytes() == anew.edits.rounded[port][0].tobytes()
        assert scale.tobytes() == anew.edits.rounded[port][1].tobytes()
    assert all(delta.tobytes() == anew.edits.biases[layer].tobytes() for layer, delta in left.edits.biases.items())
    names = {node.get_friendly_name(): node for node in left.quantized().get_ordered_ops()}
    assert "first/biased" not in names and "second/biased" in names
    weights = names["first"].input_value(1).get_node()
    np.testing.assert_array_equal(weights.data, names_of(candidate)["first"].input_value(1).get_node().data)


def names_of(candidate):
    return {node.get_friendly_name(): node for node in candidate.model.get_ordered_ops()}


def test_layers_in_several_groups_come_out_as_in_one(monkeypatch):
    candidate = candidate_of(chain)
    samples = fed(candidate)
    one, facts = round_all(candidate, samples)
    monkeypatch.setattr(wiring, "MEMORY", 1)
    layers, _ = wiring._layers(candidate, len(samples))
    assert len(list(wiring._groups(layers))) == 3
    many, same = round_all(candidate, samples)
    assert [f.layer for f in facts if f.correction == "rounding"] == ["first", "second", "layer"]
    assert facts == same
    for port, (q, _) in one.edits.rounded.items():
        assert np.array_equal(q, many.edits.rounded[port][0])


def test_a_deconvolution_is_left_alone_with_a_reason():
    def deconvolution():
        x = parameter(1, 8, 5, 5)
        weights = op.constant(values(8, 4, 2, 2))
        return x, named(op.convolution_backprop_data(op.relu(x), weights, strides=[2, 2]))

    candidate = candidate_of(deconvolution)
    rounded, (fact,) = round_all(candidate, fed(candidate))
    assert not fact.kept and "ConvolutionBackpropData" in fact.detail and not rounded.edits.rounded


def test_biases_of_the_old_weights_are_replaced():
    candidate = candidate_of(dense)
    other = replace(candidate, edits=Edits({}, {"layer": np.full(12, 100, np.float32)}))
    found = [round_all(one, fed(candidate))[0].edits.biases["layer"] for one in (candidate, other)]
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize("build", [dense, depthwise, grouped, matmul_b, matmul_a])
def test_bias_gives_back_the_mean_that_a_layer_lost(build):
    candidate = candidate_of(build)
    # inputs with a mean: errors of weights have one
    samples = [[np.abs(x) + np.float32(0.3)] for (x,) in fed(candidate)]
    rounded, facts = round_all(candidate, samples)
    alone = replace(rounded, edits=Edits(rounded.edits.rounded))
    axes = {"dense": 1, "depthwise": 1, "grouped": 1}.get(build.__name__)

    def shift(quantized):
        one, other = Session(candidate.model), Session(quantized, {**F32, "LP_TRANSFORMS_MODE": "NO"})
        lost = np.mean([one(sample)[0] - other(sample)[0] for sample in samples], axis=0)
        axis = axes if axes is not None else lost.ndim - (1 if build is matmul_b else 2)
        return float((lost.mean(axis=tuple(i for i in range(lost.ndim) if i != axis)) ** 2).sum())

    assert "layer" in rounded.edits.biases and any(f.correction == "bias" for f in facts)
    assert shift(rounded.quantized()) < shift(alone.quantized())


def test_biases_that_are_not_kept_are_in_the_report_and_not_in_the_edits(monkeypatch):
    candidate = candidate_of(dense)
    samples = [[np.abs(x) + np.float32(0.3)] for (x,) in fed(candidate)]
    with_biases, _ = round_all(candidate, samples)
    monkeypatch.setattr(bias_correction, "left_out_errors", lambda y, y_q: (y - y_q, y - y_q))
    without, facts = round_all(candidate, samples)
    assert with_biases.edits.biases and not without.edits.biases
    assert not any(fact.kept for fact in facts if fact.correction == "bias")


def test_one_sample_can_not_be_split_and_changes_nothing():
    candidate = candidate_of(dense)
    rounded, facts = round_all(candidate, fed(candidate, 1))
    assert not rounded.edits.rounded and not facts


def test_padding_of_the_same_size_is_worked_out_from_the_input():
    attributes = {"auto_pad": "same_lower", "strides": [2], "dilations": [1], "pads_begin": [0], "pads_end": [0]}
    assert paddings((10,), (3,), attributes) == ([1], [0])
    assert paddings((10,), (3,), {**attributes, "auto_pad": "same_upper"}) == ([0], [1])
    assert paddings((10,), (3,), {**attributes, "auto_pad": "valid"}) == ([0], [0])


def test_blas_threads_come_back_as_they_were():
    threads = [get() for _, get in _libraries()]
    with one_blas_thread():
        assert all(get() == 1 for _, get in _libraries())
    assert [get() for _, get in _libraries()] == threads


def of_frames(*frames):
    return Frames((one,) for one in frames)


def test_samples_and_frames_of_sequences_give_rows_alike():
    """Without state a sequence is its frames: the sums over both are the same to the last bit."""
    samples = [values(1, 20, 32) for _ in range(6)]
    candidate = candidate_of(matmul_b)
    alone, _ = round_all(candidate, [(one,) for one in samples])
    as_one, _ = round_all(candidate, [of_frames(*samples)])
    assert alone.edits.rounded and alone.edits.rounded.keys() == as_one.edits.rounded.keys()
    for port, (q, scale) in alone.edits.rounded.items():
        assert np.array_equal(q, as_one.edits.rounded[port][0]) and np.array_equal(scale, as_one.edits.rounded[port][1])


def test_sequences_choose_and_accept_as_a_whole():
    """Frames of one sequence resemble each other: those of the even ones choose, those of the odd ones accept."""
    first, second = ([values(1, 20, 32) for _ in range(3)] for _ in range(2))
    candidate = candidate_of(matmul_b)
    found, _ = round_all(candidate, [of_frames(*first), of_frames(*second)])
    in_turn, _ = round_all(candidate, [(one,) for pair in zip(first, second, strict=True) for one in pair])
    assert found.edits.rounded
    for port, (q, scale) in found.edits.rounded.items():
        assert np.array_equal(q, in_turn.edits.rounded[port][0])
        assert np.array_equal(scale, in_turn.edits.rounded[port][1])
    assert wiring._whose([of_frames(*first), of_frames(*second)]) == [0, 0, 0, 1, 1, 1]


def test_long_sequences_give_some_of_their_frames(monkeypatch):
    monkeypatch.setattr(wiring, "FRAMES", 4)
    frame = values(1, 2)
    assert wiring._whose([of_frames(*[frame] * 10)]) == [0, None, None, 1, None, None, 2, None, None, 3]
    assert wiring._whose([of_frames(*[frame] * 5), of_frames(frame)]) == [0, None, 0, None, 0, 1]
    assert wiring._whose([(frame,), (frame,), (frame,)]) == [0, 1, 2]


@pytest.mark.parametrize("build", [dense, grouped, matmul_batched])
def test_another_candidate_of_the_same_network_takes_the_inputs_that_were_kept_and_gets_the_same_bytes(
    build, monkeypatch
):
    candidate = candidate_of(build)
    samples, known = fed(candidate), list[object]()
    wider = [replace(q, range=Range(2 * q.range.low, 2 * q.range.high)) for q in candidate.plan.activations]
    other = replace(candidate, plan=replace(candidate.plan, activations=tuple(wider)))
    expected = round_all(other, samples)[0].edits.rounded
    round_all(candidate, samples, known=known)
    again = round_all(other, list(samples), known=known)[0].edits.rounded  # other samples: the network runs
    monkeypatch.setattr(wiring, "compile_model", None)  # and now it can't
    with pytest.raises(TypeError):
        round_all(other, samples, known=known)
    known[:] = [replace(known[0], samples=samples)]
    for found in (again, round_all(other, samples, known=known)[0].edits.rounded):
        assert found.keys() == expected.keys()
        for port, (q, scale) in expected.items():
            assert (q.tobytes(), scale.tobytes()) == (found[port][0].tobytes(), found[port][1].tobytes())


def test_inputs_beyond_the_limit_are_not_kept(monkeypatch):
    candidate, known = candidate_of(dense), list[object]()
    monkeypatch.setattr(wiring, "KEPT", 1000)
    round_all(candidate, fed(candidate), known=known)
    assert not known
