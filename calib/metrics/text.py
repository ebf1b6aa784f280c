"""Metrics of texts: edits by character and by word, and texts that are entirely right (extra: jiwer, for edits)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, MissingExtraError, UsageError
from calib.metrics.scores import mean_of_parts
from calib.metrics.text_pairs import TextPairs
from calib.values.distribution import requirement


class ErrorRate:
    """Number of edits divided by the length of the truth, both summed over the set, in characters, ids or words.

    As an accuracy it is 1 minus that, at least 0.
    """

    needs_target = True
    needs_reference = False

    def __init__(self, name: str, vocabulary: str = "", blank: str = "0", accuracy: bool = False):
        """Make the metric.

        Args:
            name: "cer", "wer" or "character-accuracy".
            accuracy: Whether it is an accuracy, and higher is better.
            vocabulary: Path of a text file with one symbol per line for each class but the blank, in order.
            blank: Index of the blank class.

        Raises:
            MissingExtraError: The package jiwer is not installed.
            UsageError: The blank is not a number, the vocabulary file is missing, or wer has no vocabulary.
        """
        if importlib.util.find_spec("jiwer") is None:
            raise MissingExtraError(f"the metric {name}", "jiwer", requirement("jiwer"))
        self.name, self.higher_is_better = name, accuracy
        self.unit = "fraction" if accuracy else "edits per symbol"
        self._pairs = TextPairs(name, vocabulary, blank, ids=name != "wer")
        self.reads = self._pairs.reads

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> list[int]:
        """Return [edits, length of the target].

        Raises:
            MetricError: The output does not hold such scores, a text target has no vocabulary, or wer gets ids.
        """
        want, got = self._pairs.of(outputs, target)
        return list(_count_words(want, got) if self.name == "wer" else _count_characters(want, got))

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the sum of edits over the sum of lengths (or over 1, if every target is empty), or 1 minus that."""
        if not len(parts):
            raise MetricError(f"{self.name}: no samples to measure")
        edits, length = np.array(parts, np.int64).sum(0)
        rate = float(edits) / max(int(length), 1)
        return max(0.0, 1 - rate) if self.higher_is_better else rate

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None, because a ratio of sums is not a mean over samples."""
        return None


class TextAccuracy:
    """Share of samples whose text is entirely right, as text recognition counts words: one a sample."""

    name = "word-accuracy"
    higher_is_better = True
    unit = "fraction"
    needs_target = True
    needs_reference = False

    def __init__(self, vocabulary: str = "", blank: str = "0", case: str = "true", spaces: str = "true"):
        """Make the metric.

        Args:
            vocabulary: Path of a text file with one symbol per line for each class but the blank, in order.
            blank: Index of the blank class.
            case: Whether upper and lower case differ.
            spaces: Whether spaces count.

        Raises:
            UsageError: A value is none of these, or the vocabulary file is missing.
        """
        for key, value in (("case", case), ("spaces", spaces)):
            if value not in ("true", "false"):
                raise UsageError(f"metric {self.name}: {key} is true or false, got {value!r}")
        self._case, self._spaces = case == "true", spaces == "true"
        self._pairs = TextPairs(self.name, vocabulary, blank)
        self.reads = f"{self._pairs.reads}; ?case=false and ?spaces=false leave these out"

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> float:
        """Return 1 if the text is right, else 0.

        Raises:
            MetricError: The output does not hold such scores, or a text target has no vocabulary.
        """
        want, got = map(self._counted, self._pairs.of(outputs, target))
        return float(want == got)

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the samples."""
        return mean_of_parts(parts, self.name)

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return 1 for each sample that is right, 0 for others."""
        return np.array(parts, np.float64)

    def _counted(self, text: str) -> str:
        text = text if self._case else text.casefold()
        return text if self._spaces else "".join(text.split())


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
