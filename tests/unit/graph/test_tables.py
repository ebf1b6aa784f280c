"""Embedding tables are kept in 8 bit with a scale a row where that is exact enough, and never stored twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import Net, integer, op
from cpu_features import TARGET

import calib
from calib.corrections.half_range import with_levels
from calib.graph.insert import Edits, insert
from calib.graph.placement import planned
from calib.graph.tables import row_scales
from calib.graph.view import GraphView
from calib.ranges.affine import dequantized, quantize_weights
from calib.runtime.session import Session, ov
from calib.values.plan import FULL_RANGE, HALF_RANGE, Port, QuantizationPlan, Range

ROWS, WIDTH = 2000, 32


def words(*, tied: bool = False, table: np.ndarray | None = None, readers: int = 1) -> ov.Model:
    """Return a table of words, a hidden layer, and a head whose weights are the table too where they are tied."""
    net = Net()
    x = net.input(1, 8, dtype=np.int64)
    drawn = net.rng.standard_normal((ROWS, WIDTH)).astype(np.float32)  # in any case: the other weights follow
    constant = op.constant(drawn if table is None else table)
    constant.set_friendly_name("table")
    picked = [op.gather(constant, x, integer(0)) for _ in range(readers)]
    for number, node in enumerate(picked):
        node.set_friendly_name(f"embed{number or ''}")
    hidden = op.relu(net.dense(picked[0] if readers == 1 else op.concat(picked, 1), WIDTH))
    head = op.matmul(hidden, constant if tied else net.weights(ROWS // 100, WIDTH), False, True)
    head.set_friendly_name("head")
    return net.model(head)


def samples(count: int = 12) -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, ROWS, (count, 1, 8)))


def tables_of(model: ov.Model, *patterns: str) -> dict[str, str]:
    """Return Gather → why it stays in floating point; empty if it does not."""
    plan = planned(GraphView(model), patterns)
    found = {layer.name: "" for layer in plan.layers if layer.type == "Gather"}
    return found | {one.name: one.reason for one in plan.skipped if one.type == "Gather"}


def test_rows_have_a_scale_each_and_give_what_their_integers_say():
    model = words()
    view = GraphView(model)
    plan = planned(view)
    (weight,) = [one for one in plan.weights if one.port.node == "embed"]
    assert weight.scale_shape == row_scales(view, Port("embed", 0)) == (ROWS, 1) and weight.levels == FULL_RANGE
    layers = tuple(layer for layer in plan.layers if layer.name == "embed")
    only = QuantizationPlan(layers, (), (weight,))
    table = view.values(view.tensor(Port("embed", 0)))
    exact = words(table=dequantized(*quantize_weights(table, (ROWS, 1))))
    ours, theirs = (Session(one)([samples()[0]])[0] for one in (insert(model, only), exact))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_the_file_is_about_a_quarter_and_the_report_names_the_table_apart(tied: bool, tmp_path: Path):
    result = calib.quantize(words(tied=tied), samples(), effort="fast", speed=False, target=TARGET)
    report = result.save(tmp_path / "int8")
    assert report.model.bytes_after < 0.33 * report.model.bytes_before  # scales take one byte for eight numbers
    layer = report.layers[0]
    assert (layer.name, layer.planned, layer.in_int8) == ("embed", "int8-weights", False)
    assert "kept in 8 bit" in layer.reason and (layer.weight_sqnr_db or 0) > 35
    assert report.output_sqnr_db and min(report.output_sqnr_db.values()) > 25


def stored(model: ov.Model) -> int:
    """Return the number of tables in 8 bit."""
    tables = [node for node in model.get_ops() if node.get_type_name() == "Constant" and node.get_shape()[:1] == [ROWS]]
    return sum(node.get_element_type() == ov.Type.i8 for node in tables)


@pytest.mark.parametrize("levels", [FULL_RANGE, HALF_RANGE])
@pytest.mark.parametrize("rounded", [False, True])
def test_a_table_that_is_the_weights_of_a_layer_too_is_stored_once_and_they_change_together(levels: int, rounded: bool):
    model = words(tied=True)
    view = GraphView(model)
    plan = planned(view, weight_levels=levels)
    assert plan.groups == (frozenset({"embed", "head"}),)
    port = Port("head", 1)
    values = quantize_weights(view.values(view.tensor(port)), (ROWS, 1), levels)
    plan = replace(plan, activations=tuple(replace(q, range=Range(-4.0, 4.0)) for q in plan.activations))
    edits = Edits({port: (np.clip(values[0] + np.int8(1), -63, 63), values[1])} if rounded else {})
    assert stored(insert(model, plan, edits)) == 1


@pytest.mark.parametrize(
    ("network", "inexact", "table"),
    [({"tied": True}, [], HALF_RANGE), ({"tied": True}, ["head"], FULL_RANGE), ({"readers": 2}, [], FULL_RANGE)],
)
def test_only_a_table_that_is_weights_too_takes_levels_that_are_chosen_later(network, inexact, table: int):
    plan = with_levels(planned(GraphView(words(**network))), HALF_RANGE, inexact)
    levels = {weight.port.node: weight.levels for weight in plan.weights}
    assert levels["embed"] == table
    assert levels["head"] == (FULL_RANGE if inexact else HALF_RANGE)


@pytest.mark.parametrize("tied", [False, True])
def test_a_small_table_is_quantized_only_where_a_layer_has_it_in_8_bit_anyway(tied: bool):
    small = np.random.default_rng(0).standard_normal((100, WIDTH)).astype(np.float32)
    layers = planned(GraphView(words(tied=tied, table=small))).layers
    assert [layer.name for layer in layers if layer.is_table] == ["embed"] * tied


def test_two_gathers_of_one_table_share_it():
    model = words(readers=2)
    plan = planned(GraphView(model))
    assert plan.groups == (frozenset({"embed", "embed1"}),)


@pytest.mark.parametrize("pattern", ["embed", "type:Gather", "re:emb"])
def test_a_table_can_be_ignored(pattern: str):
    assert tables_of(words(), pattern) == {"embed": f"ignored by {pattern!r}"}


def test_a_table_that_a_layer_in_floating_point_reads_too_stays_with_it():
    assert "head reads too" in tables_of(words(tied=True), "head")["embed"]


def test_a_table_that_8_bit_is_too_coarse_for_stays_with_the_figure():
    """One number of each row is 300 times as large as the others, and is the same: what tells words apart is lost."""
    table = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
    assert tables_of(words(table=table)) == {"embed": ""}
    table[0, 0] = 3e4  # one row of 2,000, in which the others are lost; its own power hides that
    assert tables_of(words(table=table)) == {"embed": ""}
    lost = np.where(np.arange(WIDTH) == 0, 300, table).astype(np.float32)
    assert "under 30 dB" in tables_of(words(table=lost))["embed"]


@pytest.mark.parametrize("shape", [(64, 32), (20000, 4)], ids=["few numbers", "narrow rows"])
def test_small_constants_that_a_gather_reads_are_no_tables(shape: tuple[int, int]):
    net = Net()
    picked = op.gather(net.weights(*shape), net.input(1, 8, dtype=np.int64), integer(0))
    assert not tables_of(net.model(net.dense(picked, 8)))


def test_a_gather_of_columns_is_no_table():
    net = Net()
    picked = op.gather(net.weights(64, 2000), net.input(8, dtype=np.int64), integer(1))
    assert not tables_of(net.model(op.matmul(picked, net.weights(8, 8), False, False)))


def test_the_search_can_put_a_table_back():
    settings = {"metric": "relative-l2", "max_drop": 1e-9, "speed": False, "target": TARGET}
    report = calib.quantize(words(), samples(), **settings).report
    assert {fact.layers[0] for fact in report.ranking} >= {"embed"}
    assert next(fact.sensitivity for fact in report.ranking if fact.layers == ["embed"]) > 0
