"""Results are a line where Python prints them, and a table in a notebook, whatever names hold.

covers: calib.values.benchmark, calib.values.comparison, calib.values.evaluation, calib.values.inspection
"""

from __future__ import annotations

import pytest
from report_fixtures.made_up import made_up_report

import calib
from calib.values.benchmark import Benchmark, BenchmarkEntry
from calib.values.comparison import Comparison, LayerComparison
from calib.values.evaluation import Evaluation, MetricValue
from calib.values.facts import LayerFacts, ModelFacts
from calib.values.frozen import MOST_ROWS, Shown
from calib.values.inspection import Inspection
from calib.values.plan import QuantizationPlan
from calib.values.verification import AccuracyVerification, Verification

EVIL = "<b>\x1b[2Jnet"
TOP = {"metric": "top-1", "higher_is_better": True, "unit": "fraction", "value": 0.8984, "interval": (0.88, 0.91)}


def layers(count: int) -> list[LayerComparison]:
    return [
        LayerComparison(name=f"{EVIL}{i}", type="MatMul", sqnr_db=30.0 - i, cosine=1.0, jump_db=float(i))
        for i in range(count)
    ]


def entry(model: str, speedup: float) -> BenchmarkEntry:
    return BenchmarkEntry(
        model=model, precision="f32", default=True, quantized=speedup > 1, int8_share=0.5, latency_ms=1.234,
        latency_spread_ms=0.1, latency_cpu_ms=1.0, speedup=speedup, speedup_interval=(speedup - 0.1, speedup + 0.1),
    )  # fmt: skip


def judged(**changes: object) -> Evaluation:
    facts = {"calib_version": "1", "model": ModelFacts(name="net"), "validation": "val.csv", "samples": 2500, **TOP}
    return Evaluation.model_validate({**facts, "precision": "f32", **changes})


def verified() -> Verification:
    accuracy = AccuracyVerification(
        precision="f32", deployed=True, metric="top-1", higher_is_better=True, unit="fraction", samples=9,
        baseline=0.9, quantized=0.89, drop=0.01, budget=0.005, promised=True, kept=False,
    )  # fmt: skip
    return Verification(
        calib_version="1", model="net", folder="out", status="within_budget", holds=False, broken=["The drop grew."],
        promised_environment={}, accuracy=[accuracy], latency_ms=1.5,
    )  # fmt: skip


BENCHED = Benchmark(
    calib_version="1", threads=1, streams=0, batch=1, rounds=9, entries=[entry("net", 1.0), entry("int8", 1.4)]
)
COMPARED = Comparison(
    calib_version="1", before=ModelFacts(name="net"), after=ModelFacts(name="int8"), data="d.npz", samples=4,
    layers=layers(20), output_sqnr_db={"out": 31.24}, output_cosine={"out": 1.0}, first_jump="conv",
)  # fmt: skip
INSPECTED = Inspection(
    calib_version="1", model=ModelFacts(name="net"), quantized=True, notes=["One remark."],
    layers=[LayerFacts(name="a", type="MatMul", planned="int8", executed="i8"),
            LayerFacts(name="b", type="MatMul", planned="float", reason="for once")],
)  # fmt: skip


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (judged(), "<Evaluation net: top-1 89.84 % on 2,500 samples, in f32>"),
        (
            judged(each=[MetricValue.model_validate(TOP), MetricValue(metric="mse", higher_is_better=False, value=2)]),
            "<Evaluation net: top-1 89.84 %, mse 2 on 2,500 samples, in f32>",
        ),
        (BENCHED, "<Benchmark net in f32 1.23 ms, int8 in f32 1.23 ms (1.40×)>"),
        (
            COMPARED,
            "<Comparison net → int8, 20 layers on 4 samples: out 31.2 dB, the error first jumps at conv>",
        ),
        (INSPECTED, "<Inspection net, quantized: 2 layers, 1 in float, 1 in i8>"),
        (verified(), "<Verification net: not everything promised holds here; drop 1.00 points in f32>"),
        (QuantizationPlan((), (), ()), "<QuantizationPlan 0 layers in INT8, with ranges>"),
    ],
)
def test_a_result_is_one_line_where_python_prints_it(result: object, line: str):
    assert repr(result) == str(result) == line


def test_a_report_is_one_line_too():
    report = made_up_report(layers=3)
    said = repr(report)
    assert said.startswith(f"<Report {report.model.name}: ") and "drop " in said and "times as fast" in said
    assert len(said) < 300


@pytest.mark.parametrize(
    ("result", "rows"), [(judged(), 1), (BENCHED, 2), (COMPARED, MOST_ROWS), (INSPECTED, 2), (verified(), 2)]
)
def test_a_notebook_gets_a_short_table_without_markup_of_names(result: Shown, rows: int):
    page = result._repr_html_()  # as a notebook does
    assert page.count("<tr>") == rows + 1  # and the titles
    assert "<b>" not in page and "\x1b" not in page


def test_what_is_left_of_a_long_table_and_what_is_to_know_is_said():
    assert "&lt;b&gt;" in COMPARED._repr_html_() and f"and {20 - MOST_ROWS} more" in COMPARED._repr_html_()
    assert "<li>The drop grew.</li>" in verified()._repr_html_()
    assert "<li>One remark.</li>" in INSPECTED._repr_html_()


def test_no_public_result_prints_all_its_fields():
    kinds = [value for name in calib.PUBLIC if isinstance(value := getattr(calib, name), type)]
    documents = [kind for kind in kinds if "calib_version" in getattr(kind, "model_fields", ())]
    assert len(documents) == 6 and all(issubclass(kind, Shown) for kind in documents)


def test_two_models_of_one_name_are_told_apart_by_their_paths():
    before, after = (ModelFacts(name="model", source=f"{folder}/model.xml") for folder in ("a", "b"))
    assert COMPARED.model_copy(update={"before": before, "after": after}).both == "a/model.xml → b/model.xml"
