"""A classifier whose layers can be quantized in simulation: logits plus the noise of every quantized unit.

The accuracy, the ranking and the forecast follow from the same noise as in a real network, but a whole search takes
milliseconds. The kinds of errors are those that break searches: see `KINDS`. The metrics are those that a search sees
differently: see `METRICS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.budget import Budget
from calib.accuracy.prediction import RankedUnit, rank
from calib.accuracy.problem import Limits, Problem

CLASSES = 10


class Fraction:
    """Top-1 over parts that begin with 1.0 or 0.0 and the margin."""

    higher_is_better = True

    def aggregate(self, parts: Sequence[list[float]]) -> float:
        """Return the share of right samples."""
        return float(np.mean([part[0] for part in parts]))

    def per_sample(self, parts: Sequence[list[float]]) -> NDArray[np.float64]:
        """Return 1.0 for right samples."""
        return np.array([part[0] for part in parts], np.float64)

    def margins(self, parts: Sequence[list[float]]) -> NDArray[np.float64]:
        """Return the margins."""
        return np.array([part[1] for part in parts], np.float64)


class RelativeError:
    """1 − relative error of the logits, without labels and margins: the third number of a part."""

    higher_is_better = True

    def aggregate(self, parts: Sequence[list[float]]) -> float:
        """Return the mean."""
        return float(np.mean([part[2] for part in parts]))

    def per_sample(self, parts: Sequence[list[float]]) -> NDArray[np.float64] | None:
        """Return that of each sample."""
        return np.array([part[2] for part in parts], np.float64)


class Recall:
    """Mean over the classes of the share of right samples, with margins: no mean over samples."""

    higher_is_better = True

    def aggregate(self, parts: Sequence[list[float]]) -> float:
        """Return the mean over the classes that are there."""
        right, labels = (np.array([part[column] for part in parts]) for column in (0, 3))
        return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))

    def per_sample(self, parts: Sequence[list[float]]) -> None:
        """Return None."""

    def margins(self, parts: Sequence[list[float]]) -> NDArray[np.float64]:
        """Return the margins."""
        return np.array([part[1] for part in parts], np.float64)

    def results(self, parts: Sequence[list[float]]) -> list[Any]:
        """Return whether each sample is right, and its class."""
        return [(part[0], part[3]) for part in parts]


class WholeSet:
    """Top-1 by a function over the whole set: one part, without scores of single samples."""

    higher_is_better = True

    def aggregate(self, parts: Sequence[float]) -> float:
        """Return the only part."""
        return float(parts[0])

    def per_sample(self, parts: Sequence[float]) -> None:
        """Return None."""


METRICS: Mapping[str, Any] = {
    "top-1": Fraction(),
    "relative error": RelativeError(),
    "recall": Recall(),
    "whole set": WholeSet(),
}
"""Name → metric; those of right and wrong samples have margins."""


class SimulatedModel:
    """Logits of FP32 and what each quantized unit adds to them.

    Args:
        units: how many can be reverted.
        samples: validation samples.
        seed: of everything.
        weights: ``(units,)`` NMSE of each unit alone.
        coherent: share of each unit's error that points where all others point: these add up in amplitude.
        cancelling: so many units from the first come in pairs of opposite errors: reverting one alone makes it worse.
        flips: share of samples whose verdict is random for each plan anew.
    """

    def __init__(
        self,
        units: int,
        samples: int,
        seed: int,
        weights: NDArray[np.float64],
        *,
        coherent: float = 0.0,
        cancelling: int = 0,
        flips: float = 0.0,
    ):
        random = np.random.default_rng(seed)
        self.names = [f"layer_{i}" for i in range(units)]
        self.flips, self.seed = flips, seed
        self.labels = random.integers(0, CLASSES, samples)
        self.logits = random.standard_normal((samples, CLASSES)).astype(np.float32)
        self.logits[np.arange(samples), self.labels] += random.gamma(4.0, 1.2, samples).astype(np.float32)
        power = np.sqrt((self.logits**2).mean(axis=1, keepdims=True))
        own = random.standard_normal((units, samples, CLASSES), dtype=np.float32)
        common = random.standard_normal((samples, CLASSES), dtype=np.float32)
        self.noise = own * np.float32(np.sqrt(1 - coherent)) + common * np.float32(np.sqrt(coherent))
        self.noise[1:cancelling:2] = -self.noise[0 : cancelling - cancelling % 2 : 2] * np.float32(0.98)
        self.noise *= np.sqrt(weights).astype(np.float32)[:, None, None] * power
        self.evaluations: list[tuple[frozenset[str], int]] = []

    def baseline_parts(self) -> list[list[float]]:
        """Return FP32's parts."""
        return self._parts(self.logits, np.arange(len(self.labels)))

    def _parts(self, outputs: NDArray[np.float32], indices: NDArray[np.int64]) -> list[list[float]]:
        right = (outputs.argmax(axis=1) == self.labels[indices]).astype(float)
        error = np.linalg.norm(outputs - self.logits[indices], axis=1) / np.linalg.norm(self.logits[indices], axis=1)
        return np.stack([right, self._margins(outputs, indices), 1 - error, self.labels[indices]], axis=1).tolist()

    def evaluate(self, reverted: frozenset[str], indices: NDArray[np.int64]) -> list[list[float]]:
        """Return the parts of the plan, and note that it was asked for."""
        self.evaluations.append((reverted, len(indices)))
        active = [i for i, name in enumerate(self.names) if name not in reverted]
        outputs = self.logits[indices] + self.noise[np.ix_(active, indices.tolist())].sum(axis=0)
        parts = self._parts(outputs, indices)
        if self.flips and active:
            plan = zlib.crc32("/".join(sorted(reverted)).encode())
            chance = np.random.default_rng([self.seed, plan]).random((2, len(self.labels)))[:, indices]
            for i in np.flatnonzero(chance[0] < self.flips):
                right = bool(chance[1][i] < 0.5)
                parts[i][:2] = [float(right), abs(parts[i][1]) * (1 if right else -1)]
        return parts

    def latency(self, plans: Sequence[frozenset[str]]) -> list[float]:
        """Return milliseconds: each layer takes 1 in FP32 and .4 in INT8."""
        return [0.4 * len(self.names) + 0.6 * len(plan) for plan in plans]

    def ranking(self, samples: int = 32) -> tuple[RankedUnit, ...]:
        """Return the one-in ranking from a few samples."""
        power = float((self.logits[:samples] ** 2).sum())
        sensitivities = {
            frozenset({name}): float((self.noise[i, :samples] ** 2).sum()) / power for i, name in enumerate(self.names)
        }
        return rank(list(sensitivities), sensitivities)

    def _margins(self, outputs: NDArray[np.float32], indices: NDArray[np.int64]) -> list[float]:
        """Return how far each sample is from another verdict, in roots of its logits' power."""
        own, others = outputs[np.arange(len(outputs)), self.labels[indices]], outputs.copy()
        others[np.arange(len(outputs)), self.labels[indices]] = -np.inf
        power = np.sqrt((outputs**2).mean(axis=1))
        return ((own - others.max(axis=1)) / power).tolist()

    def margins(self) -> NDArray[np.float64]:
        """Return those of FP32."""
        return np.array(self._margins(self.logits, np.arange(len(self.labels))), np.float64)

    def problem(
        self, max_drop: float = 0.01, limits: Limits | None = None, metric: str = "top-1", **settings: Any
    ) -> Problem:
        """Return the search problem."""
        parts, evaluate = self.baseline_parts(), self.evaluate
        if metric == "whole set":
            everything, share = np.arange(len(parts)), Fraction()
            parts = [share.aggregate(parts)]
            evaluate = lambda reverted, _: [share.aggregate(self.evaluate(reverted, everything))]  # noqa: E731
        if metric in ("top-1", "recall"):
            settings.setdefault("margins", self.margins())
        return Problem(
            units=tuple(frozenset({name}) for name in self.names),
            rank=self.ranking,
            baseline_parts=parts,
            metric=METRICS[metric],
            budget=Budget(max_drop),
            evaluate=evaluate,
            limits=limits or Limits(),
            **{"latency": self.latency, **settings},
        )


