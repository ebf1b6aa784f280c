"""Accuracy before any layer is given up: corrections of a candidate's weights and biases, one file and one line each.

A correction is a module with a function ``correct``, see :class:`Correction`. Each is tried on the best candidates so
far, and what it makes is kept only where the INT8 network scores higher on samples held out for that: see ``recipes``.

Not in the table: equalization, which rescales the network before its statistics are collected, for all ranges depend
on it; it is a stage of its own. Nor is ``sensitivity``, which changes nothing: it ranks layers for the search.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from calib.corrections.candidate import Arrays, Candidate
    from calib.corrections.scoring import Scorer
    from calib.values.facts import CorrectionFacts


class Correction(Protocol):
    """Finds other weights or biases for a candidate that has its ranges."""

    def __call__(
        self, candidate: Candidate, samples: Sequence[Arrays], scorer: Scorer
    ) -> tuple[Candidate, list[CorrectionFacts]] | None:
        """Return the corrected candidate and what was done layer by layer; None where it can't be applied.

        Deterministic: the same bytes for any number of threads and streams. Only ``edits``, and ``refit`` where the
        edits of one layer depend on another, differ from the candidate given, which stays as it is.

        Args:
            candidate: with ranges; it may have been corrected by those before in the table.
            samples: to learn from, in the order of their ids.
            scorer: scores candidates on other samples, for a :class:`calib.corrections.candidate.Refit`.
        """
        ...


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        module: whose ``correct`` is the correction.
        tried_on: effort → on how many candidates it is tried, best first, of each kind that earlier rows made.
    """

    module: str
    tried_on: Mapping[str, int] = field(default_factory=dict)


CORRECTIONS: dict[str, Row] = {
    "rounding and bias": Row("calib.corrections.rounding", {"balanced": 1, "thorough": 2}),
    "sequential bias": Row("calib.corrections.bias_correction", {"thorough": 2}),
}


def get_correction(name: str) -> Correction:
    """Return the correction of that name in the table."""
    return importlib.import_module(CORRECTIONS[name].module).correct
