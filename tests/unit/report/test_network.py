"""The graph of the layers as data: blocks from names, runs where names tell nothing, every order topological."""

from __future__ import annotations

import json

from report_fixtures.made_up import made_up_report

from calib.report.html import render_html
from calib.report.network import MOST_MEMBERS, blocks_of, network_data
from calib.values.facts import JoinFacts


def followed(layers: int):
    """A chain of layers with a residual join after each third."""
    report = made_up_report(layers=layers)
    joins = [
        JoinFacts(name=f"features/block{i // 3}/Add", type="Add", follows=[i, i - 1]) for i in range(3, layers - 1, 3)
    ]
    places = {3 * (k + 1): layers + k for k in range(len(joins))}
    facts = [
        layer.model_copy(update={"follows": [places.get(i - 1, i - 1)] if i else [], "output_precision": "u8"})
        for i, layer in enumerate(report.layers)
    ]
    return report.model_copy(update={"layers": facts, "joins": joins})


def members(blocks: list, of: list[int], block: int) -> int:
    return of.count(block) + sum(outer == block for _, outer in blocks)


def test_names_become_blocks_inside_each_other():
    names = [
        "stem/conv/Conv",
        *(f"body.{i}.{part}/MatMul" for i in range(3) for part in ("attention.q", "attention.k", "mlp")),
    ]
    blocks, of = blocks_of(names)
    assert blocks[0] == ["body", -1]
    assert [label for label, outer in blocks if outer == 0] == ["0", "1", "2"]
    assert [label for label, _ in blocks].count("attention") == 3
    assert of[0] == -1 and blocks[of[1]][0] == "attention" and blocks[of[3]] == ["0", 0]


def test_a_beginning_that_all_names_have_is_no_block_and_names_that_tell_nothing_are_divided_in_order():
    blocks, of = blocks_of([f"model/net/{part}/Conv" for part in "abc"])
    assert blocks == [] and of == [-1, -1, -1]
    blocks, of = blocks_of([f"Convolution_{i}" for i in range(2000)])
    assert of == sorted(of) and len(blocks) == -(-2000 // 44) and blocks[0][0] == "1 to 44 of 2000"
    for block in range(len(blocks)):
        assert 0 < members(blocks, of, block) <= 44


def test_same_names_and_names_of_many_parts_and_no_names_end():
    assert blocks_of([]) == ([], [])
    assert blocks_of(["a", "a"]) == ([], [-1, -1])
    blocks, of = blocks_of(["/".join("x" * 5000), "/".join("x" * 5000 + "y"), "/", ""])
    assert len(of) == 4 and len(blocks) <= 1


def test_the_order_is_topological_and_2000_layers_are_a_small_page_more():
    report = followed(2000)
    data = network_data(report)
    assert data is not None
    place = {node: i for i, node in enumerate(data["order"])}
    assert sorted(place) == list(range(len(report.layers) + len(report.joins)))
    assert all(place[source] < place[node] for node, sources in enumerate(data["follows"]) for source in sources)
    for block in range(len(data["blocks"])):
        assert members(data["blocks"], data["of"], block) <= MOST_MEMBERS
    assert len(json.dumps(data, separators=(",", ":"))) < 120_000


def test_a_report_that_does_not_say_has_no_graph():
    report = made_up_report(layers=5)
    assert network_data(report) is None and "data-network=" not in render_html(report).split("<script", 1)[0]
    assert 'data-network="layers"' in render_html(followed(5))
