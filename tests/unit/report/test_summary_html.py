"""The summary for a notebook: headline, figures, what to know, and nothing that a name could run."""

from __future__ import annotations

from report_fixtures.made_up import made_up_report

from calib.report import digest
from calib.report.summary_html import render_summary_html


def test_it_holds_the_headline_the_figures_and_at_most_three_sentences():
    report = made_up_report()
    page = render_summary_html(report)
    assert digest.headline(report)[1] in page and page.count("<li>") <= 3
    assert page.count("<tr>") == len(digest.facts(report))


def test_names_are_text():
    report = made_up_report()
    named = report.model.model_copy(update={"name": "<script>alert(1)</script>\x1b"})
    page = render_summary_html(report.model_copy(update={"model": named}))
    assert "<script>" not in page and "&lt;script&gt;" in page and "\x1b" not in page
