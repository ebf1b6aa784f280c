"""The text that outputs hold, and the one that is right: what metrics of text compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.metrics.scores import first_output

# Class ids become characters for the count of edits; from here upwards there are more unbroken code points than classes
# anywhere.
_FIRST_CODE_POINT = 0x20000


class TextPairs:
    """Reads texts off outputs and targets.

    Scores are decoded greedily (the best class of each step, repetitions merged, blanks dropped: Graves et al. 2006).
    Integer outputs are treated as decoded ids; only blanks are dropped. A decoder (``calib.outputs``) may have made a
    text of them before.
    """

    def __init__(self, name: str, vocabulary: str = "", blank: str = "0", ids: bool = True):
        """Make the reader.

        Args:
            name: Name of the metric, for messages.
            vocabulary: Path of a text file with one symbol per line for each class but the blank, in order.
            blank: Index of the blank class.
            ids: Whether a target may be a list of class ids, and not a text alone.

        Raises:
            UsageError: The blank is not a number, or the vocabulary file is missing.
        """
        if not blank.isdecimal():
            raise UsageError(f"metric {name}: blank is the number of a class, got {blank!r}")
        self.name, self.blank, self.ids = name, int(blank), ids
        self._symbols = _read_vocabulary(Path(vocabulary), self.blank, name) if vocabulary else None
        target = "a text (needs ?vocabulary=FILE, one symbol a line, or --decode ctc?alphabet=…)"
        target += " or a list of class ids" if ids else ""
        self.reads = (
            f"first output: class scores [1, T, C] or [T, 1, C] for greedy CTC with ?blank={self.blank}, or integer "
            f"class ids [1, T]; target: {target}"
        )

    def of(self, outputs: Sequence[NDArray[Any]], target: Any) -> tuple[str, str]:
        """Return the text that is right and the one that was read; class ids become one character each.

        Raises:
            MetricError: The output does not hold such scores, or a text target has no vocabulary.
        """
        output, text = first_output(outputs, self.name), isinstance(target, str | np.str_)
        if output.dtype.kind == "U":
            if not text or output.size != 1:
                raise MetricError(
                    f"{self.name}: the output is decoded to a text, so a target is a text, got {target!r}"
                )
            return str(target), str(output.item())
        ids = [one for one in _decode(output, self.blank, self.name) if one != self.blank]
        if text:
            return str(target), "".join(self._symbol(one) for one in ids)
        if not self.ids:
            raise MetricError(f"{self.name}: a target is a text, got {type(target).__name__}")
        return _as_text(_target_ids(target, self.name)), _as_text(ids)

    def _symbol(self, one: int) -> str:
        if self._symbols is None:
            raise MetricError(
                f"{self.name}: a text target needs the symbols of the classes: --decode ctc?alphabet=digits+lower (or "
                f"the characters in order, with blank=last if the blank is last), or {self.name}?vocabulary=FILE, one "
                "symbol a line"
            )
        if one not in self._symbols:
            raise MetricError(f"{self.name}: the vocabulary has no line for class {one} (blank is {self.blank})")
        return self._symbols[one]


def _read_vocabulary(path: Path, blank: int, name: str) -> dict[int, str]:
    try:
        # Not splitlines: a vocabulary may hold characters that it takes for ends of lines.
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"metric {name}: the vocabulary {path} can't be read: {error}") from error
    return {index if index < blank else index + 1: line.removesuffix("\r") for index, line in enumerate(lines)}


def _decode(output: NDArray[Any], blank: int, name: str) -> list[int]:
    if output.dtype.kind in "iu" and output.size == max(output.shape, default=0):
        return [int(one) for one in output.ravel()]
    if output.dtype.kind != "f" or output.ndim != 3 or 1 not in output.shape[:2]:
        raise MetricError(
            f"{name}: reads class scores [1, T, C] or [T, 1, C], or integer ids [1, T], the first output is "
            f"{list(output.shape)} {output.dtype}. For another form give a function: python:module:function"
        )
    if blank >= output.shape[2]:
        raise MetricError(f"{name}: blank={blank} is none of {output.shape[2]} classes")
    best = output.reshape(-1, output.shape[2]).argmax(-1)
    changed = np.concatenate([[True], best[1:] != best[:-1]])[: best.size]
    return [int(one) for one in best[changed]]


def _target_ids(target: Any, name: str) -> list[int]:
    values = np.asarray(target)
    if values.ndim == 0 and values.dtype.kind in "iuf":
        raise MetricError(
            f"{name}: a target is a text or a list of class ids, got the number {target}. Labels of a CSV list that "
            "are all numbers are read as numbers: write texts of digits as JSON lines"
        )
    if values.size and values.dtype.kind not in "iu":
        raise MetricError(f"{name}: a target is a text or a list of class ids, got {str(target)[:60]!r}")
    return [int(one) for one in values.ravel() if one >= 0]  # −1 fills rows up to one length


def _as_text(ids: Sequence[int]) -> str:
    return "".join(chr(_FIRST_CODE_POINT + one) for one in ids)


def edits(wanted: Sequence[Any], found: Sequence[Any]) -> int:
    """Return the smallest number of insertions, deletions and substitutions that turn one sequence into another.

    V. Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966, row by row.
    """
    numbers = {one: number for number, one in enumerate(dict.fromkeys([*wanted, *found]))}
    row, other = np.arange(len(found) + 1), np.array([numbers[one] for one in found], np.int64)
    places = np.arange(len(found) + 1)
    for count, one in enumerate(wanted, 1):
        changed = np.minimum(row[:-1] + (other != numbers[one]), row[1:] + 1)
        # An insertion adds 1 to what stands to the left of it, which may be one as well.
        row = np.minimum.accumulate(np.append(count, changed) - places) + places
    return int(row[-1])
