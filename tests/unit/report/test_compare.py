"""Comparisons, benchmarks and the machine as text and as a page.

covers: calib.report.bench, calib.report.doctor
"""

from __future__ import annotations

import pytest

from calib.report.bench import render_benchmark_text
from calib.report.charts import jumps_chart
from calib.report.compare import comparison_table, render_comparison_html, render_comparison_text, summary
from calib.report.doctor import render_doctor_text
from calib.report.escape import columns_of
from calib.values.benchmark import Benchmark, BenchmarkEntry
from calib.values.comparison import Comparison, LayerComparison
from calib.values.doctor import Doctor
from calib.values.facts import ModelFacts

HOSTILE = "<script>alert(1)</script>\x1b[2J"


def comparison(jump: bool = True) -> Comparison:
    facts = ModelFacts(name="net")
    layers = [
        LayerComparison(name="stem", type="Convolution", sqnr_db=41.0, cosine=0.9999, executed_after="i8"),
        LayerComparison(
            name=HOSTILE,
            type="MatMul",
            sqnr_db=12.5,
            cosine=0.97,
            jump_db=17.5,
            executed_before="f32",
            executed_after="i8",
            time_before_ms=0.5,
            time_after_ms=0.75,
        ),
    ]
    return Comparison(
        calib_version="0",
        before=facts,
        after=facts,
        data="d.npz",
        samples=3,
        layers=layers if jump else layers[:1],
        first_jump=HOSTILE if jump else "",
        output_sqnr_db={"out": 12.0},
        output_cosine={"out": 0.96},
        notes=["a note"],
    )


@pytest.mark.parametrize("width", [60, 100, 160])
def test_text_marks_the_first_jump_and_stays_in_the_width(width):
    text = render_comparison_text(comparison(), width)
    assert [line for line in text.splitlines() if line.endswith("◀")]
    assert "f32 → i8" in text and "12.5 dB" in text and "a note" in text
    assert "\x1b" not in text


def test_the_page_has_a_chart_that_marks_the_jumps():
    spec = jumps_chart(comparison())
    assert spec is not None
    assert [row["kind"] for row in spec["data"]["values"]] == ["no jump", "the error jumps"]
    assert "2 layers; the error jumps at 1 layer, the most at" in spec["description"]
    assert "no jump" in (jumps_chart(comparison(jump=False)) or {})["description"]
    nothing = comparison(jump=False).layers[0].model_copy(update={"sqnr_db": None})
    found = comparison().model_copy(update={"layers": [nothing]})
    assert jumps_chart(found) is None and "data-chart=" not in render_comparison_html(found).split("<script", 1)[0]
    assert 'data-chart="jumps"' in render_comparison_html(comparison())


def test_summary_says_where_or_that_nowhere():
    assert "first jumps at" in summary(comparison()) and "3 samples" in summary(comparison())
    assert "jumps nowhere" in summary(comparison(jump=False))
    found = comparison()
    hidden = found.layers[1].model_copy(update={"sqnr_db": None})
    some = found.model_copy(update={"layers": [found.layers[0], hidden], "first_jump": ""})
    assert "none of the 1 that can be looked at loses" in summary(some)


def test_page_holds_every_layer_and_runs_nothing_from_a_name():
    page = render_comparison_html(comparison())
    assert "<script>alert(1)" not in page
    assert "\\u003cscript\\u003ealert(1)" in page


def test_page_offers_slower_layers_and_jumps_as_choices():
    assert comparison_table(comparison()).filters == {"error jumps": [1], "slower": [1]}


@pytest.mark.parametrize("streams", [0, 2])
def test_benchmark_shows_intervals_and_why_there_is_no_claim(streams):
    entry = BenchmarkEntry(
        model=HOSTILE,
        precision="bf16",
        default=True,
        quantized=True,
        int8_share=0.98,
        latency_ms=2.0,
        latency_spread_ms=0.25,
        latency_cpu_ms=1.9,
        speedup=3.1,
        speedup_interval=(2.8, 3.4),
        throughput=812.0 if streams else None,
        throughput_gain=2.5 if streams else None,
        throughput_interval=(2.4, 2.6) if streams else None,
    )
    found = Benchmark(
        calib_version="0",
        threads=1,
        streams=streams,
        batch=1,
        rounds=40,
        entries=[entry],
        noisy=True,
        notes=["Too noisy"],
    )
    named = entry.model_copy(update={"model": "mobilenet-int8"})
    text = render_benchmark_text(found, 120)
    assert (
        "bf16 *" in text
        and "* is the precision that this machine chooses" in text
        and "3.10×" in text
        and "2.80–3.40" in text
        and "98.0 %" in text
    )
    assert "Too noisy" in text and "\x1b" not in text
    assert ("812" in text) == bool(streams)
    assert max(map(columns_of, render_benchmark_text(found, 80).splitlines())) <= 80
    assert "…" not in render_benchmark_text(found.model_copy(update={"entries": [named]}), 80)


def test_doctor_names_what_is_missing_and_how_to_get_it():
    found = Doctor(
        calib_version="0",
        versions={"openvino": "1"},
        cpu="some CPU",
        features={"vnni": False},
        cores=2,
        threads=2,
        memory=1 << 30,
        default_precision="f32",
        exact_int8=False,
        extras={"dask": {"distributed": ""}, "text": {"jiwer": "4.0"}},
        missing={"dask": ["distributed>=2024.1"]},
        advice=["one sentence"],
    )
    text = render_doctor_text(found, 80)
    assert "for dask: pip install 'distributed>=2024.1'" in text and "text   installed  the metrics wer" in text
    assert "can saturate" in text and "one sentence" in text
