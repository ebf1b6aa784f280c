"""What a range estimator is."""

from __future__ import annotations

from typing import Protocol

from calib.values.plan import Range, Scheme
from calib.values.summary import TensorSummary


class RangeEstimator(Protocol):
    """Chooses the real numbers that the levels of a quantizer cover.

    Attributes:
        name: as in the table.
        needs_histogram: whether ``summary.histogram`` must be there.

    One that also has ``needs_channels = True`` finds ``summary.channel_low``, ``channel_high`` and ``channel_energy``
    wherever a tensor and its readers have channels.
    """

    name: str
    needs_histogram: bool

    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return a range that holds zero and lies inside the data's (widened to zero); pure and deterministic."""
        ...
