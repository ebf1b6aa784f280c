"""Interface of range estimators."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from calib.values.plan import Range, Scheme
from calib.values.summary import TensorSummary


@runtime_checkable
class RangeEstimator(Protocol):
    """Chooses the range of real numbers that the levels of a quantizer cover.

    Attributes:
        name: Name in the table.
        needs_histogram: Whether ``summary.histogram`` is required.

    An estimator that reads statistics of channels is a :class:`ChannelEstimator` too.
    """

    name: str
    needs_histogram: bool

    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return a range that holds zero and lies inside the data's range widened to zero; pure and deterministic."""
        ...


@runtime_checkable
class ChannelEstimator(RangeEstimator, Protocol):
    """Estimator that reads ``summary.channel_low``, ``channel_high`` and ``channel_energy`` if a tensor has channels.

    Attributes:
        needs_channels: Whether statistics of channels are collected for it.
    """

    needs_channels: Literal[True]
