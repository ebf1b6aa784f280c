"""Weights that operations make from constants, which OpenVINO's transformations leave to the plug-in."""

import numpy as np
from building import Net, ints, op

from calib.graph.finder import find
from calib.graph.view import GraphView
from calib.loading.constant_weights import weights_to_compute
from calib.loading.load import load_model
from calib.runtime.session import core, ov


def test_normalized_weights_of_a_file_are_computed_and_make_a_layer_that_plain_openvino_can_compile(tmp_path):
    net = Net()
    kernel = net.rng.standard_normal((4, 3, 1, 1)).astype(np.float32)
    weights = op.normalize_l2(op.constant(kernel), ints(1, 2, 3), 1e-9, "max")
    model = net.model(op.convolution(net.input(1, 3, 4, 4), weights, [1, 1], [0, 0], [0, 0], [1, 1]))
    ov.save_model(model, tmp_path / "m.xml", compress_to_fp16=False)

    loaded = load_model(tmp_path / "m.xml")

    (layer,) = find(GraphView(loaded.model)).layers
    values = loaded.model.get_ordered_ops()
    (made,) = [node for node in values if node.get_type_name() == "Constant"]
    np.testing.assert_allclose(made.data, kernel / np.linalg.norm(kernel, axis=1, keepdims=True), rtol=1e-6)
    assert layer.type == "Convolution"
    assert loaded.facts.normalization[0] == "weights made by NormalizeL2 from constants were computed: 1"
    # Mapped into memory, as by default, the file as it was ends the process with SIGSEGV in OpenVINO 2026.4.
    ov.save_model(loaded.model, tmp_path / "again.xml", compress_to_fp16=False)
    core().compile_model(tmp_path / "again.xml", "CPU")


def test_weights_that_are_drawn_or_read_are_not_computed():
    net = Net()
    drawn = op.random_uniform(ints(4, 3, 1, 1), op.constant(np.float32(0)), op.constant(np.float32(1)), "f32")
    x = net.input(1, 3, 4, 4)
    read = op.normalize_l2(net.input(4, 4, 1, 1), ints(1), 1e-9, "max")
    y = op.convolution(op.convolution(x, drawn, [1, 1], [0, 0], [0, 0], [1, 1]), read, [1, 1], [0, 0], [0, 0], [1, 1])

    assert weights_to_compute(net.model(y)) == []


def test_weights_with_levels_are_kept_as_they_are():
    net, one = Net(), ([1, 1], [0, 0], [0, 0], [1, 1])
    ends = [op.constant(np.float32(end)) for end in (-1, 1, -1, 1)]
    integers = op.constant(net.rng.integers(-128, 128, (4, 3, 1, 1)).astype(np.int8))
    stored = op.multiply(op.convert(integers, "f32"), op.constant(np.full((4, 1, 1, 1), 0.01, np.float32)))
    faked = op.fake_quantize(op.constant(net.rng.standard_normal((4, 4, 1, 1)).astype(np.float32)), *ends, 255)

    y = op.convolution(op.convolution(net.input(1, 3, 4, 4), stored, *one), faked, *one)
    assert weights_to_compute(net.model(y)) == []
