"""The page of a preview: no script, no markup from names, a chart or a picture for each input."""

from __future__ import annotations

import re
from dataclasses import replace

from calib.report.preview import bars, range_in_words, render_preview_html, render_preview_text
from calib.values.preview import InputRange, Preview, ShownInput, ShownSample

EVIL = "<script>alert(1)</script>\x1b[31m"
SIGNAL = ShownInput(EVIL, (1, 4), "float32", -1.0, 2.5, 0.5, counts=(1, 0, 3), first=("1", "2"))
PICTURE = replace(SIGNAL, picture=b"\x89PNG\r\n\x1a\n")
FOUND = Preview(
    EVIL, EVIL, (ShownSample(EVIL, EVIL, 2, (SIGNAL, PICTURE), (EVIL,)),), 1, 9, (InputRange(EVIL, -1.0, 2.5),),
    (EVIL,), ((EVIL, 2),), EVIL, (EVIL,),
)  # fmt: skip


def test_names_never_become_markup_and_the_page_runs_nothing():
    page = render_preview_html(FOUND)
    assert "<script" not in page and page.count("&lt;script&gt;") >= 8
    assert re.search(r"script-src &#39;none&#39;|script-src 'none'", page)
    assert "data:image/png;base64,iVBOR" in page and page.count("<rect") == 3
    text = render_preview_text(FOUND)
    assert "\x1b" not in text and "1 of 9 samples" in text


def test_ranges_are_told_in_words():
    assert range_in_words(SIGNAL) == "−1 to 2.5"
    assert range_in_words(replace(SIGNAL, low=3.0, high=3.0)) == "3 everywhere"
    assert range_in_words(replace(SIGNAL, low=None, high=None)) == "1, 2"


def test_the_smallest_bar_is_seen_and_an_empty_one_is_not():
    assert bars((1000, 1, 0)) == [(0, 40), (6, 1), (12, 0)]
