"""INT8 weights of convolutions in floating point, where several streams would race for them."""

from __future__ import annotations

import numpy as np

from calib.runtime.float_weights import raced, with_float_weights
from calib.runtime.session import compile_model, ov

op = ov.opset13


def compressed(levels: bool = False, grouped: bool = False) -> ov.Model:
    """A convolution and a MatMul with i8 weights; with ``levels`` the convolution's input has some, too."""
    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> ov.Node:
        whole = op.convert(op.constant(random.integers(-127, 127, shape).astype(np.int8)), np.float32)
        made = op.multiply(whole, np.full((shape[0], *[1] * (len(shape) - 1)), 0.01, np.float32))
        made.set_friendly_name(name)
        return made

    image = op.parameter([1, 4, 8, 8], np.float32, name="image")
    low, high = np.float32(0), np.float32(1)
    data = op.fake_quantize(image, low, high, low, high, 256) if levels else image
    if grouped:
        kernel = op.reshape(weights("kernel", 4, 3, 3), np.array([4, 1, 1, 3, 3]), False)
        layer = op.group_convolution(data, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    else:
        layer = op.convolution(data, weights("kernel", 4, 4, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    return ov.Model([op.matmul(op.relu(layer), weights("matrix", 8, 8), False, True)], [image], "compressed")


def types(model: ov.Model) -> list[str]:
    constants = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    return sorted(node.get_element_type().get_type_name() for node in constants if len(node.shape) in (2, 3, 4))


def test_weights_of_convolutions_without_levels_are_compiled_in_floating_point_for_several_streams():
    model = compressed()
    assert raced(model) and not raced(compressed(levels=True))
    names = [
        {node.get_friendly_name() for node in compile_model(model, streams=streams).get_runtime_model().get_ops()}
        for streams in (1, 2)
    ]
    assert "kernel" in names[0] and "kernel" not in names[1]
    assert types(model).count("i8") == 2, "the model is not edited"


def test_those_of_matmuls_stay_and_the_function_is_the_same():
    image = np.random.default_rng(1).random((1, 4, 8, 8), np.float32)
    for grouped in (False, True):
        model = compressed(grouped=grouped)
        made = with_float_weights(model, convolutions=True)
        assert types(made).count("i8") == 1 and types(with_float_weights(model)).count("i8") == 0
        both = [compile_model(one)(image)[0] for one in (model, made)]
        np.testing.assert_allclose(both[1], both[0], rtol=1e-5, atol=1e-5)
