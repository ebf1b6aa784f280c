"""Where the return of layers to floating point stops paying: the knee of SQNR against work left in floating point.

With e_i the error of the outputs with only unit i in INT8 and w_i its work, units return in the order of e_i / w_i. The
errors of those left add up, in the proportion in which all of them make the error that was measured::

    SQNR_k = SQNR_0 - 10 log10 (sum of e over the rest / sum of e over all)         dB
    share_k = sum of w over those returned / sum of w over all

The knee is the point farthest above the chord, both axes scaled to [0, 1] (Satopää et al., "Finding a Kneedle in a
Haystack", 2011, §3). The axis of work ends at a quarter of it, since beyond that INT8 gives its speed away, and only a
gain that is worth a choice counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calib.accuracy.prediction import RankedUnit

MOST = 0.25  # share of the work that may return
LEAST_DB = 3.0  # gain of a knee: half the noise energy
# Of each layer's work, as a share of the mean: a layer of hardly any work costs a conversion on both of its sides.
OVERHEAD = 0.05


@dataclass(frozen=True)
class KneePoint:
    """What is expected with some units in floating point.

    Attributes:
        layers: Layers in floating point, in the order in which they return.
        share: Share of the work in floating point, 0 to 1.
        sqnr_db: Expected SQNR of the outputs.
    """

    layers: tuple[str, ...]
    share: float
    sqnr_db: float


def knee_curve(units: Sequence[RankedUnit], work: Mapping[str, float], whole_db: float) -> list[KneePoint]:
    """Return what is expected with no unit in floating point, then one more at a time, up to :data:`MOST` of the work.

    Args:
        units: Units, at least one, with their sensitivities; those without a finite one return first.
        work: Layer → its multiply-accumulates; where all are 0, as with dynamic shapes, every unit counts the same.
        whole_db: SQNR in dB with everything in INT8.
    """
    costs = [sum(work.get(layer, 0.0) for layer in unit.layers) for unit in units]
    mean = sum(costs) / len(units)
    costs = [cost + OVERHEAD * mean if mean > 0 else 1.0 for cost in costs]
    order = sorted(range(len(units)), key=lambda i: (-units[i].sensitivity / costs[i], sorted(units[i].layers)))
    finite = [unit.sensitivity if math.isfinite(unit.sensitivity) else 0.0 for unit in units]
    found, layers, spent = [KneePoint((), 0.0, whole_db)], list[str](), 0.0
    for position, index in enumerate(order):
        layers += sorted(units[index].layers)
        spent += costs[index] / sum(costs)
        left = sum(finite[other] for other in order[position + 1 :])
        if spent > MOST or left <= 0:
            break
        found.append(KneePoint(tuple(layers), spent, whole_db - 10 * math.log10(left / sum(finite))))
    return found


def knee_of(curve: Sequence[KneePoint]) -> KneePoint | None:
    """Return the knee of a curve; None where nothing stands out, or less than :data:`LEAST_DB` is gained."""
    first, last = curve[0], curve[-1]
    gain = last.sqnr_db - first.sqnr_db
    if gain < LEAST_DB:
        return None
    best = max(curve, key=lambda point: (point.sqnr_db - first.sqnr_db) / gain - point.share / MOST)
    return best if best.sqnr_db - first.sqnr_db >= LEAST_DB else None
