"""Which tensors two forms of a network are compared by."""

from __future__ import annotations

import numpy as np
import pytest

from calib.corrections.candidate import Candidate
from calib.graph.comparable import aligned, compared_form, compared_outputs
from calib.graph.finder import find
from calib.graph.insert import Edits, insert
from calib.graph.placement import place
from calib.graph.taps import Need
from calib.graph.view import GraphView
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.session import SIMULATED, Session, compile_model, make_model, ov
from calib.statistics.collect import collect

op = ov.opset13
rng = np.random.default_rng(4)


def ints(*values: int) -> ov.Node:
    return op.constant(np.array(values, np.int64))


def image() -> ov.Node:
    return op.parameter([1, 3, 8, 8], np.float32, name="x")


def named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def conv(x: ov.Node, name: str, channels: int = 6) -> ov.Node:
    given = x.get_output_partial_shape(0)[1].get_length()
    weights = op.constant(rng.normal(size=(channels, given, 3, 3)).astype(np.float32))
    return named(op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1]), name)


def called(node: ov.Node, name: str) -> ov.Node:
    """Give an output a name that reports use."""
    node.output(0).get_tensor().set_names({name})
    return node


def extra(*outputs: ov.Node, x: ov.Node) -> list[str]:
    model = make_model([op.result(output) for output in outputs], [x])
    return [tensor.node for tensor in compared_outputs(model).extra]


def test_real_outputs_are_compared_themselves_in_the_model_as_it_is():
    x = image()
    model = make_model([op.result(called(conv(x, name), name)) for name in "ab"], [x])
    compared = compared_outputs(model)
    assert compared.names == ["a", "b"] and not compared.extra and not compared.notes
    assert compared_form(model, compared) is model


def test_labels_are_compared_by_their_scores():
    x = image()
    scores = named(op.reduce_mean(conv(x, "conv"), [2, 3], False), "scores")
    label = op.topk(scores, 1, 1, "max", "value").output(1)
    model = make_model([op.result(op.convert(label, np.float32))], [x])
    compared = compared_outputs(model)
    assert compared.names == ["scores"]
    assert "TopK" in compared.notes[0] and "'scores'" in compared.notes[0]


def test_the_values_that_topk_selects_are_compared_before_it():
    x = image()
    heat = named(op.reshape(op.sigmoid(conv(x, "conv", 1)), ints(1, -1), False), "heat")
    assert extra(op.topk(heat, 5, 1, "max", "value").output(0).get_node(), x=x) == ["heat"]


def test_pixels_are_compared_before_they_are_rounded():
    x = image()
    scaled = named(op.multiply(conv(x, "conv"), np.float32(255)), "scaled")
    assert extra(op.convert(op.round(scaled, "half_to_even"), np.uint8), x=x) == ["scaled"]
    assert extra(op.convert(scaled, np.uint8), x=x) == ["scaled"]


def test_what_a_threshold_keeps_is_compared_before_it():
    x = image()
    heat = named(op.sigmoid(conv(x, "conv")), "heat")
    kept = op.multiply(heat, op.convert(op.greater(heat, np.float32(0.5)), np.float32))
    assert extra(kept, x=x) == ["heat"]


def test_boxes_that_nms_keeps_are_compared_by_all_boxes_and_scores():
    x = image()
    boxes = named(op.reshape(conv(x, "boxes", 4), ints(1, -1, 4), False), "all boxes")
    scores = named(op.sigmoid(op.reshape(conv(x, "scores", 2), ints(1, 2, -1), False)), "all scores")
    kept = op.non_max_suppression(boxes, scores, np.int64(5), np.float32(0.5), np.float32(0.0))
    which = op.gather(kept.output(0), ints(2), ints(1))
    result = op.gather(boxes, which, ints(1))
    assert sorted(extra(result, x=x)) == ["all boxes", "all scores"]
    assert sorted(extra(kept, x=x)) == ["all boxes", "all scores"]  # its first output: indices


