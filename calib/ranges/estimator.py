"""What a range estimator is."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from calib.values.plan import Range, Scheme
from calib.values.summary import TensorSummary


@runtime_checkable
class RangeEstimator(Protocol):
    """Chooses the real numbers that the levels of a quantizer cover.

    Attributes:
        name: as in the table.
        needs_histogram: whether ``summary.histogram`` must be there.

    One that reads what a tensor's channels hold is a :class:`ChannelEstimator` too.
    """

    name: str
    needs_histogram: bool

    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return a range that holds zero and lies inside the data's (widened to zero); pure and deterministic."""
        ...


@runtime_checkable
class ChannelEstimator(RangeEstimator, Protocol):
    """One that finds ``summary.channel_low``, ``channel_high`` and ``channel_energy``, where a tensor has channels.

    Attributes:
        needs_channels: says so; an estimator without it does not make the statistics collect them.
    """

    needs_channels: Literal[True]
