"""Evaluate interleaved times: medians, paired ratios with intervals, and whether the machine was too noisy.

Pure functions of the numbers collected; ``timing.py`` collects them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import scipy  # scipy.special is loaded at its first use, not in every process

from calib.errors import UsageError

Basis = Literal["wall", "cpu"]
Name = TypeVar("Name", bound=Hashable)

# An interval wider than this share of its ratio on either side supports no claim of a few percent, which is what
# separates two INT8 placements of one network.
NOISY_HALF_WIDTH = 0.05
# By which factor a layer has to be slower in INT8 to count as slower: the counters are noisy.
SLOWER = 1.1
# One undisturbed thread uses as much CPU as wall time; a machine shared with others shows more wall time.
SHARED_CPU = 1.10


@dataclass(frozen=True)
class Median:
    """The median of several values.

    Attributes:
        spread: Half of the interquartile range, in the unit of the value.
    """

    value: float
    spread: float


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval as a share of the ratio."""
        return (self.high - self.low) / 2 / self.value


@dataclass(frozen=True)
class Timing:
    """Times of one model, measured beside the others.

    Attributes:
        wall_ms: Wall time of one inference (for latency) or one sample (for throughput).
        cpu_ms: CPU time of the whole process for one inference or sample.
        speedup: Time of the first model over that of this one, paired round by round; 1 for the first itself.
        speedup_cpu: The same for CPU time.
    """

    name: str
    wall_ms: Median
    cpu_ms: Median
    speedup: Ratio
    speedup_cpu: Ratio

    @property
    def per_second(self) -> float:
        """Inferences or samples per second of wall time."""
        return 1000 / self.wall_ms.value


@dataclass(frozen=True)
class Timings:
    """All models of one interleaved measurement.

    Attributes:
        rounds: Number of times that each model was timed.
        basis: Time to compare: ``cpu`` if one thread ran on a machine that other processes used too, else ``wall``.
        noisy: Whether a speed-up on that basis is too uncertain for a conclusion.
        note: Remark, or empty.
        layer_ms: Mapping from model to layer to milliseconds per inference, for models whose layers were timed.
    """

    models: tuple[Timing, ...]
    rounds: int
    basis: Basis
    noisy: bool
    note: str
    layer_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Timing:
        return next(timing for timing in self.models if timing.name == name)

    def time_ms(self, name: str) -> float:
        """Return a model's median time on ``basis``."""
        timing = self[name]
        return (timing.cpu_ms if self.basis == "cpu" else timing.wall_ms).value

    def speedup(self, name: str) -> Ratio:
        """Return a model's speed-up over the first on ``basis``."""
        timing = self[name]
        return timing.speedup_cpu if self.basis == "cpu" else timing.speedup


