"""KL divergence against a plain implementation of its formula, bin by bin."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.ranges import get_estimator, kl
from calib.ranges.bins import Bins
from calib.values.plan import Range, Scheme, TensorId
from calib.values.summary import Histogram, TensorSummary

laws = settings(derandomize=True, deadline=None, max_examples=25)


def plain_divergence(mass: np.ndarray, first: int, last: int, levels: int) -> float:
    """Return KL(P, Q) as the docstring of Kl writes it down, with loops."""
    p = mass[first:last].copy()
    p[0] += mass[:first].sum()
    p[-1] += mass[last:].sum()
    q = np.zeros(last - first)
    edges = [(step * (last - first)) // levels for step in range(levels + 1)]
    for begin, end in itertools.pairwise(edges):
        held = mass[first + begin : first + end].sum()
        filled = p[begin:end] > 0
        q[begin:end] = np.where(filled, held / max(filled.sum(), 1), 0.0)
    if (q[p > 0] == 0).any() or not q.sum():
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a))


def masses(seed: int, size: int) -> np.ndarray:
    """Return how much each bin holds: some hold nothing, some parts of one value, the middle more than the ends."""
    rng = np.random.default_rng(seed)
    heap = np.exp(-(np.linspace(-2, 2, size) ** 2))
    return rng.exponential(heap * 5) * (rng.random(size) < 0.6)


@laws
@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.integers(8, 18))
def test_divergences_of_all_ranges_are_those_of_the_formula(seed: int, levels: int, size: int):
    mass = masses(seed, size)
    mass[size // 2] += 0.5
    pairs = [(a, b) for a in range(size) for b in range(a + levels, size + 1)]
    first, last = np.array(pairs).T
    found = kl._Equal(mass, size // 2).divergences(first, last, levels)
    assert found == pytest.approx([plain_divergence(mass, a, b, levels) for a, b in pairs], abs=1e-9)


def test_more_ranges_than_are_computed_at_a_time_come_out_in_order():
    mass = masses(0, 40)
    pairs = np.array([(a, b) for a in range(40) for b in range(a + 3, 41)])
    assert len(pairs) > 2 * kl._CHUNK
    found = kl._Equal(mass, 20).divergences(pairs[:, 0], pairs[:, 1], 3)
    assert found[-5:] == pytest.approx([plain_divergence(mass, a, b, 3) for a, b in pairs[-5:]], abs=1e-9)


@laws
@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_ends_that_move_together_find_the_best_of_all(seed: int, short: int):
    levels, long = 8, 4 + kl._STRIDE  # so short that none is left out
    mass = masses(seed, long + short) + 1e-3
    for zero in (long, short):
        histogram = kl._Equal(mass, zero)
        whole = np.zeros(2 * long)
        whole[long - zero : long - zero + len(mass)] = mass
        reaches = range(long, levels // 2 - 1, -1)
        best = min(reaches, key=lambda r: round(plain_divergence(whole, long - r, long + r, levels), 12))
        expected = max(zero - best, 0), min(zero + best, len(mass))
        assert kl._search(histogram, Scheme.SYMMETRIC, levels) == expected


@laws
@given(st.integers(0, 2**32 - 1), st.integers(0, 14))
def test_of_ends_that_move_in_turn_neither_alone_gets_better(seed: int, below: int):
    levels = 4
    mass = masses(seed, below + 16) + 1e-3
    first, last = kl._search(kl._Equal(mass, below), Scheme.ASYMMETRIC, levels)
    assert 0 <= first <= below and max(below, first + levels) <= last <= len(mass)
    chosen = plain_divergence(mass, first, last, levels) - 1e-9
    assert all(plain_divergence(mass, a, last, levels) >= chosen for a in range(min(below, last - levels) + 1))
    tops = range(max(below, first + levels), len(mass) + 1)
    assert first == 0 or all(plain_divergence(mass, first, b, levels) >= chosen for b in tops)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (-3.0, 1.0), (0.0, 2.0), (-2.0, 0.0)])
def test_equal_bins_cover_the_range_with_an_edge_at_zero_and_keep_every_value(low: float, high: float):
    cuts = np.sort(np.append(np.random.default_rng(0).uniform(low, high, 40), [low, high]))
    # every third interval is a point
    ends = np.array([(a, a if i % 3 == 0 else b) for i, (a, b) in enumerate(itertools.pairwise(cuts))])
    bins = Bins(ends[:, 0], ends[:, 1], np.arange(1.0, len(ends) + 1))
    width = max(-low, high) / kl._BINS
    found = kl._rebinned(bins, low, high, width)
    assert max(found.zero, found.size - found.zero) == kl._BINS
    edges = (np.arange(found.size + 1) - found.zero) * width
    expected = np.zeros(found.size)
    for a, b, count in zip(bins.low, bins.high, bins.counts, strict=True):
        if a < b:
            overlap = np.minimum(edges[1:], b) - np.maximum(edges[:-1], a)
            expected += np.maximum(overlap, 0.0) / (b - a) * count
        else:
            expected[np.searchsorted(edges, a, side="left") - 1 if a > low else 0] += count
    assert found.bin_mass == pytest.approx(expected, abs=1e-6)


def summary_of(values: np.ndarray) -> TensorSummary:
    values = values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    return TensorSummary(TensorId("t"), 1, low, high, low, high, Histogram.of(values))


def test_a_range_of_both_signs_ends_on_edges_of_the_bins():
    values = np.random.default_rng(3).normal(size=3000)  # sparse tails, so that both are cut
    summary = summary_of(np.append(values, [-5.0, 6.5]))
    chosen = get_estimator("kl")(summary, Scheme.ASYMMETRIC, 16)
    assert chosen.estimator == "kl" and chosen.reason == "the smallest divergence from the tensor's histogram"
    assert -5.0 < chosen.low < -0.5 and 0.5 < chosen.high < 6.5
    steps = np.array([chosen.low, chosen.high]) / (6.5 / kl._BINS)
    assert steps == pytest.approx(np.rint(steps), abs=1e-6)


def test_a_tensor_of_zeros_keeps_min_max_and_says_so():
    reason = "min-max: the tensor is zero everywhere it was sampled"
    assert get_estimator("kl")(summary_of(np.zeros(9)), Scheme.UNSIGNED, 256) == Range(0.0, 0.0, "kl", reason)


def test_a_tensor_that_nothing_is_gained_on_keeps_min_max_and_says_so():
    chosen = get_estimator("kl")(summary_of(np.repeat([0.5, 1.0], 50)), Scheme.UNSIGNED, 256)
    assert chosen == Range(0.0, 1.0, "kl", "min-max: no narrower range has a smaller divergence")
