"""What all charts have in common as Vega-Lite specifications."""

from __future__ import annotations

from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

Spec = dict[str, Any]


def span(low: str, high: str, x: Spec) -> Spec:
    """Return the encoding of a mark from one field to another along x."""
    return {"x": {"field": low, **x}, "x2": {"field": high}}
