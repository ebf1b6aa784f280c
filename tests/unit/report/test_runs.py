"""Several runs side by side, from their reports alone.

covers: calib.values.runs
"""

from __future__ import annotations

from pathlib import Path

import pytest
from report_fixtures.made_up import made_up_report

from calib.errors import UsageError
from calib.report.json_report import write_report
from calib.report.runs import compare_runs, render_runs_html, render_runs_text
from calib.values.accuracy_facts import FinalistFacts


def write(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True)
    write_report(made_up_report(layers=12, **changes), folder)
    return folder


def test_plans_of_all_runs_are_ordered_by_time_and_the_best_are_those_with_less_drop(tmp_path: Path):
    def plans(*rows: tuple[float, float]) -> list[FinalistFacts]:
        return [FinalistFacts(reverted=[], drop=d, latency_ms=ms, chosen=i == 0) for i, (d, ms) in enumerate(rows)]

    first = write(tmp_path / "x" / "out", finalists=plans((0.01, 4.0), (0.002, 6.0)))
    second = write(tmp_path / "y" / "out", finalists=plans((0.02, 3.0), (0.015, 5.0)))
    found = compare_runs([first, second])
    assert [run.name for run in found.runs] == ["x/out", "y/out"]
    assert [(point.run, point.latency_ms, point.best) for point in found.trade] == [
        ("y/out", 3.0, True), ("x/out", 4.0, True), ("y/out", 5.0, False), ("x/out", 6.0, True),
    ]  # fmt: skip
    assert found.notes == [] and len(found.layers) == 12 and all(len(layer.runs) == 2 for layer in found.layers)
    text = render_runs_text(found, 120)
    assert "2 runs" in text and "0.41 points" in text and "0 of 12 layers executed in different precisions" in text
    page = render_runs_html(found)
    assert 'data-chart="trade"' in page and 'data-table="layers"' in page


def test_what_can_not_be_compared_is_said_and_names_are_text(tmp_path: Path):
    evil = "<script>alert(1)</script>\x1b[2J"
    model = made_up_report(layers=12).model
    one = write(tmp_path / "a")
    other = write(
        tmp_path / "b",
        model=model.model_copy(update={"fingerprint": "other", "name": evil}),
        environment={"cpu": "another"},
        accuracy=None,
        finalists=[],
        search=[],
        ranking=[],
    )
    found = compare_runs([one, other])
    said = " ".join(found.notes)
    assert "different models" in said and "different CPUs" in said and "No accuracy was measured in b" in said
    assert evil not in render_runs_html(found) and "\x1b" not in render_runs_text(found)
    assert {point.run for point in found.trade} == {"a"}


def test_one_folder_or_one_without_a_report_is_refused(tmp_path: Path):
    one = write(tmp_path / "a")
    with pytest.raises(UsageError, match="two or more folders"):
        compare_runs([one])
    with pytest.raises(UsageError, match="does not exist"):
        compare_runs([one, tmp_path])
    assert [run.name for run in compare_runs([one, one]).runs] == ["a (1)", "a (2)"]
