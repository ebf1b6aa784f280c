from __future__ import annotations

import math

import pytest

from calib.studio.scatter import HEIGHT, WIDTH, Point, scatter, ticks


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7), (0.0001, 0.0002), (5, 5), (0, 0), (-1e6, 1e6)])
def test_ticks_are_few_and_reach_over_the_interval(low: float, high: float):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8 and found[0] <= low and found[-1] >= high and found == sorted(set(found))


def test_counts_have_whole_ticks_from_zero():
    assert ticks(0, 3, whole=True) == [0, 1, 2, 3]
    assert all(value == int(value) for value in ticks(0, 17, whole=True))


def test_larger_values_stand_further_right_and_higher_and_all_inside():
    plot = scatter("t", "x", "y", [Point(0, 0, "a"), Point(1, 2, "b", span=(1, 400)), Point(2, 1, "c")], limit=0.5)
    assert plot
    a, b, c = plot.placed
    assert a.x < b.x < c.x and b.y < c.y < a.y and plot.limit is not None and c.y < plot.limit < a.y
    ends = [b.low, b.high]
    assert all(0 <= one <= WIDTH for one in (a.x, b.x, c.x))
    assert all(end is not None and 0 <= end <= HEIGHT for end in [a.y, b.y, c.y, *ends])


def test_one_point_can_be_drawn_and_none_or_what_is_not_finite_can_not():
    assert scatter("t", "x", "y", [Point(3, 0, "a")]) is not None
    assert scatter("t", "x", "y", [Point(math.nan, 0, "a"), Point(1, math.inf, "b")]) is None


def test_the_best_trades_are_those_that_nothing_beats_in_both():
    points = [Point(1.0, 5.0, "fast"), Point(2.0, 5.0, "slower"), Point(2.0, 1.0, "even"), Point(3.0, 0.5, "best")]
    plot = scatter("t", "x", "y", points, front=True)
    assert plot and [one.point.words for one in plot.front] == ["fast", "even", "best"]
    plain = scatter("t", "x", "y", points)
    assert plain and plain.front == []
