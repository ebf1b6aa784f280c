"""Samples in which tensors are empty: the past of a first step, the boxes of an image without objects."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op
from cpu_features import TARGET

from calib import compare, quantize
from calib.errors import DataError, ModelError
from calib.loading.load import load_model
from calib.runtime.session import Session, ov
from calib.values.sqnr import decibel, squared_error

SIZE = 32
NEVER = "had no values in any calibration sample"


def named(**nodes: ov.Node) -> None:
    for name, node in nodes.items():
        node.set_friendly_name(name)
        node.output(0).set_names({name})


def decoder() -> ov.Model:
    """Attend from the tokens to a past, which has a layer of its own, and to themselves."""
    net = Net()
    tokens, past = net.input(1, -1, SIZE), net.input(1, -1, SIZE)
    named(tokens=tokens, past=past)
    keys = op.concat([net.dense(past, SIZE), net.dense(tokens, SIZE)], 1)
    queries = op.multiply(net.dense(tokens, SIZE), op.constant(np.float32(SIZE**-0.5)))
    mixed = op.matmul(op.softmax(op.matmul(queries, keys, False, True), -1), keys, False, False)
    return net.model(net.dense(op.relu(net.dense(mixed, 48)), 16))


def detector() -> ov.Model:
    """Score boxes, any number of them, by the features of the image that they are in."""
    net = Net()
    image, boxes = net.input(1, 3, 16, 16), net.input(-1, 4)
    named(image=image, boxes=boxes)
    features = op.relu(net.conv(image, 16))
    hidden = op.relu(net.dense(boxes, 32))
    scores = net.dense(op.relu(op.add(net.dense(hidden, 16), op.reduce_mean(features, np.array([2, 3])))), 8)
    return net.model(scores, net.conv(features, 4))


def steps(*lengths: tuple[int, int], seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)

    def rows(count: int) -> np.ndarray:
        return rng.standard_normal((1, count, SIZE)).astype(np.float32)

    return [{"tokens": rows(tokens), "past": rows(past)} for tokens, past in lengths]


def images(*boxes: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.standard_normal((1, 3, 16, 16)).astype(np.float32),
            "boxes": rng.standard_normal((count, 4)).astype(np.float32),
        }
        for count in boxes
    ]


def sqnr(model: ov.Model, quantized: ov.Model, feeds: list[dict[str, np.ndarray]]) -> float:
    """Return the lowest SQNR of an output, over samples that no range has seen."""
    sessions = [Session(one) for one in (model, quantized)]
    pairs = [[list(session(list(feed.values()))) for session in sessions] for feed in feeds]
    errors = np.sum([[squared_error(*both) for both in zip(*pair, strict=True)] for pair in pairs], axis=0)
    return min(decibel(*error) for error in errors)


@pytest.mark.parametrize("effort", ["fast", "balanced"])
@pytest.mark.parametrize(
    ("build", "given"),
    [(decoder, steps(*[(4, 0), (1, 4), (1, 5)] * 6)), (detector, images(*[0, 3, 2] * 6))],
    ids=["a past", "boxes"],
)
def test_samples_with_empty_tensors_are_quantized_by_those_that_hold_values(build, given, effort):
    model = build()
    found = quantize(model, given, effort=effort, speed=False, target=TARGET)
    dense = [layer for layer in found.report.layers if "second factor is an activation" not in layer.reason]
    dense = [layer for layer in dense if "products an output, as box decoding does" not in layer.reason]
    assert {layer.executed for layer in dense} == {"i8"}
    assert sqnr(model, found.model, given) > 25  # four layers of 8 bits, of which the first errors are summed up


def test_ranges_of_a_sample_that_holds_values_are_those_of_a_network_that_sees_no_other():
    full = steps(*[(2, 3)] * 8)
    empty = [{**feed, "past": feed["past"][:, :0]} for feed in full]
    settings = {"effort": "fast", "estimator": "minmax", "speed": False, "target": TARGET}
    both, alone = (quantize(decoder(), given, **settings) for given in (full + empty, full))
    ranges = [{str(q.tensor): q.range for q in found.plan.activations}["past:0"] for found in (both, alone)]
    assert ranges[0] is not None and ranges[0] == ranges[1]


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_a_layer_whose_input_never_holds_values_is_left_out_with_a_sentence(effort):
    found = quantize(decoder(), steps(*[(3, 0)] * 12), effort=effort, speed=False, target=TARGET)
    (left,) = [layer for layer in found.report.layers if NEVER in layer.reason]
    assert left.executed == "f32" and "past:0" in left.reason
    assert sum(layer.executed == "i8" for layer in found.report.layers) >= 4
    assert sqnr(decoder(), found.model, steps((3, 0), (2, 4), seed=1)) > 25


def test_values_in_one_held_out_sample_are_enough():
    given = steps(*[(3, 0)] * 15, (1, 3))
    for place in (0, 7, 15):  # one of them is held out
        moved = [*given[:place], given[-1], *given[place:-1]]
        found = quantize(decoder(), moved, speed=False, target=TARGET)
        assert not any(NEVER in layer.reason for layer in found.report.layers)


def test_a_model_none_of_whose_layers_ever_reads_values_is_refused():
    net = Net()
    past = net.input(1, -1, SIZE)
    with pytest.raises(ModelError, match="had no values in any calibration sample"):
        quantize(net.model(net.dense(past, 8)), [np.zeros((1, 0, SIZE), np.float32)] * 8)


def test_layers_are_compared_and_a_budget_is_searched_on_samples_with_empty_tensors(tmp_path):
    given = steps(*[(4, 0), (3, 0), (3, 2)] * 4)
    kept = {"validation": given, "metric": "relative-l2", "max_drop": 1e-9, "speed": False}
    found = quantize(decoder(), given, effort="fast", target=TARGET, **kept)
    assert found.report.accuracy is not None and 0 < found.report.accuracy.drop < 0.1
    found.save(tmp_path / "out")
    ov.save_model(load_model(decoder()).model, tmp_path / "float.xml", compress_to_fp16=False)
    layers = compare(tmp_path / "float.xml", tmp_path / "out" / "net.xml", given).layers
    assert all(layer.sqnr_db is None or layer.sqnr_db > 15 for layer in layers)


def test_a_batch_without_rows_is_no_sample_unless_its_rows_belong_together():
    net = Net()
    model = net.model(net.dense(op.relu(net.dense(net.input(-1, 8), 16)), 4))
    rows = [np.random.default_rng(seed).standard_normal((seed, 8)).astype(np.float32) for seed in range(3, -1, -1)] * 4
    with pytest.raises(DataError, match=r"without rows, which holds no sample.*first_axis=whole"):
        quantize(model, rows, speed=False, effort="fast")
    found = quantize(model, rows, speed=False, effort="fast", first_axis="whole", target=TARGET)
    assert [layer.executed for layer in found.report.layers] == ["i8", "i8"]


def test_a_file_may_hold_samples_with_an_empty_past(tmp_path):
    given = steps(*[(3, 0)] * 8)
    np.savez(tmp_path / "steps.npz", **{name: np.stack([feed[name] for feed in given]) for name in given[0]})
    ov.save_model(load_model(decoder()).model, tmp_path / "net.xml", compress_to_fp16=False)
    found = quantize(tmp_path / "net.xml", tmp_path / "steps.npz", effort="fast", speed=False)
    assert sum(layer.executed == "i8" for layer in found.report.layers) >= 4
