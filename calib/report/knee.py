"""The chart of SQNR against the time of layers in floating point, with its knee."""

from __future__ import annotations

from calib.report import numbers
from calib.report.vega import SCHEMA, Spec
from calib.values.accuracy_facts import KneeFacts
from calib.values.facts import SpeedFacts


def knee_chart(knee: KneeFacts, speed: SpeedFacts | None) -> Spec:
    """Draw the expected SQNR against milliseconds, or against the share of the work where no time was measured.

    Args:
        knee: Points, from none in floating point, and the knee.
        speed: Latencies of FP32 and of the model as it is; None if they were not measured.
    """
    now = next((one.share for one in knee.points if knee.taken and one.layers == len(knee.layers)), 0.0)
    rows = [
        {
            "at": 100 * one.share if speed is None else knee_ms(speed, one.share, now),
            "sqnr": round(one.sqnr_db, 2),
            "layers": one.layers,
            "kind": "knee" if knee.layers and one.layers == len(knee.layers) else "expected",
        }
        for one in knee.points
    ]
    title = "share of the work in floating point, %" if speed is None else "latency, ms, by shares of the work"
    kinds = {"domain": ["expected", "knee"]}
    encoding = {
        "x": {"field": "at", "type": "quantitative", "title": title, "scale": {"zero": False, "padding": 12}},
        "y": {"field": "sqnr", "type": "quantitative", "title": "expected SQNR, dB", "scale": {"zero": False}},
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
        "encoding": {
            "color": {"field": "kind", "title": None, "scale": kinds},
            "shape": {"field": "kind", "title": None, "scale": {**kinds, "range": ["circle", "diamond"]}},
            "tooltip": [
                {"field": "layers", "title": "layers in floating point"},
                {"field": "sqnr", "title": "SQNR, dB"},
            ],
        },
    }
    path = {"mark": {"type": "line", "style": "quiet"}, "encoding": {"order": {"field": "layers"}}}
    words = f"{numbers.plural(len(rows), 'point')} of SQNR against time. {knee.sentence}"
    size = {"autosize": {"type": "fit-x", "contains": "padding"}, "height": 220}
    layered = {"encoding": encoding, "layer": [path, points]}
    return {"$schema": SCHEMA, "description": words, "data": {"values": rows}, **size, **layered}


def knee_ms(speed: SpeedFacts, share: float, now: float) -> float:
    """Return the expected latency in ms with a share of the work in floating point.

    On a line through the two latencies that were measured, INT8 with the share ``now`` and FP32 with all of it.
    """
    return speed.latency_int8_ms + (speed.latency_f32_ms - speed.latency_int8_ms) * (share - now) / (1 - now)
