"""Charts show what the report says, however little that is.

covers: calib.report.histogram, calib.report.theme, calib.report.vega
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from report_fixtures.made_up import made_up_report

from calib.report import charts
from calib.report.histogram import histogram_chart, histogram_data
from calib.report.theme import theme
from calib.values.facts import ModelFacts, Report


def marks(spec: dict[str, Any]) -> list[str]:
    """All marks of a specification, in drawing order."""
    found = []
    for part in (spec, *spec.get("layer", []), *spec.get("vconcat", [])):
        if part is not spec and ("layer" in part or "vconcat" in part):
            found += marks(part)
        elif "mark" in part:
            found.append(part["mark"] if isinstance(part["mark"], str) else part["mark"]["type"])
    return found


def test_every_chart_has_words_for_those_who_do_not_see_it() -> None:
    specs = charts.report_charts(made_up_report())
    assert set(specs) == {"drop", "latency", "sqnr", "ranking", "search", "finalists", "stages", "histogram"}
    for name, spec in specs.items():
        if name != "histogram":  # its words belong to the tensor that is chosen
            assert len(spec["description"]) > 20


def test_charts_are_plain_data_without_addresses_or_colours() -> None:
    for spec in charts.report_charts(made_up_report()).values():
        text = json.dumps(spec, allow_nan=False)
        assert text.count("http") == text.count(charts.SCHEMA)
        assert "url" not in text
        assert "#" not in text


def test_report_without_data_has_no_charts() -> None:
    empty = Report(
        calib_version="0.1.0", status="planned", status_reason="", model=ModelFacts(name="m", source="", fingerprint="")
    )
    assert charts.report_charts(empty) == {}


def test_drop_chart_shows_interval_drop_and_budget_in_points() -> None:
    accuracy = made_up_report().accuracy
    assert accuracy is not None
    spec = charts.drop_chart(accuracy)
    assert marks(spec) == ["rule", "point", "rule", "text"]
    assert spec["data"]["values"] == [
        {"drop": pytest.approx(0.41), "low": pytest.approx(0.08), "high": pytest.approx(0.79)}
    ]
    assert spec["layer"][2]["data"]["values"] == [{"budget": pytest.approx(1.0)}]


def test_drop_in_the_unit_of_a_metric_is_not_scaled() -> None:
    accuracy = made_up_report().accuracy
    assert accuracy is not None
    error = accuracy.model_copy(update={"unit": "dB", "drop": 0.3, "interval": None, "budget": None})
    spec = charts.drop_chart(error)
    assert spec["data"]["values"] == [{"drop": 0.3, "low": 0.3, "high": 0.3}]
    assert marks(spec) == ["rule", "point"]
    assert "no budget" in spec["description"]


def test_search_chart_joins_every_step_in_order() -> None:
    report = made_up_report()
    assert report.accuracy is not None
    spec = charts.search_chart(report, report.accuracy)
    assert marks(spec) == ["line", "point", "rule", "text"]
    rows = spec["data"]["values"]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["layers"] for row in rows] == [0, 1, 3, 1, 2, 2]
    assert [row["kind"] for row in rows].count("over the budget") == 3
    assert spec["layer"][0]["encoding"]["order"] == {"field": "step"}


def test_ranking_chart_shows_the_worst_first_and_never_zero_on_a_log_axis() -> None:
    report = made_up_report(layers=60)
    nothing = report.ranking[0].model_copy(update={"sensitivity": 0.0})
    report = report.model_copy(update={"ranking": [nothing, *reversed(report.ranking)]})
    rows = charts.ranking_chart(report)["data"]["values"]
    assert len(rows) == charts.MOST_RANKED
    assert [row["sensitivity"] for row in rows] == sorted((row["sensitivity"] for row in rows), reverse=True)
    assert all(row["sensitivity"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("sensitivities", "ticks"),
    [
        ([0.3, 2e-4], [1e-3, 1e-2, 1e-1]),
        ([0.09, 0.03], [0.03, 0.05, 0.09]),  # the ends where there are no two round ones
        ([0.9, 0.02], [0.02, 0.05, 0.1, 0.2, 0.5]),
        ([0.3], [0.3]),
    ],
)
def test_log_axis_has_ticks_inside_its_data(sensitivities: list[float], ticks: list[float]) -> None:
    report = made_up_report(layers=3)
    ranking = [report.ranking[0].model_copy(update={"sensitivity": sensitivity}) for sensitivity in sensitivities]
    spec = charts.ranking_chart(report.model_copy(update={"ranking": ranking}))
    assert spec["encoding"]["x"]["axis"]["values"] == ticks


def test_names_that_look_alike_when_shortened_stay_apart() -> None:
    report = made_up_report(layers=3)
    long = "a" * 60
    ranking = [
        report.ranking[0].model_copy(update={"layers": [f"{long}{middle}{long}"], "sensitivity": 0.5})
        for middle in "xyz"
    ]
    rows = charts.ranking_chart(report.model_copy(update={"ranking": ranking}))["data"]["values"]
    assert len({row["label"] for row in rows}) == 3


def test_finalist_chart_shows_every_plan_and_the_fp32_model() -> None:
    report = made_up_report()
    assert report.accuracy is not None
    rows = charts.finalist_chart(report, report.accuracy)["data"]["values"]
    assert [row["kind"] for row in rows] == ["measured", "chosen", "measured", "FP32"]
    assert rows[1] == {"ms": 4.24, "drop": pytest.approx(0.41), "kind": "chosen", "label": "2 reverted"}


def test_sqnr_chart_leaves_out_what_was_not_measured_or_is_infinite() -> None:
    report = made_up_report(layers=5)
    layers = [
        layer.model_copy(update={"sqnr_db": value})
        for layer, value in zip(report.layers, (30.0, None, float("inf"), 12.5, 28.0), strict=True)
    ]
    spec = charts.sqnr_chart(report.model_copy(update={"layers": layers}))
    assert [(row["place"], row["sqnr"]) for row in spec["data"]["values"]] == [(1, 30.0), (4, 12.5), (5, 28.0)]
    assert "lowest is 12.5 dB" in spec["description"]


def test_histogram_chart_has_bars_edges_of_the_choice_and_a_bar_an_estimator() -> None:
    assert marks(histogram_chart()) == ["bar", "rule", "rule", "bar", "bar"]


def test_histogram_data_holds_all_bins_and_all_estimators() -> None:
    quantizer = made_up_report().quantizers[1]
    data = histogram_data(quantizer)
    assert len(quantizer.histogram_edges) == len(data["counts"]) + 1 == 65
    assert data["edges"] == pytest.approx([quantizer.histogram_edges[0], quantizer.histogram_edges[-1]], rel=1e-5)
    uneven = quantizer.model_copy(update={"histogram_edges": [0.0, 1.0, 4.0], "histogram_counts": [5, 2]})
    assert histogram_data(uneven)["edges"] == [0.0, 1.0, 4.0]
    assert sum(data["counts"]) == sum(quantizer.histogram_counts)
    assert set(data["ranges"]) == {"min-max", "percentile", "kl", "mse"}
    assert data["chosen"] == pytest.approx([quantizer.low, quantizer.high], rel=1e-5)


def _luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("dark", "paper"), [(False, "#ffffff"), (True, "#14171c")])
def test_marks_and_words_stand_out_from_the_paper(dark: bool, paper: str) -> None:
    config = theme(dark)

    def contrast(color: str) -> float:
        light, low = sorted((_luminance(color), _luminance(paper)), reverse=True)
        return (light + 0.05) / (low + 0.05)

    # WCAG 2.1: 3:1 for graphics (1.4.11), 4.5:1 for text (1.4.3).
    graphics = [*config["range"]["category"], config["style"]["muted"]["color"], config["style"]["budget"]["color"]]
    assert all(contrast(color) >= 3 for color in graphics)
    words = [
        config["axis"]["labelColor"],
        config["axis"]["titleColor"],
        config["legend"]["labelColor"],
        config["text"]["color"],
    ]
    assert all(contrast(color) >= 4.5 for color in words)


def test_one_step_is_a_sentence_and_one_plan_is_drawn_beside_fp32() -> None:
    report = made_up_report()
    report = report.model_copy(update={"search": report.search[:1], "finalists": []})
    specs = charts.report_charts(report)
    assert "search" not in specs
    assert [row["label"] for row in specs["finalists"]["data"]["values"]] == ["INT8", "FP32"]
