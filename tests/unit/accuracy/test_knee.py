from __future__ import annotations

import math

import pytest

from calib.accuracy.knee import KneePoint, knee_curve, knee_of
from calib.accuracy.prediction import RankedUnit


def units(**sensitivities: float) -> list[RankedUnit]:
    return [RankedUnit(frozenset(name.split("_")), value) for name, value in sensitivities.items()]


def test_units_return_by_their_error_for_their_work_and_the_rest_keeps_its_share_of_the_measured_error():
    work = {"a": 1e6, "b": 1e6, "c": 10e6, "d": 10e6, "e": 10e6}
    curve = knee_curve(units(a=0.05, b=0.04, c=0.006, d=0.003, e=0.001), work, 12.0)
    assert [point.layers for point in curve] == [(), ("a",), ("a", "b")]  # a third return would take half the work
    overhead = 0.05 * 32e6 / 5
    assert [point.share for point in curve] == pytest.approx([0, *((k * 1e6 + k * overhead) / 33.6e6 for k in (1, 2))])
    assert [point.sqnr_db for point in curve] == pytest.approx([12.0, 15.0103, 22.0], abs=1e-3)
    assert knee_of(curve) == curve[2]


def test_a_unit_of_several_layers_returns_whole_and_one_without_a_finite_error_first():
    curve = knee_curve(units(a=0.01, b_c=math.inf, d=0.01), {"a": 9.0, "b": 1.0, "c": 1.0, "d": 9.0}, 5.0)
    assert [point.layers for point in curve] == [(), ("b", "c")]
    assert curve[1].sqnr_db == 5.0  # what it costs is not known


def test_where_no_few_layers_stand_out_there_is_no_knee():
    equal = knee_curve(units(**{f"u{i}": 0.01 for i in range(20)}), {f"u{i}": 1.0 for i in range(20)}, 30.0)
    assert len(equal) == 6 and equal[-1].sqnr_db == pytest.approx(30 - 10 * math.log10(0.75))
    assert knee_of(equal) is None
    assert knee_of([KneePoint((), 0.0, 30.0)]) is None
    assert knee_curve(units(a=0.0), {}, 30.0) == [KneePoint((), 0.0, 30.0)]


def test_the_knee_lies_farthest_above_the_chord():
    points = [
        KneePoint(("x",) * k, share, db) for k, (share, db) in enumerate([(0, 20), (0.02, 27), (0.1, 28), (0.2, 29)])
    ]
    assert knee_of(points) == points[1]
