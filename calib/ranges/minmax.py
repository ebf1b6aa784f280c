"""Min-max: the extremes over the calibration samples, over those that are no outliers, or each sample's, averaged."""

from __future__ import annotations

from calib.ranges.affine import widen_to_zero
from calib.values.plan import Range, Scheme
from calib.values.summary import TensorSummary


class MinMax:
    """The exact extremes over the calibration samples.

    ``low = min over samples of min x``, ``high = max over samples of max x``, widened to hold zero. Source: Jacob et
    al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, §3.1.
    It clips nothing, so a single outlier makes every level wider.
    """

    name = "minmax"
    needs_histogram = False

    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return the exact extremes, widened to hold zero."""
        low, high = widen_to_zero(summary.low, summary.high)
        return Range(low, high, self.name, f"the extremes over {summary.samples} samples")


class MeanMinMax:
    """Each sample's extremes, averaged over the calibration samples.

    ``low = mean over samples of min x``, ``high = mean over samples of max x``, widened to hold zero. Source: Intel's
    Post-Training Optimization Tool, DefaultQuantization ("mean of min/max over samples"). It clips gently:
    values that only one sample reaches are ignored.
    """

    name = "mean-minmax"
    needs_histogram = False

    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return the mean extremes, widened to hold zero."""
        low, high = widen_to_zero(summary.low, summary.high)
        # a mean's rounding can leave the extremes by an ulp when all samples reach the same value
        mean_low, mean_high = widen_to_zero(max(summary.mean_low, low), min(summary.mean_high, high))
        return Range(mean_low, mean_high, self.name, f"the mean of the extremes of {summary.samples} samples")


class TrimmedMinMax:
    """The extremes over the calibration samples without outlier samples.

    An outlier sample reaches at least four times as far in this tensor as the next one, and such samples are at most
    one in twenty, see :func:`calib.statistics.totals.count_beyond`: a broken file among a hundred can make every level
    dozens of times as wide as the others need. Without such samples it is min-max. Values that are far out in every
    sample are no outliers here.
    """

    name = "trimmed-minmax"
    needs_histogram = False

    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return the extremes without outlier samples, widened to hold zero."""
        low, high = widen_to_zero(max(summary.low, summary.trimmed_low), min(summary.high, summary.trimmed_high))
        outliers = (
            "" if (low, high) == widen_to_zero(summary.low, summary.high) else ", without those that are outliers"
        )
        return Range(low, high, self.name, f"the extremes over {summary.samples} samples{outliers}")
