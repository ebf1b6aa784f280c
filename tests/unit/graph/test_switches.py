"""One switch model stands for all the models in which one unit is quantized.

covers: calib.corrections.sensitivity
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from cpu_features import EXACT_INT8

from calib.corrections.candidate import Candidate
from calib.corrections.sensitivity import (
    executed_sensitivities,
    executes_as_simulated,
    groups_of,
    sensitivities_of,
)
from calib.errors import ExecutionError
from calib.graph.comparable import compared_outputs
from calib.graph.finder import find
from calib.graph.insert import Edits
from calib.graph.placement import place
from calib.graph.switches import added_bytes, switch_model
from calib.graph.taps import Need
from calib.graph.view import GraphView
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.session import SIMULATED, Session, compile_model, ov
from calib.samples.sample import Frames
from calib.statistics.collect import collect
from calib.values.plan import FULL_RANGE, HALF_RANGE

op = ov.opset13
RNG = np.random.default_rng(11)
CHANNELS = 4


def named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def conv(x: ov.Node, name: str, channels: int = CHANNELS, *, poison: float = 1.0, starve: float = 1.0) -> ov.Node:
    """Return a 3x3 convolution and Relu.

    Args:
        x: what it reads.
        name: of the convolution.
        channels: of its output.
        poison: times the weights that read channel 0.
        starve: by which the weights of output channel 0 are divided.
    """
    weights = RNG.normal(size=(channels, x.get_output_partial_shape(0)[1].get_length(), 3, 3)).astype(np.float32) / 6
    weights[:, 0] *= poison
    weights[0] /= starve
    node = op.convolution(x, named(op.constant(weights), f"{name}/w"), [1, 1], [1, 1], [1, 1], [1, 1])
    return op.relu(named(node, name))


def picture(height: int = 8) -> ov.Node:
    return named(op.parameter([1, 3, height, 8], np.float32, name="x"), "x")


def model_of(outputs: list[ov.Node], *inputs: ov.Node, sinks: list[ov.Node] | None = None) -> ov.Model:
    model = ov.Model([op.result(o) for o in outputs], sinks or [], list(inputs), "tiny")
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_type_name() not in ("Convolution", "MatMul", "Parameter"):
            node.set_friendly_name(f"{node.get_type_name()}_{index}")
    return model


def chain(poison: float = 1.0) -> ov.Model:
    x = picture()
    y = conv(conv(conv(x, "first", starve=poison), "second", poison=poison), "third")
    return model_of([y], x)


def pictures(count: int = 4, height: int = 8) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(3)
    return [(rng.normal(size=(1, 3, height, 8)).astype(np.float32),) for _ in range(count)]


def candidate_of(
    model: ov.Model, samples: list[tuple[np.ndarray, ...]], edits: Edits | None = None, levels: int = FULL_RANGE
) -> Candidate:
    view = GraphView(model)
    plan = place(view, find(view), weight_levels=levels)
    needs = {q.tensor: Need() for q in plan.activations}
    summaries = collect(model, needs, ((str(i), "", sample) for i, sample in enumerate(samples)), streams=1).whole
    return Candidate(model, view, assign(plan, summaries, get_estimator("minmax")), edits or Edits())


def switch_session(candidate: Candidate, shapes: list[tuple[int, ...]]) -> Callable[..., np.ndarray]:
    """Return a function of a sample and the switches: the first output of the switch model, compiled once."""
    units = candidate.plan.units()
    session = Session(switch_model(candidate.model, candidate.plan, candidate.edits, units, shapes), SIMULATED)
    return lambda sample, switches: session([*sample, np.array(switches, np.float32)])[0]


def nmse(y: np.ndarray, other: np.ndarray) -> float:
    return float(((y.astype(np.float64) - other) ** 2).sum() / (y.astype(np.float64) ** 2).sum())


def compiled_alone(candidate: Candidate, unit: frozenset[str], samples: list[tuple[np.ndarray, ...]]) -> float:
    """Return the sensitivity of a unit the slow way: a model in which only it is quantized."""
    others = frozenset(layer.name for layer in candidate.plan.layers) - unit
    alone = Candidate(candidate.model, candidate.view, candidate.plan.without(others), candidate.edits.without(others))
    plain, rough = Session(candidate.model), Session(alone.quantized(), SIMULATED)
    pairs = [(plain(s)[0].astype(np.float64), rough(s)[0]) for s in samples]
    return sum(((a - b) ** 2).sum() for a, b in pairs) / sum((a**2).sum() for a, _ in pairs)


def biased(candidate: Candidate) -> Candidate:
    biases = {layer.name: np.linspace(-0.2, 0.2, CHANNELS, dtype=np.float32) for layer in candidate.plan.layers}
    return Candidate(candidate.model, candidate.view, candidate.plan, Edits({}, biases))


@pytest.mark.parametrize("correct", [False, True])
def test_all_switches_off_is_the_float_network_bit_for_bit(correct):
    samples = pictures()
    candidate = candidate_of(chain(), samples)
    candidate = biased(candidate) if correct else candidate
    switched, plain = switch_session(candidate, [samples[0][0].shape]), Session(candidate.model)
    for sample in samples:
        np.testing.assert_array_equal(switched(sample, [0, 0, 0]), plain(sample)[0])


@pytest.mark.parametrize("correct", [False, True])
def test_all_switches_on_is_the_quantized_network(correct):
    samples = pictures()
    candidate = candidate_of(chain(), samples, levels=HALF_RANGE)  # whose sums are exact on every CPU
    candidate = biased(candidate) if correct else candidate
    plain, simulated, real = (
        Session(candidate.model),
        Session(candidate.quantized(), SIMULATED),
        Session(candidate.quantized()),
    )
    switched = switch_session(candidate, [samples[0][0].shape])
    for sample in samples:
        on = switched(sample, [1, 1, 1])
        assert nmse(simulated(sample)[0], on) < 1e-6
        # INT8 kernels round ties of a few values otherwise: far below what quantizing does
        assert nmse(real(sample)[0], on) < 0.1 * max(nmse(plain(sample)[0], on), 1e-4)


def test_each_damage_is_that_of_a_model_with_only_this_unit_quantized():
    samples = pictures()
    candidate = candidate_of(chain(poison=20), samples)
    sensitivities = sensitivities_of(candidate, candidate.plan.units(), samples)
    for unit, sensitivity in sensitivities.items():
        assert sensitivity == pytest.approx(compiled_alone(candidate, unit, samples), rel=1e-3)


def test_a_poisonous_layer_has_the_largest_damage():
    samples = pictures()
    candidate = candidate_of(chain(poison=200), samples)
    sensitivities = sensitivities_of(candidate, candidate.plan.units(), samples)
    assert max(sensitivities, key=sensitivities.__getitem__) == frozenset({"second"})
    assert sensitivities[frozenset({"second"})] > 10 * sensitivities[frozenset({"third"})]


def test_layers_of_one_unit_switch_together():
    samples = pictures()
    candidate = candidate_of(chain(), samples)
    pair = frozenset({"first", "third"})
    sensitivities = sensitivities_of(candidate, [pair], samples)
    assert sensitivities == {pair: pytest.approx(compiled_alone(candidate, pair, samples), rel=1e-3)}


def saturating() -> ov.Model:
    """A chain whose second layer, of weights and inputs that are all large, has a small error but for its sums."""
    x = picture()
    first = conv(x, "first")
    large = op.add(op.multiply(op.sigmoid(first), np.float32(0.1)), np.float32(0.9))
    weights = named(op.constant(np.full((CHANNELS, CHANNELS, 3, 3), 0.1, np.float32)), "second/w")
    second = named(op.convolution(large, weights, [1, 1], [1, 1], [1, 1], [1, 1]), "second")
    return model_of([conv(op.relu(second), "third")], x)


@pytest.mark.skipif(EXACT_INT8, reason="sums of INT8 products do not saturate on this CPU: it has VNNI or AMX")
def test_a_layer_whose_sums_saturate_is_the_most_sensitive_as_executed_and_not_in_simulation():
    samples = pictures()
    candidate = candidate_of(saturating(), samples)
    simulated = sensitivities_of(candidate, candidate.plan.units(), samples)
    executed = executed_sensitivities(candidate, simulated, samples)
    second = frozenset({"second"})
    assert max(simulated, key=simulated.__getitem__) != second
    assert max(executed, key=executed.__getitem__) == second and executed[second] > 100 * simulated[second]


@pytest.mark.skipif(EXACT_INT8, reason="sums of INT8 products do not saturate on this CPU: it has VNNI or AMX")
def test_simulation_does_not_explain_the_error_of_a_model_whose_sums_saturate():
    samples = pictures()
    candidate = candidate_of(saturating(), samples)
    assert not executes_as_simulated(candidate, samples, whole=(candidate.executable(), None))


@pytest.mark.parametrize("build", [chain, saturating])
def test_simulation_explains_the_error_of_a_model_whose_sums_are_exact(build: Callable[[], ov.Model]):
    samples = pictures()
    candidate = candidate_of(build(), samples, levels=HALF_RANGE)
    whole = candidate.executable()
    assert executes_as_simulated(candidate, samples, whole=(whole, None))
    assert executes_as_simulated(candidate, samples, whole=(whole, compile_model(whole)))


def test_damages_as_executed_are_those_of_the_simulation_where_sums_do_not_saturate(monkeypatch):
    samples = pictures()
    candidate = candidate_of(chain(), samples, levels=HALF_RANGE)
    simulated = sensitivities_of(candidate, candidate.plan.units(), samples)
    executed = executed_sensitivities(candidate, simulated, samples)
    for unit, sensitivity in executed.items():
        assert simulated[unit] <= sensitivity <= 1.2 * simulated[unit]  # ties of a few values are rounded otherwise
    monkeypatch.setattr("calib.corrections.sensitivity.EXECUTED_MODELS", 2)  # one of two units, one of the last
    shared = executed_sensitivities(candidate, simulated, samples)
    first, second, _ = sorted(simulated, key=simulated.__getitem__, reverse=True)
    assert shared[first] - simulated[first] == pytest.approx(shared[second] - simulated[second], abs=1e-12)


def test_damages_do_not_depend_on_streams():
    samples = pictures()
    candidate = candidate_of(chain(), samples)
    units = candidate.plan.units()
    one = sensitivities_of(candidate, units, samples, streams=1)
    assert one == sensitivities_of(candidate, units, samples, streams=2)


def accumulating() -> ov.Model:
    """A sum over frames in front of two MatMuls."""
    x = named(op.parameter([1, 6, 16], np.float32, name="x"), "x")
    total = op.add(op.read_value(op.constant(np.zeros((1, 6, 16), np.float32)), "sum", np.float32, [1, 6, 16]), x)
    weights = [RNG.normal(size=(16, 16)).astype(np.float32) / 4 for _ in range(2)]
    hidden = op.relu(named(op.matmul(total, weights[0], False, False), "first"))
    last = named(op.matmul(hidden, weights[1], False, False), "second")
    return model_of([last], x, sinks=[op.assign(total, "sum")])


def test_damages_of_a_model_with_state_are_those_of_its_sequences(monkeypatch):
    rng = np.random.default_rng(5)
    sequences = [Frames((rng.normal(size=(1, 6, 16)).astype(np.float32),) for _ in range(n)) for n in (5, 1, 9)]
    candidate = candidate_of(accumulating(), sequences)
    units = candidate.plan.units()
    found = sensitivities_of(candidate, units, sequences, streams=1)
    assert found == sensitivities_of(candidate, units, sequences, streams=2)
    for unit in units:
        layers = frozenset(layer.name for layer in candidate.plan.layers) - unit
        alone = Candidate(candidate.model, candidate.view, candidate.plan.without(layers), Edits())
        plain, rough = Session(candidate.model), Session(alone.quantized(), SIMULATED)
        pairs = [
            (a.astype(np.float64), b) for (a,), (b,) in zip(plain.each(sequences), rough.each(sequences), strict=True)
        ]
        expected = sum(((a - b) ** 2).sum() for a, b in pairs) / sum((a**2).sum() for a, _ in pairs)
        assert found[unit] == pytest.approx(expected, rel=1e-3)
    monkeypatch.setattr("calib.corrections.sensitivity.FRAMES", 6)  # the first sequence and one frame more
    assert sensitivities_of(candidate, units, sequences) == sensitivities_of(candidate, units, sequences[:2])


def test_groups_for_a_memory_limit_give_the_same_damages():
    samples = pictures()
    candidate = candidate_of(chain(), samples)
    units = candidate.plan.units()
    assert [len(group) for group in groups_of(candidate, units, 0)] == [1, 1, 1]
    assert [
        len(group) for group in groups_of(candidate, units, sum(added_bytes(candidate.model, candidate.plan, units)))
    ] == [3]
    at_once = sensitivities_of(candidate, units, samples)
    in_turn = sensitivities_of(candidate, units, samples, memory_limit=0)
    assert in_turn == pytest.approx(at_once, rel=1e-3)


def test_two_readers_of_one_tensor_switch_apart():
    x = picture()
    trunk = conv(x, "trunk")
    model = model_of([op.add(conv(trunk, "left", poison=50), conv(trunk, "right"))], x)
    samples = pictures()
    candidate = candidate_of(model, samples)
    for unit, sensitivity in sensitivities_of(candidate, candidate.plan.units(), samples).items():
        assert sensitivity == pytest.approx(compiled_alone(candidate, unit, samples), rel=1e-3)


def test_a_quantizer_in_front_of_a_concat_or_maxpool_serves_at_the_layer():
    x = picture()
    joined = op.concat([conv(x, "left"), conv(x, "right")], 1)
    pooled = ov.opset1.max_pool(joined, [2, 2], [0, 0], [0, 0], [2, 2])
    model = model_of([conv(pooled, "behind")], x)
    samples = pictures()
    candidate = candidate_of(model, samples)
    assert any(q.unify for q in candidate.plan.activations)
    for unit, sensitivity in sensitivities_of(candidate, candidate.plan.units(), samples).items():
        assert sensitivity == pytest.approx(compiled_alone(candidate, unit, samples), rel=1e-3)


def test_matrix_products_switch_their_weights_and_both_activations():
    x = named(op.parameter([1, 6, 16], np.float32, name="x"), "x")
    weights = [RNG.normal(size=(16, 16)).astype(np.float32) / 4 for _ in range(2)]
    left, right = (named(op.matmul(x, w, False, False), name) for name, w in zip(("q", "k"), weights, strict=True))
    product = named(op.matmul(left, right, False, True), "product")
    model = model_of([product], x)
    samples = [(RNG.normal(size=(1, 6, 16)).astype(np.float32),) for _ in range(4)]
    candidate = candidate_of(model, samples)
    assert len(candidate.plan.units()) == 3
    switched = switch_session(candidate, [array.shape for array in samples[0]])
    off = switched(samples[0], [0, 0, 0])
    assert nmse(Session(model)(samples[0])[0], off) < 1e-12  # the sums of another kernel
    assert nmse(Session(candidate.quantized(), SIMULATED)(samples[0])[0], switched(samples[0], [1, 1, 1])) < 1e-6
    for unit, sensitivity in sensitivities_of(candidate, candidate.plan.units(), samples).items():
        assert sensitivity == pytest.approx(compiled_alone(candidate, unit, samples), rel=1e-3)


def test_a_model_with_dynamic_shapes_gets_those_of_the_samples():
    x = named(op.parameter([-1, 3, -1, 8], np.float32, name="x"), "x")
    model = model_of([conv(conv(x, "first"), "second")], x)
    samples = [*pictures(2), *pictures(2, height=12)]
    candidate = candidate_of(model, samples)
    made = switch_model(model, candidate.plan, candidate.edits, candidate.plan.units(), [samples[2][0].shape])
    assert not made.is_dynamic()
    assert model.is_dynamic()
    assert tuple(made.output(0).shape) == (1, CHANNELS, 12, 8)
    for unit, sensitivity in sensitivities_of(candidate, candidate.plan.units(), samples).items():
        assert sensitivity == pytest.approx(compiled_alone(candidate, unit, samples), rel=1e-3)


def test_outputs_count_alike_whatever_their_size_and_indices_not_at_all():
    x = picture()
    trunk = conv(x, "trunk")
    small, large = conv(trunk, "small"), op.multiply(conv(trunk, "large"), np.float32(1000))
    best = op.topk(op.reduce_mean(small, [2, 3], False), 1, 1, "max", "value").output(1)
    model = ov.Model([op.result(small), op.result(large), op.result(best)], [x], "outputs")
    samples = pictures()
    candidate = candidate_of(model, samples)
    sensitivities = sensitivities_of(candidate, candidate.plan.units(), samples)
    for name, output in (("small", small), ("large", large)):
        alone = candidate_of(ov.Model([op.result(output)], [x], "one"), samples)
        unit = frozenset({name})  # the other output has no error, and counts as much
        assert sensitivities[unit] == pytest.approx(compiled_alone(alone, unit, samples) / 2, rel=1e-3)


def test_a_model_that_returns_labels_only_is_judged_by_what_they_are_decided_from():
    x = picture()
    means = op.reduce_mean(conv(conv(x, "first"), "second"), [2, 3], False)
    label = op.topk(means, 1, 1, "max", "value").output(1)
    as_float = op.convert(label, np.float32)  # an index stays one in a float's clothes
    model = ov.Model([op.result(label), op.result(as_float)], [x], "labels")
    samples = pictures()
    candidate = candidate_of(model, samples)
    sensitivities = sensitivities_of(candidate, candidate.plan.units(), samples)
    scores = candidate_of(ov.Model([op.result(means)], [x], "scores"), samples)
    for unit in candidate.plan.units():
        assert 0 < sensitivities[unit] == pytest.approx(compiled_alone(scores, unit, samples), rel=1e-3)


def test_probabilities_are_judged_by_the_scores_before_their_softmax():
    x = picture()
    scores = conv(conv(x, "first"), "second")
    flat = op.reshape(op.softmax(scores, 1), np.array([CHANNELS, -1]), False)
    samples = pictures()
    candidate = candidate_of(ov.Model([op.result(flat)], [x], "probabilities"), samples)
    sensitivities = sensitivities_of(candidate, candidate.plan.units(), samples)
    centred = op.subtract(scores, op.reduce_mean(scores, np.int64(1), True))
    plain = candidate_of(ov.Model([op.result(centred)], [x], "scores"), samples)
    for unit, expected in sensitivities_of(plain, plain.plan.units(), samples).items():
        assert sensitivities[unit] == pytest.approx(expected, rel=1e-3)


def test_boxes_behind_nms_are_judged_by_the_boxes_and_scores_before_it():
    x = picture()
    trunk = conv(x, "trunk")
    boxes = op.reshape(conv(trunk, "boxes"), np.array([1, -1, 4]), False)
    scores = op.reshape(conv(trunk, "scores", 1), np.array([1, 1, -1]), False)
    nms = op.non_max_suppression(boxes, scores, np.int64(5), np.float32(0.5), np.float32(0.0))
    model = ov.Model([op.result(nms.output(0)), op.result(nms.output(1))], [x], "detector")
    assert [tensor.node for tensor in compared_outputs(model).extra] == [n.get_friendly_name() for n in (boxes, scores)]
    samples = pictures()
    candidate = candidate_of(model, samples)
    sensitivities = sensitivities_of(candidate, candidate.plan.units(), samples)
    assert len(sensitivities) == 3
    assert all(sensitivity > 0 for sensitivity in sensitivities.values())


def test_state_is_carried_and_starts_anew_for_each_sample():
    x = picture()
    features = conv(x, "first")
    start = op.constant(np.zeros((1, CHANNELS, 8, 8), np.float32))
    # read_value with an initial value, so that resetting brings it back
    read = ov.opset6.read_value(start, "memory", ov.Type.f32, ov.PartialShape([1, CHANNELS, 8, 8]))
    mixed = op.add(features, op.multiply(read, np.float32(0.5)))
    kept = ov.opset6.assign(mixed, "memory")
    model = ov.Model([op.result(conv(mixed, "second"))], [kept], [x], "stateful")
    samples = pictures()
    candidate = candidate_of(model, samples)
    units = candidate.plan.units()
    made = switch_model(model, candidate.plan, candidate.edits, units, [samples[0][0].shape])
    assert compile_model(made, SIMULATED).create_infer_request().query_state()
    sensitivities = sensitivities_of(candidate, units, samples)
    assert sensitivities == sensitivities_of(candidate, units, samples, streams=2)
    for unit in units:
        assert sensitivities[unit] == pytest.approx(compiled_alone(candidate, unit, samples), rel=1e-3)


def test_infinite_outputs_are_the_greatest_damage():
    x = picture()
    same = op.convolution(x, np.eye(3, dtype=np.float32)[:, :, None, None], [1, 1], [0, 0], [0, 0], [1, 1])
    model = ov.Model([op.result(op.log(named(same, "only")))], [x], "logarithm")
    sample = (np.logspace(-6, 0, 3 * 64, dtype=np.float32).reshape(1, 3, 8, 8),)  # the small ones are rounded to 0
    sensitivities = sensitivities_of(candidate_of(model, [sample]), [frozenset({"only"})], [sample])
    assert sensitivities == {frozenset({"only"}): np.inf}


def test_a_layer_in_two_units_and_no_units_are_refused():
    samples = pictures(1)
    candidate = candidate_of(chain(), samples)
    with pytest.raises(ExecutionError, match="two units"):
        switch_model(candidate.model, candidate.plan, candidate.edits, [frozenset({"first"}), frozenset({"first"})])
    with pytest.raises(ExecutionError, match="at least one"):
        switch_model(candidate.model, candidate.plan, candidate.edits, [])
