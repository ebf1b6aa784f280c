"""A report as text for a terminal.

covers: calib.report.digest
"""

from __future__ import annotations

import re

import pytest
from report_fixtures.made_up import made_up_report

from calib.engine.result import Result
from calib.report import digest
from calib.report.digest import notes, summary, to_know
from calib.report.escape import columns_of
from calib.report.html import render_html
from calib.report.text import render_text
from calib.values.facts import LayerFacts, ModelFacts, Report, SettingFacts, Status

ESCAPE = re.compile(r"\x1b\[[0-9]*m")


def test_table_says_what_was_promised_and_what_came_of_it() -> None:
    text = render_text(made_up_report(), width=120)
    for words in (
        "✔ INT8, within the budget",
        "76.12 % → 75.71 %",
        "95 %: 0.08 … 0.79 points",
        "budget 1.00 points",
        "12.1 ms → 4.24 ms",
        "2.85× against f32",
        "1.56× against the default bf16",
        "14.0 MB → 3.61 MB",
        "34 of 40 in INT8",
        "3 reverted",
        "1 did not run as planned",
        "a constant input would overflow FP16 scales",
        "▸ equalization + bias",
        "6 evaluations, 6 compilations, 21,400 inferences",
    ):
        assert words in text


@pytest.mark.parametrize("width", [40, 57, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = render_text(made_up_report(), width=width, color=True).splitlines()
    assert max(columns_of(ESCAPE.sub("", line)) for line in lines) <= width


def test_colours_change_no_character() -> None:
    report = made_up_report()
    plain = render_text(report, width=100, color=False)
    assert "\x1b" not in plain
    assert ESCAPE.sub("", render_text(report, width=100, color=True)) == plain


def test_sqnr_says_its_samples_its_interval_and_the_default_precision() -> None:
    fact = digest.sqnr_fact(made_up_report())
    assert fact.value == "27.3 dB"
    assert fact.detail == (
        "output logits · 95 %: 26.1 … 28.4 dB for unseen samples · from 24 held-out samples, fewer than 30: roughly · "
        "26.9 dB in the default bf16, where FP32 itself has 44.6 dB"
    )


def test_sqnr_of_seen_samples_is_said_to_be_of_these() -> None:
    report = made_up_report()
    assert report.output_sqnr is not None
    seen = report.output_sqnr.model_copy(update={"held_out": False, "samples": ["a"], "default_precision": "f32"})
    detail = digest.sqnr_fact(report.model_copy(update={"output_sqnr": seen})).detail
    assert "from 1 sample of the calibration itself" in detail and "the default precision is f32, too" in detail


def test_doubts_about_the_sqnr_are_notes() -> None:
    report = made_up_report()
    assert report.output_sqnr is not None
    doubtful = report.output_sqnr.model_copy(update={"notes": ["One of 24 samples makes 80 % of the error."]})
    changed = report.model_copy(update={"output_sqnr": doubtful})
    assert "One of 24 samples makes 80 % of the error." in digest.notes(changed)


def test_names_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\r\u202e"
    layer = LayerFacts(name=evil, type="Add", planned="float", reason=f"why {evil}", time_fp32_ms=1, time_int8_ms=2)
    late = layer.model_copy(update={"planned": "int8"})
    report = made_up_report(layers=2)
    report = report.model_copy(
        update={
            "model": report.model.model_copy(update={"name": evil}),
            "layers": [layer, late],
            "warnings": [evil],
            "candidates": [report.candidates[0].model_copy(update={"name": evil, "detail": evil})],
            "output_sqnr_db": {evil: 3.0},
        }
    )
    text = render_text(report)
    assert r"\x1b[2J" in text
    assert all(character.isprintable() or character == "\n" for character in text)


def test_the_sqnr_says_which_samples_it_is_from_and_what_the_written_model_has_on_them() -> None:
    report = made_up_report()
    assert report.output_sqnr is not None
    refitted = report.model_copy(update={"output_sqnr": report.output_sqnr.model_copy(update={"refitted": True})})
    for page in (" ".join(render_text(refitted, width=300).split()), render_html(refitted)):
        assert "27.3 dB" in page and "from 24 held-out samples" in page
        assert "27.5 dB as written, with ranges of all samples" in page
    assert "27.5 dB as written" not in render_text(report, width=300)


def test_report_without_measurements_is_only_what_is_known() -> None:
    report = Report(
        calib_version="0.1.0", status="planned", status_reason="", model=ModelFacts(name="m", source="", fingerprint="")
    )
    text = render_text(report)
    assert "planned, nothing written" in text
    assert "latency" not in text
    assert "recipes" not in text
    assert "to know" not in text


def test_int8_that_does_not_pay_is_said() -> None:
    report = made_up_report()
    assert report.speed is not None
    slow = report.speed.model_copy(update={"latency_int8_ms": 7.0, "speedup_default": 6.62 / 7.0})
    text = render_text(report.model_copy(update={"speed": slow}))
    assert "INT8 does not pay here: 7.00 ms against 6.62 ms" in text


def test_layers_that_lose_much_in_int8_are_said_with_a_way_out_once() -> None:
    report = made_up_report()
    assert report.speed is not None
    fast = report.speed.model_copy(update={"latency_int8_ms": 4.0, "noisy": False})
    times = {"time_fp32_ms": 1.0, "time_default_ms": None, "time_int8_ms": 1.3}
    layer = report.layers[0].model_copy(update={"planned": "int8", **times})
    report = report.model_copy(update={"speed": fast, "layers": [layer], "settings": []})
    (said,) = (text for text in digest.notes(report) if "1 layer" in text)
    assert "lost 0.300 ms of 4.00 ms in INT8" in said and "--optimize-speed" in said and "no effort does" in said
    assert said in digest.to_know(report)[0]
    little = report.model_copy(update={"speed": fast.model_copy(update={"latency_int8_ms": 6.01})})
    asked = SettingFacts(key="optimize_speed", value=True, origin="flag")
    for other in (little, report.model_copy(update={"settings": [asked]})):
        assert "--optimize-speed" not in " ".join(digest.notes(other))
        assert any("1 layer took longer in INT8" in text for text in digest.notes(other))


@pytest.mark.parametrize("status", ["mostly_float", "slower"])
def test_budget_kept_in_vain_is_no_tick(status: Status) -> None:
    report = made_up_report()
    assert report.speed is not None
    slow = report.speed.model_copy(update={"latency_int8_ms": 7.0, "speedup_default": 6.62 / 7.0})
    text = render_text(report.model_copy(update={"status": status, "status_reason": "What to change.", "speed": slow}))
    assert "✔" not in text and "within the budget, but" in text and "What to change." in text
    assert ("INT8 does not pay here" in text) == (status != "slower")  # said once


def test_share_of_the_work_is_not_claimed_where_a_layer_is_not_counted() -> None:
    report = made_up_report()
    assert "% of the multiply-adds" in render_text(report)
    unknown = report.layers[0].model_copy(update={"macs": 0})
    assert "multiply-adds" not in render_text(report.model_copy(update={"layers": [unknown, *report.layers[1:]]}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("logits", "output logits"),
        ("logits[:, 4:]", "output logits[:, 4:]"),
        ("logits/Conv", "tensor logits/Conv"),
    ],
)
def test_a_tensor_inside_the_network_is_not_called_an_output(name: str, said: str) -> None:
    report = made_up_report().model_copy(update={"output_sqnr_db": {name: 12.0, "fine": 40.0}})
    assert f"{said}, the worst" in render_text(report)


def test_rendering_is_deterministic() -> None:
    assert render_text(made_up_report()) == render_text(made_up_report())


def test_reasons_that_differ_in_figures_are_one_line() -> None:
    def layer(name: str, reason: str) -> LayerFacts:
        return LayerFacts(name=name, type="Add", planned="float", reason=reason)

    two = [layer("a", "reverted: place 1"), layer("b", "reverted: place 2")]
    report = made_up_report().model_copy(update={"layers": [*two, layer("c", "ran in f32: feeds a Softmax")]})
    assert digest.float_reasons(report) == [("reverted", 2), ("ran in f32: feeds a Softmax", 1)]


def test_layers_are_slower_only_against_the_faster_precision_and_beyond_noise() -> None:
    def layer(name: str, default: float | None, int8: float) -> LayerFacts:
        times = {"time_fp32_ms": 2.0, "time_default_ms": default, "time_int8_ms": int8}
        return LayerFacts(name=name, type="Add", planned="int8", **times)

    layers = [layer("slow", 1.0, 1.5), layer("close", 1.0, 1.05), layer("fine", None, 1.5), layer("worse", 1.0, 1.9)]
    report = made_up_report().model_copy(update={"layers": layers})
    assert [late.name for late in digest.slower(report)] == ["worse", "slow"]
    assert "1,500 µs" not in render_text(report) and "1500 µs" in render_text(report)


@pytest.mark.parametrize(
    ("status", "headline", "mark"),
    [
        ("within_budget_in_f32_only", "INT8, within the budget in f32 only, not in bf16", "✘"),
        ("within_budget_not_in_f32", "INT8, within the budget in bf16, not in f32", "!"),
    ],
)
def test_a_budget_kept_in_one_precision_says_in_which_and_what_fp32_loses(
    status: str, headline: str, mark: str
) -> None:
    text = render_text(made_up_report(status=status), 120)
    assert f"{mark} {headline}" in text
    line = " ".join(text.split())
    assert "INT8 in bf16" in line and "0.44 points in f32" in line and "FP32 itself loses 0.12 points in bf16" in line


def test_the_short_text_ends_with_at_most_three_sentences_the_urgent_ones_first():
    report = made_up_report()
    report = report.model_copy(
        update={
            "warnings": [
                "INT8 sums saturate on this CPU, which explains something.",
                "A remark that asks for nothing.",
                "Give more samples.",
                "Output 'a' of the INT8 model has an SQNR of 3 dB: much of it is noise.",
                "Try --effort thorough.",
            ]
        }
    )
    first, others = to_know(report)
    assert len(first) == 3 and "much of it is noise" in first[0]
    assert not any("saturate" in note for note in first) and any("saturate" in note for note in others)
    assert sorted(first + others) == sorted(dict.fromkeys(notes(report)))  # nothing is lost
    short = render_text(report, 100, verbose=False)
    assert short.count("▪") == 3 and "--verbose" in short and len(short) < len(render_text(report, 100))


def test_why_a_budget_was_missed_comes_first():
    reason = "The budget is missed by 2 points."
    report = made_up_report(status="over_budget", status_reason=reason)
    assert to_know(report)[0][0] == reason


def test_a_budget_that_no_plan_was_judged_by_is_not_called_missed():
    report = made_up_report(status="over_budget")
    assert report.accuracy is not None and digest.headline(report)[1] == "INT8, over the budget"
    undecided = report.model_copy(update={"accuracy": report.accuracy.model_copy(update={"undecided": True})})
    assert digest.headline(undecided) == ("warning", "INT8, no plan was judged on all samples yet")


def test_a_result_is_one_line_for_whoever_looks_at_it_in_python():
    report = made_up_report()
    result = Result(model=None, report=report, plan=None)  # type: ignore[arg-type]
    assert repr(result) == f"<Result {summary(report)}>" and "\n" not in repr(result) and len(repr(result)) < 300
