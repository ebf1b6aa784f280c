from __future__ import annotations

import weakref

import numpy as np
import pytest

from calib.corrections import scoring
from calib.corrections.scoring import Scorer, energies_on, sample_energies, typical_db
from calib.graph.insert import clone_model
from calib.runtime.session import compile_model, make_model, ov
from calib.values.sqnr import decibel

op = ov.opset13
rng = np.random.default_rng(5)


def ending_in(*last):
    """Return a network of one MatMul, its scores through what ``last`` makes of them."""
    x = op.parameter([1, 6], np.float32)
    y = op.matmul(x, op.constant(rng.normal(size=(6, 4)).astype(np.float32)), False, False)
    for make in last:
        y = make(y)
    return make_model([op.result(y)], [x], name="scores")


def off(model, factor):
    """Return the network with its weights scaled."""
    other = clone_model(model)
    node = next(n for n in other.get_ordered_ops() if n.get_type_name() == "MatMul")
    scaled = op.constant(np.asarray(node.input_value(1).get_node().data) * np.float32(factor))
    node.input(1).replace_source_output(scaled.output(0))
    return other


def samples(count, scale=1.0):
    return [[(scale * rng.normal(size=(1, 6))).astype(np.float32)] for _ in range(count)]


def pooled_db(reference, outputs) -> float:
    """Return 10 log10 (sum y² / sum (y - y_q)²) over all samples of one output."""
    return decibel(*sample_energies(["y"], reference, outputs)["y"].sum(axis=0))


def test_samples_that_are_equally_wrong_score_their_sqnr():
    reference = [[sign * np.full((1, 5), 2.0, np.float32)] for sign in (1, -1, 1)]
    outputs = [[y + np.float32(0.1)] for (y,) in reference]
    pooled = pooled_db(reference, outputs)
    assert typical_db(reference, outputs) == pytest.approx(pooled) == pytest.approx(20 * np.log10(20), abs=1e-4)


def test_one_sample_that_is_wrong_by_chance_does_not_decide_alone():
    reference = [[np.ones((1, 10))] for _ in range(20)]
    good, bad = ([[y * (1 + error)] for (y,) in reference] for error in (0.01, 0.02))
    good[3] = [np.full((1, 10), 1.15)]  # more than all of bad's errors together, squared
    pooled = [pooled_db(reference, outputs) for outputs in (good, bad)]
    assert pooled[0] < pooled[1]
    assert typical_db(reference, good) > typical_db(reference, bad)


def test_an_output_of_another_shape_is_all_wrong_and_integers_do_not_count():
    reference = [[np.ones((1, 3)), np.ones(2, np.int64)]]
    assert typical_db(reference, [[np.ones((1, 4)), np.zeros(2, np.int64)]]) == 0
    assert typical_db(reference, [[np.ones((1, 3)), np.zeros(2, np.int64)]]) == np.inf
    assert typical_db(reference, [[np.full((1, 3), np.nan), np.ones(2, np.int64)]]) == -np.inf


@pytest.mark.parametrize(
    "last",
    [
        (lambda y: op.softmax(y, -1),),
        (op.sigmoid,),
        (op.sigmoid, lambda y: op.reshape(y, np.array([2, 2]), special_zero=False)),
    ],
)
def test_probabilities_are_compared_by_their_logits_which_show_what_saturation_hides(last):
    model = ending_in(*last)
    held = samples(8)
    scorer = Scorer(model, held)
    powers = np.array([(sample[0] ** 2).sum() for sample in scorer.logits])
    expected = 20 - 20 * np.log10(np.sqrt(powers / powers.mean()).mean())  # a tenth of each logit
    assert scorer.score(off(model, 1.1)).score == pytest.approx(expected, abs=1e-3)
    assert scorer.on == "8 samples by their logits"


def boxes_and_scores(layout):
    """Return a network with boxes around 500 and scores below 1 in one output, and the names of its two parts."""
    x = op.parameter([1, 6], np.float32)
    weights = [rng.normal(size=(6, count * 8)).astype(np.float32) for count in (4, 3)]
    heads = [op.reshape(op.matmul(x, op.constant(w), False, False), np.array([1, -1, 8]), False) for w in weights]
    joined = op.concat([op.add(heads[0], np.float32(500)), op.exp(heads[1])], 1)
    y = op.transpose(joined, np.array([0, 2, 1])) if layout == "last" else joined
    y.output(0).get_tensor().set_names({"y"})
    parts = ["y[:, :, :4]", "y[:, :, 4:]"] if layout == "last" else ["y[:, :4]", "y[:, 4:]"]
    return make_model([op.result(y)], [x], name="joined"), parts


