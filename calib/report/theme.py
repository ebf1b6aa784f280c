"""The colours of the charts: two Vega-Lite configs, apart from the charts so that a page can change its mind.

The palette is Okabe and Ito's ("Color Universal Design", 2008), lighter on dark paper: people with any common colour
blindness can tell its colours apart. What colour says, a shape or a word says too.
"""

from __future__ import annotations

from typing import Any


def theme(dark: bool) -> dict[str, Any]:
    """Return the Vega-Lite config of the light or the dark page."""
    ink, soft, line = ("#e6e8eb", "#a9b0ba", "#3a414b") if dark else ("#1d2129", "#565f6b", "#dde1e6")
    palette = ["#56b4e9", "#ee8a3c", "#2fc79a", "#e3b505"] if dark else ["#0072b2", "#d55e00", "#009e73", "#b38600"]
    return {
        "background": None,
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "mark": {"color": palette[0]},
        "rule": {"color": palette[0]},
        "range": {"category": palette},
        "axis": {
            "labelColor": soft,
            "titleColor": soft,
            "titleFontWeight": "normal",
            "labelFlush": False,
            "labelSeparation": 4,
            "gridColor": line,
            "domainColor": line,
            "tickColor": line,
            "labelFontSize": 11,
            "titleFontSize": 12,
        },
        "legend": {"orient": "top", "title": None, "labelColor": ink, "labelFontSize": 12, "symbolStrokeWidth": 2},
        "text": {"color": ink, "fontSize": 11},
        "style": {
            "budget": {"color": palette[1], "strokeDash": [6, 4], "strokeWidth": 1.5},
            "budget-label": {"color": palette[1], "fontSize": 11},
            "quiet": {"color": soft, "strokeWidth": 1},
            "muted": {"color": "#6b7685" if dark else "#8792a0"},
        },
    }
