"""Whether a detector numbers its classes otherwise than the annotations: with a background first, or in another order.

A detector whose boxes are right has an average precision near 0 then, which says nothing of why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

# Of objects that a detection covers, so many and such a share have to be found as the class that goes with theirs, and
# at most that share as their own: a detector that confuses classes has no fixed order.
FEWEST, FIXED, OWN = 5, 0.7, 0.5

# A detector that confuses some classes still shows a background in front of all: so many classes and such a share of
# objects are found one number further, and several times as many as under their own. The demo's SSD: 56 % and none.
STEP_CLASSES, STEP, STEP_OWN = 3, 0.4, 3


def labels_covering(found: NDArray[np.float64], truth: NDArray[np.float64]) -> list[list[int]]:
    """Return for each object that a detection covers (IoU of .5 and more) its label and that of the best such one.

    Args:
        found: Rows of x1, y1, x2, y2, score, label.
        truth: Rows of x1, y1, x2, y2, label, mark; marked ones (crowds, difficult) are left out.
    """
    truth = truth[truth[:, 5] == 0]
    if not len(found) or not len(truth):
        return []
    low = np.maximum(found[:, None, :2], truth[None, :, :2])
    shared = np.maximum(np.minimum(found[:, None, 2:4], truth[None, :, 2:4]) - low, 0).prod(-1)
    sizes = [(box[:, 2:4] - box[:, :2]).prod(-1) for box in (found, truth)]
    covers = (shared > 0) & (2 * shared >= sizes[0][:, None] + sizes[1] - shared)
    best = np.where(covers, found[:, 4, None], -np.inf).argmax(axis=0)
    return [[int(truth[i, 4]), int(found[best[i], 5])] for i in np.flatnonzero(covers.any(axis=0)).tolist()]


def renumbered(name: str, pairs: Iterable[Sequence[int]]) -> list[str]:
    """Return a sentence if objects are found in the right places, each class as one other; [] otherwise.

    Args:
        name: Name of the metric.
        pairs: What `labels_covering` gives, of all samples.
    """
    counts = Counter((wanted, found) for wanted, found in pairs)
    total = counts.total()
    own = sum(count for (wanted, found), count in counts.items() if wanted == found)
    for step in (1, -1):
        apart = {wanted: count for (wanted, found), count in counts.items() if found - wanted == step}
        fixed = sum(apart.values())
        enough = fixed >= max(FEWEST, STEP * total, STEP_OWN * own) and len(apart) >= STEP_CLASSES
        if enough:
            return [_sentence(name, total, own, fixed, {wanted: wanted + step for wanted in apart})]
    first: dict[int, int] = {}
    for (wanted, found), _ in counts.most_common():
        first.setdefault(wanted, found)
    fixed = sum(counts[pair] for pair in first.items())
    if total < FEWEST or fixed < FIXED * total or own > OWN * total or len(set(first.values())) < len(first):
        return []
    return [_sentence(name, total, own, fixed, first)]


def _sentence(name: str, total: int, own: int, fixed: int, first: Mapping[int, int]) -> str:
    """Say how the numbers differ and what to do: ``first`` is the class of the model for each of the annotations."""
    shown = [f"{wanted} is found as {found}" for wanted, found in sorted(first.items()) if wanted != found]
    steps = {found - wanted for wanted, found in first.items()}
    way = "order the classes of the annotations as the model has them, ?classes=FILE of the data (calib help data)"
    if len(steps) == 1:
        (step,) = steps
        first_of_data = f", or ?first={step} of the data" if step > 0 else ""
        way = f"move them, label_shift={-step} of --decode{first_of_data}"
    return (
        f"{name}: the model numbers the classes otherwise than the annotations. Of {total} objects that a detection "
        f"covers {own} are found as their class, and {fixed} as the one that goes with it: "
        f"{', '.join(shown[:3])}{', …' if len(shown) > 3 else ''}. If so, {way}"
    )
