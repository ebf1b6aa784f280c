"""Progress as a person sees it: numbered lines that stay, live ones over them, and never a long silence."""

from __future__ import annotations

import contextlib
import io
import sys
import types

import pytest
import tqdm

from calib.progress_shown import QUIET_SECONDS, REFRESH_SECONDS, Bar, Lines, Shown, duration, face


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


def test_a_pipe_gets_one_line_a_stage_with_number_and_time(clock: Time):
    stream = io.StringIO()
    run = Shown(Lines(stream, clock), clock)
    with run("load") as stage:
        clock.now = 1.5
        stage.expect(["load", "search", "report"], {})
    with run("search") as stage:
        stage.say("INT8: drop 0.1 points")
        stage.update(1, "1 of at most 9")
        clock.now = 80.0
    with run("report"):
        clock.now = 80.2
    assert stream.getvalue().splitlines() == [
        "[1/3] load  1.5 s",
        "INT8: drop 0.1 points",
        "[2/3] search  78 s  1 of at most 9",
        "[3/3] report  0.2 s",
    ]


def test_a_pipe_is_not_silent_for_minutes(clock: Time):
    stream = io.StringIO()
    lines = Lines(stream, clock)
    for second in range(100):
        clock.now = float(second)
        lines.live("still at it", None)
    assert stream.getvalue().count("still at it") == int(99 // QUIET_SECONDS)


def test_what_is_left_follows_from_what_is_done_else_from_what_was_expected(clock: Time):
    run = Shown(Lines(io.StringIO(), clock), clock)
    run.expect(["statistics", "correct"], {"correct": 50.0, "statistics": 7.0})
    with run("statistics", 300) as stage:
        clock.now = 10.0
        stage.update(75)
        assert stage.text("", 1.0) == "statistics  10 s of about 40 s  75 of 300"
    with run("correct") as stage:
        clock.now = 30.0
        assert stage.text(run.number("correct")) == "[2/2] correct  20 s of about 50 s"
        clock.now = 70.0  # longer than expected: nothing is promised any more
        assert stage.text("") == "correct  60 s"


class Screen(io.StringIO):
    """A terminal that keeps what was written to it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_below_the_lines_that_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setenv("TERM", "xterm")
    terminal = face()
    terminal.live("[1/2] load", 0.5)
    terminal.line("stays")
    terminal.clear()
    written = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "[1/2] load  #" in written and "stays\n" in written
    assert written.endswith("\r") and not written.rsplit("stays\n")[1].rsplit("\r", 2)[1].strip()  # drawn over


def test_a_live_line_is_redrawn_while_a_stage_runs():
    drawn: list[str] = []

    class Face:
        def line(self, text: str) -> None: ...
        def clear(self) -> None: ...

        def live(self, text: str, share: float | None) -> None:
            drawn.append(text)

    import time

    with Shown(Face(), time.monotonic)("search"):
        time.sleep(2.5 * REFRESH_SECONDS)
    assert drawn and drawn[0].startswith("search  0.5 s")


def test_a_notebook_is_found_by_its_shell(monkeypatch: pytest.MonkeyPatch):
    shell = type("ZMQInteractiveShell", (), {})()
    package = types.ModuleType("IPython")
    vars(package)["get_ipython"] = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", package)
    assert isinstance(face(), Bar)


def test_a_notebook_keeps_no_bar_and_writes_what_stays_where_it_is_not_drawn_as_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    closed: list[tuple[float | None, float]] = []

    class Bars(tqdm.tqdm):
        def close(self) -> None:
            closed.append((self.total, self.n))  # tqdm.notebook leaves a red bar where n < total
            super().close()

    package = types.ModuleType("IPython")
    vars(package)["get_ipython"] = lambda: type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setattr(tqdm, "tqdm", Bars)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no widgets: drawn as text
    notebook = face()
    for share in (0.25, None):
        notebook.live("[1/2] load", share)
        notebook.clear()
    notebook.line("stays")
    assert set(closed) == {(1.0, 1.0), (None, 1.0)}
    written = capsys.readouterr()
    assert "stays" in written.out and not written.err


def test_a_pipe_is_no_terminal():
    assert isinstance(face(), Lines)


def test_a_stream_that_can_not_be_written_ends_no_run(clock: Time):
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # closing it fails, too
        run = Shown(Lines(full, clock), clock)
        with run("load"):
            pass


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10 s"), (130, "2 min"), (7300, "2 h 2 min")])
def test_times_are_written_as_people_read_them(seconds: float, text: str):
    assert duration(seconds) == text
