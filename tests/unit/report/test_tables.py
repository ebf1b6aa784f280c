"""Tables for the page, as plain data."""

from __future__ import annotations

from report_fixtures.made_up import made_up_report

from calib.report.tables import Column, Table, correction_table, layer_table, ranking_table
from calib.values.accuracy_facts import RankFacts
from calib.values.facts import CorrectionFacts, LayerFacts, Report


def test_columns_that_hold_nothing_are_left_out_and_floats_are_short():
    columns = (Column("name"), Column("empty"), Column("value", "number", help="what it is"))
    table = Table("row", columns, [["a", None, 1 / 3], ["b", "", 2.0]], {"some": [1], "none": []}).data()
    assert [column["title"] for column in table["columns"]] == ["name", "value"]
    assert table["columns"][1]["help"] == "what it is"
    assert table["rows"] == [["a", 0.333333], ["b", 2.0]]
    assert table["noun"] == "row" and table["filters"] == {"some": [1]}


def report(**changes) -> Report:
    return made_up_report().model_copy(update=changes)


def test_layers_keep_their_order_and_can_be_chosen_by_what_became_of_them():
    layers = [
        LayerFacts(name="ran", type="Convolution", planned="int8", executed="i8"),
        LayerFacts(name="did not", type="MatMul", planned="int8", executed="f32", reason="why"),
        LayerFacts(name="back", type="MatMul", planned="float", executed="f32", reverted=True),
    ]
    table = layer_table(report(layers=layers, quantizers=[]))
    assert [row[0] for row in table.rows] == ["ran", "did not", "back"]
    assert [row[4] for row in table.rows] == ["i8", "f32 !", "f32"]
    chosen = {name: rows for name, rows in table.filters.items() if rows}
    assert chosen == {"INT8": [0, 1], "floating point": [2], "reverted": [2], "not run as planned": [1]}


def test_the_ranking_starts_with_the_worst():
    layers = [LayerFacts(name="b", type="MatMul", planned="float", reverted=True)]
    ranking = [RankFacts(layers=["a"], sensitivity=0.1), RankFacts(layers=["b", "c"], sensitivity=0.4)]
    table = ranking_table(report(layers=layers, ranking=ranking))
    assert table.rows == [[1, "b, c", 0.4, "float"], [2, "a", 0.1, "int8"]]


def test_corrections_are_told_apart_by_what_was_kept():
    facts = [
        CorrectionFacts(correction="rounding", layer="a", kept=True),
        CorrectionFacts(correction="bias", layer="", kept=False),
    ]
    table = correction_table(report(corrections=facts))
    assert [row[1:3] for row in table.rows] == [["a", "kept"], ["the whole network", "dropped"]]
    assert table.filters == {"kept": [0], "dropped": [1]}
