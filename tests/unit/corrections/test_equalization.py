from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from building import Net, op
from trust_fixtures.tiny import convnet, images

from calib.corrections.equalization import equalize, evident_scales, rescale
from calib.errors import StatisticsError
from calib.graph.finder import find
from calib.graph.insert import insert
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.runtime.session import Session, compile_model, ov
from calib.values.plan import Range, Scaling, TensorId
from calib.values.summary import TensorSummary


def equalized(held, samples=None, streams=1, model=None):
    model = model or convnet(imbalance=64.0)
    view = GraphView(model)
    samples = samples or [[image[None]] for image in images(8)]
    return equalize(model, view, place(view, find(view)), samples, held, streams)


def test_equalization_says_by_how_much_on_samples_that_had_no_say():
    found, elsewhere = (equalized([[image[None]] for image in held]) for held in (images(4, 5), 3 * images(4, 6)))
    (fact,) = [fact for fact in found.facts if fact.kept]
    assert fact.sqnr_before_db is not None and fact.sqnr_after_db is not None
    assert fact.sqnr_after_db > fact.sqnr_before_db + 10  # a channel 64 times as large as the others
    assert [s.factors for s in elsewhere.scalings] == [s.factors for s in found.scalings]
    assert [f.sqnr_after_db for f in elsewhere.facts] != [f.sqnr_after_db for f in found.facts]


def test_without_held_samples_the_others_say_it():
    found = equalized([])
    assert found.facts and all(f.sqnr_after_db is not None for f in found.facts)


def test_the_rescaled_network_is_the_same_function_to_the_bit_and_the_one_given_stays():
    model = convnet(imbalance=64.0)
    view, sample = GraphView(model), [images(1, 9)[0][None]]
    before = Session(model)(sample)[0]
    scalings = equalized([], model=model).scalings
    assert scalings
    other = rescale(model, view, scalings)
    assert other is not model
    np.testing.assert_array_equal(Session(other)(sample)[0], before)
    np.testing.assert_array_equal(Session(model)(sample)[0], before)
    changed = [
        not np.array_equal(one.data, two.data)
        for one, two in zip(model.get_ordered_ops(), other.get_ordered_ops(), strict=True)
        if one.get_type_name() == two.get_type_name() == "Constant"
    ]
    assert sum(changed) >= 2  # a writer and a reader at least


def test_scalings_do_not_depend_on_streams_or_on_the_order_of_samples():
    samples, held = ([[image[None]] for image in images(*which)] for which in ((8,), (4, 5)))
    model = convnet(imbalance=64.0)
    expected = equalized(held, samples, model=model).scalings
    assert expected == equalized(held, samples, streams=2, model=model).scalings
    assert expected == equalized(held, samples[::-1], model=model).scalings


@pytest.mark.parametrize(("other", "channels"), [("", 1), ("elsewhere", 0)])
def test_a_scaling_of_another_model_is_refused(other: str, channels: int):
    model = convnet(imbalance=64.0)
    scaling = equalized([], model=model).scalings[0]
    tensor = TensorId(other or scaling.tensor.node, scaling.tensor.output)
    for wrong in (tensor, TensorId(scaling.tensor.node, 1)):
        with pytest.raises(StatisticsError, match="made for another model"):
            rescale(model, GraphView(model), [Scaling(wrong, (*scaling.factors, *[1.0] * channels))])


def outliers(act: str = "gelu", factor: float = 100.0) -> tuple[ov.Model, list[list[np.ndarray]]]:
    """Return a layer behind an activation that three of its channels leave as large as ``factor``, and samples."""
    net = Net(5)
    scale = np.ones(24, np.float32)
    scale[[3, 8, 20]] = factor
    x = net.input(1, 12, 16)
    pre = op.matmul(x, op.constant((net.rng.standard_normal((16, 24)) / 4).astype(np.float32) * scale), False, False)
    inner = {"gelu": lambda: op.gelu(pre, "erf"), "swish": lambda: op.swish(pre), "hswish": lambda: op.hswish(pre)}[
        act
    ]()
    last = (net.rng.standard_normal((24, 16)) / 5).astype(np.float32) / scale[:, None]
    model = net.model(op.add(x, op.matmul(inner, op.constant(last), False, False)))
    return model, [[net.rng.standard_normal((1, 12, 16)).astype(np.float32)] for _ in range(12)]


@pytest.mark.parametrize("act", ["gelu", "swish", "hswish"])
def test_scales_go_in_front_of_layers_that_read_outlier_channels(act: str):
    model, samples = outliers(act)
    found = equalized(samples[8:], samples[:8], model=model)
    (scaling,) = found.scalings
    (fact,) = [fact for fact in found.facts if fact.kept]
    assert scaling.ports and fact.correction == "inserted scales" and "in front of" in fact.detail
    assert set(np.argsort(scaling.factors)[-3:]) == {3, 8, 20}
    assert fact.sqnr_before_db is not None and fact.sqnr_after_db is not None
    assert fact.sqnr_after_db > fact.sqnr_before_db + 20
    before, after = (Session(one)(samples[0])[0] for one in (model, rescale(model, GraphView(model), found.scalings)))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_even_channels_get_no_scale():
    model, samples = outliers(factor=1.0)
    assert equalized(samples[8:], samples[:8], model=model).scalings == ()


@pytest.mark.parametrize("act", ["gelu", "swish", "hswish"])
def test_an_inserted_scale_runs_in_a_kernel_that_is_there_without_it(act: str):
    model, samples = outliers(act)
    found = equalized(samples[8:], samples[:8], model=model)
    kernels: list[list[str]] = []
    for scalings in ((), found.scalings):
        other = rescale(model, GraphView(model), scalings)
        view = GraphView(model)
        plan = place(view, find(view)).rescaled(scalings)
        ranged = tuple(replace(q, range=Range(-4.0, 4.0)) for q in plan.activations)
        compiled = compile_model(insert(other, replace(plan, activations=ranged), fold=True))
        ran = compiled.get_runtime_model().get_ordered_ops()
        kernels.append(sorted(str(node.get_rt_info()["layerType"].value) for node in ran))
    assert kernels[0] == kernels[1]


def test_an_inserted_scale_has_to_gain_more_than_a_factor_that_a_constant_takes():
    found = equalized([])  # the mean before the last layer has channels that differ somewhat
    assert {fact.correction for fact in found.facts} == {"equalization"}
    assert all(not scaling.ports for scaling in found.scalings)


def summarized(channels: np.ndarray) -> TensorSummary:
    """Return the statistics of a tensor whose channels reach this far both ways."""
    top = float(channels.max())
    return TensorSummary(TensorId("x"), 8, -top, top, -top, top, None, -channels, channels)


@pytest.mark.parametrize("factor", [100.0, 1.0])
def test_extremes_of_channels_alone_show_outliers(factor: float):
    model, _ = outliers(factor=factor)
    view = GraphView(model)
    plan = place(view, find(view))
    reach = np.ones(24, np.float32)
    reach[[3, 8, 20]] = factor
    (gelu,) = [q.tensor for q in plan.activations if "Gelu" in q.tensor.node]
    found = evident_scales(view, plan, {gelu: summarized(reach)})
    assert len(found) == (factor > 1)
    for scalable, factors, fact in found:
        assert scalable.tensor == gelu and set(np.argsort(factors)[-3:]) == {3, 8, 20} and fact.kept
    assert evident_scales(view, plan, {gelu: replace(summarized(reach), trimmed_high=0.5)}) == []  # by a broken sample
    assert evident_scales(view, plan, {gelu: replace(summarized(reach), channel_low=None, channel_high=None)}) == []
