"""The summary of a run as a piece of HTML, for a cell of a notebook."""

from __future__ import annotations

from html import escape

from calib.report import digest
from calib.report.escape import printable
from calib.values.facts import Report

_TONES = {"good": "#1a7f37", "warning": "#9a6700", "bad": "#cf222e", "neutral": "inherit"}


def render_summary_html(report: Report) -> str:
    """Return headline, figures and the sentences that matter most; names from the model are escaped."""
    tone, words = digest.headline(report)
    rows = "".join(
        f"<tr><th style='text-align:left'>{_text(fact.name)}</th><td style='text-align:left'>{_text(fact.value)}</td>"
        f"<td style='text-align:left'>{_text(fact.detail)}</td></tr>"
        for fact in digest.facts(report)
    )
    notes = "".join(f"<li>{_text(note)}</li>" for note in digest.to_know(report)[0])
    return (
        f"<div><strong style='color:{_TONES[tone]}'>{_text(words)}</strong> {_text(report.model.name)}"
        f"<table>{rows}</table>{f'<ul>{notes}</ul>' if notes else ''}</div>"
    )


def _text(text: str) -> str:
    return escape(printable(text))
