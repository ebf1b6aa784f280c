"""Functions on outputs and parts that several metrics share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError


def first_output(outputs: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    """Return the first output.

    Raises:
        MetricError: There is no output.
    """
    if not outputs:
        raise MetricError(f"{name}: the model gave no output")
    return np.asarray(outputs[0])


def class_scores(outputs: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    """Return the first output's scores, classes last, without the batch axis of 1 and trailing axes of 1.

    A first axis that is not 1 is one of positions: the rows of a sample, such as the points of a set.

    Raises:
        MetricError: The output is not floating point, or has fewer than two classes.
    """
    output = first_output(outputs, name)
    scores = output[0] if output.ndim > 1 and output.shape[0] == 1 else output
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
        MetricError: All parts are None.
    """
    counted = [part for part in parts if part is not None]
    if not counted:
        raise MetricError(f"{name}: no sample with a target to measure")
    return float(np.mean(np.array(counted, np.float64)))


def margin_of(scores: NDArray[Any], targets: NDArray[np.int64], k: int = 1) -> float:
    """Return how far the target's score is from leaving the k highest, negative if it is not among them.

    For several positions it is the soft minimum of the magnitudes with the sign of the one nearest to 0; +inf without
    positions.

    Args:
        scores: Class scores, ``(positions, classes)``.
        targets: Class indices, ``(positions,)``.
        k: Number of highest scores that count as a hit.
    """
    if not len(targets):
        return float("inf")
    values = np.asarray(scores, np.float64)
    own = np.take_along_axis(values, targets[:, None], -1)[:, 0]
    others = values.copy()
    np.put_along_axis(others, targets[:, None], -np.inf, -1)
    rival = np.partition(others, -min(k, values.shape[-1] - 1), axis=-1)[:, -min(k, values.shape[-1] - 1)]
    deviation = values.std(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        margins = np.nan_to_num((own - rival) / deviation, nan=0.0, posinf=0.0, neginf=0.0)
    nearest = margins[np.abs(margins).argmin()]
    return float(np.copysign(-np.log(np.exp(-np.abs(margins)).mean()), nearest))
