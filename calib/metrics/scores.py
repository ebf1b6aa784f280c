"""What several metrics do with outputs and parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError


def first_output(outputs: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    """Return the first output.

    Raises:
        MetricError: there is none.
    """
    if not outputs:
        raise MetricError(f"{name}: the model gave no output")
    return np.asarray(outputs[0])


def class_scores(outputs: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    """Return the first output's scores, classes last, without the batch axis of 1 and trailing axes of 1.

    Raises:
        MetricError: not floating point, a batch, or fewer than two classes.
    """
    output = first_output(outputs, name)
    scores = output[0] if output.ndim > 1 and output.shape[0] == 1 else output
    if output.ndim > 1 and output.shape[0] != 1:
        raise MetricError(f"{name}: needs the outputs of one sample, the first output has shape {list(output.shape)}")
    while scores.ndim > 1 and scores.shape[-1] == 1:
        scores = scores[..., 0]
    if scores.dtype.kind != "f" or scores.ndim == 0 or scores.shape[-1] < 2:
        raise MetricError(
            f"{name}: reads class scores [1, C] from the first output, which is {list(output.shape)} {output.dtype}. "
            "For another form give a function: python:module:function"
        )
    return scores


def mean_of_parts(parts: Sequence[Any], name: str) -> float:
    """Return the mean of the parts that are not None.

    Raises:
        MetricError: there is none.
    """
    counted = [part for part in parts if part is not None]
    if not counted:
        raise MetricError(f"{name}: no sample with a target to measure")
    return float(np.mean(np.array(counted, np.float64)))
