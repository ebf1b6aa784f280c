from __future__ import annotations

import numpy as np
import pytest
from oracles import quantize_dequantize

from calib.ranges.affine import fake_quantize_limits
from calib.runtime.session import Session, ov
from calib.values.plan import Scheme


# the grids that INT8 has; others agree to the last bits only
@pytest.mark.parametrize(
    ("scheme", "levels"),
    [(Scheme.UNSIGNED, 256), (Scheme.ASYMMETRIC, 256), (Scheme.SYMMETRIC, 256), (Scheme.SYMMETRIC, 255)],
)
def test_the_numpy_reference_gives_the_bits_of_the_plug_in(scheme, levels):
    low, high = fake_quantize_limits(-1.7, 6.3, scheme, levels)
    levels_and_halves = np.linspace(low, high, 2 * levels - 1)
    values = np.random.default_rng(0).normal(size=9999) * 5
    x = np.concatenate([levels_and_halves, values, [0.0, -0.0]]).astype(np.float32)[None, None]
    op = ov.opset13
    parameter = op.parameter(x.shape, np.float32)
    limits = [op.constant(np.full((1, 1, 1), v, np.float32)) for v in (low, high, low, high)]
    model = ov.Model([op.fake_quantize(parameter, *limits, levels)], [parameter], "fake_quantize")
    (y,) = Session(model)([x])
    # a value exactly between two levels may go either way where a plug-in fuses the multiply and the add
    ours, between = quantize_dequantize(x, low, high, levels), 2 * levels - 1
    np.testing.assert_allclose(y, ours, atol=float(high - low) / (levels - 1) * 1.001)
    np.testing.assert_array_equal(y[..., between:], ours[..., between:])
    assert not y[..., -2:].any()
