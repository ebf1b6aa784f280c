from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calib.statistics.accumulators import CodeCounts, ExactSum, Farthest, Largest, Leaders
from calib.values.summary import Histogram

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=finite)
values = hnp.arrays(np.float32, st.integers(0, 40), elements=finite)
law = settings(derandomize=True, deadline=None, max_examples=60)


def sum_of(rows, parts=1) -> ExactSum:
    total = ExactSum(rows.shape[1])
    for part in np.array_split(rows, parts):
        total.add(part)
    return total


@law
@given(vectors, st.randoms(use_true_random=False))
def test_a_sum_does_not_depend_on_order_or_on_how_it_is_split(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    expected = sum_of(rows).total()
    assert sum_of(rows[order], 3).total().tobytes() == expected.tobytes()


@law
@given(vectors)
def test_a_sum_is_within_rounding_of_the_exact_one(rows):
    for column, total in zip(rows.T.astype(np.float64), sum_of(rows).total(), strict=True):
        # each of the 16 pieces is exact and rounded once; they are added with one rounding each
        assert abs(total - math.fsum(column)) <= 32 * 2**-53 * np.abs(column).sum()


def test_what_is_not_counted_need_not_be_finite():
    total = ExactSum(2)
    total.add(np.array([[1.5, np.inf], [2.5, 4.0]], np.float32), np.array([[True, False], [True, True]]))
    assert total.total().tolist() == [4.0, 4.0]


def counts_of(*parts) -> CodeCounts:
    counts = CodeCounts()
    for part in parts:
        counts.add(np.ascontiguousarray(part))
    return counts


def same(one: Histogram, other: Histogram) -> bool:
    return one.codes.tolist() == other.codes.tolist() and one.counts.tolist() == other.counts.tolist()


@law
@given(values, values, values)
def test_counts_equal_the_histogram_of_all_values_in_any_order(a, b, c):
    expected = Histogram.of(np.concatenate([a, b, c])) if len(a) + len(b) + len(c) else Histogram.of(a)
    for found in (counts_of(a, b, c), counts_of(c, a, b)):
        assert same(found.histogram(), expected)


def test_both_zeros_are_counted_with_their_sign():
    histogram = counts_of(np.array([0.0, -0.0, 0.0, -1.0], np.float32)).histogram()
    assert dict(zip(histogram.codes.tolist(), histogram.counts.tolist(), strict=True)) == {0: 2, 0x8000: 1, 0xBF80: 1}


def leaders_of(rows, names, parts=1) -> Leaders:
    leaders = Leaders(rows.shape[1])
    for number, some in enumerate(np.array_split(np.arange(len(rows)), parts)):
        other = leaders if number == 0 else Leaders(rows.shape[1])  # the first part is added to, the others absorbed
        other.add(rows[some], [names[row] for row in some])
        if other is not leaders:
            leaders.absorb(other)
    return leaders


@law
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(2, 12), st.just(3)), elements=st.integers(-3, 3)),
    st.randoms(use_true_random=False),
)
def test_leaders_are_the_two_largest_and_their_one_holder_in_any_order(rows, random):
    names = [f"s{number}" for number in range(len(rows))]
    order = list(range(len(rows)))
    random.shuffle(order)
    found = leaders_of(rows[order], [names[number] for number in order], 3)
    for column, values in enumerate(rows.T):
        second, first = np.sort(values)[-2:]
        assert (found.first[column], found.second[column]) == (first, second)
        assert found.names[column] == (names[int(values.argmax())] if first > second else "")


def test_a_sample_without_a_value_leads_nothing():
    found = leaders_of(np.array([[-np.inf, 1], [-np.inf, -np.inf]], np.float32), ["a", "b"])
    assert found.names.tolist() == ["", "a"] and found.second.tolist() == [-np.inf, -np.inf]


def test_the_largest_values_and_their_rows_do_not_depend_on_order_or_split():
    rng = np.random.default_rng(5)
    values = rng.permutation(50 * 3).reshape(50, 3).astype(np.float32)
    order = rng.permutation(50)
    one, other, rest = (Largest(3, 4) for _ in range(3))
    one.add(values, np.arange(50))
    other.add(values[order[:20]], order[:20])
    rest.add(values[order[20:]], order[20:])
    other.absorb(rest)
    expected = np.argsort(-values, axis=0)[:4]
    for found in (one, other):
        largest, rows = found.descending()
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(largest, np.take_along_axis(values, expected, axis=0))


def test_where_there_are_fewer_rows_the_largest_values_end_in_zeros_of_no_row():
    found = Largest(1, 3)
    found.add(np.float32([[2.0]]), np.array([7]))
    values, rows = found.descending()
    assert values.tolist() == [[2.0], [0.0], [0.0]] and rows.tolist() == [[7], [-1], [-1]]


def test_codes_that_are_counted_apart_add_up():
    rng = np.random.default_rng(6)
    values = (rng.normal(size=5000) * np.exp(4 * rng.normal(size=5000))).astype(np.float32)
    values[::7] = 0
    whole, one, other = CodeCounts(), CodeCounts(), CodeCounts()
    whole.add(values)
    one.add(values[:100])
    other.add(values[100:])
    one.absorb(other)
    one.absorb(CodeCounts())
    assert one.histogram().codes.tolist() == whole.histogram().codes.tolist()
    assert one.histogram().counts.tolist() == whole.histogram().counts.tolist()


@pytest.mark.parametrize(
    ("reaches", "kept"), [((5, 4, 3, 2, 1), (5, 4)), ((5, 4, 4, 1), (5,)), ((4, 4, 4), ()), ((3,), (3,))]
)
def test_the_samples_that_reach_farthest_are_kept_whatever_their_order_and_split(reaches, kept):
    samples = [np.float32([0.5, -reach if reach % 2 else reach]) for reach in reaches]
    for order in (samples, samples[::-1]):
        whole, one, other = Farthest(2), Farthest(2), Farthest(2)
        for number, values in enumerate(order):
            whole.add(values)
            (one, other)[number % 2].add(values)
        one.absorb(other)
        for found in (whole, one):
            codes = sorted(tuple(each.codes.tolist()) for each in found.within(9.0))
            expected = (Histogram.of(np.float32([0.5, -reach if reach % 2 else reach])) for reach in kept)
            assert codes == sorted(tuple(each.codes.tolist()) for each in expected)
    assert len(whole.within(3.5)) == sum(reach <= 3.5 for reach in kept)
