from __future__ import annotations

from typing import Any

from calib.studio.live import LINES, Live
from calib.zoo.events import Event


def events(*given: tuple[str, dict[str, Any]], attempt: int = 1, first: int = 1) -> list[Event]:
    return [Event(first + i, 0.0, attempt, kind, values) for i, (kind, values) in enumerate(given)]


BEGUN = ("stage", {"stage": "search", "state": "begun", "total": 4, "seconds": 0.0})
ENDED = ("stage", {"stage": "search", "state": "ended", "total": 4, "seconds": 2.5})
PROGRESS = ("progress", {"stage": "search", "done": 1, "total": 4, "note": "step 1", "seconds": 1.0, "left_s": 3.0})


def test_stages_show_what_is_tried_and_the_time_left_until_they_end():
    live = Live()
    live.take(events(BEGUN, PROGRESS))
    (stage,) = live.stages
    assert (stage.state, stage.share, stage.left, stage.note) == ("begun", 25, 3.0, "step 1")
    live.take(events(ENDED, first=3))
    assert (stage.state, stage.seconds, stage.left) == ("ended", 2.5, None)


def expected(**seconds: float) -> tuple[str, dict[str, Any]]:
    return "stages", {"names": list(seconds), "seconds": {name: value for name, value in seconds.items() if value}}


def test_the_time_left_is_what_is_expected_of_the_stages_at_the_pace_of_those_that_ended():
    live = Live()
    assert live.clock(0.0) is None
    load, insert = ({"stage": name, "state": "begun", "total": None, "seconds": 0.0} for name in ("load", "insert"))
    live.take(events(("stage", load), expected(load=2.0, insert=5.0, report=1.0)))
    clock = live.clock(1.0)
    assert clock and (clock.number, clock.of, clock.left, clock.share) == (1, 3, 1.0 + 5.0 + 1.0, 12)
    assert live.to_come == ["insert", "report"]
    live.take(events(("stage", {**load, "state": "ended", "seconds": 4.0}), ("stage", insert), first=3))
    clock = live.clock(3.0)  # twice as slow as expected
    assert (
        clock and clock.left == 2 * 5.0 - 3.0 + 2 * 1.0 and str(clock) == "stage 2 of 3, 3.0 s so far, about 9.0 s left"
    )


def test_a_search_that_puts_layers_back_says_what_it_takes_at_most():
    live = Live()
    live.take(events(expected(search=2.0, report=1.0), BEGUN, ("search", {"within": False, "most_s": 60.0})))
    clock = live.clock(10.0)
    assert clock and (clock.left, clock.most) == (1.0, 50.0) and "at most about 50 s left" in str(clock)
    live.take(events(("search", {"within": True, "most_s": 60.0}), first=4))  # plans that save more may follow
    assert "at most about 50 s left" in str(live.clock(10.0))


def test_a_search_in_which_int8_keeps_the_budget_ends_as_expected_and_a_count_says_better_what_is_left():
    live = Live()
    live.take(events(expected(search=11.0, report=1.0), BEGUN, ("search", {"within": True, "most_s": 60.0})))
    assert "about 2.0 s left" in str(live.clock(10.0))
    live.take(events(("progress", {**PROGRESS[1], "done": 3, "seconds": 9.0, "left_s": 3.0}), first=5))
    assert "about 3.0 s left" in str(live.clock(10.0))  # 3 s at 9 s, 2 s now, and 1 s of the report


def test_a_part_counts_as_changed_after_the_event_that_changed_it_and_no_longer():
    live = Live()
    live.take(events(BEGUN, ("log", {"stage": "load", "text": "x"}), ("result", {}), ("what is new", {})))
    assert live.number == 4
    assert live.part_since("stages", 0) and not live.part_since("stages", 1)
    assert live.part_since("log", 1) and not live.part_since("log", 2) and not live.part_since("points", 0)


def test_a_new_attempt_starts_its_stages_and_points_again_and_keeps_the_log():
    live = Live()
    live.take(events(BEGUN, ("search", {"step": 1}), ("warning", {"text": "careful"})))
    live.take(events(("status", {"status": "running"}), BEGUN, attempt=2, first=4))
    assert len(live.stages) == 1 and live.points == [] and ("warning", "careful") in live.lines


def test_a_run_that_begins_again_in_its_attempt_shows_its_stages_once():
    live = Live()
    load = {"stage": "load", "state": "begun", "total": None, "seconds": 0.0}
    live.take(events(("stage", load), BEGUN, ("search", {"step": 1}), ("log", {"stage": "load", "text": "again"})))
    live.take(events(("stage", load), first=5))
    assert [stage.name for stage in live.stages] == ["load"] and live.points == []
    assert list(live.lines) == [("log", "load: again")]


def test_what_ran_when_a_run_stopped_is_stopped():
    live = Live()
    live.take(events(BEGUN, ("status", {"status": "failed", "reason": "no room"})))
    assert live.stages[0].state == "stopped" and live.lines[-1] == ("status", "failed: no room")


def test_the_log_is_bounded():
    live = Live()
    live.take(events(*(("log", {"stage": "s", "text": str(i)}) for i in range(2 * LINES))))
    assert len(live.lines) == LINES and live.lines[-1][1] == f"s: {2 * LINES - 1}"


def test_times_belong_to_the_steps_they_were_measured_of():
    live = Live()
    live.take(events(("timed", {"plans": [{"step": 2, "latency_ms": 1.5}, {"step": None, "latency_ms": 1.0}]})))
    assert live.timed == {2: 1.5}
