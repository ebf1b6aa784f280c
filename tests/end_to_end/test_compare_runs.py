"""``calib compare`` of result folders: figures of several runs from their reports.

covers: calib.cli.compare
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_two_results_are_compared_by_their_reports(quantize: Callable[..., Any], run: Callable[..., Any], work: Path):
    for name in ("first", "second"):
        assert quantize(output=work / name).code == 0
    page = work / "runs.html"
    ended = run("compare", work / "first", work / "second", "--html", page)
    assert ended.code == 0 and "2 runs" in ended.out and "0 of " in ended.out and page.is_file()
    assert json.loads(run("compare", work / "first", work / "second", "--json").out)["runs"][1]["name"] == "second"
    ended = run("compare", work / "model.xml", work / "first" / "model.xml")
    assert ended.code == 2 and "Missing option '--data'" in ended.err
    assert "two or more folders" in run("compare", work / "first").err
