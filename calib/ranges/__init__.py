"""Range estimators, one file and one row of the table each.

A range is chosen from the statistics of a tensor, ``TensorSummary``, and never from the model: numpy only. Where
quantizers sit belongs in ``graph``, and the choice between whole sets of ranges in ``corrections`` (recipes).
"""

from __future__ import annotations

from calib.errors import UsageError
from calib.ranges.auto import Auto
from calib.ranges.estimator import RangeEstimator
from calib.ranges.kl import Kl
from calib.ranges.minmax import MeanMinMax, MinMax, TrimmedMinMax
from calib.ranges.mse import Mse
from calib.ranges.percentile import Percentile

_ALL: tuple[RangeEstimator, ...] = (
    Auto(),
    MinMax(),
    MeanMinMax(),
    TrimmedMinMax(),
    Percentile(),
    Percentile(99.9),
    Kl(),
    Mse(),
)

ESTIMATORS: dict[str, RangeEstimator] = {estimator.name: estimator for estimator in _ALL}


def get_estimator(name_or_object: object) -> RangeEstimator:
    """Return the estimator with this name; an estimator object is returned as it is.

    Raises:
        UsageError: There is no such estimator, or the object is not an estimator.
    """
    choices = ", ".join(ESTIMATORS)
    if isinstance(name_or_object, str):
        if name_or_object not in ESTIMATORS:
            raise UsageError(f"there is no range estimator {name_or_object!r}; choose one of {choices}")
        return ESTIMATORS[name_or_object]
    if not isinstance(name_or_object, RangeEstimator):
        raise UsageError(
            f"a range estimator is called with (summary, scheme, levels) and has a name and needs_histogram; "
            f"got {name_or_object!r}. Pass such an object or one of {choices}"
        )
    return name_or_object
