"""Is the FP32 baseline plausible? A wrong baseline makes everything behind it worthless."""

from __future__ import annotations

import math
from collections.abc import Callable

from calib.errors import BaselineError

# Published figures move by a few points with the resize filter, the crop and the subset.
FRACTION_TOLERANCE = 0.05
RELATIVE_TOLERANCE = 0.1
# Off-by-one labels take a classifier to about chance: a shifted reading that is this much better is no accident.
LABEL_SHIFT_GAIN = 0.1

CAUSES = (
    "mean/scale of the preprocessing differ from training",
    "channel order is BGR where RGB is expected, or the reverse",
    "resize or crop differ from training",
    "labels are off by one (a background class) or in another order",
    "the layout is NCHW where NHWC is expected, or the reverse",
    "this metric reads another output than the one that carries the result",
)


def check_baseline(
    value: float,
    metric: str,
    unit: str = "",
    *,
    samples: int,
    higher_is_better: bool = True,
    chance: float | None = None,
    reference: float | None = None,
    tolerance: float | None = None,
    with_labels_shifted: Callable[[int], float] | None = None,
) -> None:
    """Stop before anything is spent where the FP32 baseline can't be right.

    Args:
        value: the baseline.
        metric: its name, for the message.
        unit: "fraction" enables the rules that need a number between 0 and 1.
        samples: N, for the noise of a fraction.
        higher_is_better: the metric's direction.
        chance: what guessing gives (1/classes for top-1), where known.
        reference: the published figure, where known.
        tolerance: allowed distance from the reference in the metric's unit; by default the larger of 5 points and four
            standard errors for a fraction, a tenth of |reference| otherwise.
        with_labels_shifted: gives the metric with every label moved by −1 or +1, where labels are class numbers.

    Raises:
        BaselineError: with the likely causes.
    """
    if not math.isfinite(value):
        raise _implausible(f"the FP32 baseline of {metric} is {value}: a finite number is needed")
    if with_labels_shifted is not None:
        _check_labels(value, metric, with_labels_shifted)
    if chance is not None and higher_is_better:
        limit = chance + 3 * _standard_error(chance, samples)
        if value <= limit:
            raise _implausible(
                f"the FP32 baseline of {metric} is {value:.4g}, "
                f"no better than guessing ({chance:.4g}) on {samples} samples"
            )
    if unit == "fraction" and higher_is_better and value <= 0:
        raise _implausible(f"the FP32 baseline of {metric} is {value:g}: no sample is right")
    if reference is not None:
        _check_reference(value, metric, unit, samples, reference, tolerance)


def _standard_error(share: float, samples: int) -> float:
    return math.sqrt(max(share * (1 - share), 0.0) / max(samples, 1))


def _check_labels(value: float, metric: str, with_labels_shifted: Callable[[int], float]) -> None:
    for shift in (-1, 1):
        shifted = with_labels_shifted(shift)
        if shifted > value + LABEL_SHIFT_GAIN:
            raise BaselineError(
                f"the FP32 baseline of {metric} is {value:.4g}, but {shifted:.4g} with every label moved "
                f"by {shift:+d}: "
                f"the labels are off by one. Move them by {shift:+d}, or remove or add the background class."
            )


def _check_reference(
    value: float, metric: str, unit: str, samples: int, reference: float, tolerance: float | None
) -> None:
    fraction = unit == "fraction"
    if fraction and 1 < reference <= 100:
        raise BaselineError(
            f"--reference {reference:g} looks like percent and {metric} is a fraction: pass {reference / 100:g}"
        )
    if tolerance is None:
        noise = 4 * _standard_error(min(max(reference, 0.0), 1.0), samples)
        tolerance = max(FRACTION_TOLERANCE, noise) if fraction else RELATIVE_TOLERANCE * abs(reference)
    if abs(value - reference) > tolerance:
        raise _implausible(
            f"the FP32 baseline of {metric} is {value:.4g}, the reference is {reference:.4g}, "
            f"and at most {tolerance:.2g} of difference is plausible on {samples} samples"
        )


def _implausible(what: str) -> BaselineError:
    return BaselineError(f"{what}. Likely causes:\n" + "\n".join(f"  - {cause}" for cause in CAUSES))
