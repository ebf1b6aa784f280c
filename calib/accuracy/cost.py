"""What a search costs at most, known before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass

from calib.accuracy.problem import Limits, Problem

# Climbing reverts at least 1, 3, 9… more units a step.
STRIDE = 3
# So many times the forecast may fail to halve the gap in bisection before the middle is taken.
TRUST = 2
# Each look at the held-out samples makes them a little less unseen.
CONFIRMATIONS = 3
# Scouted plans that are looked at to the end, or until they are hopeless; the scouts are right nearly always.
COMPLETIONS = 6


def climbs(units: int) -> int:
    """Return the most evaluations that climbing a network of so many units takes, about log3(2·units)."""
    count = reached = 0
    while reached < units - 1:
        reached += STRIDE**count
        count += 1
    return count


def bisections(units: int) -> int:
    """Return the most evaluations that shortening a prefix takes."""
    return math.ceil(math.log2(units)) + TRUST if units > 2 else 0


def scouts(units: int, limits: Limits) -> int:
    """Return the most plans that are tried between everything in INT8 and the last one."""
    return climbs(units) + bisections(units) + limits.backfills


def bound(units: int, limits: Limits | None = None, *, held_out: bool = False, scouted: bool = False) -> int:
    """Return the most evaluations that `search` takes for so many units: grows with the logarithm.

    An evaluation is one plan on at most all validation samples; a scout, looking at a scouted plan to the end, and
    confirming on held-out samples count as one each.
    """
    limits = limits or Limits()
    if not units:
        return 0
    # Everything in INT8, the climb, its bisection, back-filling, and completing an over-budget plan's figure.
    most = 1 + scouts(units, limits) + 1
    if scouted:  # of everything in INT8, and plans looked at to the end
        most += 1 + COMPLETIONS
    if held_out:
        most += CONFIRMATIONS + (CONFIRMATIONS - 1) * climbs(units)
    return most if limits.max_evaluations is None else min(most, limits.max_evaluations)


def bound_images(problem: Problem) -> int:
    """Return the most samples that `search` runs through any model, the FP32 pass included.

    Usually far less: refining ends at `Limits.images` validation sets, and hopeless plans are rejected early.
    """
    everything, seen, unseen = len(problem.baseline_parts), len(problem.search_indices), len(problem.held_out)
    up, scout = climbs(len(problem.units)), len(problem.doubtful)
    allowed = math.floor(problem.limits.allowance(len(problem.units)) * everything)
    # With scouts everything in INT8 and one plan are looked at to the end, more within the allowance only. Without them
    # either nothing fits, and the best plan's figure is completed, or what fits is refined within the allowance.
    most = max(everything + seen * (2 if scout else 2 + up), allowed)
    if unseen:
        most += CONFIRMATIONS * unseen + (CONFIRMATIONS - 1) * up * seen
    limit = problem.limits.max_evaluations
    return most if limit is None else min(most, everything + limit * max(seen, unseen))


@dataclass(frozen=True)
class Expected:
    """What a search is going to cost, as told before it begins.

    Attributes:
        evaluations: at most.
        images: run through any model, at most, in validation sets, the FP32 pass included.
        usual_s: seconds where everything in INT8 keeps the budget, 0 where unknown.
        most_s: seconds at most.
        samples: of the validation set.
    """

    evaluations: int
    images: float
    usual_s: float
    most_s: float
    samples: int

    @property
    def sentence(self) -> str:
        """All of it in plain words."""
        plural = "s" * (self.evaluations != 1)
        return (
            f"at most {self.evaluations} evaluation{plural} of {self.samples} samples, {self.images:.1f} times the "
            f"validation set in all; by the time FP32 took, about {_duration(self.usual_s)} if INT8 keeps the budget, "
            f"at most about {_duration(self.most_s)}"
        )


def expected_cost(problem: Problem, fp32_s: float) -> Expected:
    """Return what a search costs, by the seconds that one FP32 pass took over the validation set."""
    everything = len(problem.baseline_parts)
    most = bound_of(problem)
    images = bound_images(problem) / everything
    # The FP32 pass is behind us; INT8 takes less than its time, its compilations make up for it.
    return Expected(most, images, fp32_s, (images - 1) * fp32_s, everything)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(seconds, 1):.0f} s"


def bound_of(problem: Problem) -> int:
    """Return `bound` for this problem."""
    held_out, scouted = bool(len(problem.held_out)), bool(len(problem.doubtful))
    return bound(len(problem.units), problem.limits, held_out=held_out, scouted=scouted)
