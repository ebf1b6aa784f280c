"""The efforts: what each does, holds out, reports and costs, one row each.

Plain facts, below everything that reads them: the choices of the setting, the engine, the corrections and the zoo's
estimates all come from here. Which corrections an effort tries stands in the corrections' own table,
``calib.corrections.CORRECTIONS``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """A row of the table.

    Attributes:
        does: what the help says of it.
        layer_seconds: what a layer costs on the machine that ``calib.zoo.cost`` speaks of.
        activations_held: how many times the bytes of all activations are in memory at the worst.
        estimators: whose ranges are scored by the network's outputs, in order: the first is what the others have to
            beat, the second what the fast effort takes, and those beyond are tried only where the second scored higher
            than the first: where one that clips lost, so did the others. Empty for the one of the setting, unscored.
        every_estimator: whether all of ``calib.ranges.ESTIMATORS`` are tried, the others after those.
        samples: that corrections learn from.
        held_out: calibration samples at most, a fifth of few, that candidates are scored on and nothing else sees: the
            more candidates, the more samples it takes to tell them apart; 0 where nothing is scored.
        equalizes: whether channels are rescaled before statistics are collected.
        reports_sqnr: whether the report has the SQNR of layers and outputs, which costs two compilations.
    """

    does: str
    layer_seconds: float
    activations_held: float
    estimators: tuple[str, ...] = ()
    every_estimator: bool = False
    samples: int = 0
    held_out: int = 0
    equalizes: bool = False
    reports_sqnr: bool = False


EFFORTS: dict[str, Effort] = {
    "fast": Effort(
        "the ranges of one estimator and no correction",
        layer_seconds=0.045,
        activations_held=0.8,
    ),
    "balanced": Effort(
        "equalization, up to three estimators compared by the network's outputs, weight rounding and bias correction",
        layer_seconds=0.15,
        activations_held=3.5,
        estimators=("minmax", "auto", "percentile"),
        samples=16,
        held_out=24,
        equalizes=True,
        reports_sqnr=True,
    ),
    "thorough": Effort(
        "the same with every estimator, rounding of the best two and sequential bias correction",
        layer_seconds=0.5,
        activations_held=3.5,
        estimators=("minmax", "auto", "percentile"),
        every_estimator=True,
        samples=32,
        held_out=48,
        equalizes=True,
        reports_sqnr=True,
    ),
}


def described() -> str:
    """Return what the efforts do, as the help and the schema say it."""
    return "; ".join(f"{name}: {effort.does}" for name, effort in EFFORTS.items())
