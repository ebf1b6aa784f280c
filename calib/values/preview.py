"""A few samples as a network sees them, as values: a page, a terminal and the studio draw from the same."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShownInput:
    """One input of one sample after preprocessing; of a sequence that of its first frame.

    Attributes:
        name: Name of the input.
        shape: Shape of the array.
        type: Element type.
        low, high, mean: Range and mean of its values; None where it holds no numbers or nothing.
        picture: PNG of an image, encoded from the array; b"" where it is none.
        counts: Number of values in each of equal intervals from ``low`` to ``high``; empty without a range.
        first: First values in words.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    picture: bytes = b""
    counts: tuple[int, ...] = ()
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShownSample:
    """One sample with what the model answers.

    Attributes:
        name: Name of the sample.
        target: Its target in words; "" without one.
        frames: Number of frames; 1 for what is no sequence.
        inputs: Its inputs.
        answers: Answers of the model in words: the best classes, boxes, or the ranges of the outputs.
    """

    name: str
    target: str
    frames: int
    inputs: tuple[ShownInput, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class InputRange:
    """Extremes of an input over all samples looked at."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Preview:
    """Samples as a network sees them.

    Attributes:
        model: Name of the model.
        source: Data that the samples are of.
        samples: Samples shown.
        looked_at: Number of samples that ranges and doubts are from.
        of_samples: Number of samples that the data would give a run.
        ranges: Range of each numeric input over the samples looked at.
        preprocessing: What is done to an image, step by step, in words; empty where arrays are used as they are.
        labels: Each label among the samples looked at and how many have it, the most frequent first.
        agreement: How often the best class is the label, as a sentence; "" where there are no classes or labels.
        doubts: What looks wrong, each a sentence with the way out.
    """

    model: str
    source: str
    samples: tuple[ShownSample, ...]
    looked_at: int
    of_samples: int
    ranges: tuple[InputRange, ...]
    preprocessing: tuple[str, ...]
    labels: tuple[tuple[str, int], ...]
    agreement: str
    doubts: tuple[str, ...]