def _spread(units: int, seed: int, total: float, sigma: float = 2.0) -> NDArray[np.float64]:
    """Return log-normal NMSEs that sum to ``total``: a few layers carry most of the error, as in real networks."""
    weights = np.random.default_rng([seed, 1]).lognormal(0.0, sigma, units)
    return weights / weights.sum() * total


def additive(units: int, samples: int, seed: int) -> SimulatedModel:
    """Independent errors: NMSEs add up."""
    return SimulatedModel(units, samples, seed, _spread(units, seed, 0.5))


def coherent(units: int, samples: int, seed: int) -> SimulatedModel:
    """Errors that point the same way: the whole is worse than the sum, and one-in sees only the sum."""
    return SimulatedModel(units, samples, seed, _spread(units, seed, 0.15), coherent=0.3)


def non_monotone(units: int, samples: int, seed: int) -> SimulatedModel:
    """Among units whose errors add up are pairs that cancel out: reverting one alone makes it worse."""
    weights, pairs = _spread(units, seed, 0.3), units // 2 // 2 * 2
    weights[1:pairs:2] = weights[0:pairs:2]
    return SimulatedModel(units, samples, seed, weights, cancelling=pairs)


def noisy(units: int, samples: int, seed: int) -> SimulatedModel:
    """Half a percent of the samples are decided anew by every plan."""
    return SimulatedModel(units, samples, seed, _spread(units, seed, 0.5), flips=0.005)


def nothing_fits(units: int, samples: int, seed: int) -> SimulatedModel:
    """Every single unit breaks the budget."""
    return SimulatedModel(units, samples, seed, np.full(units, 1.0))


def everything_fits(units: int, samples: int, seed: int) -> SimulatedModel:
    """The whole network in INT8 changes next to nothing."""
    return SimulatedModel(units, samples, seed, _spread(units, seed, 1e-5))


def one_poisonous(units: int, samples: int, seed: int) -> SimulatedModel:
    """One unit makes all of the error, anywhere in the network."""
    weights = np.full(units, 1e-5 / units)
    weights[np.random.default_rng([seed, 2]).integers(units)] = 2.0
    return SimulatedModel(units, samples, seed, weights)


KINDS: dict[str, Callable[[int, int, int], SimulatedModel]] = {
    "additive": additive,
    "coherent": coherent,
    "non-monotone": non_monotone,
    "noisy": noisy,
    "nothing fits": nothing_fits,
    "everything fits": everything_fits,
    "one poisonous": one_poisonous,
}
