"""Progress: silent unless somebody watches, and lines that stay go to stderr."""

from __future__ import annotations

import pytest

from calib.progress import Progress, bars, silent


@pytest.mark.parametrize("progress", [silent, bars])
def test_a_stage_takes_counts_notes_and_lines(progress: Progress, capsys: pytest.CaptureFixture[str]):
    with progress("statistics", 3) as stage:
        stage.update()
        stage.update(2, "nearly done")
        stage.say("a line")
    with progress("search") as stage:  # nobody knows how many
        stage.update(0, "first look")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ("" if progress is silent else "a line\n")  # no bar where stderr is no terminal


def test_an_error_passes_through():
    for progress in (silent, bars):
        with pytest.raises(ZeroDivisionError), progress("load"):
            raise ZeroDivisionError
