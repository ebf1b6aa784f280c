"""``calib preview``: a page on disk, the same in the terminal.

covers: calib.cli.preview, calib.values.preview
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_page_is_written_and_the_terminal_shows_the_same(run: Callable[..., Any], work: Path):
    page = work / "seen" / "preview.html"
    ended = run("preview", work / "model.xml", "--calibration", work / "data.npz", "--show", "2", "-o", page)
    assert ended.code == 0 and "2 of " in ended.out and "Give at least 30" in ended.out
    assert f"wrote {page}" in ended.err
    assert page.read_text().count("<figure") == 2


def test_without_data_the_way_out_is_named(run: Callable[..., Any], work: Path):
    ended = run("preview", work / "model.xml")
    assert ended.code == 2 and "--calibration DATA" in ended.err
    ended = run(
        "preview", work / "model.xml", "--calibration", work / "data.npz", "-o", work / "data.npz" / "page.html"
    )
    assert ended.code == 1 and "can't be written" in ended.err
