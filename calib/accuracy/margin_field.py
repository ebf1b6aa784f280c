"""Margins of plans from those of plans evaluated, by regression: each unit in INT8 shifts each sample's margin.

The shifts of the units are taken as independent normal variables whose variance is the unit's sensitivity, and the
shift of a plan as the sum over its units in INT8, but for a share that is another in each plan: rounding errors depend
on what the layers before pass on. What is expected of a margin then follows by Bayesian linear regression: C. E.
Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning (2006), equations 2.25 and 2.26, and 5.8 for
the share. So a few plans tell of every plan that is made of the same groups of units: a group whose return changed
nothing in one plan is expected to change nothing in another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.budget import Floats

# Shares of a plan's variance that may be its own; the likeliest is taken.
OWN_SHARES = (0.02, 0.1, 0.3, 0.6)
# Before so many plans were seen it is this one.
USUAL_SHARE, FEWEST_PLANS = 0.1, 3
TINY = 1e-100


class MarginField:
    """Expectation of the shift of margins, for one set of samples.

    Args:
        sensitivities: Sensitivities of the units, ``(units,)``.
        active: Plans evaluated, 1 for each unit in INT8, ``(plans, units)``.
        shifts: Margins of these plans less those of FP32, ``(plans, samples)``.
        near: Whether a sample's margin tells of the errors, ``(samples,)``.

    Attributes:
        own_share: Share of a plan's variance that is its own.
    """

    def __init__(self, sensitivities: Floats, active: Floats, shifts: Floats, near: NDArray[np.bool_]):
        self._sensitivities, self._active, self._shifts = sensitivities, active, shifts
        self._common = (active * sensitivities) @ active.T
        told = shifts[:, near]
        usual = len(active) < FEWEST_PLANS or not told.size
        self.own_share = USUAL_SHARE if usual else max(OWN_SHARES, key=lambda share: self._likelihood(share, told))
        self._inverse = np.linalg.inv(self._covariance(self.own_share))

    def at(self, active: Floats) -> tuple[Floats, float]:
        """Return what is expected of a plan.

        Args:
            active: 1 for each of its units in INT8, ``(units,)``.

        Returns:
            The shifts of its margins, ``(samples,)``, and how much of the sum of its sensitivities stays unknown: their
            variance, up to a scale.
        """
        own = float(active @ self._sensitivities)
        cross = (1 - self.own_share) * (self._active * self._sensitivities) @ active
        weights = self._inverse @ cross
        return weights @ self._shifts, min(max(own - float(cross @ weights), 0.0), own)

    def _covariance(self, share: float) -> Floats:
        diagonal = np.diag(self._common)
        return (1 - share) * self._common + np.diag(share * diagonal + 1e-9 * diagonal.max() + TINY)

    def _likelihood(self, share: float, shifts: Floats) -> float:
        """Return the logarithm of the likelihood of the shifts, up to a constant; their scale is the likeliest."""
        covariance = self._covariance(share)
        energy = float((shifts * (np.linalg.inv(covariance) @ shifts)).sum()) / shifts.size
        return -shifts.shape[1] / 2 * (float(np.linalg.slogdet(covariance)[1]) + len(shifts) * np.log(energy + TINY))
