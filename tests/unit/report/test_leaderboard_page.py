from __future__ import annotations

import pytest

from calib.report.leaderboard import LeaderboardRow, ranked
from calib.report.leaderboard_page import leaderboard_table, render_leaderboard_html, trade_chart
from tests.unit.report.test_leaderboard import ROWS, row


@pytest.mark.parametrize("rows", [[], ROWS])
def test_page_can_be_made_of_any_number_of_models(rows: list[LeaderboardRow]) -> None:
    page = render_leaderboard_html(rows, "0.1.0")
    assert ("No models yet" in page) == (not rows)


def test_page_table_filters_by_outcome() -> None:
    table = leaderboard_table(ranked(ROWS)).data()
    assert table["filters"] == {"within budget": [0, 1], "over budget": [2], "failed": [3]}
    titles = [column["title"] for column in table["columns"]]
    assert table["rows"][0][titles.index("drop")] == [0.0041, "0.41 ±0.36"]


def test_the_page_says_why_a_model_failed_without_cutting_it_off() -> None:
    reason = "the file ends in the middle " * 8 + "<b>"
    page = render_leaderboard_html([LeaderboardRow(model="a", status="failed", reason=reason)], "0")
    assert f"<dd>{reason.replace('<b>', '&lt;b&gt;')}</dd>" in page
    assert "Why not" not in render_leaderboard_html([LeaderboardRow(model="a", status="quantized")], "0")


def test_the_scatter_holds_models_of_one_unit_with_both_figures_and_marks_where_int8_is_no_faster() -> None:
    rows = [*ROWS, row("late", speedup_default=0.8), row("other", unit="", drop=3.0), row("untimed", speedup_f32=None)]
    chart = trade_chart([*rows[:-1], LeaderboardRow("untimed", "quantized", drop=0.0)])
    assert chart is not None
    points = {one["model"]: one for one in chart["data"]["values"]}
    assert points.keys() == {"slow", "fast", "worse", "late"}
    assert points["late"]["speedup"] == 0.8 and points["late"]["kind"] == "to look at"
    assert points["fast"]["drop"] == pytest.approx(0.41) and points["worse"]["kind"] == "over the budget"
    assert "4 models; 1 left of the line at 1" in chart["description"] and "1 model with drops" in chart["description"]
    assert trade_chart([LeaderboardRow("a", "failed")]) is None
    assert 'data-chart="trade"' in render_leaderboard_html(rows, "0")
