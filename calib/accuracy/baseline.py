"""Is the FP32 baseline plausible? A wrong baseline makes everything behind it worthless."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import BaselineError
from calib.metrics.metric import WithMargin, WithMovedLabels

# Published figures move by a few points with the resize filter, the crop and the subset.
FRACTION_TOLERANCE = 0.05
RELATIVE_TOLERANCE = 0.1
# Units of metrics that are 0 where nothing is right, so that INT8 has nothing left to lose.
SHARES_OF_WHAT_IS_RIGHT = ("fraction", "average precision")
# Off-by-one labels take a classifier to about chance: a shifted reading that is this much better is no accident.
LABEL_SHIFT_GAIN = 0.1
SHIFTS = (-1, 1)

CAUSES = (
    "mean/scale of the preprocessing differ from training",
    "channel order is BGR where RGB is expected, or the reverse",
    "resize or crop differ from training",
    "labels are off by one (a background class) or in another order",
    "boxes are decoded in another way than the network needs (--decode)",
    "the layout is NCHW where NHWC is expected, or the reverse",
    "this metric reads another output than the one that carries the result",
)


class BaselineMetric:
    """Measures each sample on the outputs of FP32, with moved labels and margins if the metric allows it.

    Args:
        metric: Metric, perhaps `WithMovedLabels` or `WithMargin`, see `calib.metrics.metric`.
    """

    def __init__(self, metric: Any):
        self.name, self.metric = metric.name, metric
        self.needs_target, self.needs_reference = metric.needs_target, metric.needs_reference

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> list[Any]:
        """Return [part, [part with labels moved by −1, by +1] or None, margin or None]."""
        metric, moved, margin = self.metric, None, None
        if isinstance(self.metric, WithMovedLabels):
            move = self.metric.moved_target
            moved = [metric.measure(outputs, move(outputs, target, by), reference) for by in SHIFTS]
        if isinstance(self.metric, WithMargin):
            margin = margin_of(self.metric, outputs, target, reference)
        return [metric.measure(outputs, target, reference), moved, margin]


class MarginMetric:
    """A metric that keeps the margin of each sample with its part.

    Args:
        metric: Metric that is `WithMargin`, see `calib.metrics.metric`.
    """

    def __init__(self, metric: Any):
        self.name, self.unit, self.higher_is_better = metric.name, metric.unit, metric.higher_is_better
        self.reads = metric.reads
        self.needs_target, self.needs_reference = metric.needs_target, metric.needs_reference
        self.metric = metric

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> list[Any]:
        """Return [part, margin]."""
        return [self.metric.measure(outputs, target, reference), margin_of(self.metric, outputs, target, reference)]

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the metric over these samples."""
        return float(self.metric.aggregate([part for part, _ in parts]))

    def per_sample(self, parts: Sequence[Any]) -> Any:
        """Return the metric's scores of these samples."""
        return self.metric.per_sample([part for part, _ in parts])

    def margins(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the margin of each sample."""
        return np.array([margin for _, margin in parts], np.float64)

    def results(self, parts: Sequence[Any]) -> list[Any]:
        """Return the metric's parts without the margins."""
        return [part for part, _ in parts]


def margin_of(metric: Any, outputs: Any, target: Any, reference: Any) -> float:
    """Return the metric's margin; one that compares with the FP32 outputs is given these too."""
    if metric.needs_reference:
        return float(metric.margin(outputs, target, reference))
    return float(metric.margin(outputs, target))


def labels_moved(metric: Any, moved: Sequence[Sequence[Any]]) -> Callable[[int], float]:
    """Return by → the metric with all labels moved by that, from what `BaselineMetric` measured."""
    return lambda by: float(metric.aggregate([parts[SHIFTS.index(by)] for parts in moved]))


def check_baseline(
    value: float,
    metric: str,
    unit: str = "",
    *,
    samples: int,
    higher_is_better: bool = True,
    chance: float | None = None,
    reference: float | None = None,
    with_labels_shifted: Callable[[int], float] | None = None,
    alone: bool = True,
) -> None:
    """Raise an error if the FP32 baseline can't be right, before any work is done.

    A baseline that agrees with the reference is right; the other rules apply if there is no reference, or explain why
    the baseline does not agree.

    Args:
        value: Baseline.
        metric: Name of the metric, for the message.
        unit: Unit of the metric; "fraction" enables the rules that need a number between 0 and 1, and of
            `SHARES_OF_WHAT_IS_RIGHT` a baseline of 0 is refused.
        samples: Number of samples N, for the noise of a fraction.
        higher_is_better: Direction of the metric.
        chance: Value for random guesses (1/classes for top-1), if known.
        reference: Published value, if known; the baseline may differ by the larger of 5 points and four standard errors
            for a fraction, by a tenth of |reference| otherwise.
        with_labels_shifted: Function that gives the metric with every label moved by −1 or +1, if labels are class
            numbers.
        alone: Whether it is the only metric, for which the message says how to vouch.

    Raises:
        BaselineError: The baseline can't be right; the message names the likely causes.
    """
    named = "" if alone else f"{metric}="
    if not math.isfinite(value):
        raise _implausible(f"the FP32 baseline of {metric} is {value}: a finite number is needed")
    off = "" if reference is None else _off_reference(value, metric, unit, samples, reference)
    if reference is not None and not off:
        return
    if with_labels_shifted is not None and higher_is_better:
        _check_labels(value, metric, samples, with_labels_shifted, named)
    if off:
        raise _implausible(off)
    if chance is not None and higher_is_better and no_better_than_chance(value, chance, samples):
        raise _implausible(
            f"the FP32 baseline of {metric} is {value:.4g}, "
            f"no better than guessing ({chance:.4g}) on {samples} samples",
            value,
            named,
        )
    if nothing_right(value, unit, higher_is_better):
        raise _implausible(
            f"the FP32 baseline of {metric} is {value:g}: no sample is right, or none has targets", value, named
        )


def nothing_right(value: float, unit: str, higher_is_better: bool) -> bool:
    """Return whether a metric says that nothing is right: INT8 could lose nothing, and any budget would be kept."""
    return unit in SHARES_OF_WHAT_IS_RIGHT and higher_is_better and value <= 0


def no_better_than_chance(value: float, chance: float, samples: int) -> bool:
    """Return whether a share of right answers is no better than guessing.

    Few samples tell guessing from a hard task no better than a coin does: then nothing is said.

    Args:
        value: Share of right answers.
        chance: Share for random guesses; 1 if every answer is right, as for top-5 of five classes.
        samples: Number of samples.
    """
    noise = 2 * standard_error(chance, samples)
    return value <= chance + noise and noise <= (1 - chance) / 6 and chance < 1


def standard_error(share: float, samples: int) -> float:
    """Return the standard error of a share of N samples, √(p(1 − p) / N)."""
    return math.sqrt(max(share * (1 - share), 0.0) / max(samples, 1))


def _check_labels(
    value: float, metric: str, samples: int, with_labels_shifted: Callable[[int], float], named: str
) -> None:
    for shift in SHIFTS:
        shifted = with_labels_shifted(shift)
        noise = 3 * math.hypot(standard_error(value, samples), standard_error(shifted, samples))
        if shifted > value + max(LABEL_SHIFT_GAIN, noise):
            raise BaselineError(
                f"the FP32 baseline of {metric} is {value:.4g}, but {shifted:.4g} with every label moved "
                f"by {shift:+d}: "
                f"the labels are off by one. Move them by {shift:+d}, or remove or add the background class."
                f"{_vouch(value, named)}"
            )


def _off_reference(value: float, metric: str, unit: str, samples: int, reference: float) -> str:
    """Return how the baseline differs from the reference, "" where it agrees."""
    fraction = unit == "fraction"
    if fraction and 1 < reference <= 100:
        raise BaselineError(
            f"--reference {reference:g} looks like percent and {metric} is a fraction: pass {reference / 100:g}"
        )
    noise = 4 * standard_error(min(max(reference, 0.0), 1.0), samples)
    tolerance = max(FRACTION_TOLERANCE, noise) if fraction else RELATIVE_TOLERANCE * abs(reference)
    if abs(value - reference) <= tolerance:
        return ""
    return (
        f"the FP32 baseline of {metric} is {value:.4g}, the reference is {reference:.4g}, "
        f"and at most {tolerance:.2g} of difference is plausible on {samples} samples"
    )


def _vouch(value: float, named: str) -> str:
    return f" If this figure is right all the same, say so: --reference {named}{value:.4g}"


def _implausible(what: str, value: float | None = None, named: str = "") -> BaselineError:
    way_out = () if value is None else (_vouch(value, named)[1:],)
    return BaselineError(f"{what}. Likely causes:", *(f"  - {cause}" for cause in CAUSES), *way_out)
