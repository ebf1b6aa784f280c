"""Accuracy before any layer is given up: what each effort does, in order. One line a correction.

Each correction lives in a file of its own and is kept only where it lowers the output error on calibration samples
held out for that; ``recipes`` weighs whole-model candidates against each other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Correction:
    """A row of the table.

    Attributes:
        efforts: at which it is tried.
        cost: in plain words.
        module: where it is.
    """

    name: str
    efforts: frozenset[str]
    cost: str
    module: str


ALWAYS = frozenset({"fast", "balanced", "thorough"})
TRIED = frozenset({"balanced", "thorough"})

CORRECTIONS: dict[str, Correction] = {
    row.name: row
    for row in (
        Correction("equalization", TRIED, "16 samples and one compilation", "calib.corrections.equalization"),
        Correction(
            "range choice", TRIED, "24 to 48 samples and one compilation an estimator", "calib.corrections.recipes"
        ),
        Correction("rounding", TRIED, "16 to 32 samples and one compilation", "calib.corrections.rounding"),
        Correction("bias", TRIED, "nothing: it comes with rounding", "calib.corrections.rounding"),
        Correction(
            "sequential bias",
            frozenset({"thorough"}),
            "16 samples through both networks at once, again for each plan of a search",
            "calib.corrections.bias_correction",
        ),
    )
}


def tried(name: str, effort: str) -> bool:
    """Say whether an effort tries a correction."""
    return effort in CORRECTIONS[name].efforts
