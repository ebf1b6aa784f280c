"""Drops in words: one unit throughout a run, in sentences as on the page and in the terminal."""

from __future__ import annotations

import math

ROUNDING = 1e-9  # a drop below this, in its unit, is what sums of floating-point numbers leave of none
OF_THE_SIGNAL = "of the signal"  # the unit of noise as a share of energy, which sentences give in dB too


def minus(text: str) -> str:
    """Return the number with a true minus sign."""
    return text.replace("-", "−", 1) if text.startswith("-") else text


def value_text(unit: str, number: float) -> str:
    """Return a number with a unit: fractions as percentages, a unit that starts with a digit in brackets."""
    if unit == "fraction":
        return minus(f"{number * 100:.2f} %")
    return f"{minus(f'{number:.4g}')} {f'({unit})' if unit[:1].isdigit() else unit}".rstrip()


def drop_scale(kind: str, unit: str) -> float:
    """Return what a drop is multiplied with to be written in its unit.

    Args:
        kind: "relative" for a drop as a share of the baseline, "absolute" for one in the metric's unit.
        unit: Unit of the metric.
    """
    return 100.0 if kind == "relative" or unit == "fraction" else 1.0


def drop_unit(kind: str, unit: str) -> str:
    """Return the unit of drops: ``% of the baseline``, ``points`` (hundredths of a fraction) or the metric's unit."""
    if kind == "relative":
        return "% of the baseline"
    return "points" if unit == "fraction" else unit.removeprefix("1 − ")  # less of 1 − error is more error


def drop_number(kind: str, unit: str, drop: float) -> str:
    """Return a drop without its unit: two decimals of a hundredth, or else three significant digits.

    One that two decimals would call nothing keeps two significant digits, down to `ROUNDING`.
    """
    if not math.isfinite(drop):
        return "∞" if drop > 0 else "−∞" if drop < 0 else "–"
    scaled = drop * drop_scale(kind, unit)
    scaled = 0.0 if abs(scaled) < ROUNDING else scaled
    if drop_scale(kind, unit) == 1.0:
        return minus(f"{scaled:.3g}")
    return minus(f"{scaled:.2g}" if 0 < abs(scaled) < 0.005 else f"{scaled:.2f}")


def drop_text(kind: str, unit: str, drop: float) -> str:
    """Return a drop with its unit: ``0.50 points``, ``1.00 % of the baseline``, ``0.2 dB``.

    Noise as a share of the signal is given as the SQNR that it leaves as well: ``0.001 of the signal (30.0 dB)``.
    """
    text = f"{drop_number(kind, unit, drop)} {drop_unit(kind, unit)}".rstrip()
    in_db = kind == "absolute" and unit == OF_THE_SIGNAL and 0 < drop < math.inf
    return f"{text} ({minus(f'{-10 * math.log10(drop):.1f}')} dB)" if in_db else text
