"""What a run is expected to cost: CPU seconds of each stage, for every effort.

A run compiles forms of the network and runs samples through them. So its cost is a sum of compilations and inferences
of the FP32 network, measured at the start of the run, and of calib's own work for each layer, weight and sample::

    seconds = c · compiling + p · samples · inference + s · scored · inference + …     (a row of the table below)

The factors are those of least relative squares, none below zero, over the runs of ``benchmarks/expected_cost.py``,
which also says how far the sums are off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from calib.config.efforts import EFFORTS

FEATURES: tuple[str, ...] = ("compilation", "pass", "counted", "scored", "layer", "layer and sample", "weight", "start")
COUNTED = 20  # of this many samples on, histograms take fewer values of each


@dataclass(frozen=True)
class Work:
    """What the cost of a run follows from.

    Attributes:
        compiling: CPU seconds of compiling the FP32 network once.
        inference: CPU seconds of one inference of it.
        layers: Number of layers to quantize.
        weights: Number of their weights.
        samples: Number of inferences over all calibration samples.
        validation: Number of inferences over all validation samples; 0 without any.
        reverts: Whether layers may go back to floating point to keep a budget.
        saturates: Whether levels of weights are chosen by what this CPU, whose sums saturate, makes of them.
        timed: Whether the speed is measured, and with it the errors of layers.
        optimize_speed: Whether forms with groups of layers in floating point are timed, too.
    """

    compiling: float
    inference: float
    layers: int
    weights: float
    samples: int
    validation: int = 0
    reverts: bool = False
    saturates: bool = False
    timed: bool = False
    optimize_speed: bool = False

    @property
    def exact(self) -> bool:
        """Whether sums of INT8 products are exact, so that no levels are chosen."""
        return not self.saturates


@dataclass(frozen=True)
class Cost:
    """CPU seconds that a run is expected to take, imports apart.

    Attributes:
        stages: Seconds by stage, in the order of the run.
        search: Most seconds of a search that reverts layers; it is not part of the sum.
    """

    stages: Mapping[str, float]
    search: float = 0.0

    @property
    def seconds(self) -> float:
        """Sum over the stages, without a search."""
        return sum(self.stages.values())

    def __str__(self) -> str:
        parts = [f"{stage} {_seconds(taken)}" for stage, taken in self.stages.items() if taken >= 0.05 * self.seconds]
        more = f"; up to {_seconds(self.search)} more if layers have to be reverted" if self.search else ""
        return f"expected: about {_seconds(self.seconds)} of CPU time ({', '.join(parts)}){more}"


def _seconds(value: float) -> str:
    if value < 9.95:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def expected_cost(work: Work, effort: str) -> Cost:
    """Return what a run with this effort is expected to cost."""
    features = dict(zip(FEATURES, features_of(work, effort), strict=True))
    stages: dict[str, float] = {}
    if work.validation:  # FP32, and then the INT8 model once on all samples
        stages["baseline"] = work.compiling + work.validation * work.inference
    for (stage, condition), factors in FACTORS[effort].items():
        if not condition or getattr(work, condition):
            seconds = sum(factor * features[name] for name, factor in factors.items())
            stages[stage] = stages.get(stage, 0.0) + seconds
    if work.validation:
        stages["search"] = work.validation * work.inference
    # at most twelve validation sets are taken, those of FP32 and of the first INT8 model among them
    most = 10 * (work.validation * work.inference + INT8_COMPILATIONS * work.compiling) if work.reverts else 0.0
    return Cost(stages, most)


def features_of(work: Work, effort: str) -> tuple[float, ...]:
    """Return the numbers that the factors of the table are for, in the order of ``FEATURES``."""
    row = EFFORTS[effort]
    held = min(row.held_out, work.samples // 5) if work.samples >= 8 and row.held_out else min(work.samples, 8)
    return (
        work.compiling,
        work.samples * work.inference,
        min(work.samples, COUNTED) * work.inference,
        (held + min(row.samples, work.samples)) * work.inference,
        work.layers,
        work.layers * work.samples,
        work.weights,
        1.0,
    )


INT8_COMPILATIONS = 3.0  # cost of compiling an INT8 model, in compilations of the FP32 network

_STATISTICS = {"compilation": 0.6, "pass": 1.15, "counted": 1.8, "layer": 0.0045, "layer and sample": 3e-5}
# A candidate: its INT8 model is made and compiled.
_CANDIDATE = {"compilation": 1.65, "layer": 0.0057, "weight": 1e-7}
_INSERT = {"compilation": 1.55, "layer": 0.005, "weight": 2e-8}
_ERRORS = {"compilation": 3.0, "layer": 0.006}  # of each layer, where speed is measured
_SPEED = {"compilation": 4.0, "layer": 0.002, "start": 1.3}
# Seven forms are compiled and timed, and where some gain, these six times more: between 20 and 80 compilations.
_FORMS = {"compilation": 40.0, "layer": 0.01, "start": 4.2}

# Effort → stage, and the condition that its row is for (an attribute of Work; "" for all runs) → factors. They are from
# an AMD EPYC without VNNI; where levels of weights are not chosen, there is one candidate fewer to compile. With ranges
# of all samples balanced takes corrections over instead of computing them again, which the fit has not seen.
FACTORS: dict[str, dict[tuple[str, str], dict[str, float]]] = {
    "fast": {
        ("statistics", ""): _STATISTICS,
        ("correct", "saturates"): {name: 2 * factor for name, factor in _CANDIDATE.items()},
        ("insert", ""): _INSERT,
        ("insert", "exact"): _CANDIDATE,
        ("report", ""): {"scored": 0.34, "layer": 0.0048},
        ("speed", "timed"): _SPEED,
        ("speed", "optimize_speed"): _FORMS,
    },
    "balanced": {
        ("equalize", ""): {"scored": 1.1, "layer": 0.0145, "weight": 2.7e-8},
        ("statistics", ""): _STATISTICS,
        # by hand, from 6.0, .042 and 9.5e-7, with which ResNet-18 was said to take 32 s and took 14.5
        ("correct", ""): {"compilation": 4.05, "scored": 2.6, "layer": 0.05, "weight": 4.5e-7, "start": 0.2},
        ("correct", "saturates"): _CANDIDATE,
        ("insert", ""): _INSERT,
        ("report", ""): {"compilation": 0.29, "scored": 2.2, "layer": 0.0078},
        ("report", "timed"): _ERRORS,
        ("speed", "timed"): _SPEED,
        ("speed", "optimize_speed"): _FORMS,
    },
    "thorough": {
        ("equalize", ""): {"scored": 1.1, "layer": 0.0145, "weight": 2.7e-8},
        ("statistics", ""): _STATISTICS,
        ("correct", ""): {"compilation": 12.0, "scored": 18.0, "layer": 0.126, "weight": 2.9e-6, "start": 0.6},
        ("correct", "saturates"): _CANDIDATE,
        ("insert", ""): _INSERT,
        ("report", ""): {"compilation": 0.29, "scored": 2.2, "layer": 0.0078},
        ("report", "timed"): _ERRORS,
        ("speed", "timed"): _SPEED,
        ("speed", "optimize_speed"): _FORMS,
    },
}
