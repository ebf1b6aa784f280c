"""Metrics of recognized text: character and word error rate, with greedy CTC decoding (extra: jiwer)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, MissingExtraError, UsageError
from calib.metrics.scores import first_output
from calib.values.distribution import requirement

# Class ids become characters for jiwer; from here upwards there are more unbroken code points than classes anywhere.
_FIRST_CODE_POINT = 0x20000


class ErrorRate:
    """Number of edits divided by the length of the truth, both summed over the set, in characters, ids or words.

    Scores are decoded greedily (the best class of each step, repetitions merged, blanks dropped: Graves et al. 2006).
    Integer outputs are treated as decoded ids; only blanks are dropped.
    """

    higher_is_better = False
    unit = "edits per symbol"
    needs_target = True
    needs_reference = False

    def __init__(self, name: str, vocabulary: str = "", blank: str = "0"):
        """Make the metric.

        Args:
            name: Either "cer" or "wer".
            vocabulary: Path of a text file with one symbol per line for each class but the blank, in order.
            blank: Index of the blank class.

        Raises:
            MissingExtraError: The package jiwer is not installed.
            UsageError: The blank is not a number, the vocabulary file is missing, or wer has no vocabulary.
        """
        if importlib.util.find_spec("jiwer") is None:
            raise MissingExtraError(f"the metric {name}", "jiwer", requirement("jiwer"))
        if not blank.isdecimal():
            raise UsageError(f"metric {name}: blank is the number of a class, got {blank!r}")
        self.name = name
        self.blank = int(blank)
        self._symbols = _read_vocabulary(Path(vocabulary), self.blank, name) if vocabulary else None
        target = "a text (needs ?vocabulary=FILE, one symbol a line)"
        target += " or a list of class ids" if name == "cer" else ""
        self.reads = (
            f"first output: class scores [1, T, C] or [T, 1, C] for greedy CTC with ?blank={self.blank}, or integer "
            f"class ids [1, T]; target: {target}"
        )

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> list[int]:
        """Return [edits, length of the target].

        Raises:
            MetricError: The output does not hold such scores, a text target has no vocabulary, or wer gets ids.
        """
        ids = [one for one in _decode(first_output(outputs, self.name), self.blank, self.name) if one != self.blank]
        if isinstance(target, str | np.str_):
            want = str(target)
            got = "".join(self._symbol(one) for one in ids)
        elif self.name == "wer":
            raise MetricError(f"wer: a target is a text, got {type(target).__name__}")
        else:
            want, got = _as_text(_target_ids(target, self.name)), _as_text(ids)
        return list(_count_words(want, got) if self.name == "wer" else _count_characters(want, got))

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the sum of edits over the sum of lengths (or over 1, if every target is empty)."""
        if not len(parts):
            raise MetricError(f"{self.name}: no samples to measure")
        edits, length = np.array(parts, np.int64).sum(0)
        return float(edits) / max(int(length), 1)

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None, because a ratio of sums is not a mean over samples."""
        return None

    def _symbol(self, one: int) -> str:
        if self._symbols is None:
            raise MetricError(f"{self.name}: a text target needs {self.name}?vocabulary=FILE, one symbol a line")
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


def _count_characters(want: str, got: str) -> tuple[int, int]:
    import jiwer

    split = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])
    return _edits(list(want), list(got), lambda: jiwer.process_characters(want, got, split, split))


def _count_words(want: str, got: str) -> tuple[int, int]:
    import jiwer

    wanted, found = want.split(), got.split()
    return _edits(wanted, found, lambda: jiwer.process_words(" ".join(wanted), " ".join(found)))


def _edits(wanted: list[str], found: list[str], process: Callable[[], Any]) -> tuple[int, int]:
    if not wanted or not found:  # jiwer's versions differ on empty texts
        return len(wanted) + len(found), len(wanted)
    counted = process()
    return counted.substitutions + counted.deletions + counted.insertions, len(wanted)
