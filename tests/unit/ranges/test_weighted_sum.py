"""The range of attention's weights is the one with the least error of the sums, not of the weights."""

from __future__ import annotations

import numpy as np
import pytest

from calib.ranges.affine import fake_quantize_limits
from calib.ranges.weighted_sum import NAME, weighted_sum_range
from calib.values.plan import Scheme


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def samples(sharpness: float, keys: int = 256, seed: int = 0, peak: float = 0.0):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(2):
        scores = rng.standard_normal((2, 16, keys)) * sharpness
        scores[0, 0, 0] += peak  # one query that sees one key
        values = rng.standard_normal((2, keys, 32)) + 0.5  # with a mean, which rounding to 0 takes from every sum
        found.append((softmax(scores), values.astype(np.float32)))
    return found


def error_db(pairs, high: float) -> float:
    """Return the SQNR of the sums with weights on levels of [0, high], written out here again."""
    low, top = fake_quantize_limits(0.0, high, Scheme.UNSIGNED, 256)
    reach = max(np.abs(values).max() for _, values in pairs)
    step, width = reach / 127, (top - low) / 255
    noise = power = 0.0
    for weights, values in pairs:
        rounded = np.clip(np.rint(weights / width), 0, 255) * width
        exact = weights.astype(np.float64) @ values
        noise += (((rounded @ (np.clip(np.rint(values / step), -128, 127) * step)) - exact) ** 2).sum()
        power += (exact**2).sum()
    return 10 * np.log10(power / noise)


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 6.0])
def test_no_other_range_of_the_ladder_gives_better_sums(sharpness: float):
    pairs = samples(sharpness)
    chosen, found = weighted_sum_range(pairs)
    largest = max(weights.max() for weights, _ in pairs)
    ladder = [error_db(pairs, float(largest) * 2.0 ** (-k / 2)) for k in range(9)]
    assert found == pytest.approx(max(ladder), abs=0.1)
    assert (chosen.low, chosen.estimator) == (0.0, NAME) and chosen.high <= largest


def test_where_one_weight_is_large_and_most_are_small_it_clips_the_large_one():
    pairs = samples(0.5, keys=1024, peak=7)
    chosen, found = weighted_sum_range(pairs)
    largest = float(max(weights.max() for weights, _ in pairs))
    assert chosen.high < largest and found > error_db(pairs, largest) + 1


def test_weights_of_one_key_a_query_keep_their_whole_range():
    weights = np.eye(64, dtype=np.float32)[None]
    chosen, found = weighted_sum_range([(weights, np.random.default_rng(0).standard_normal((1, 64, 8)))])
    assert chosen.high == 1.0 and found > 35


def test_sums_of_zeros_have_a_range():
    chosen, _ = weighted_sum_range([(np.zeros((1, 4, 4), np.float32), np.ones((1, 4, 2), np.float32))])
    assert chosen.high == 0.0