def median(values: Sequence[float]) -> Median:
    """Return the median and half of the interquartile range."""
    low, middle, high = np.quantile(np.asarray(values, np.float64), [0.25, 0.5, 0.75])
    return Median(float(middle), float(high - low) / 2)


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Return the median of ``numerators[k] / denominators[k]`` and its distribution-free 95 % interval.

    The interval is between two order statistics: with n rounds, (x₍ₖ₎, x₍ₙ₊₁₋ₖ₎) holds the median with probability
    1 − 2·P(Bin(n, ½) < k); k is the largest that leaves 95 %. Below six rounds there is none, and the extremes are
    returned.

    Raises:
        UsageError: There are no rounds, the numbers of rounds differ, or a time is not positive.
    """
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if above.shape != below.shape or not above.size or not (above > 0).all() or not (below > 0).all():
        raise UsageError(
            f"paired times have to be positive and equally many, at least one each; got {above.size} and {below.size}"
        )
    ratios = np.sort(above / below)
    rank = _rank(ratios.size)
    return Ratio(float(np.median(ratios)), float(ratios[rank - 1]), float(ratios[-rank]))


def _rank(count: int, level: float = 0.95) -> int:
    """Return the k of the order statistics, counted from 1."""
    below = scipy.special.bdtr(np.arange(count // 2 + 1), count, 0.5)  # [k − 1] = P(Bin(n, ½) < k), rising
    return max(1, int(np.count_nonzero(2 * below <= 1 - level)))


def summarize(
    wall_ms: Mapping[str, Sequence[float]],
    cpu_ms: Mapping[str, Sequence[float]],
    *,
    one_thread: bool = True,
) -> Timings:
    """Turn collected times into medians, speed-ups and whether they are too noisy.

    Args:
        wall_ms: Mapping from model to one time per round; round k of all models was measured back to back. Speed-ups
            are relative to the first model.
        cpu_ms: The same for CPU time.
        one_thread: Whether one thread ran; only then can CPU time stand in for wall time.

    Raises:
        UsageError: As for ``paired_ratio``.
    """
    reference = next(iter(wall_ms))
    timings = tuple(
        Timing(
            name,
            median(wall_ms[name]),
            median(cpu_ms[name]),
            paired_ratio(wall_ms[reference], wall_ms[name]),
            paired_ratio(cpu_ms[reference], cpu_ms[name]),
        )
        for name in wall_ms
    )
    shared = one_thread and any(t.wall_ms.value > SHARED_CPU * t.cpu_ms.value for t in timings)
    unsteady = [t for t in timings if t.wall_ms.spread > NOISY_HALF_WIDTH * t.wall_ms.value or _uncertain(t.speedup)]
    basis: Basis = "cpu" if one_thread and (shared or unsteady) else "wall"
    rounds = len(wall_ms[reference])
    worst = max(timings, key=lambda t: _speedup(t, basis).half_width)
    noisy = len(timings) > 1 and _uncertain(_speedup(worst, basis))
    return Timings(timings, rounds, basis, noisy, _note(basis, noisy, worst, reference, rounds))


def _speedup(timing: Timing, basis: Basis) -> Ratio:
    return timing.speedup_cpu if basis == "cpu" else timing.speedup


def _uncertain(ratio: Ratio) -> bool:
    return ratio.half_width > NOISY_HALF_WIDTH


def _note(basis: Basis, noisy: bool, worst: Timing, reference: str, rounds: int) -> str:
    sentences = []
    if basis == "cpu":
        sentences.append("Other work shared the CPU, so CPU time of the one thread is compared, not wall time.")
    if noisy:
        ratio = _speedup(worst, basis)
        if ratio.high < 1:  # said the way round that is faster
            faster, slower, ratio = reference, worst.name, Ratio(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)
        else:
            faster, slower = worst.name, reference
        said = f"{faster} was {ratio.value:.2f} times as fast as {slower}"
        interval = f"{ratio.low:.2f} to {ratio.high:.2f}"
        if ratio.low > 1:
            sentences.append(f"{said}, {interval}: the machine was too noisy for a closer figure.")
        else:
            sentences.append(
                f"Too noisy to say which is faster: {said}, but anything from {interval} fits the {rounds} rounds. "
                "Measure for longer, or on a quiet machine."
            )
    return " ".join(sentences)


def slower_layers(int8_ms: Mapping[Name, float], float_ms: Sequence[Mapping[Name, float]]) -> list[Name]:
    """Return the layers that took longer in INT8 than in the fastest floating-point precision, in the order given.

    These are only candidates: a layer's time does not include the conversions around it, and reverting a layer adds
    some. Whether the model becomes faster has to be measured as a whole.

    Args:
        int8_ms: Mapping from layer to its time in the INT8 model.
        float_ms: The same for the FP32 model, one mapping for each precision it was timed in (f32, the default).
    """
    best = {name: min(times[name] for times in float_ms if name in times) for times in float_ms for name in times}
    return [name for name, time in int8_ms.items() if name in best and time > SLOWER * best[name]]
