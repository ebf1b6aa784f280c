"""Attention in INT8: written as one operation or as MatMuls it is quantized alike, and only where its error allows.

covers: calib.corrections.attention
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from building import Net, ints, op
from cpu_features import EXACT_INT8

from calib import quantize
from calib.corrections.attention import attention_costs
from calib.corrections.candidate import Candidate
from calib.corrections.scoring import Scored
from calib.engine.attention import SURE_DB, with_attention_ranges
from calib.engine.placing import place_quantizers
from calib.engine.prepare import prepare
from calib.engine.result import Result
from calib.graph.attention import Attention, attention_in, weighted_sums
from calib.graph.insert import Edits
from calib.ranges.weighted_sum import NAME
from calib.runtime.executed import executed_nodes
from calib.runtime.session import SIMULATED, Session, compile_model, ov
from calib.values.plan import QuantizationPlan, Range, TensorId

KEYS, WIDTH, HEADS = 96, 32, 2


def network(*, fused: bool, sharpness: float = 1.0, causal: bool = False, keys: int = KEYS) -> ov.Model:
    """Return one layer of self-attention, as one operation or written as MatMuls, with the same weights."""
    net = Net()
    x, size = net.input(1, keys, WIDTH), WIDTH // HEADS

    def split(y: Any) -> Any:
        return op.transpose(op.reshape(y, ints(0, 0, HEADS, size), True), ints(0, 2, 1, 3))

    q, k, v = (split(net.dense(x, WIDTH)) for _ in range(3))
    factor = sharpness * size**-0.5
    if fused:
        scale = op.constant(np.float32(factor))
        mixed = op.scaled_dot_product_attention(q, k, v, scale=scale, causal=causal)
        mixed.set_friendly_name("attention")
    else:
        scores = op.multiply(op.matmul(q, k, False, True), np.float32(factor))
        if causal:
            hidden = np.triu(np.full((keys, keys), -np.inf, np.float32), 1)
            scores = op.add(scores, op.constant(hidden))
        mixed = op.matmul(op.softmax(scores, -1), v, False, False)
    x = op.add(x, op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(0, 0, WIDTH), True))
    return net.model(net.dense(x, 16))


def samples(count: int = 12, keys: int = KEYS) -> list[np.ndarray]:
    return list(np.random.default_rng(1).standard_normal((count, 1, keys, WIDTH)).astype(np.float32))


def placed(model: ov.Model, feeds: Any):
    job = prepare(model, feeds, flags={"effort": "fast"})
    return job, place_quantizers(job)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "causal"])
def both(request: pytest.FixtureRequest) -> list[Result]:
    """The same attention quantized as one operation, and as MatMuls."""
    models = [network(fused=fused, causal=request.param) for fused in (True, False)]
    return [quantize(model, samples(), effort="fast", speed=False) for model in models]


def test_one_operation_and_matmuls_get_the_same_layers_ranges_and_outputs(both: list[Result]):
    one, two = (result.report for result in both)
    assert [(a.type, a.planned, a.executed) for a in one.layers] == [
        (b.type, b.planned, b.executed) for b in two.layers
    ]
    for a, b in zip(one.quantizers, two.quantizers, strict=True):
        assert (a.scheme, a.estimator) == (b.scheme, b.estimator)
        assert (a.low, a.high) == pytest.approx((b.low, b.high), rel=1e-4)
    feed = [samples()[0]]
    outputs = [Session(result.model)(feed)[0] for result in both]
    assert np.linalg.norm(outputs[0] - outputs[1]) < 0.01 * np.linalg.norm(outputs[1])


def test_one_operation_and_matmuls_run_as_the_same_primitives(both: list[Result]):
    """So they take the same time: of two compilations of the same primitives nothing else is different."""
    ran = []
    for result in both:
        nodes = executed_nodes(compile_model(result.model))
        ran.append(
            sorted((node.kind, node.primitive) for node in nodes if node.kind not in ("Input", "Const", "Output"))
        )
    assert ran[0] == ran[1]


def test_in_floating_point_attention_written_out_runs_as_openvino_writes_it_out():
    job, _ = placed(network(fused=True), samples())
    kinds = []
    for model in (job.reference, job.loaded.model):
        nodes = executed_nodes(compile_model(model))
        kinds.append(sorted(node.primitive for node in nodes if node.kind in ("Subgraph", "MatMul", "FullyConnected")))
    assert len(kinds[1]) <= len(kinds[0])  # OpenVINO's own has a Multiply of its own on the queries
    assert set(kinds[1]) <= set(kinds[0])


def test_the_range_behind_softmax_is_chosen_by_the_error_of_the_sums_for_every_effort_and_estimator_of_calib():
    for effort in ("fast", "balanced"):
        report = quantize(network(fused=True, sharpness=0.3), samples(), effort=effort, speed=False).report
        (behind,) = (q for q in report.quantizers if q.tensor == "attention/softmax:0")
        assert behind.estimator == NAME and "least error of the sums" in behind.reason


def test_an_estimator_that_is_asked_for_chooses_every_range():
    report = quantize(network(fused=True), samples(), effort="fast", speed=False, estimator="minmax").report
    assert {quantizer.estimator for quantizer in report.quantizers} == {"minmax"}


def test_sums_whose_error_is_too_large_stay_in_floating_point_with_the_figure_and_the_scores_do_not():
    feeds = samples(keys=512)
    job, plan = placed(network(fused=True, sharpness=1.2, keys=512), feeds)
    layers, ranged = with_attention_ranges(job, job.loaded.model, job.view, plan)
    assert [layer.name for layer in plan.layers if layer not in ranged.layers] == ["attention"]
    assert layers == Attention(scores=frozenset({"attention/scores"}))
    (reason,) = (skipped.reason for skipped in ranged.skipped if skipped.name == "attention")
    assert f"under {SURE_DB:g} dB" in reason
    assert all(quantizer.tensor != TensorId("attention/softmax") for quantizer in ranged.activations)


def test_layers_of_attention_are_found_through_what_lies_between():
    job, plan = placed(network(fused=False, causal=True), samples())
    assert attention_in(job.view, plan) == Attention(frozenset({"MatMul_4"}), frozenset({"MatMul_2"}))
    dense = Net()
    job, plan = placed(dense.model(dense.dense(dense.input(1, 8, 16), 16)), [np.ones((1, 8, 16), np.float32)])
    assert not weighted_sums(job.view, plan) and not attention_in(job.view, plan).layers


class _Scores:
    """Scorer that gives these scores, one a model."""

    def __init__(self, *scores: float):
        self.scores = iter(scores)

    def score(self, model: ov.Model) -> Any:
        """Return the next score."""
        return Scored(model, None, {}, {}, next(self.scores))


@pytest.mark.parametrize(
    ("without", "without_sums", "left"),
    [
        (31.9, 31.0, set[str]()),
        (32.1, 30.2, {"attention"}),
        (32.1, 30.0, {"attention", "attention/scores"}),
    ],
)
def test_attention_that_costs_more_than_two_decibels_is_left_out_as_far_as_needed_with_figures_and_cpu(
    without: float, without_sums: float, left: set[str]
):
    job, plan = placed(network(fused=True), samples())
    both = Attention(frozenset({"attention"}), frozenset({"attention/scores"}))
    candidate = Candidate(job.loaded.model, job.view, with_ranges(plan), Edits())
    found = attention_costs(candidate, 30.0, both, _Scores(without, without_sums))  # pyright: ignore[reportArgumentType]
    assert found.keys() == left
    for reason in found.values():
        assert "30.0 dB" in reason and "32.1 dB" in reason and ("without VNNI" in reason) != EXACT_INT8


def with_ranges(plan: QuantizationPlan) -> QuantizationPlan:
    """Return the plan with some range for every quantizer."""
    return replace(plan, activations=tuple(replace(q, range=Range(-4, 4)) for q in plan.activations))


def test_keys_with_an_outlier_channel_leave_attention_in_floating_point():
    """One channel of the keys is a thousand times the others and meets queries of 0: levels for it leave none."""
    net = Net()
    x, size = net.input(1, KEYS, WIDTH), 16
    large = np.ones((1, 1, WIDTH), np.float32)
    large[..., 0] = 3000
    q, k, v = (net.dense(x, WIDTH) for _ in range(3))
    q, k = op.divide(q, op.constant(large)), op.multiply(k, op.constant(large))
    parts = (op.transpose(op.reshape(y, ints(0, 0, 2, size), True), ints(0, 2, 1, 3)) for y in (q, k, v))
    mixed = op.scaled_dot_product_attention(*parts)
    mixed.set_friendly_name("attention")
    model = net.model(op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(0, 0, WIDTH), True))
    report = quantize(model, samples(24), speed=False, target="cpu").report
    reasons = {layer.name: layer.reason for layer in report.layers if layer.name.startswith("attention")}
    assert "more than 2 dB apart (measured on a CPU with" in reasons["attention/scores"]
    assert all(layer.planned == "int8" for layer in report.layers if "attention" not in layer.name)


def test_simulated_attention_is_within_two_decibels_of_attention_in_floating_point():
    model, feeds, unseen = network(fused=True), samples(), samples(16)[12:]
    found = {}
    for name, ignore in (("int8", ()), ("float", ("attention",))):
        session = Session(quantize(model, feeds, effort="fast", speed=False, ignore=ignore).model, SIMULATED)
        pairs = [
            (x, y)
            for [x], [y] in zip(
                *(each([x] for x in unseen) for each in (Session(model).each, session.each)), strict=True
            )
        ]
        noise, power = (
            sum(float((e**2).sum()) for e in each) for each in zip(*((a - b, a) for a, b in pairs), strict=True)
        )
        found[name] = 10 * np.log10(power / noise)
    assert found["int8"] > found["float"] - 2 > 20
