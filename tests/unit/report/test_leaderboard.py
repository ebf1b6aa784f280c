from __future__ import annotations

import csv
import io
import json

import pytest

from calib.report.escape import columns_of
from calib.report.leaderboard import (
    LeaderboardRow,
    MetricCells,
    outcome,
    outcome_line,
    ranked,
    render_leaderboard_csv,
    render_leaderboard_json,
    render_leaderboard_markdown,
    render_leaderboard_text,
    summary_of,
    totals_of,
)


def row(model: str, status: str = "within_budget", **changes: object) -> LeaderboardRow:
    fields: dict[str, object] = {
        "metric": "top1",
        "unit": "fraction",
        "fp32": 0.7612,
        "int8": 0.7571,
        "drop": 0.0041,
        "interval": (0.0005, 0.0077),
        "within_budget": True,
        "speedup_f32": 2.85,
        "speedup_default": 1.56,
        "bytes_before": 14_000_000,
        "bytes_after": 3_500_000,
        "layers": 54,
        "float_layers": 2,
        "seconds": 74.2,
        "report": f"models/{model}/report.html",
    }
    return LeaderboardRow(model, status, **{**fields, **changes})  # pyright: ignore[reportArgumentType]


ROWS = [
    LeaderboardRow("broken", "failed", "the worker was killed: out of memory"),
    row("slow", speedup_default=1.1),
    row("worse", "over_budget", within_budget=False, reason="drop 1.4 points, budget 1"),
    row("fast", speedup_default=2.2),
]


def test_promises_kept_come_first_and_the_fastest_of_them_first() -> None:
    assert [r.model for r in ranked(ROWS)] == ["fast", "slow", "worse", "broken"]


def test_order_does_not_depend_on_arrival() -> None:
    for render in (
        render_leaderboard_text,
        render_leaderboard_csv,
        render_leaderboard_json,
        render_leaderboard_markdown,
    ):
        assert render(ROWS) == render(ROWS[::-1])


def test_a_budget_kept_in_one_precision_only_is_named_with_its_reason() -> None:
    one = [row("a", "within_budget_in_f32_only", reason="not in bf16"), row("b", "within_budget_not_in_f32")]
    text = render_leaderboard_text([*one, *ROWS], 160)
    assert [r.model for r in ranked([*one, *ROWS])] == ["fast", "slow", "b", "a", "worse", "broken"]
    assert "within budget in f32 only" in text and "within budget not in f32" in text and "a: not in bf16" in text


def test_summary_counts_every_outcome() -> None:
    assert summary_of(ROWS) == "4 models: 2 within budget, 1 over budget, 1 failed"
    assert summary_of([]) == "no models"


def test_text_shows_figures_and_reasons_and_fits() -> None:
    text = render_leaderboard_text(ROWS, width=100)
    assert "0.41 ±0.36" in text
    assert "76.12 %" in text
    assert "broken: the worker was killed" in text
    assert max(columns_of(line) for line in text.splitlines()) <= 100


def test_names_cannot_steer_the_terminal() -> None:
    text = render_leaderboard_text([LeaderboardRow("\x1b[2J", "failed\x07", "\r\x9b31m")])
    assert all(c.isprintable() or c == "\n" for c in text)


def test_csv_reads_back_with_plain_numbers_and_no_formula() -> None:
    text = render_leaderboard_csv([*ROWS, row("=HYPERLINK(1)", "failed", reason="@SUM(A1)\nnext", drop=-0.002)])
    found = {r["model"]: r for r in csv.DictReader(io.StringIO(text))}
    assert len(found) == 5
    assert float(found["fast"]["drop"]) == 0.0041
    assert float(found["fast"]["interval_high"]) == 0.0077
    assert found["broken"]["fp32"] == ""
    evil = found["'=HYPERLINK(1)"]
    assert evil["reason"] == r"'@SUM(A1)\nnext"
    assert float(evil["drop"]) == -0.002


