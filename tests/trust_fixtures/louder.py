"""A model whose outputs are too large, as if a precision of less than f32 had computed them."""

from __future__ import annotations

import numpy as np

from calib.runtime.session import ov

LOSS = 0.05  # share of the output that is too much


def louder(model: ov.Model) -> ov.Model:
    """Return the model with its only output 1 + ``LOSS`` times as large."""
    clone = model.clone()
    result = clone.outputs[0].get_node()
    product = ov.opset13.multiply(result.input_value(0), np.float32(1 + LOSS))
    result.input(0).replace_source_output(product.output(0))
    clone.validate_nodes_and_infer_types()
    return clone
