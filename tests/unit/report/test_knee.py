from __future__ import annotations

import pytest

from calib.report.knee import knee_chart
from calib.values.accuracy_facts import KneeFacts, KneePointFacts
from calib.values.facts import SpeedFacts

POINTS = [
    KneePointFacts(layers=n, share=share, sqnr_db=db) for n, share, db in ((0, 0, 20), (2, 0.1, 28), (3, 0.2, 29))
]
SPEED = SpeedFacts(
    latency_f32_ms=2.8, latency_default_ms=2.0, latency_int8_ms=1.0, speedup_f32=2.8, speedup_default=2.0
)


@pytest.mark.parametrize(
    ("speed", "taken", "title", "at"),
    [
        (None, True, "share of the work in floating point, %", [0, 10, 20]),
        (SPEED, False, "latency, ms, by shares of the work", [1.0, 1.18, 1.36]),
        (SPEED, True, "latency, ms, by shares of the work", [0.8, 1.0, 1.2]),  # INT8 was timed with the knee taken
    ],
)
def test_the_expected_sqnr_is_drawn_against_time_and_the_knee_is_marked(speed, taken, title, at):
    chart = knee_chart(KneeFacts(points=POINTS, layers=["a", "b"], taken=taken, sentence="2 layers."), speed)
    rows = chart["data"]["values"]
    assert [row["at"] for row in rows] == pytest.approx(at)
    assert [row["sqnr"] for row in rows] == [20, 28, 29] and [row["layers"] for row in rows] == [0, 2, 3]
    assert [row["kind"] for row in rows] == ["expected", "knee", "expected"]
    assert chart["encoding"]["x"]["title"] == title and chart["description"].endswith("2 layers.")


def test_without_a_knee_no_point_is_marked():
    chart = knee_chart(KneeFacts(points=POINTS, sentence="There is no knee."), None)
    assert {row["kind"] for row in chart["data"]["values"]} == {"expected"}
