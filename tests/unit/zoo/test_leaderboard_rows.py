"""A report becomes a row of the leaderboard, and comes back from the store as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from report_fixtures.made_up import made_up_report

from calib.errors import StatisticsError, UsageError
from calib.report.leaderboard import LeaderboardRow
from calib.zoo.jobs import JobRow
from calib.zoo.leaderboard_rows import check_statuses, filtered, row_of_report, to_json
from calib.zoo.make_jobs import ZooJob

REPORT = made_up_report()


def row(name: str, status: str, board: str = "", reason: str = "") -> JobRow:
    job = ZooJob(name, f"{name}.xml", f"/models/{name}.xml", "/models", "d.npz")
    return JobRow(name, name, "family", job, status, reason, 1, "", 0.0, board)


def test_a_row_says_what_the_report_says():
    found = row_of_report("net", REPORT, 12.5)
    accuracy, speed = REPORT.accuracy, REPORT.speed
    assert accuracy is not None and speed is not None
    assert (found.model, found.status, found.seconds) == ("net", REPORT.status, 12.5)
    assert (found.fp32, found.int8, found.drop) == (accuracy.baseline, accuracy.quantized, accuracy.drop)
    assert (found.speedup_f32, found.speedup_default) == (speed.speedup_f32, speed.speedup_default)
    assert found.layers == len(REPORT.layers)
    assert found.float_layers == len([layer for layer in REPORT.layers if layer.planned == "float"])


def test_without_a_budget_nothing_was_promised():
    bare = REPORT.model_copy(update={"status": "quantized", "accuracy": None, "speed": None})
    found = row_of_report("net", bare, 1.0)
    assert found.within_budget is None and found.drop is None and found.speedup_f32 is None
    kept = dict.fromkeys(("within_budget", "within_budget_not_in_f32", "mostly_float", "slower"), True)
    missed = dict.fromkeys(("within_budget_in_f32_only", "over_budget", "fp32_kept"), False)
    for status, promised in (kept | missed).items():
        assert row_of_report("net", REPORT.model_copy(update={"status": status}), 1.0).within_budget is promised


def test_a_row_comes_back_from_the_store_with_the_place_of_its_report():
    kept = row_of_report("a/net", REPORT, 12.5)
    text = json.dumps({**to_json(kept), "column of a newer calib": 1})
    (found,) = filtered([row("a/net", REPORT.status, text)])
    assert found == replace(kept, report="models/a/net/report.html")
    (bare,) = filtered([row("a/net", REPORT.status, text)], reports="")
    assert bare.report == kept.report == ""


def test_rows_are_chosen_by_name_and_status_and_those_without_a_result_say_why():
    rows = [row("a/x", "failed", reason="why"), row("a/y", "waiting"), row("b/x", "failed")]
    assert filtered(rows, ["a/*"], ["failed"]) == [LeaderboardRow(model="a/x", status="failed", reason="why")]
    assert [one.model for one in filtered(rows, status=["waiting", "failed"])] == ["a/x", "a/y", "b/x"]


def test_a_model_in_the_layout_of_hugging_face_has_the_name_of_its_folder():
    named = [one.model for one in filtered([row("org/bert/openvino_model", "waiting"), row("a/model/x=1", "failed")])]
    assert named == ["org/bert", "a/x=1"]


@pytest.mark.parametrize("board", ["{", "[]", "{}", '{"status": 3}'])
def test_a_result_that_is_damaged_is_said_to_be(board: str):
    with pytest.raises(StatisticsError, match="the store of the zoo is damaged"):
        filtered([row("a", "quantized", board)])


def test_a_status_that_no_job_has_is_refused_with_the_nearest_one():
    check_statuses(["failed", "paused", "over_budget"])
    with pytest.raises(UsageError, match=r"Did you mean over_budget\?"):
        check_statuses(["over budgt"])
