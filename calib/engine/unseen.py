"""What a few held-out samples don't show of unseen ones: how far samples differ, and what the largest of them suffer.

The interval that eight held-out samples, a fifth of 40, make by themselves held the figure of 200 others for 178 of 255
outputs of generated networks. They miss errors that one sample in twenty has, so the model is run on further
calibration samples too, first on those that corrections did not learn from. Its ranges have seen these, which makes
little difference to rounding and all to clipping. So some samples are enlarged beyond the largest of all, and both
models are run on them: 253 of 255.

Ranges that clip what one sample in fifty reaches cost what two dozen samples don't show. On a small classifier with 24
of 200 images held out the interval was from 37.6 dB, and 2,000 others had 33.6: one of the 200 made two fifths of the
noise of all, four made seven tenths. Statistics know which samples reach farthest in each tensor, and so which of them
ranges clip: the twelve that lack most held 70 % of the noise. These are run as well, and each counts for itself.

What layers compute from the best of some rows differs as a whole on the few samples where INT8 finds another row best,
and the first two dozen may hold none. The intervals of 12 small networks with TopK or NonMaxSuppression in the middle
held the figure of 300 other samples for 8, the others missing it by up to 13 dB; allowing for a choice that none of the
samples that were run shows, for 12.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.corrections.candidate import Feed
from calib.corrections.scoring import energies_on
from calib.engine.building import Int8Model
from calib.engine.clipped import CENSUSED, clipped_most
from calib.engine.job import Job
from calib.runtime.failures import left_out
from calib.samples.feed import arrays_of
from calib.samples.sample import Frames
from calib.values.sqnr import (
    LEAST_SAMPLES,
    censused_interval,
    decibel,
    most_of_none,
    multiples_needed,
    noise_beyond,
    sqnr_interval,
)
from calib.values.summary import Summaries

ENOUGH = 24  # samples, held out or not: with 16, 24, 32 and 64 the intervals held 225, 227, 228 and 228 of 232 outputs
SIZED = 64  # samples that are read to see how much their sizes vary
VARIED = 0.02  # least standard deviation of the logarithm of a size, with which one in a thousand is 6 % larger
ENLARGED = 8  # samples that are enlarged
MULTIPLES = (1.0, 1.25, 1.6, 2.2, 3.2)  # of the largest size; the last is 4 standard deviations of .3 away

# What clipping costs is mostly due to the one or two largest of some hundred samples. Of 341 outputs of 167 generated
# networks, the figure for 200 other samples was below the interval with 1, 3, 5 and 10 times the expected noise for
# 15, 9, 5 and 3; half of the intervals were wider than 9.5, 12.1, 13.8 and 16.4 dB.
CAUTION = 5.0
CLIPPED_DB = 1.0  # of the lower end that a sentence is said for
# Where another row is chosen: the squared difference of two independent rows, relative to the square of one.
OTHER = 2.0

Energies = NDArray[np.float64]
Ends = tuple[float, float]


@dataclass(frozen=True)
class Unseen:
    """What was found out about unseen samples.

    Attributes:
        names: Ids of the calibration samples that were run besides the held-out ones.
        drawn: Number of the first of these that were drawn by chance; the others are among those that ranges clip most.
        further: Part → signal and noise energy of these, ``(names, 2)``, without parts that have none on some sample;
            None if there was nothing to run.
        beyond: Part → expected noise energy of a sample due to its being larger than all that ranges are from.
        spread: Standard deviation of the logarithm of a sample's size, 0 if there is no size that varies.
    """

    names: Sequence[str] = ()
    drawn: int = 0
    further: Mapping[str, Energies] | None = None
    beyond: Mapping[str, float] = field(default_factory=dict[str, float])
    spread: float = 0.0


def intervals(
    job: Job,
    built: Int8Model,
    ids: Sequence[str],
    before: Mapping[str, Energies],
    written: Mapping[str, Energies],
    summaries: Summaries,
    warnings: list[str],
) -> tuple[dict[str, Ends], list[str]]:
    """Return part → interval for unseen samples, and sentences about them; none from too few held-out samples.

    Each end is the farthest of those from the held-out samples before the ranges were fitted to them, without copies of
    samples that ranges are from, from the model that is written on these and on further samples, and from the same with
    the samples that ranges clip most. The lower one is lowered by what larger samples may cost, and another choice.

    Args:
        job: Run.
        built: Model that is written.
        ids: Ids of the held-out samples.
        before: Energies of the held-out samples before the ranges were fitted to them.
        written: The same of the model that is written.
        summaries: Statistics of every quantized tensor.
        warnings: Receives a sentence if OpenVINO fails.
    """
    found: dict[str, Ends] = {}
    worst = clipped_most(built.plan, summaries)[:CENSUSED]
    unseen = _looked_further(job, built, ids, worst, warnings)
    if unseen is None:
        return found, []
    doubts, chosen = _Doubts(), {part.name for part in job.compared[0].parts if part.chosen}
    for name, rows in before.items():
        drawn, clipped, censused = _parted(written[name], unseen, name, [*ids, *unseen.names], worst)
        once = _once(drawn)
        if len(once) < len(drawn):
            doubts.repeated[name] = len(once)
        own = rows[_apart(written[name], drawn[len(rows) :])]
        own = own[_once(own)]
        ends = _ends(own, drawn[once], clipped[once], censused, len(job.all_ids))
        if ends is None:
            few = len(once) < min(LEAST_SAMPLES, len(drawn)) or len(own) < LEAST_SAMPLES
            doubts.without_interval(name, np.vstack([rows, drawn]), few=few and name in doubts.repeated)
            continue
        (low, high), usual = ends
        doubts.rare += [name] if usual - low > CLIPPED_DB else []
        beyond = unseen.beyond.get(name, 0.0) / drawn[:, 0].mean()
        lower = decibel(1.0, 10 ** (-low / 10) + CAUTION * beyond)
        doubts.grown |= low - lower > CLIPPED_DB
        if name in chosen:
            low, lower = lower, decibel(1.0, 10 ** (-lower / 10) + OTHER * most_of_none(len(once)))
            doubts.chosen += [name] if low - lower > CLIPPED_DB else []
        found[name] = round(lower, 2), round(high, 2)
    return found, doubts.sentences(len(ids) + unseen.drawn, len(job.all_ids), unseen.spread, found)


@dataclass
class _Doubts:
    """What speaks against intervals, by the names of parts.

    Attributes:
        unknown: Without an interval, as one sample makes all of its signal or error.
        exact: Without an interval, as no sample has an error.
        rare: Ranges clip a few samples far more than those held out.
        grown: Whether larger samples would be clipped.
        chosen: Computed from what is chosen, which may be another on samples that were not run.
        repeated: Number of different samples, where some are copies of others.
    """

    unknown: list[str] = field(default_factory=list[str])
    exact: list[str] = field(default_factory=list[str])
    rare: list[str] = field(default_factory=list[str])
    grown: bool = False
    chosen: list[str] = field(default_factory=list[str])
    repeated: dict[str, int] = field(default_factory=dict[str, int])

    def without_interval(self, name: str, rows: Energies, *, few: bool) -> None:
        """Note why a part has no interval; where it is from copies of too few samples, ``repeated`` says so."""
        heard, erring = (bool(column.any()) for column in rows.T)
        self.unknown += [name] if erring and not few else []
        self.exact += [name] if heard and not erring else []

    def sentences(self, run: int, count: int, spread: float, found: Mapping[str, Ends]) -> list[str]:
        """Return a sentence for each kind.

        Args:
            run: Number of samples that were run, drawn by chance.
            count: Number of calibration samples.
            spread: Standard deviation of the logarithm of a sample's size.
            found: Intervals.
        """
        notes = [
            f"{name} has no interval for unseen samples: one sample alone makes its signal or its error, or its shape "
            "in INT8 is another on some sample. Give more calibration samples."
            for name in self.unknown
        ]
        notes += [
            f"{name} has no interval for unseen samples: in INT8 it is the same to the bit on all {run} samples that "
            "were run, which tells nothing of its error on others. Give more calibration samples, on which it varies."
            for name in self.exact
        ]
        if self.repeated:
            name, different = min(self.repeated.items(), key=lambda item: item[1])
            why = "" if name in found else f"{name} has no interval for unseen samples. "
            notes.append(
                f"{why}Of the {run} samples that were run, {different} {'is' if different == 1 else 'are'} different, "
                "and the others repeat them. Held-out samples can then be copies of those that ranges are from, and "
                "the SQNR says less of unseen ones than it seems. Give each sample once."
            )
        if self.rare:
            notes.append(
                f"Ranges clip a few of the {count} calibration samples far more than those held out, and the error of "
                f"{self.rare[0]} on unseen samples depends on how many of them are like these: the lower end of its "
                "interval allows for it. --estimator minmax clips none of them."
            )
        if self.chosen:
            notes.append(
                f"{self.chosen[0]} is computed from what the network chooses by its scores. Where two are close, INT8 "
                f"may choose another, and the {run} samples that were run may hold no such case: the lower end of its "
                "interval allows for that. Give more calibration samples."
            )
        if self.grown:
            notes.append(
                f"Samples vary in size, by a factor of {math.exp(spread):.2f} around the mean, so some are larger than "
                f"all {count} that ranges are from and will be clipped. The lower end of the output SQNR's interval "
                "allows for it, from samples that were enlarged. Give more calibration samples, the largest that occur "
                "among them."
            )
        return notes


def _once(rows: Energies) -> NDArray[np.intp]:
    """Return the places of samples, each once: two with the same error to the last bit are copies of each other.

    Those without an error are all kept: outputs that are 0 or 1 often have the same energy.
    """
    erring = np.flatnonzero(rows[:, 1] > 0)
    first = np.unique(rows[erring], axis=0, return_index=True)[1]
    return np.sort(np.concatenate([np.flatnonzero(~(rows[:, 1] > 0)), erring[first]]))


def _apart(held: Energies, further: Energies) -> NDArray[np.bool_]:
    """Return which held-out samples are no copies of the further ones, which ranges are from."""
    known = {row.tobytes() for row in further if row[1] > 0}
    return np.array([row.tobytes() not in known for row in held], np.bool_)


def _parted(
    written: Energies, unseen: Unseen, part: str, names: Sequence[str], worst: Sequence[str]
) -> tuple[Energies, NDArray[np.bool_], Energies]:
    """Return the energies of samples drawn by chance, which of them ranges clip most, and those of all clipped most.

    Args:
        written: Energies of the held-out samples with the model that is written.
        unseen: What was run besides.
        part: Name of the part.
        names: Ids of the held-out samples and of those that were run besides.
        worst: Ids of the samples that ranges clip most.
    """
    further = np.zeros((0, 2)) if unseen.further is None else unseen.further.get(part)
    if further is None:
        return written[:0], np.zeros(0, np.bool_), written[:0]
    rows, drawn = np.vstack([written, further]), len(written) + unseen.drawn
    clipped = np.array([name in worst for name in names])
    return rows[:drawn], clipped[:drawn], rows[clipped]


def _ends(
    before: Energies, drawn: Energies, clipped: NDArray[np.bool_], censused: Energies, count: int
) -> tuple[Ends, float] | None:
    """Return the ends, and what the lower one is without the samples that ranges clip most; None if there are none.

    Args:
        before: Energies of the held-out samples before the ranges were fitted to them.
        drawn: Those of samples drawn by chance, with the model that is written.
        clipped: Which of them are among those that ranges clip most, ``(drawn,)``.
        censused: Energies of all that ranges clip most.
        count: Number of calibration samples.
    """
    one, other = sqnr_interval(before), sqnr_interval(drawn)
    if one is None or other is None:
        return None
    ends = [one, other]
    if len(censused) and (third := censused_interval(drawn[~clipped], censused, count)):
        ends.append(third)
    low, high = min(end for end, _ in ends), max(end for _, end in ends)
    return (low, high), min(one[0], other[0])


def _looked_further(
    job: Job, built: Int8Model, ids: Sequence[str], worst: Sequence[str], warnings: list[str]
) -> Unseen | None:
    """Return what further samples show; None if too few were held out, or if OpenVINO fails, which is said."""
    if len(ids) < LEAST_SAMPLES:
        return None
    what = "There is no interval of the output SQNR for unseen samples, since OpenVINO can't run what shows it"
    with left_out(what, warnings):
        return _look_further(job, built, ids, worst)
    return None


def _look_further(job: Job, built: Int8Model, ids: Sequence[str], worst: Sequence[str]) -> Unseen:
    """Run the model that is written, and FP32, on further samples, on those that ranges clip most and on larger ones.

    Args:
        job: Run.
        built: Model that is written.
        ids: Ids of the samples that it was scored on.
        worst: Ids of the samples that ranges clip most.
    """
    known = {*ids, *job.held}  # held-out samples that count for no score are outliers
    learned = job.effort.samples  # by corrections, which makes their errors smaller than those of others
    order = (*job.ids[learned:], *job.ids[:learned])
    further = [name for name in order if name not in known][: max(ENOUGH - len(ids), 0)]
    names = (*further, *(name for name in worst if name not in {*ids, *further}))
    sizes = _Sizes(job)
    enlarged = list(ids[:ENLARGED]) if sizes.spread else []
    if not names and not enlarged:
        return Unseen()

    def feeds() -> Iterator[Feed]:
        yield from job.feeds(names)
        for multiple in sizes.multiples:
            for feed in job.feeds(enlarged):
                yield sizes.enlarged(feed, multiple)

    streams = job.streams_for(len(names) + len(sizes.multiples) * len(enlarged))
    known = job.compiled_reference
    found = energies_on(feeds, job.reference, built.model, built.compiled, job.compared, streams, known)
    beyond: dict[str, float] = {}
    for name, rows in found.items() if enlarged else ():
        noises = rows[len(names) :, 1].reshape(len(sizes.multiples), len(enlarged)).mean(axis=1)
        beyond[name] = sizes.expected(noises)
    return Unseen(names, len(further), {name: rows[: len(names)] for name, rows in found.items()}, beyond, sizes.spread)


class _Sizes:
    """Sizes of the calibration samples, input by input: the largest absolute value of a floating-point input.

    An input whose largest size several samples have to the last bit is bounded, as images are, and no sample is larger.

    Attributes:
        spread: Standard deviation of the logarithm of the size, of the input where it is largest; 0 if none varies.
        multiples: Those of :data:`MULTIPLES` that samples may reach with this spread.
    """

    def __init__(self, job: Job):
        inputs = len(job.loaded.model.inputs)
        rows = [_sizes_of(arrays_of(sample), inputs) for sample in job.samples(job.all_ids[:SIZED])]
        sizes = np.array(rows, np.float64).reshape(len(rows), inputs)
        self._largest: NDArray[np.float64] = sizes.max(axis=0, initial=0.0)
        columns = [column[column > 0] for column in sizes.T]
        self._spreads = [_spread(column) for column in columns]
        self.spread = max(self._spreads, default=0.0)
        self.multiples: tuple[float, ...] = ()
        if self.spread:
            place = self._spreads.index(self.spread)
            self._widest = columns[place], float(self._largest[place])
            self.multiples = tuple(multiples_needed(*self._widest, np.array(MULTIPLES)).tolist())

    def enlarged(self, feed: Feed, multiple: float) -> Feed:
        """Return a sample with the inputs that vary multiplied, so that it is a multiple of the largest in size."""
        frames = feed if isinstance(feed, Frames) else Frames([tuple(feed)])
        sizes = _sizes_of([array for frame in frames for array in frame], len(self._spreads))
        factors = [
            multiple * largest / size if spread and size else 1.0
            for spread, largest, size in zip(self._spreads, self._largest, sizes, strict=True)
        ]
        made = Frames(
            tuple(
                array if factor == 1.0 else (array * factor).astype(array.dtype)
                for array, factor in zip(frame, factors, strict=True)
            )
            for frame in frames
        )
        return made if isinstance(feed, Frames) else made[0]

    def expected(self, noises: Energies) -> float:
        """Return the noise energy that a sample is expected to have beyond the ranges, see :func:`noise_beyond`."""
        return noise_beyond(*self._widest, np.array(self.multiples), noises)


def _sizes_of(arrays: Sequence[NDArray[Any]], inputs: int) -> list[float]:
    """Return the size of each input of a sample, of a sequence over all its frames; 0 for integers."""
    found = [0.0] * inputs
    for place, array in enumerate(arrays):
        if array.dtype.kind == "f" and array.size:
            found[place % inputs] = max(found[place % inputs], float(np.abs(array).max()))
    return found


def _spread(sizes: NDArray[np.float64]) -> float:
    """Return the standard deviation of the logarithm; 0 if it is tiny, if sizes are few, or if they are bounded."""
    if len(sizes) < LEAST_SAMPLES or np.count_nonzero(sizes == sizes.max()) > 1:
        return 0.0
    spread = float(np.log(sizes).std(ddof=1))
    return spread if spread >= VARIED else 0.0
