"""What tests compare with: FakeQuantize in numpy, and the expected error of a range; the product uses neither."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calib.ranges.affine import level_grid
from calib.ranges.bins import bins_of, grid_errors
from calib.values.plan import Range, Scheme
from calib.values.summary import TensorSummary


def quantize_dequantize(x: ArrayLike, low: ArrayLike, high: ArrayLike, levels: int) -> NDArray[np.float32]:
    """Compute FakeQuantize with equal input and output limits as the CPU plug-in does, in float32.

    ``round((clip(x) - low) * (levels - 1) / (high - low)) * (high - low) / (levels - 1) + low``, halves to even.

    Args:
        x: values of any shape.
        low: input_low, broadcast against x.
        high: input_high, broadcast against x.
        levels: how many levels.
    """
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    steps = np.float32(levels - 1)
    inverse, scale = steps / (high - low), (high - low) / steps
    clipped = np.clip(np.asarray(x, np.float32), low, high)
    return np.rint(clipped * inverse - low * inverse) * scale + low


def expected_error(summary: TensorSummary, chosen: Range, scheme: Scheme, levels: int) -> float:
    """Return the mean squared error of quantizing a tensor with a range, in squared units of the tensor.

    Raises:
        StatisticsError: the tensor has no histogram.
    """
    bins = bins_of(summary)
    return float(grid_errors(bins, *level_grid([chosen.low], [chosen.high], scheme, levels), levels)[0])
