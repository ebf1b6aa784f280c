"""The statistics of a network in pieces are those of the network as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op

import calib.graph.pieces as pieces_of
from calib.errors import DataError
from calib.graph.taps import Kind, Need, tap
from calib.runtime.session import ov
from calib.statistics.collect import collect
from calib.values.plan import TensorId
from calib.values.summary import TensorSummary

LAYERS, SAMPLES = 10, 7
IMAGES = np.random.default_rng(1).normal(size=(SAMPLES, 1, 4, 6, 6)).astype(np.float32)
FEEDS = [(str(number), str(number), (image,)) for number, image in enumerate(IMAGES)]


def network() -> ov.Model:
    net = Net()
    x = net.input(1, 4, 6, 6)
    for number in range(LAYERS):
        x = op.relu(net.conv(x, 4))
        x.set_friendly_name(f"relu{number}")
        if number % 3 == 2:
            x = op.add(x, np.float32(-0.25))
            x.set_friendly_name(f"add{number}")
    return net.model(x)


NEEDS = {TensorId(f"relu{number}"): Need(histogram=number % 2 == 0) for number in range(LAYERS)}
NEEDS |= {TensorId("add2"): Need(histogram=True), TensorId("add5"): Need(channels=True)}


def summaries(streams: int = 1) -> dict[TensorId, TensorSummary]:
    return dict(collect(network(), NEEDS, FEEDS, streams=streams).whole)


@pytest.fixture
def in_pieces(monkeypatch):
    monkeypatch.setattr(pieces_of, "NODES", 3)
    assert len(tap(network(), NEEDS, {})[0]) >= 3


def test_statistics_in_pieces_are_those_of_the_whole_network(monkeypatch):
    whole = summaries()
    monkeypatch.setattr(pieces_of, "NODES", 3)
    pieces = summaries()
    assert list(pieces) == list(whole) and set(whole) == set(NEEDS)
    for tensor, one in whole.items():
        other = pieces[tensor]
        figures = ("low", "high", "mean_low", "mean_high", "next_high", "trimmed_high")
        np.testing.assert_allclose([getattr(other, f) for f in figures], [getattr(one, f) for f in figures], rtol=1e-4)
        assert (other.histogram is None) == (one.histogram is None) == (not NEEDS[tensor].histogram)
        if one.histogram is not None and other.histogram is not None:
            assert other.histogram.counts.sum() == one.histogram.counts.sum() == SAMPLES * 4 * 36
        if one.channel_high is not None and other.channel_high is not None:
            np.testing.assert_allclose(other.channel_high, one.channel_high, rtol=1e-4)


@pytest.mark.usefixtures("in_pieces")
def test_statistics_in_pieces_do_not_depend_on_the_number_of_streams():
    one, two = summaries(), summaries(streams=2)
    for tensor in NEEDS:
        assert (one[tensor].low, one[tensor].high) == (two[tensor].low, two[tensor].high)
        assert one[tensor].mean_high == two[tensor].mean_high


@pytest.mark.usefixtures("in_pieces")
def test_a_sample_that_overflows_in_a_later_piece_is_named():
    net = Net()
    x = net.input(1, 4, 6, 6)
    for number in range(LAYERS):
        x = op.add(op.multiply(x, np.float32(1e5)), np.float32(0))
        x.set_friendly_name(f"add{number}")
    with pytest.raises(DataError, match=r"^1: tensor add7:0 is not finite"):
        small = np.full((1, 4, 6, 6), 1e-20, np.float32)
        feeds = [("0", "0", (small,)), ("1", "1", (np.ones_like(small),))]
        collect(net.model(x), {TensorId(f"add{number}"): Need() for number in range(LAYERS)}, feeds)


def test_small_tensors_leave_as_a_whole_and_their_extremes_are_exact():
    net = Net()
    doubled = op.multiply(net.input(1, 3, 5, 5), np.float32(2), name="doubled")
    model = net.model(op.relu(doubled, name="positive"))
    needs = {TensorId("doubled"): Need(), TensorId("positive"): Need(histogram=True)}
    pieces, taps = tap(model, needs, {TensorId("positive"): 1000})
    assert [segment.kind for segment in taps.segments] == [Kind.WHOLE, Kind.VALUES, Kind.HIGH, Kind.LOW, Kind.HIGH]
    image = np.random.default_rng(2).normal(size=(1, 3, 5, 5)).astype(np.float32)
    found = collect(model, needs, [("a", "a", (image,)), ("b", "b", (-3 * image,))]).whole
    one, other = found[TensorId("doubled")], found[TensorId("positive")]
    assert (one.low, one.high) == (min(2 * image.min(), -6 * image.max()), max(2 * image.max(), -6 * image.min()))
    assert (other.low, other.high) == (0, one.high)
    assert one.histogram is None and other.histogram is not None and other.histogram.counts.sum() == 150
    assert len(pieces) == 1
