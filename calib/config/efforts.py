"""The efforts, one row each: what an effort does, holds out and reports.

The choices of the setting, the engine, the corrections and the zoo's estimates all read this table. Which corrections
an effort tries is in ``calib.corrections.CORRECTIONS``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """One row of the table.

    Attributes:
        does: Description of the effort in the help and the schema.
        activations_held: Peak memory as a multiple of the bytes of all activations.
        estimators: Range estimators to score by the network's outputs, in order. The first is the one to beat, the
            second is that of the fast effort, the third is the first without outlier samples, which without such
            samples makes the same ranges and then costs nothing. Empty to take the estimator of the setting without
            scoring it.
        if_clipping_pays: Range estimators to score only if one of these scored higher than the first: where one
            estimator that clips loses, the others lose too.
        every_estimator: Whether the rest of ``calib.ranges.ESTIMATORS`` is tried too.
        samples: Number of calibration samples that corrections learn from.
        held_out: Most calibration samples set aside to score candidates, never more than a fifth of all; the more
            candidates there are, the more samples it takes to tell them apart. 0 where nothing is scored.
        equalizes: Whether channels are equalized before statistics are collected.
        reports_layer_sqnr: Whether the report has the SQNR of each layer, which costs three compilations.
    """

    does: str
    activations_held: float
    estimators: tuple[str, ...] = ()
    if_clipping_pays: tuple[str, ...] = ()
    every_estimator: bool = False
    samples: int = 0
    held_out: int = 0
    equalizes: bool = False
    reports_layer_sqnr: bool = False


EFFORTS: dict[str, Effort] = {
    "fast": Effort(
        "ranges from one estimator and scales in front of layers that read outlier channels, no corrections",
        activations_held=0.8,
    ),
    "balanced": Effort(
        "equalization, scales in front of layers that read outlier channels, the best of up to four estimators by the "
        "error of the network's outputs, weight rounding and bias correction",
        activations_held=3.5,
        estimators=("minmax", "auto", "trimmed-minmax"),
        if_clipping_pays=("percentile",),
        samples=16,
        held_out=24,
        equalizes=True,
        reports_layer_sqnr=True,
    ),
    "thorough": Effort(
        "like balanced, with every estimator, weight rounding for the best two of them and sequential bias correction; "
        "timings decide nothing without --optimize-speed, so that two runs give the same model",
        activations_held=3.5,
        estimators=("minmax", "auto", "trimmed-minmax"),
        if_clipping_pays=("percentile",),
        every_estimator=True,
        samples=32,
        held_out=48,
        equalizes=True,
        reports_layer_sqnr=True,
    ),
}


def described() -> str:
    """Return the description of all efforts for the help and the schema."""
    return "; ".join(f"{name}: {effort.does}" for name, effort in EFFORTS.items())
