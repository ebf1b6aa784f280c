"""One convention for decibels: where nothing is lost, where everything is, and where nothing can be said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calib.values.sqnr import (
    censused_interval,
    decibel,
    largest_share,
    multiples_needed,
    noise_beyond,
    sqnr_interval,
    squared_error,
)

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(100, 1, 20), (1, 100, -20), (1, 0, INF), (0, 0, INF), (0, 1, -INF), (1, INF, -INF)],
)
def test_decibels_and_their_ends(signal: float, noise: float, expected: float):
    assert decibel(signal, noise) == pytest.approx(expected)


@pytest.mark.parametrize(("signal", "noise"), [(NAN, 1), (INF, 1), (INF, 0), (1, NAN), (NAN, NAN)])
def test_nothing_is_said_of_what_is_not_a_number(signal: float, noise: float):
    assert math.isnan(decibel(signal, noise))


def test_an_error_of_a_tenth_is_twenty_decibels():
    ones = np.ones(10, np.float32)
    assert decibel(*squared_error(ones, ones * 1.1)) == pytest.approx(20, abs=1e-4)
    assert squared_error(ones, ones * 0) == (10, 10)


def test_what_floating_point_itself_does_not_know_is_not_compared():
    assert squared_error(np.array([np.inf, np.nan, 2.0]), np.array([1.0, 1.0, 3.0])) == (4, 1)
    assert math.isnan(squared_error(np.array([1.0]), np.array([np.nan]))[1])


def test_an_output_of_another_shape_is_all_wrong():
    assert squared_error(np.full(3, 2.0), np.ones(4)) == (12, 12)


def test_sums_are_in_double_precision():
    y = np.full(1 << 16, 1 + 2.0**-12, np.float32)
    assert squared_error(y, y)[0] == (1 + 2.0**-12) ** 2 * (1 << 16)


def _population(rng: np.random.Generator, samples: int, spread: float) -> np.ndarray:
    """Return signal and noise energies of samples whose size varies: noise is even in part, and grows with the size."""
    signal = np.exp(2 * spread * rng.standard_normal(samples)) * rng.gamma(20, 1 / 20, samples)
    noise = 1e-3 * (rng.gamma(10, 0.1, samples) + signal * rng.gamma(3, 1 / 3, samples))
    return np.stack([signal, noise], axis=1)


@pytest.mark.parametrize(("samples", "spread", "least"), [(3, 0.2, 0.93), (8, 0.3, 0.93), (24, 0.3, 0.93)])
def test_the_interval_holds_the_figure_of_other_samples_at_its_confidence(samples: int, spread: float, least: float):
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        seen, unseen = _population(rng, samples, spread), _population(rng, 2000, spread)
        low, high = sqnr_interval(seen) or (INF, -INF)
        held += low <= decibel(*unseen.sum(axis=0)) <= high
    assert held / 400 >= least


def test_the_interval_holds_the_figure_of_the_samples_themselves():
    energies = _population(np.random.default_rng(1), 10, 0.5)
    low, high = sqnr_interval(energies) or (INF, -INF)
    assert low < decibel(*energies.sum(axis=0)) < high


def test_even_samples_make_the_interval_a_point():
    ends = sqnr_interval(np.tile([100.0, 1.0], (5, 1)))
    assert ends == pytest.approx((20, 20))


@pytest.mark.parametrize(
    "energies",
    [
        [[1.0, 0.1], [1.0, 0.2]],  # two samples
        [[1.0, 0.0]] * 5,  # no noise
        [[0.0, 0.1]] * 5,  # no signal
        [[1.0, 0.1], [1.0, 0.0], [1.0, 0.0]],  # without the first there is no noise
        [[1.0, INF], [1.0, 0.1], [1.0, 0.1]],
    ],
)
def test_there_is_no_interval_where_nothing_can_be_said(energies: list[list[float]]):
    assert sqnr_interval(np.array(energies)) is None


def _rarely_clipped(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return energies of samples of which one in fifty has far more noise than the others, by an uneven factor."""
    noise = rng.gamma(10, 1e-5, samples)
    noise[rng.random(samples) < 0.02] *= 100
    noise *= rng.gamma(2, 0.5, samples)
    return np.stack([np.ones(samples), noise], axis=1)


