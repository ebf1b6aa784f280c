"""Short words for building small networks in code, with seeded random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calib.runtime.session import ov

op = ov.opset13


class Net:
    """Parameters, weights and layers of one network; the same seed gives the same weights."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.inputs: list[ov.Node] = []

    def input(self, *shape: int, dtype: Any = np.float32) -> ov.Node:
        self.inputs.append(op.parameter(list(shape), dtype))
        return self.inputs[-1]

    def weights(self, *shape: int, fan_in: int = 0) -> ov.Node:
        """Return a constant scaled so that activations keep their size (He et al., 2015)."""
        size = np.sqrt(2 / (fan_in or int(np.prod(shape[1:])) or 1))
        return op.constant((self.rng.standard_normal(shape) * size).astype(np.float32))

    def bias(self, x: Any, axis: int = 1) -> ov.Node:
        shape = [1] * len(shape_of(x))
        shape[axis] = shape_of(x)[axis]
        return op.add(x, self.weights(*shape, fan_in=10))

    def conv(self, x: Any, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1) -> ov.Node:
        channels, dims = shape_of(x)[1], len(shape_of(x)) - 2
        window = [[stride] * dims, *[[dilation * (kernel // 2)] * dims] * 2, [dilation] * dims]
        if groups == 1:
            return op.convolution(x, self.weights(out, channels, *[kernel] * dims), *window)
        weights = self.weights(groups, out // groups, channels // groups, *[kernel] * dims)
        return op.group_convolution(x, weights, *window)

    def depthwise(self, x: Any, kernel: int = 3, stride: int = 1) -> ov.Node:
        channels = shape_of(x)[1]
        return self.conv(x, channels, kernel, stride, groups=channels)

    def deconv(self, x: Any, out: int, kernel: int = 4, stride: int = 2, pad: int = 1, groups: int = 1) -> ov.Node:
        channels, dims = shape_of(x)[1], len(shape_of(x)) - 2
        # By name: between strides and pads there is a shape of the output, which would be taken for the pads.
        window = {"pads_begin": [pad] * dims, "pads_end": [pad] * dims, "dilations": [1] * dims}
        if groups == 1:
            weights = self.weights(channels, out, *[kernel] * dims)
            return op.convolution_backprop_data(x, weights, [stride] * dims, **window)
        weights = self.weights(groups, channels // groups, out // groups, *[kernel] * dims)
        return op.group_convolution_backprop_data(x, weights, [stride] * dims, **window)

    def dense(self, x: Any, out: int) -> ov.Node:
        y = op.matmul(x, self.weights(out, shape_of(x)[-1]), False, True)
        return op.add(y, self.weights(out, fan_in=10))

    def layer_norm(self, x: Any) -> ov.Node:
        size = shape_of(x)[-1]
        y = op.mvn(x, ints(-1), True, 1e-5, "INSIDE_SQRT")
        return op.add(op.multiply(y, self.weights(size, fan_in=2)), self.weights(size, fan_in=10))

    def model(self, *outputs: Any, sinks: Sequence[ov.Node] = ()) -> ov.Model:
        results = [op.result(output) for output in outputs]
        return ov.Model(results, list(sinks), self.inputs, "net")


def ints(*values: int) -> ov.Node:
    """Return an i64 vector."""
    return op.constant(np.array(values, np.int64))


def integer(value: int) -> ov.Node:
    """Return an i64 scalar."""
    return op.constant(np.int64(value))


def shape_of(x: Any) -> list[int]:
    """Return a shape with -1 for dynamic axes."""
    shape = (x.output(0) if isinstance(x, ov.Node) else x).get_partial_shape()
    return [-1 if axis.is_dynamic else axis.get_length() for axis in shape]


def max_pool(x: Any, kernel: int = 2, stride: int = 2) -> ov.Output:
    pad = [kernel // 2 if stride == 1 else 0] * 2
    return op.max_pool(x, [stride] * 2, [1, 1], pad, pad, [kernel] * 2).output(0)


def resize(x: Any, size: int, mode: str = "nearest") -> ov.Node:
    return op.interpolate(x, ints(size, size), mode, "sizes", axes=ints(2, 3))


def nchw(x: Any) -> ov.Node:
    return op.transpose(x, np.array([0, 3, 1, 2]))


def nhwc(x: Any) -> ov.Node:
    return op.transpose(x, np.array([0, 2, 3, 1]))
