"""Samples that FP32 gets right and INT8 wrong, each with the runs that get it wrong and what was drawn of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from calib.values.pictures import ChangedFacts, PictureFacts

MOST_DRAWN = 24
Drawing = tuple[PictureFacts, str]
"""What is known of a picture, and its data: address."""


@dataclass
class WorseSample:
    """A sample that got worse.

    Attributes:
        name: Where the sample is from; its id without a picture.
        runs: Names of the runs in which it got worse.
        drawings: Name of a run, and the picture that it drew of the sample.
    """

    name: str
    runs: list[str] = field(default_factory=list)
    drawings: list[tuple[str, Drawing]] = field(default_factory=list)


@dataclass(frozen=True)
class WorseSamples:
    """All that is said of single samples.

    Attributes:
        sentences: Name of a run, and how many of its samples changed.
        drawn: Samples with a picture, those that most runs get wrong first.
        others: Samples without one.
        compared: Number of runs that say which samples got worse.
    """

    sentences: list[tuple[str, str]]
    drawn: list[WorseSample]
    others: list[WorseSample]
    compared: int


def samples_that_got_worse(
    runs: Sequence[tuple[str, ChangedFacts | None, Sequence[Drawing]]],
) -> WorseSamples:
    """Return the samples that got worse in any of the runs.

    Args:
        runs: Name of each run, how its samples changed, and what was drawn of them.
    """
    known = [(name, changed, drawings) for name, changed, drawings in runs if changed is not None]
    found: dict[str, WorseSample] = {}
    for name, changed, drawings in known:
        for sample in changed.names:
            found.setdefault(sample, WorseSample(sample)).runs.append(name)
        for drawing in drawings:
            if (one := found.get(drawing[0].id)) is not None and name in one.runs:
                one.drawings.append((name, drawing))
                one.name = drawing[0].sample
    ordered = sorted(found.values(), key=lambda one: -len(one.runs))
    drawn = [one for one in ordered if one.drawings][:MOST_DRAWN]
    others = [one for one in ordered if one not in drawn]
    return WorseSamples([(name, changed.sentence) for name, changed, _ in known], drawn, others, len(known))
