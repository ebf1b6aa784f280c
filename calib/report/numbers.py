"""How numbers are written for people: the same in the terminal and on the page."""

from __future__ import annotations

import math
from typing import Protocol

from calib.values import drops
from calib.values.drops import minus
from calib.values.facts import QuantizerFacts

MISSING = "–"


def size(count: int) -> str:
    """Return bytes in the unit that reads well: 14 012 → ``14.0 kB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{significant(value)} {unit}"
        value /= 1000
    return f"{significant(value)} GB"


def significant(value: float) -> str:
    """Return three significant digits without an exponent where that stays short."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else MISSING
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return minus(f"{value:.2e}")
    rounded = float(f"{value:.2e}")  # first, so that .9997 becomes 1.00 and not 1.000
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return minus(f"{value:.{digits}f}")


def milliseconds(value: float | None) -> str:
    """Return a latency with its unit."""
    return MISSING if value is None else f"{significant(value)} ms"


def microseconds(value: float | None) -> str:
    """Return the milliseconds of a layer as microseconds, which need no leading zeros."""
    return MISSING if value is None else f"{significant(value * 1000)} µs"


def seconds(value: float) -> str:
    """Return a duration: ``0.4 s``, ``73 s``, ``12 min 5 s``, ``2 h 3 min``."""
    if not math.isfinite(value):
        return f"{significant(value)} s"
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def decibel(value: float | None) -> str:
    """Return an SQNR; infinite where nothing was lost."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return f"{significant(value)} dB"
    return f"{minus(f'{round(value, 1) + 0.0:.1f}')} dB"  # + 0: a rounded −0.04 is 0.0, not −0.0


def decibels(ends: tuple[float, float]) -> str:
    """Return an interval of an SQNR: ``24.1 … 26.6 dB``."""
    return f"{decibel(ends[0]).removesuffix(' dB')} … {decibel(ends[1])}"


def share(value: float | None) -> str:
    """Return a share of one as a percentage that doesn't call something nothing."""
    if value is None:
        return MISSING
    return "0 %" if value == 0 else "<0.01 %" if value < 1e-4 else f"{significant(value * 100)} %"


def ratio(value: float) -> str:
    """Return a factor: ``2.81×``."""
    return f"{value:.2f}×" if math.isfinite(value) else MISSING


def plural(count: int, word: str) -> str:
    """Return ``1 layer`` or ``2 layers``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def span(quantizer: QuantizerFacts) -> str:
    """Return a range as an interval."""
    return f"[{significant(quantizer.low)}, {significant(quantizer.high)}]"


class InUnits(Protocol):
    """What is needed of an accuracy to write its figures."""

    @property
    def unit(self) -> str:
        """Unit of the metric."""
        ...

    @property
    def drop_kind(self) -> str:
        """Whether drops are absolute or relative."""
        ...

    @property
    def interval(self) -> tuple[float, float] | None:
        """Interval of the drop."""
        ...


def value(accuracy: InUnits, number: float) -> str:
    """Return a value of the metric in its unit; fractions read as percentages."""
    return in_unit(accuracy.unit, number)


def change(accuracy: InUnits, before: float, after: float) -> str:
    """Return two values of the metric, ``84.60 % → 84.55 %``; a unit of words stands once, ``0.81 → 0.8 area``.

    Noise as a share of the signal has the SQNR beside it: ``0 → 6.04e-05 of the signal (42.2 dB)``.
    """
    said = f"{value(accuracy, before)} → {value(accuracy, after)}"
    if accuracy.unit not in ("", "fraction"):
        said = f"{in_unit('', before)} → {value(accuracy, after)}"
    if accuracy.unit == drops.OF_THE_SIGNAL and 0 < after < math.inf:
        said += f" ({decibel(-10 * math.log10(after))})"
    return said


def in_unit(unit: str, number: float) -> str:
    """Return a number with a unit; fractions read as percentages."""
    return drops.value_text(unit, number)


def drop(accuracy: InUnits, number: float) -> str:
    """Return a drop in the unit of the budget: points of a fraction, the metric's unit, or a relative share."""
    return drops.drop_text(accuracy.drop_kind, accuracy.unit, number)


def bare_drop(accuracy: InUnits, number: float) -> str:
    """Return a drop without its unit, for axes of intervals."""
    return drops.drop_number(accuracy.drop_kind, accuracy.unit, number)


def drop_scale(accuracy: InUnits) -> float:
    """Return what a drop is multiplied with to be shown in ``drop_unit``."""
    return drops.drop_scale(accuracy.drop_kind, accuracy.unit)


def drop_unit(accuracy: InUnits) -> str:
    """Return the unit of drops."""
    return drops.drop_unit(accuracy.drop_kind, accuracy.unit)


def interval(accuracy: InUnits) -> str:
    """Return the interval of the drop: ``0.05 … 0.57 points``; empty without one."""
    if accuracy.interval is None:
        return ""
    low, high = accuracy.interval
    return f"{bare_drop(accuracy, low)} … {drop(accuracy, high)}"
