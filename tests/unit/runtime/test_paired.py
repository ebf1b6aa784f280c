"""What interleaved times say, on numbers made up for it: nothing is timed here."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import UsageError
from calib.runtime.paired import SLOWER, paired_ratio, slower_layers, summarize

times = st.lists(st.floats(0.01, 100), min_size=1, max_size=40)


@given(times, st.floats(0.1, 10))
@settings(max_examples=50, derandomize=True, deadline=None)
def test_ratio_of_proportional_times_is_their_factor(values, factor):
    ratio = paired_ratio([factor * value for value in values], values)
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.low == pytest.approx(factor) and ratio.high == pytest.approx(factor)


@given(times, st.integers(0, 2**32 - 1))
@settings(max_examples=50, derandomize=True, deadline=None)
def test_ratio_does_not_depend_on_the_order_of_rounds(values, seed):
    other = [value * (1 + k % 3) for k, value in enumerate(values)]
    order = np.random.default_rng(seed).permutation(len(values))
    assert paired_ratio(other, values) == paired_ratio([other[i] for i in order], [values[i] for i in order])


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (5, 1), (6, 1), (9, 2), (17, 5), (100, 40)])
def test_interval_is_between_the_order_statistics_of_the_binomial(count, rank):
    # k from tables of the sign test's interval: n = 9 → 2, n = 17 → 5, n = 100 → 40
    ratio = paired_ratio([float(k) for k in range(1, count + 1)], [1.0] * count)
    assert (ratio.low, ratio.high) == (rank, count + 1 - rank)


def test_the_interval_of_more_rounds_than_a_float_has_powers_of_two_is_that_of_the_normal_limit():
    count = 5_000  # a tiny network on a quiet machine; 2.0 ** 5000 is out of range
    ratio = paired_ratio([float(k) for k in range(1, count + 1)], [1.0] * count)
    assert ratio.low == pytest.approx((count + 1) / 2 - 1.96 * math.sqrt(count) / 2, abs=1)
    assert ratio.high == count + 1 - ratio.low


def test_interval_holds_the_true_median_in_nearly_all_experiments():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        noise = np.exp(generator.normal(0, 0.3, (2, 25)))
        ratio = paired_ratio(2 * noise[0], noise[1])
        held += ratio.low <= 2 <= ratio.high
    assert held / 400 > 0.92


def test_a_slow_phase_of_the_machine_does_not_move_a_paired_ratio():
    machine = np.where(np.arange(30) < 15, 1.0, 3.0)  # the second half ran three times slower
    times = summarize({"a": 2 * machine, "b": machine}, {"a": 2 * machine, "b": machine})
    assert times["b"].speedup.low == times["b"].speedup.high == 2


def test_steady_times_are_compared_by_the_wall_and_called_certain():
    wall = {"a": [2.0, 2.01, 1.99] * 5, "b": [1.0, 1.0, 1.005] * 5}
    times = summarize(wall, wall)
    assert (times.basis, times.noisy, times.note) == ("wall", False, "")
    assert times.time_ms("b") == 1.0
    assert times.speedup("b").value == pytest.approx(2, rel=0.01)
    assert times["b"].per_second == 1000


def test_a_shared_cpu_is_noticed_and_cpu_time_is_compared():
    cpu = {"a": [2.0] * 12, "b": [1.0] * 12}
    wall = {"a": [3.0, 9.0, 4.0] * 4, "b": [5.0, 1.5, 2.0] * 4}
    times = summarize(wall, cpu)
    assert times.basis == "cpu"
    assert not times.noisy
    assert times.speedup("b").value == 2
    assert "shared the CPU" in times.note


def test_cpu_time_never_stands_for_wall_time_where_several_threads_ran():
    cpu = {"a": [2.0] * 12, "b": [1.0] * 12}
    wall = {"a": [3.0, 9.0, 4.0] * 4, "b": [5.0, 1.5, 2.0] * 4}
    times = summarize(wall, cpu, one_thread=False)
    assert times.basis == "wall"
    assert times.noisy


def test_what_is_too_noisy_for_a_claim_says_which_speedup_and_what_to_do():
    generator = np.random.default_rng(1)
    cpu = {name: list(np.exp(generator.normal(0, 0.5, 12))) for name in ("f32", "INT8")}
    times = summarize(cpu, cpu)
    assert times.noisy
    assert "INT8" in times.note and "12 rounds" in times.note and "longer" in times.note


@pytest.mark.parametrize(("factor", "faster", "slower"), [(2.0, "INT8", "f32"), (0.5, "f32", "INT8")])
def test_a_noisy_speedup_whose_interval_excludes_one_is_claimed_with_its_interval(factor, faster, slower):
    generator = np.random.default_rng(1)
    cpu = {"f32": list(np.exp(generator.normal(0, 0.2, 40)) * factor)}
    cpu["INT8"] = list(np.exp(generator.normal(0, 0.2, 40)))
    times = summarize(cpu, cpu)
    said = re.search(rf"{faster} was (\S+) times as fast as {slower}, (\S+) to (\S+):", times.note)
    assert times.noisy and said is not None, times.note
    value, low, high = map(float, said.groups())
    assert 1 < low < value < high and value == pytest.approx(2, rel=0.2)
    assert "Too noisy to say" not in times.note


def test_one_model_alone_makes_no_claim_and_is_not_noisy():
    times = summarize({"a": [1.0, 5.0, 2.0]}, {"a": [1.0, 5.0, 2.0]})
    assert not times.noisy


def test_speedups_are_against_the_first_model():
    wall = {"b": [2.0] * 6, "a": [4.0] * 6, "c": [1.0] * 6}
    assert [t.speedup.value for t in summarize(wall, wall).models] == [1, 0.5, 2]


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])])
def test_times_that_are_not_paired_or_not_positive_are_refused(above, below):
    with pytest.raises(UsageError, match="positive and equally many"):
        paired_ratio(above, below)


def test_slower_layers_are_those_that_lose_against_the_fastest_precision():
    int8 = {"conv": 1.0, "depthwise": 2.0, "level": 0.99 * SLOWER, "head": 1.01 * SLOWER, "new": 9.0}
    f32 = {"conv": 4.0, "depthwise": 2.5, "level": 1.0, "head": 1.0}
    default = {"conv": 2.0, "depthwise": 1.5, "level": 3.0, "head": 3.0}
    assert slower_layers(int8, [f32, default]) == ["depthwise", "head"]