def test_a_label_beside_its_scores_adds_nothing():
    x = image()
    scores = op.reduce_mean(conv(x, "conv"), [2, 3], False)
    label = op.topk(op.softmax(scores, 1), 1, 1, "max", "value").output(1)
    assert extra(scores, label.get_node(), x=x) == []


def test_a_choice_by_the_input_alone_is_no_selection():
    x = image()
    features = op.reshape(conv(x, "conv"), ints(1, 6, -1), False)
    best = op.topk(op.reshape(op.reduce_max(x, [1], False), ints(-1), False), 3, 0, "max", "value").output(1)
    assert extra(op.gather(features, best, ints(2)), x=x) == []


def test_what_no_layer_takes_part_in_is_not_compared():
    x = image()
    model = make_model([op.result(called(conv(x, "conv"), "y")), op.result(op.relu(x))], [x])
    assert compared_outputs(model).names == ["y"]


def test_a_model_without_anything_to_compare_says_so():
    x = op.parameter([2], np.int32, name="x")
    compared = compared_outputs(make_model([op.result(op.add(x, np.int32(1)))], [x]))
    assert not compared.parts and "no real-valued output" in compared.notes[0]


def quantized(model: ov.Model, samples: list[list[np.ndarray]], biases: dict[str, np.ndarray], *, fold: bool):
    view = GraphView(model)
    plan = place(view, find(view))
    needs = {q.tensor: Need(channels=q.per_channel) for q in plan.activations}
    summaries = collect(model, needs, [(str(i), str(i), sample) for i, sample in enumerate(samples)]).whole
    candidate = Candidate(model, view, assign(plan, summaries, get_estimator("minmax")), Edits(biases=biases))
    return insert(candidate.model, candidate.plan, candidate.edits, fold=fold)


@pytest.mark.parametrize("fold", [True, False])
def test_the_compared_form_holds_a_layers_output_with_its_corrected_bias_and_its_zero_point(fold: bool):
    x = op.parameter([1, 16], np.float32, name="x")
    weights = op.constant(rng.normal(size=(16, 5)).astype(np.float32))
    scores = named(op.matmul(x, weights, False, False), "scores")
    model = make_model([op.result(op.topk(scores, 1, 1, "max", "value").output(1))], [x])
    samples = [[rng.normal(size=(1, 16)).astype(np.float32)] for _ in range(8)]
    bias = np.array([0, 100, 0, 0, 0], np.float32)
    int8 = quantized(model, samples, {"scores": bias}, fold=fold)
    compared = compared_outputs(model)
    found = compared.values(Session(compared_form(int8, compared), SIMULATED)(samples[0]))[0]
    expected = samples[0][0] @ weights.data + bias
    assert np.abs(found - expected).max() < 0.2  # the bias alone is 100


def test_the_compared_form_keeps_the_models_own_outputs_and_edits_nothing():
    x = image()
    label = op.topk(op.reduce_mean(conv(x, "conv"), [2, 3], False), 1, 1, "max", "value").output(1)
    model = make_model([op.result(label)], [x])
    before = len(model.get_ops())
    form = compared_form(model, compared_outputs(model))
    assert len(model.get_ops()) == before and len(model.outputs) == 1
    assert [port.get_element_type().get_type_name() for port in form.outputs] == ["i32", "f32"]
    assert len(compile_model(form).outputs) == 2


def labels(name: str) -> ov.Model:
    x = image()
    scores = named(op.reduce_mean(conv(x, "conv"), [2, 3], False), name)
    return make_model([op.result(op.topk(scores, 1, 1, "max", "value").output(1))], [x])


def test_a_form_with_other_names_is_compared_by_the_tensors_in_the_same_place():
    own, other = aligned(labels("scores"), labels("renamed"))
    assert [own.extra[0].node, other.extra[0].node] == ["scores", "renamed"]
    assert own.parts == other.parts and own.names == ["scores"]