@pytest.mark.parametrize("layout", ["first", "last"])
def test_wrong_scores_are_seen_beside_boxes_that_are_a_thousand_times_as_large(layout):
    model, parts = boxes_and_scores(layout)
    held = samples(8, scale=0.1)
    scorer = Scorer(model, held)
    assert scorer.names == parts
    worse = clone_model(model)
    exp = next(n for n in worse.get_ordered_ops() if n.get_type_name() == "Exp")
    for reader in list(exp.output(0).get_target_inputs()):
        reader.replace_source_output(op.multiply(exp.output(0), np.float32(1.3)).output(0))
    scored = scorer.score(worse)
    assert scored.errors == {parts[0]: 0, parts[1]: pytest.approx(0.09, rel=1e-4)}
    assert -10 * np.log10(np.mean(list(scored.errors.values()))) == pytest.approx(
        20 * np.log10(1 / 0.3) + 10 * np.log10(2), abs=0.01
    )
    assert scored.score < 14  # one error over both parts would be 60 dB or so


def selecting(kind):
    """Return a network whose output is selected from scores, and the name of what is compared."""
    x = op.parameter([1, 6], np.float32)
    scores = op.matmul(x, op.constant(rng.normal(size=(6, 40)).astype(np.float32)), False, False)
    scores.set_friendly_name("scores")
    if kind == "topk":
        y = op.topk(scores, 5, 1, "max", "value").output(0)
    elif kind == "argmax":
        y = op.topk(scores, 1, 1, "max", "value", index_element_type="i64").output(1)
    elif kind == "pixels":
        y = op.convert(op.round(scores, "half_to_even"), np.uint8)
    else:
        boxes = op.reshape(op.concat([scores] * 4, 1), np.array([1, 40, 4]), False)
        boxes.set_friendly_name("boxes")
        single = op.reshape(scores, np.array([1, 1, 40]), False)
        single.set_friendly_name("single")
        y = op.non_max_suppression(boxes, single, np.int64(9), np.float32(0.5), np.float32(0.0)).output(0)
    return make_model([op.result(y)], [x], name=kind), ["boxes", "single"] if kind == "nms" else ["scores"]


@pytest.mark.parametrize("kind", ["topk", "argmax", "pixels", "nms"])
def test_what_is_selected_is_scored_before_the_selection(kind):
    model, names = selecting(kind)
    scorer = Scorer(model, samples(8))
    assert scorer.useful and scorer.names == names
    scored = scorer.score(off(model, 1.1))
    assert scored.errors == {name: pytest.approx(0.01, rel=1e-4) for name in names}
    assert scored.compiled is None and len(scored.model.outputs) == 1


def test_a_plain_network_is_compiled_once_and_as_it_ships():
    model = ending_in()
    scored = (scorer := Scorer(model, samples(2))).score(off(model, 1.1))
    assert scorer.on == "2 samples"
    assert scored.compiled is not None and len(scored.compiled.outputs) == 1


def test_a_sample_with_a_nearly_empty_output_does_not_decide_the_score():
    reference = [[np.ones((1, 10))] for _ in range(9)] + [[np.full((1, 10), 1e-9)]]
    outputs = [[y + 0.01] for (y,) in reference]
    assert typical_db(reference, outputs) == pytest.approx(40, abs=0.5)
    assert pooled_db(reference, outputs) == pytest.approx(40, abs=0.5)


def test_two_models_are_compiled_one_after_the_other_where_outputs_are_small(monkeypatch):
    before = ending_in()
    after, feeds, alive = off(before, 1.1), samples(11), []
    known = {"known": compile_model(before), "compiled": compile_model(after)}

    def counted(model, **given):
        alive.append(sum(one() is not None for one in made))
        compiled = compile_model(model, **given)
        made.append(weakref.ref(compiled))
        return compiled

    monkeypatch.setattr(scoring, "compile_model", counted)
    expected, made = energies_on(lambda: feeds, before, after, **known), []
    ((name, rows),) = expected.items()
    assert not alive and rows.shape == (11, 2) and rows.all()
    for small, others in ((1 << 20, [0, 0]), (40, [0, 0, 1])):  # 16 bytes an output: the third of them is too much
        monkeypatch.setattr(scoring, "SMALL", small)
        made, alive = [], []
        found = energies_on(lambda: iter(feeds), before, after)
        assert np.array_equal(found[name], rows) and alive == others
