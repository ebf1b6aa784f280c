"""Ask whether a candidate that is ahead on the held-out samples stays ahead on those that its ranges clip most.

With 20 samples four are held out. Ranges of the mean extremes scored 2.8 dB above those of balanced on four such
samples of a generated network, and had 8.1 dB less on 200 others: every second sample lies beyond them. Statistics name
the samples that ranges clip, so both candidates are run on these, and each stands for itself::

    error = (sum over the clipped of e^p + (N - clipped) · mean over the held-out of e^p) / N,  p = 1 and 2

with e a sample's root mean square error relative to the outputs' power, and N the number of samples. The candidate has
to be ahead in both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from calib.corrections.candidate import Candidate
from calib.corrections.recipes import AsFast
from calib.corrections.scoring import Scorer
from calib.corrections.tried import Tried
from calib.engine.job import Job
from calib.runtime.session import infer_all
from calib.values.plan import QuantizationPlan
from calib.values.sqnr import decibel
from calib.values.summary import Collected, Summaries

CENSUSED = 12  # samples that ranges clip most
POWERS = (1, 2)  # of a typical sample, as candidates are scored, and of all, as the SQNR is stated


def behind_where_clipped(job: Job, summaries: Collected, fast: AsFast | None, ahead: Tried, usual: Tried) -> str:
    """Return why a candidate is not chosen, "" if it stays ahead of the one that would be chosen otherwise.

    Args:
        job: Run.
        summaries: Statistics of every quantized tensor.
        fast: What the fast effort makes ranges of, with statistics of its own.
        ahead: Candidate with the higher score on the held-out samples.
        usual: The one that would be chosen without it.
    """
    seen = _seen(ahead.candidate, summaries, fast)
    names = [name for name in clipped_most(ahead.candidate.plan, seen) if name not in job.set_aside][:CENSUSED]
    if not names:
        return ""
    feeds, known, outputs = job.feeds(names), job.compiled_reference, None
    if known is not None:
        outputs = [[values.copy() for values in one] for one in infer_all(known, feeds)]
    scorer = Scorer(job.reference, feeds, job.streams_for(len(feeds)), outputs, job.compared)
    clipped = [_energies(scorer, one) for one in (ahead, usual)]
    held = [one.energies for one in (ahead, usual)]
    for power in POWERS:
        first, second = (_db(*pair, len(job.all_ids), power) for pair in zip(held, clipped, strict=True))
        if first < second:
            return (
                f"not chosen: with the {len(names)} samples that its ranges clip most the outputs are at {first:.1f} "
                f"dB, those of {usual.name} at {second:.1f} dB"
            )
    return ""


def clipped_most(plan: QuantizationPlan, summaries: Summaries) -> list[str]:
    """Return the ids of the samples that ranges clip, most first, by the sum over tensors of the width that they lack.

    Of 200 images the twelve first ones held seven of the ten with the largest errors. Samples that are outliers in at
    least half of the tensors, see :data:`calib.statistics.totals.GAP`, are left out: they count for no score either.
    """
    lacking, outlying = defaultdict[str, float](float), Counter[str]()
    tensors = 0
    for quantizer in plan.activations:
        seen, range_ = summaries.get(quantizer.tensor), quantizer.range
        if seen is None or range_ is None or not (width := range_.high - range_.low) > 0:
            continue
        tensors += 1
        above = {name: high - range_.high for name, high in reversed(seen.farthest_high)}
        below = {name: range_.low - low for name, low in reversed(seen.farthest_low)}
        for name in sorted({*above, *below}):
            lack = max(above.get(name, 0.0), 0.0) + max(below.get(name, 0.0), 0.0)
            lacking[name] += lack / width
        far = {name for name, high in seen.farthest_high if high > seen.trimmed_high}
        outlying.update(far | {name for name, low in seen.farthest_low if low < seen.trimmed_low})
    usual = [name for name, lack in lacking.items() if lack > 0 and 2 * outlying[name] < tensors]
    return sorted(usual, key=lambda name: (-lacking[name], name))


def _energies(scorer: Scorer, one: Tried) -> Mapping[str, NDArray[np.float64]]:
    """Return the energies of a candidate, which is compiled unless it still is."""
    known = one.scored
    found = scorer.shipped(one.candidate) if known is None else scorer.score(known.model, known.compiled)
    return found.energies


def _seen(candidate: Candidate, summaries: Collected, fast: AsFast | None) -> Summaries:
    """Return the statistics of a candidate's tensors over the samples that are not held out."""
    if fast and candidate.model is fast.network.model:
        return fast.summaries.kept
    return (summaries.plain if summaries.plain and not candidate.plan.scalings else summaries).kept


def _db(
    held: Mapping[str, NDArray[np.float64]], clipped: Mapping[str, NDArray[np.float64]], count: int, power: int
) -> float:
    """Return the SQNR in dB over all samples, of which the clipped ones stand for themselves."""
    drawn, own = (_errors(held, some) ** power for some in (held, clipped))
    error = (own.sum() + max(count - len(own), 0) * drawn.mean()) / count
    return decibel(1.0, float(error) ** (2 / power))


def _errors(held: Mapping[str, NDArray[np.float64]], some: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return each sample's root mean square error, over all parts, relative to their power on the held-out samples."""
    parts = [
        some[name][:, 1] / signal for name, rows in held.items() if name in some and (signal := rows[:, 0].mean()) > 0
    ]
    return np.sqrt(np.mean(parts, axis=0)) if parts else np.zeros(1)
