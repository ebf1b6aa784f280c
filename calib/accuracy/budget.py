"""What may be lost, and what that many samples can show at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from calib.errors import MetricError, UsageError

DropKind = Literal["absolute", "relative"]


@dataclass(frozen=True)
class Budget:
    """The accuracy drop that is allowed.

    Attributes:
        max_drop: largest drop allowed, 0 or more: in the metric's unit, or a share of |baseline| if relative.
        kind: "absolute" or "relative".
        higher_is_better: the metric's declared direction.
    """

    max_drop: float
    kind: DropKind = "absolute"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_drop) and self.max_drop >= 0):
            raise UsageError(f"max_drop must be a number of 0 or more, got {self.max_drop!r}. Example: max_drop=0.01")
        if self.kind not in ("absolute", "relative"):
            raise UsageError(f"drop must be 'absolute' or 'relative', got {self.kind!r}")

    def loss(self, baseline: float, value: float) -> float:
        """Return how much worse ``value`` is, in the metric's unit; +inf where the model gave no number."""
        loss = baseline - value if self.higher_is_better else value - baseline
        return math.inf if math.isnan(loss) else loss

    def scale(self, baseline: float) -> float:
        """Return what a loss is divided by to become a drop.

        Raises:
            MetricError: the baseline is not finite, or is 0 while the drop is relative.
        """
        if not math.isfinite(baseline):
            raise MetricError(f"the FP32 baseline must be a finite number, got {baseline!r}: check the metric")
        if self.kind == "absolute":
            return 1.0
        if baseline == 0:
            raise MetricError(
                "a relative drop divides by |baseline|, and the FP32 baseline is 0: use the absolute drop instead"
            )
        return abs(baseline)

    def drop(self, baseline: float, value: float) -> float:
        """Return the drop of ``value`` against ``baseline``: positive is worse, whatever the metric's direction."""
        return self.loss(baseline, value) / self.scale(baseline)

    def fits(self, drop: float) -> bool:
        """Say whether this drop is allowed; .87 − .86 is .01 in spite of binary rounding."""
        return drop <= self.max_drop + 1e-12 * max(1.0, self.max_drop)


def noise_note(budget: Budget, samples: int, half_width: float) -> str:
    """Return a plain sentence where the budget lies below what the samples can show, else "".

    Args:
        budget: what is allowed.
        samples: N of the validation dataset.
        half_width: of the drop's 95 % interval, in the drop's own scale.
    """
    if half_width <= budget.max_drop:
        return ""
    # The half-width shrinks with sqrt(N).
    ratio = (half_width / budget.max_drop) ** 2 if budget.max_drop else math.inf
    advice = f"about {math.ceil(samples * ratio)} samples would show it" if ratio < 1000 else "no sample size shows it"
    return (
        f"The budget of {budget.max_drop:g} lies below the noise of {samples} samples "
        f"(±{half_width:.2g} at 95 %): {advice}."
    )
