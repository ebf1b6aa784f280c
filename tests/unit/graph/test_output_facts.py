"""What decoders are told of real models: names, shapes, operations, probabilities, and the size of the image."""

from __future__ import annotations

import numpy as np
import pytest

from calib.graph.output_facts import model_facts
from calib.loading.load import input_specs
from calib.outputs.resolve import resolve_decoder
from calib.runtime.session import ov

op = ov.opset13


def image(*shape: int, name: str = "image") -> ov.op.Parameter:
    return op.parameter(list(shape), np.float32, name=name)


def facts_of(outputs, parameters, **info: str):
    model = ov.Model(outputs, parameters, "net")
    return model_facts(model, input_specs(model), {f"model_info/{key}": value for key, value in info.items()})


def test_a_region_yolo_gives_its_anchors():
    x = image(1, 21, 13, 13)
    region = ov.opset1.region_yolo(x, 4, 2, 3, False, [0, 1, 2], 1, 3, [10.0, 13, 16, 30, 33, 23])
    facts = facts_of([region], [x])
    assert facts.outputs[0].made_by == "RegionYolo"
    decoder = resolve_decoder(None, "boxes", facts).decoder
    assert decoder.anchors == "10,13,16,30,33,23" and decoder.masks == (0, 1, 2) and not decoder.raw


@pytest.mark.parametrize(
    ("function", "bound"),
    [(lambda x: op.softmax(x, 1), "Softmax"), (op.sigmoid, "Sigmoid"), (op.relu, "")],
)
def test_the_last_function_is_seen_through_what_only_moves_values(function, bound):
    x = image(1, 6, 4, 4)
    moved = op.transpose(op.reshape(function(x), [1, 6, 16], False), np.array([0, 2, 1]))
    assert facts_of([moved], [x]).outputs[0].bound == bound


def test_a_join_has_a_bound_only_if_all_its_parts_have_it():
    x = image(1, 2, 4, 4)
    alike = op.concat([op.sigmoid(x), op.sigmoid(op.relu(x))], 1)
    different = op.concat([op.sigmoid(x), op.relu(x)], 1)
    assert [one.bound for one in facts_of([alike, different], [x]).outputs] == ["Sigmoid", ""]


def test_size_and_channels_of_the_image_are_found_among_the_inputs():
    scale, x = op.parameter([1, 3], np.float32, name="scale"), image(1, 48, 64, 3)
    facts = facts_of([op.relu(x)], [scale, x], model_type="ssd", labels="cat dog")
    assert (facts.size, facts.image, facts.labels) == ((48, 64), (1, False), 2)
    assert facts.size_of([np.zeros((1, 3)), np.zeros((1, 20, 30, 3))]) == (20, 30)
    planes = image(1, 3, -1, -1)
    dynamic = facts_of([op.relu(planes)], [planes])
    assert (dynamic.size, dynamic.image) == ((None, None), (0, True))
    assert dynamic.size_of([np.zeros((1, 3, 20, 30))]) == (20, 30)
    flat = op.parameter([1, 7], np.float32)
    assert facts_of([op.relu(flat)], [flat]).size_of([np.zeros((1, 7))]) == (1, 1)


def test_outputs_have_the_names_of_their_tensors_and_of_what_makes_them():
    x = image(1, 3, 8, 8)
    boxes = op.relu(x)
    boxes.set_friendly_name("head/boxes")
    boxes.output(0).set_names({"boxes", "other"})
    (fact,) = facts_of([boxes], [x]).outputs
    assert {"boxes", "other", "head/boxes"} <= set(fact.names) and fact.shape == (1, 3, 8, 8) and fact.real