def test_a_form_that_does_not_line_up_is_compared_by_its_outputs_and_a_note_says_so():
    x = image()
    values = op.topk(op.reduce_mean(conv(x, "conv"), [2, 3], False), 2, 1, "max", "value")
    model = make_model([op.result(values.output(0))], [x])
    y = image()
    means = op.reduce_mean(conv(y, "other", 9), [2, 3], False)
    other = make_model([op.result(op.topk(means, 2, 1, "max", "value").output(0))], [y])
    own, same = aligned(model, other)
    assert own is same and not own.extra and len(own.parts) == 1
    assert "do not line up" in own.notes[0]


def test_a_factor_that_another_form_has_fused_is_no_reason_to_compare_what_has_the_name():
    x = image()
    means = op.reduce_mean(conv(x, "conv"), [2, 3], False)
    weights = rng.normal(size=(6, 5)).astype(np.float32)
    fused = named(op.matmul(means, op.constant(weights * 3), False, False), "scores")
    model = make_model([op.result(op.topk(fused, 1, 1, "max", "value").output(1))], [x])
    y = image()
    bare = named(
        op.matmul(op.reduce_mean(conv(y, "conv"), [2, 3], False), op.constant(weights), False, False), "scores"
    )
    scaled = named(op.multiply(bare, np.float32(3)), "scaled")
    as_read = make_model([op.result(op.topk(scaled, 1, 1, "max", "value").output(1))], [y])
    own, other = aligned(model, as_read)
    assert [own.extra[0].node, other.extra[0].node] == ["scores", "scaled"]


def test_a_form_in_half_precision_lines_up():
    model = labels("scores")
    half = labels("scores")
    scores = next(node for node in half.get_ordered_ops() if node.get_friendly_name() == "scores")
    readers = list(scores.output(0).get_target_inputs())
    scores.set_friendly_name("in single")
    narrow = named(op.convert(scores, np.float16), "scores")
    for reader in readers:
        reader.replace_source_output(narrow.output(0))
    half.validate_nodes_and_infer_types()
    own, other = aligned(model, half)
    assert own == other and own.extra[0].node == "scores"


def test_layers_behind_a_selection_are_compared_at_what_they_compute_and_at_what_was_chosen_from():
    x = image()
    scores = named(op.reshape(conv(x, "conv", 1), ints(1, 1, -1), False), "scores")
    boxes = named(op.reshape(conv(x, "boxes", 4), ints(1, -1, 4), False), "all boxes")
    kept = op.non_max_suppression(boxes, scores, np.int64(5), np.float32(0.5), np.float32(0.0))
    which = op.reshape(op.gather(kept.output(0), ints(2), ints(1)), ints(-1), False)
    rows = op.gather(op.squeeze(boxes, ints(0)), which, ints(0))
    weights = op.constant(rng.normal(size=(4, 3)).astype(np.float32))
    head = named(op.matmul(rows, weights, False, False), "head")
    assert extra(op.topk(head, 1, 1, "max", "value").output(1).get_node(), x=x) == ["head", "all boxes", "scores"]
    compared = compared_outputs(make_model([op.result(called(head, "y"))], [x]))
    assert compared.names == ["y", "all boxes", "scores"]
    assert [part.chosen for part in compared.parts] == [True, False, False]
    (note,) = compared.notes
    assert "layers compute 'y' from what NonMaxSuppression" in note and "'all boxes', 'scores'" in note


def test_codes_of_a_table_that_a_decoder_reads_are_compared_by_their_distances():
    """The nearest of a few codes, and a layer behind it, as in an autoencoder; the largest value alone is no choice."""
    x = image()
    near = named(op.reduce_mean(conv(x, "conv"), [2, 3], False), "near")
    best = op.topk(near, 1, 1, "max", "value")
    table, weights = (op.constant(rng.normal(size=(6, 6)).astype(np.float32)) for _ in range(2))
    codes = op.gather(table, op.squeeze(best.output(1), ints(1)), ints(0))
    assert extra(op.matmul(codes, weights, False, False), x=x) == ["near"]
    assert extra(op.matmul(best.output(0), op.constant(np.ones((1, 6), np.float32)), False, False), x=x) == []