def test_json_holds_every_field_and_no_number_that_json_lacks() -> None:
    found = json.loads(render_leaderboard_json([*ROWS, row("odd", drop=float("nan"), interval=(0.0, float("inf")))]))
    assert len(found) == 5
    odd = next(r for r in found if r["model"] == "odd")
    assert odd["drop"] is None
    assert odd["interval"] == [0.0, None]


def test_markdown_keeps_its_columns_whatever_a_name_holds() -> None:
    lines = render_leaderboard_markdown([row("a|b`c\n<b>"), *ROWS]).splitlines()
    assert len(lines) == 2 + 5
    widths = {len(line.replace("\\|", "").split("|")) for line in lines}
    assert len(widths) == 1


CELLS = [f"models/net/estimator={name},effort=balanced" for name in ("auto", "minmax", "percentile")]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_text_of_a_matrix_tells_its_cells_apart_and_fits_the_terminal(width: int) -> None:
    lines = render_leaderboard_text([row(name) for name in CELLS], width).splitlines()
    assert max(map(columns_of, lines)) <= width
    assert len({line.split()[0] for line in lines[4:7]}) == 3
    assert ("estimator=" in lines[4]) == (width == 160)
    assert "drop" in lines[2] and "× default" in lines[2]


def test_text_says_a_status_that_all_have_once() -> None:
    text = render_leaderboard_text([row("a"), row("b")], 100)
    assert text.count("within budget") == 1
    assert render_leaderboard_text(ROWS, 120).count("within budget") == 1 + 2


def test_a_model_that_is_not_faster_is_no_success_and_one_reason_is_given_once():
    rows = [row("late", "quantized", drop=None, speedup_f32=1.6, speedup_default=0.9), row("soon")]
    rows += [LeaderboardRow(name, "failed", "no such file: cal.npz") for name in ("x", "y")]
    assert [outcome(r) for r in ranked(rows)] == ["within budget", "quantized but not faster", "failed", "failed"]
    assert summary_of(rows) == "4 models: 1 within budget, 1 quantized but not faster, 2 failed"
    text = render_leaderboard_text(rows, 60)
    assert text.splitlines()[0].startswith("── 4 models ──")
    assert text.splitlines()[1] == "1 within budget, 1 quantized but not faster, 2 failed"
    text = render_leaderboard_text(rows, 80)
    assert "▪ x, y: no such file: cal.npz" in text and text.count("cal.npz") == 1
    assert max(map(columns_of, text.splitlines())) <= 80


def test_the_outcome_of_a_model_is_a_line_with_its_figures():
    several = (MetricCells("mse", "", 2.0, 2.1, 0.05, None, "relative"),)
    assert outcome_line(row("a")) == (
        "within budget: top1 76.12 % → 75.71 %, drop 0.41 ±0.36 points, 2.85× against f32, 4.00× smaller, "
        "52 of 54 layers in INT8"
    )
    assert "mse 2 → 2.1, drop 5.00 % of the baseline" in outcome_line(row("a", each=several))
    assert outcome_line(LeaderboardRow("b", "quantized", sqnr_db=31.24, layers=3)) == (
        "quantized: SQNR 31.2 dB, 3 of 3 layers in INT8"
    )
    assert outcome_line(LeaderboardRow("c", "failed", "why")) == "failed: why"


def test_totals_are_of_what_was_measured_and_name_each_machine():
    rows = [row("a", machine="A"), row("b", machine="B", speedup_default=0.5), LeaderboardRow("c", "failed")]
    assert totals_of(rows) == (
        "weights 28.0 MB → 7.00 MB, 4.00× smaller · faster than FP32: 1 of 2 timed, median 1.03× · 2 min 28 s of work "
        "· A (1 model) · B (1 model)"
    )
    assert totals_of(rows[2:]) == ""


def test_a_budget_kept_in_vain_stands_below_those_of_use_and_says_what_to_change():
    vain = [row(status, status, reason="what to change") for status in ("slower", "mostly_float")]
    rows = [row("over", "over_budget"), *vain, row("useful")]
    assert [r.model for r in ranked(rows)] == ["useful", "mostly_float", "slower", "over"]
    assert render_leaderboard_text(rows).count("▪ mostly_float, slower: what to change") == 1
