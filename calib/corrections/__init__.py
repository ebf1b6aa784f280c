"""Corrections of weights and biases that regain accuracy before any layer is reverted, one file and one row each.

A correction is a module with a function ``correct``, see :class:`Correction`. It is tried on the best candidates so
far, and its result is kept only if the INT8 network scores higher on held-out samples, see ``recipes``.

Equalization is not in the table: it rescales the network before statistics are collected, because all ranges depend on
it, and is a stage of its own. Neither is ``sensitivity``, which changes nothing but ranks layers for the search.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from calib.corrections.candidate import Candidate, Feed
    from calib.corrections.scoring import Scorer
    from calib.values.facts import CorrectionFacts


class Correction(Protocol):
    """Function that finds better weights or biases for a candidate that has its ranges."""

    def __call__(
        self, candidate: Candidate, samples: Sequence[Feed], scorer: Scorer
    ) -> tuple[Candidate, list[CorrectionFacts]] | None:
        """Return the corrected candidate and a fact for each layer; None if the correction can't be applied.

        The result is deterministic: the same bytes for any number of threads and streams. It differs from the given
        candidate, which is not changed, only in ``edits``, and in ``refit`` if edits of layers depend on each other.

        Args:
            candidate: Candidate with ranges; earlier corrections of the table may have been applied to it.
            samples: Calibration samples to learn from, in the order of their ids.
            scorer: Scorer of candidates on other samples, for a :class:`calib.corrections.candidate.Refit`.
        """
        ...


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        module: Module whose ``correct`` is the correction.
        tried_on: Mapping from effort to the number of candidates it is tried on, best first, of each set of corrections
            that earlier rows made.
        takes: What networks and samples it can be applied to, for a sentence where it can't; "" if to all.
    """

    module: str
    tried_on: Mapping[str, int] = field(default_factory=dict[str, int])
    takes: str = ""


CORRECTIONS: dict[str, Row] = {
    "rounding and bias": Row("calib.corrections.rounding", {"balanced": 1, "thorough": 2}),
    "sequential bias": Row(
        "calib.corrections.bias_correction",
        {"thorough": 2},
        "networks without state that run several samples of one size as a batch, with finite outputs of all layers",
    ),
}


def get_correction(name: str) -> Correction:
    """Return the correction with this name."""
    return importlib.import_module(CORRECTIONS[name].module).correct