def test_the_samples_with_the_largest_errors_make_the_interval_hold_where_two_dozen_miss_them():
    rng, held, alone = np.random.default_rng(3), 0, 0
    for _ in range(300):
        seen, unseen = _rarely_clipped(rng, 200), _rarely_clipped(rng, 2000)
        order = np.argsort(-seen[:, 1])
        largest, drawn = seen[order[:12]], seen[rng.choice(order[12:], 24, replace=False)]
        figure = decibel(*unseen.sum(axis=0))
        ends = [censused_interval(drawn, largest, 200) or (INF, -INF), sqnr_interval(seen[:24]) or (INF, -INF)]
        both = ends[0][0], max(ends[0][1], ends[1][1])
        held += both[0] <= figure <= both[1]
        alone += ends[1][0] <= figure <= ends[1][1]
    assert held >= 0.91 * 300 and alone < 0.75 * 300


def test_what_is_run_in_full_counts_once_and_what_is_drawn_stands_for_the_rest():
    drawn, largest = np.array([[1.0, 0.01]] * 4), np.array([[1.0, 1.0]])
    low, high = censused_interval(drawn, largest, 100) or (INF, -INF)
    assert (low + high) / 2 == pytest.approx(decibel(1, (1 + 99 * 0.01) / 100))
    assert censused_interval(drawn[:2], largest, 100) is None  # too few to tell how they vary
    assert censused_interval(drawn, np.array([[1.0, INF]]), 100) is None
    assert censused_interval(drawn * [1, 0], largest * [1, 0], 100) is None


def test_the_largest_share_is_of_the_signal_or_of_the_noise():
    assert largest_share(np.array([[1.0, 0.9], [1.0, 0.1]])) == pytest.approx(0.9)
    assert largest_share(np.array([[3.0, 0.0], [1.0, 0.0]])) == pytest.approx(0.75)
    assert largest_share(np.zeros((2, 2))) == 0


@pytest.mark.parametrize(("spread", "power"), [(0.1, 2), (0.3, 2), (0.8, 2), (0.3, 0), (0.5, 4)])
def test_the_noise_beyond_the_ranges_is_that_of_drawn_samples(spread: float, power: float):
    rng, multiples = np.random.default_rng(0), np.array([1.0, 1.25, 1.6, 2.2, 3.2])
    sizes = np.exp(spread * rng.standard_normal(64))
    logs = np.log(sizes)
    # The 5 % quantile of chi-square with 63 degrees of freedom is 45.74.
    spread, mean, largest = float(logs.std(ddof=1)) * np.sqrt(63 / 45.74), float(logs.mean()), float(sizes.max())
    drawn = np.exp(mean + spread * rng.standard_normal(2_000_000))
    expected = float(np.where(drawn > largest, (drawn / largest) ** power, 0).mean())
    assert noise_beyond(sizes, largest, multiples, multiples**power) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("spread", "count"), [(0.03, range(2, 3)), (0.2, range(3, 5)), (0.8, range(5, 6))])
def test_multiples_that_no_size_reaches_change_nothing_and_are_not_needed(spread: float, count: range):
    multiples = np.array([1.0, 1.25, 1.6, 2.2, 3.2])
    sizes = np.exp(spread * np.random.default_rng(0).standard_normal(64))
    largest = float(sizes.max())
    needed = multiples_needed(sizes, largest, multiples)
    assert len(needed) in count
    noises = multiples**3
    few, all_of_them = (noise_beyond(sizes, largest, some, noises[: len(some)]) for some in (needed, multiples))
    assert few == all_of_them > 0


def test_samples_of_one_size_are_never_beyond_the_ranges():
    assert noise_beyond(np.ones(10), 1.0, np.array([1.0, 2.0]), np.array([1.0, 9.0])) == 0


def test_larger_samples_with_an_infinite_error_are_no_small_matter():
    sizes = np.array([0.5, 1.0, 1.5])
    assert noise_beyond(sizes, 1.5, np.array([1.0, 2.0]), np.array([1.0, INF])) == INF
    assert noise_beyond(sizes, 1.5, np.array([1.0, 2.0]), np.array([1.0, NAN])) == INF
