"""Progress: silent unless somebody watches, and numbered stages are told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from calib.progress import Clock, Stage, receiver, silent
from calib.progress_shown import Shown


def test_a_silent_stage_takes_counts_notes_and_lines(capsys: pytest.CaptureFixture[str]):
    for progress in (silent, receiver(None), receiver(False)):
        with progress("statistics", 3) as stage:
            stage.update()
            stage.update(2, "nearly done")
            stage.say("a line")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_true_shows_progress_and_a_receiver_is_taken_as_it_is():
    assert isinstance(receiver(True), Shown)
    assert receiver(silent) is silent


def test_an_error_passes_through():
    for progress in (silent, receiver(True)):
        with pytest.raises(ZeroDivisionError), progress("load"):
            raise ZeroDivisionError


def test_a_stage_that_wants_to_know_is_told_which_stages_come():
    class Curious:
        heard: tuple[Sequence[str], Mapping[str, float]] | None = None

        def update(self, count: int = 1, note: str = "") -> None: ...
        def say(self, line: str) -> None: ...

        def expect(self, names: Sequence[str], seconds: Mapping[str, float]) -> None:
            self.heard = names, seconds

    curious, clock = Curious(), Clock()
    clock.expect(curious, ["load", "report"], {"load": 2.0})
    assert curious.heard == (["load", "report"], {"load": 2.0})
    with clock("load") as stage:
        plain: Stage = stage
        clock.expect(plain, ["load"], {})  # one that does not is left alone
