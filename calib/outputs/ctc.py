"""Texts from the steps of connectionist temporal classification, decoded greedily."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.outputs.decoder import Arrays, Match, ModelFacts, output_of, refuse


@dataclass(frozen=True)
class Ctc:
    """The best class of each step, repetitions merged and blanks dropped (Graves et al. 2006, section 3.2).

    Attributes:
        output: Name or number of the output; "" for the first.
        blank: Number of the blank class, "first" or "last".
        alphabet: The characters of the classes in order, without the blank; digits+lower, digits, lower or upper name
            the common ones. Without it class ids are given, which metrics read with a vocabulary of their own.
        vocabulary: Text file with one symbol a line for each class but the blank, in place of ``alphabet``.
        merged: Whether the output is decoded already, and only blanks are dropped.
    """

    output: str = ""
    blank: str = "first"
    alphabet: str = ""
    vocabulary: str = ""
    merged: bool = False

    reads = "class scores [1, T, C] or [T, 1, C], or integer class ids [1, T]"

    def __post_init__(self) -> None:
        if self.blank not in ("first", "last") and not self.blank.isdecimal():
            raise UsageError(f"decode ctc: blank is first, last or the number of a class, got {self.blank!r}")
        if self.alphabet and self.vocabulary:
            raise UsageError("decode ctc: give an alphabet or a vocabulary, not both")
        if self.vocabulary:
            symbols_in(Path(self.vocabulary))

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match a first output of three axes, one of the first two of length 1, or integer ids."""
        if not facts.outputs:
            return None
        output = facts.outputs[0]
        if output.real and len(output.shape) == 3 and 1 in output.shape[:2]:
            return Match(f"{output} holds the scores of classes at each step")
        if output.dtype.kind in "iu" and len(output.shape) in (1, 2):
            return Match(f"{output} holds class ids", {"merged": True})
        return None

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> str | NDArray[Any]:
        """Return the text, or the class ids ``(1, T)`` if no alphabet is given; ids keep the numbers of the classes."""
        array = output_of(outputs, facts, self.output, 0)
        ids, blank = self._ids(array)
        symbols = self._symbols(blank)
        if symbols is None:
            return ids[None]
        places = np.where(ids > blank, ids - 1, ids)
        if ids.size and int(places.max()) >= len(symbols):
            raise MetricError(
                f"decode ctc: class {int(ids[places.argmax()])} has no symbol: {len(symbols)} symbols are given, and "
                f"the blank is class {blank}"
            )
        return "".join(symbols[place] for place in places)

    def _ids(self, array: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
        """Return the ids that remain, and the number of the blank."""
        if array.dtype.kind in "iu" and array.size == max(array.shape, default=0):
            ids, classes = array.ravel().astype(np.int64), None
        elif array.dtype.kind == "f" and array.ndim == 3 and 1 in array.shape[:2] and array.shape[2]:
            classes = array.shape[2]
            ids = array.reshape(-1, classes).argmax(-1)
        else:
            raise refuse("ctc", self.reads, [array])
        if self.blank == "last" and classes is None:
            raise MetricError("decode ctc: blank=last needs class scores; of class ids give its number")
        blank = {"first": 0, "last": (classes or 1) - 1}.get(self.blank)
        blank = int(self.blank) if blank is None else blank
        if classes is not None and blank >= classes:
            raise MetricError(f"decode ctc: blank={blank} is none of {classes} classes")
        if not self.merged:
            ids = ids[np.concatenate([[True], ids[1:] != ids[:-1]])[: ids.size]]
        return ids[(ids != blank) & (ids >= 0)], blank

    def _symbols(self, blank: int) -> list[str] | None:
        if self.vocabulary:
            return symbols_in(Path(self.vocabulary))
        named = {"digits": DIGITS, "lower": LOWER, "upper": LOWER.upper(), "digits+lower": DIGITS + LOWER}
        return list(named.get(self.alphabet, self.alphabet)) if self.alphabet else None


DIGITS = "0123456789"
LOWER = "abcdefghijklmnopqrstuvwxyz"


def symbols_in(path: Path) -> list[str]:
    """Return the symbols of a text file, one a line.

    Raises:
        UsageError: It can't be read.
    """
    try:
        # Not splitlines: a vocabulary may hold characters that it takes for ends of lines.
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"decode ctc: the vocabulary {path} can't be read: {error}") from error
    return [line.removesuffix("\r") for line in lines]
