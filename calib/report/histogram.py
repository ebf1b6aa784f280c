"""The chart of one activation tensor: its histogram and the range that each estimator would choose."""

from __future__ import annotations

import numpy as np

from calib.report.vega import SCHEMA, Spec, span
from calib.values.facts import QuantizerFacts


def histogram_chart() -> Spec:
    """Draw one tensor: its histogram above, the range that each estimator would choose below, on one axis.

    The page fills the data sets ``bins`` and ``ranges`` from ``histogram_data`` of the tensor that is looked at.
    """
    x = {"type": "quantitative", "scale": {"zero": False, "nice": False}}
    axis = {"minExtent": 76, "maxExtent": 76}
    bars = {
        "data": {"name": "bins"},
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            **span("low", "high", {**x, "bin": "binned", "axis": {"labels": False, "ticks": False}, "title": None}),
            "y": {
                "field": "count",
                "type": "quantitative",
                "stack": None,
                "scale": {"type": "symlog"},
                "axis": {**axis, "labelExpr": "format(datum.value, '~s')"},
                "title": "values (log scale)",
            },
            "tooltip": [{"field": "low", "format": ".4~g"}, {"field": "high", "format": ".4~g"}, {"field": "count"}],
        },
    }
    chosen = {"data": {"name": "ranges"}, "transform": [{"filter": "datum.kind === 'chosen'"}]}
    edges = [
        {**chosen, "mark": {"type": "rule", "style": "budget"}, "encoding": {"x": {"field": f, **x}}}
        for f in ("low", "high")
    ]
    ranges = {
        "data": {"name": "ranges"},
        "height": {"step": 22},
        "encoding": {
            **span("low", "high", {**x, "title": "value"}),
            "y": {"field": "estimator", "type": "nominal", "sort": None, "title": None, "axis": axis},
            "tooltip": [
                {"field": "estimator"},
                {"field": "low", "format": ".4~g"},
                {"field": "high", "format": ".4~g"},
            ],
        },
        "layer": [
            {"transform": [{"filter": f"datum.kind {sign} 'chosen'"}], "mark": {"type": "bar", "height": 9, **style}}
            for sign, style in (("===", {}), ("!==", {"style": "muted"}))
        ],
    }
    return {
        "$schema": SCHEMA,
        "usermeta": {"room": 116},
        "datasets": {"bins": [], "ranges": []},
        "resolve": {"scale": {"x": "shared"}},
        "spacing": 8,
        "vconcat": [{"layer": [bars, *edges], "height": 190}, ranges],
    }


def histogram_data(quantizer: QuantizerFacts) -> Spec:
    """Return what the page needs to draw a tensor; six digits of the edges are enough for the eye."""
    ranges = quantizer.candidates or {quantizer.estimator: (quantizer.low, quantizer.high)}
    return {
        "tensor": quantizer.tensor,
        "layers": quantizer.layers,
        "scheme": quantizer.scheme,
        "levels": quantizer.levels,
        "estimator": quantizer.estimator,
        "reason": quantizer.reason,
        "clipped": quantizer.clipped,
        "chosen": _short([quantizer.low, quantizer.high]),
        "data": _short([quantizer.data_low, quantizer.data_high]),
        "ranges": {name: _short(list(ends)) for name, ends in ranges.items()},
        "edges": _edges(quantizer.histogram_edges),
        "counts": quantizer.histogram_counts,
    }


def _edges(edges: list[float]) -> list[float]:
    """Return the first and the last edge where all bins have the same width to the eye: half of the page's bytes."""
    ends = [edges[0], edges[-1]]
    even = np.allclose(edges, np.linspace(ends[0], ends[1], len(edges)), rtol=0, atol=1e-4 * (ends[1] - ends[0]))
    return _short(ends if even else edges)


def _short(values: list[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
