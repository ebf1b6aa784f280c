"""What is collected is what numpy finds in the tensors themselves."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import DataError, StatisticsError
from calib.runtime.session import Session, ov
from calib.samples.sample import Frames
from calib.statistics import totals as counting
from calib.statistics.collect import Need
from calib.statistics.collect import collect as collect_both
from calib.values.plan import TensorId
from calib.values.summary import Histogram, TensorSummary

op = ov.opset13
RNG = np.random.default_rng(0)


def collect(*args, **kwargs) -> dict[TensorId, TensorSummary]:
    """Return the summaries over all samples."""
    return dict(collect_both(*args, **kwargs).whole)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def conv(x: ov.Node, out: int, name: str) -> ov.Node:
    channels = x.output(0).get_partial_shape()[1].get_length()
    weights = normal(out, channels, 3, 3)
    return named(op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1]), name)


def branchy(shape=(1, 3, 12, 14)) -> ov.Model:
    """A small U-Net: encoder, pooled and upsampled bottom, concat with the skip, and a MatMul behind."""
    x = op.parameter(list(shape), np.float32, name="image")
    skip = named(op.relu(conv(x, 16, "down")), "skip")
    pooled = named(op.max_pool(skip, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]), "pooled").output(0)
    weights = normal(16, 16, 3, 3) / 12
    bottom = named(op.convolution(pooled, weights, [1, 1], [1, 1], [1, 1], [1, 1]), "bottom")
    up = op.interpolate(bottom, np.array([2.0, 2.0], np.float32), "nearest", "scales", axes=np.array([2, 3]))
    joined = named(op.concat([skip, named(up, "up")], 1), "joined")
    last = conv(joined, 5, "last")
    mean = named(op.reduce_mean(last, np.array([2, 3]), keep_dims=False), "mean")
    return ov.Model([op.matmul(mean, normal(5, 4), False, False)], [x], "branchy")


TENSORS = ("image", "skip", "bottom", "joined", "last", "mean")


def feeds(count: int, shape=(1, 3, 12, 14), seed: int = 1):
    rng = np.random.default_rng(seed)
    return [(f"id{i:03}", f"row {i}", (rng.standard_normal(shape, np.float32) * (1 + i % 3),)) for i in range(count)]


def values_of(model: ov.Model, names, samples) -> dict[str, list[np.ndarray]]:
    """Each tensor's value in each sample, from the model with raw outputs added."""
    clone = model.clone()
    nodes = {node.get_friendly_name(): node for node in clone.get_ordered_ops()}
    extended = ov.Model([op.result(nodes[name].output(0)) for name in names], clone.get_parameters())
    session = Session(extended)
    rows = [session(arrays) for _, _, arrays in samples]
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def need_all(**kwargs) -> dict[TensorId, Need]:
    return {TensorId(name): Need(channel_axis=-1 if name == "mean" else 1, **kwargs) for name in TENSORS}


def text(summaries) -> str:
    with np.printoptions(threshold=1_000_000, floatmode="unique"):
        return repr(summaries)


def test_the_samples_that_hold_the_extremes_are_known_and_what_the_others_reach():
    model, samples = branchy(), feeds(70)  # more than are gathered at a time
    found = collect(model, need_all(), samples[::-1], streams=2)
    for name, arrays in values_of(model, TENSORS, samples).items():
        row, highs, lows = found[TensorId(name)], [x.max() for x in arrays], [x.min() for x in arrays]
        assert row.high_sample == samples[int(np.argmax(highs))][0]
        assert row.next_high == sorted(highs)[-2] and row.next_low == sorted(lows)[1]
        # all samples of a ReLU reach down to 0: no one of them holds that
        assert row.low_sample == (samples[int(np.argmin(lows))][0] if sorted(lows)[0] < sorted(lows)[1] else "")
        assert name != "skip" or row.low_sample == ""


def test_the_samples_that_reach_farthest_are_known_in_any_order_and_equal_ones_together():
    model, samples = branchy(), feeds(20)
    samples[3:7] = [(name, where, samples[0][2]) for name, where, _ in samples[3:7]]  # five reach equally far
    names = [name for name, *_ in samples]
    found = collect(model, need_all(), samples)
    other = collect(model, need_all(), [samples[i] for i in RNG.permutation(20)], streams=2)
    for name, arrays in values_of(model, TENSORS, samples).items():
        row = found[TensorId(name)]
        for extremes, far in (
            ([x.max() for x in arrays], row.farthest_high),
            ([x.min() for x in arrays], row.farthest_low),
        ):
            expected = sorted(zip(names, extremes, strict=True), key=lambda one: (-abs(one[1]), one[0]))
            limit = abs(expected[counting.FARTHEST][1])
            assert far == tuple(one for one in expected[: counting.FARTHEST] if abs(one[1]) > limit)
        assert (row.farthest_high, row.farthest_low) == (
            other[TensorId(name)].farthest_high,
            other[TensorId(name)].farthest_low,
        )
        assert name != "skip" or row.farthest_low == ()  # all samples of a ReLU reach down to 0


def test_extremes_are_those_of_numpy_to_the_last_bit():
    model, samples = branchy(), feeds(5)
    found = collect(model, need_all(channels=True), samples, streams=1)
    expected = values_of(model, TENSORS, samples)
    assert list(found) == [TensorId(name) for name in TENSORS]
    for name in TENSORS:
        summary, stack = found[TensorId(name)], np.stack(expected[name])
        assert (summary.low, summary.high, summary.samples) == (stack.min(), stack.max(), 5)
        per_sample = stack.reshape(5, -1).astype(np.float64)
        assert summary.mean_low == pytest.approx(per_sample.min(1).mean(), rel=1e-15)
        assert summary.mean_high == pytest.approx(per_sample.max(1).mean(), rel=1e-15)
        by_channel = np.moveaxis(stack, -1 if name == "mean" else 2, 0).reshape(stack.shape[2], -1)
        assert summary.channel_low is not None and summary.channel_high is not None
        np.testing.assert_array_equal(summary.channel_low, by_channel.min(1))
        np.testing.assert_array_equal(summary.channel_high, by_channel.max(1))
        assert summary.histogram is None


def test_small_tensors_are_counted_whole_and_large_ones_evenly(monkeypatch):
    model, samples = branchy(), feeds(4)
    found = collect(model, need_all(histogram=True), samples, streams=1)
    for name, stack in values_of(model, TENSORS, samples).items():
        summary, expected = found[TensorId(name)], Histogram.of(np.stack(stack))
        assert summary.histogram is not None and summary.histogram_samples == 4
        np.testing.assert_array_equal(summary.histogram.codes, expected.codes)
        np.testing.assert_array_equal(summary.histogram.counts, expected.counts)
    monkeypatch.setattr(counting, "PASS_VALUES", 6 * 300)
    thin = collect(model, need_all(histogram=True), samples, streams=1)
    for name, stack in values_of(model, TENSORS, samples).items():
        histogram, whole = thin[TensorId(name)].histogram, Histogram.of(np.stack(stack))
        assert histogram is not None and histogram.total <= 4 * 300 and set(histogram.codes) <= set(whole.codes)
        assert histogram.total >= min(whole.total, 4 * 50)


def test_held_out_samples_count_for_the_whole_only_to_the_same_bits():
    model, samples, needs = branchy(), feeds(12), need_all(histogram=True, channels=True)
    held = {name for name, _, _ in samples[2::3]}
    found = collect_both(model, needs, samples, held=held, streams=2)
    assert text(found.whole) == text(collect(model, needs, samples, streams=1))
    assert text(found.kept) == text(collect(model, needs, [feed for feed in samples if feed[0] not in held], streams=1))
    assert found.kept[TensorId("image")].high < found.whole[TensorId("image")].high
    alone = collect_both(model, needs, samples, streams=1)
    assert alone.kept is alone.whole


@pytest.mark.parametrize("held", [set(), {"id030"}, {"id007"}])
def test_an_outlier_sample_is_named_and_the_extremes_without_it_are_known(held):
    model, samples = branchy(), feeds(100)
    name, where, (values,) = samples[30]
    usual = collect(model, need_all(), [*samples[:30], *samples[31:]], streams=1)
    samples[30] = name, where, (values * np.float32(50),)
    found = collect_both(model, need_all(), samples[::-1], held=held, streams=2)
    assert found.outliers == ("id030",)
    for tensor, summary in found.whole.items():
        low, high = max(summary.low, summary.trimmed_low), min(summary.high, summary.trimmed_high)
        assert (low, high) == (usual[tensor].low, usual[tensor].high)
    assert (found.kept[TensorId("image")].trimmed_high == np.inf) == ("id030" in held)


def test_samples_three_times_as_large_are_no_outliers_and_neither_are_many():
    few, many = feeds(40), feeds(40)
    few[5] = few[5][0], few[5][1], (few[5][2][0] * np.float32(3),)
    many = [(n, w, (v * np.float32(100 if i % 10 == 0 else 1),)) for i, (n, w, (v,)) in enumerate(many)]
    for samples in (few, many):
        found = collect_both(branchy(), need_all(), samples, streams=1)
        assert found.outliers == ()
        assert {summary.trimmed_high for summary in found.whole.values()} == {np.inf}


def test_a_tensor_that_only_held_out_samples_reach_is_in_both():
    x = op.parameter([-1, 4], np.float32, name="x")
    model = ov.Model([op.relu(x)], [x], "any rows")
    samples = [("a", "a", (np.zeros((0, 4), np.float32),)), ("b", "b", (normal(3, 4),))]
    found = collect_both(model, {TensorId("x"): Need()}, samples, held={"b"}, streams=1)
    assert found.kept == found.whole and set(found.whole) == {TensorId("x")}


def test_streams_and_order_change_no_bit():
    model, samples = branchy(), feeds(140)
    needs = need_all(histogram=True, channels=True)
    expected = text(collect(model, needs, samples, streams=1))
    shuffled = [samples[i] for i in np.random.default_rng(3).permutation(len(samples))]
    assert text(collect(model, needs, samples, streams=2)) == expected
    assert text(collect(model, needs, shuffled, streams=2)) == expected


def test_the_model_is_not_changed_and_what_is_needed_does_not_matter_to_extremes():
    model, samples = branchy(), feeds(3)
    before = (len(model.get_ops()), len(model.outputs))
    plain = collect(model, need_all(), samples, streams=1)
    rich = collect(model, need_all(histogram=True, channels=True), samples, streams=1)
    assert (len(model.get_ops()), len(model.outputs)) == before
    for tensor, summary in plain.items():
        assert (rich[tensor].low, rich[tensor].high) == (summary.low, summary.high)


def test_dynamic_shapes_are_collected_from_samples_of_several_sizes():
    model = branchy((-1, 3, -1, -1))
    samples = [
        (f"{n}", f"{n}", (np.random.default_rng(n).standard_normal((1, 3, 8 + 2 * n, 10), np.float32),))
        for n in range(4)
    ]
    found = collect(model, need_all(histogram=True, channels=True), samples, streams=2)
    for name, parts in values_of(model, TENSORS, samples).items():
        whole = np.concatenate([part.reshape(-1) for part in parts])
        assert (found[TensorId(name)].low, found[TensorId(name)].high) == (whole.min(), whole.max())
        assert found[TensorId(name)].histogram.total == whole.size  # type: ignore[union-attr]


def test_large_tensors_of_unknown_size_are_thinned(monkeypatch):
    monkeypatch.setattr(counting, "PASS_VALUES", 6 * 200)
    model, samples = branchy((1, 3, -1, -1)), feeds(3)
    found = collect(model, need_all(histogram=True), samples, streams=1)
    for name, stack in values_of(model, TENSORS, samples).items():
        histogram, whole = found[TensorId(name)].histogram, Histogram.of(np.stack(stack))
        assert histogram is not None and set(histogram.codes) <= set(whole.codes)
        assert min(whole.total, 3 * 60) <= histogram.total <= 3 * 450


def test_scalars_and_vectors_are_collected_without_channels():
    x = op.parameter([4], np.float32, name="x")
    scalar = named(op.reduce_sum(x, np.array([0]), keep_dims=False), "scalar")
    model = ov.Model([op.add(scalar, x)], [x])
    need = Need(histogram=True, channels=True)
    samples = [("a", "a", (np.arange(4, dtype=np.float32),))]
    found = collect(model, {TensorId("x"): need, TensorId("scalar"): need}, samples, streams=1)
    assert [(s.low, s.high, s.channel_low) for s in found.values()] == [(0.0, 3.0, None), (6.0, 6.0, None)]
    assert [s.histogram.total for s in found.values() if s.histogram] == [4, 1]


def test_an_empty_tensor_counts_for_nothing():
    x = op.parameter([-1, 4], np.float32, name="x")
    model = ov.Model([op.add(x, np.float32(1))], [x])
    full = np.arange(8, dtype=np.float32).reshape(2, 4) + 1
    samples = [("a", "a", (full,)), ("b", "b", (np.zeros((0, 4), np.float32),))]
    need = {TensorId("x"): Need(histogram=True, channels=True)}
    found = collect(model, need, samples, streams=1)[TensorId("x")]
    assert (found.samples, found.low, found.high, found.mean_low) == (1, 1.0, 8.0, 1.0)
    assert found.histogram_samples == 1
    assert collect(model, need, samples[1:], streams=1) == {}


def test_state_starts_afresh_with_each_sample():
    x = op.parameter([1, 4], np.float32, name="x")
    variable = "memory"
    read = op.read_value(np.zeros((1, 4), np.float32), variable)
    total = named(op.add(read, x), "total")
    assign = op.assign(total, variable)
    out = op.matmul(total, normal(4, 2), False, False)
    model = ov.Model([op.result(out)], [assign], [x], "stateful")
    samples = [(f"{i}", f"{i}", (np.full((1, 4), i + 1, np.float32),)) for i in range(6)]
    for streams in (1, 2):
        found = collect(model, {TensorId("total"): Need()}, samples, streams=streams)[TensorId("total")]
        assert (found.low, found.high) == (1.0, 6.0)


def running_sum() -> ov.Model:
    """total = the sum of all frames so far, by a MatMul."""
    x = op.parameter([1, 4], np.float32, name="x")
    total = named(op.add(op.read_value(np.zeros((1, 4), np.float32), "memory"), x), "total")
    out = op.matmul(total, normal(4, 2), False, False)
    return ov.Model([op.result(out)], [op.assign(total, "memory")], [x], "running sum")


def drives(*lengths: int):
    """Sequences of these lengths, whose frames are all ones, then all twos, and so on."""
    made = [[(np.full((1, 4), number + 1, np.float32),) for _ in range(n)] for number, n in enumerate(lengths)]
    return [(f"{number}", f"drive {number}", Frames(frames)) for number, frames in enumerate(made)]


def test_state_is_kept_within_a_sequence_and_starts_afresh_with_the_next():
    need = {TensorId("total"): Need(histogram=True, channels=True)}
    found = collect(running_sum(), need, drives(7, 1, 2), streams=1)[TensorId("total")]
    assert (found.samples, found.low, found.high) == (10, 1.0, 7.0)
    assert found.mean_high == pytest.approx((sum(range(1, 8)) + 2 + 3 + 6) / 10)
    others = [collect(running_sum(), need, sequences, streams=n)[TensorId("total")]
              for n, sequences in ((2, drives(7, 1, 2)), (2, drives(7, 1, 2)[::-1]))]  # fmt: skip
    for other in others:  # whatever the streams and the order of the sequences
        assert (other.low, other.high, other.mean_low, other.mean_high) == (1.0, 7.0, found.mean_low, found.mean_high)
        assert other.histogram is not None and found.histogram is not None
        assert other.histogram.counts.tolist() == found.histogram.counts.tolist()


def test_progress_counts_sequences_and_a_frame_that_is_not_finite_is_named():
    seen: list[int] = []
    collect(running_sum(), {TensorId("total"): Need()}, drives(3, 2), streams=2, progress=seen.append)
    assert seen == [1, 2]
    name, where, frames = drives(4)[0]
    frames[2][0][0, 1] = np.inf  # the next frames inherit it by the state
    with pytest.raises(DataError, match=r"frame 2 of drive 0: tensor total:0 is not finite .*see input 0 \(x\)"):
        collect(running_sum(), {TensorId("total"): Need()}, [(name, where, frames)])
    frames[2][0][0, 1] = np.nan
    with pytest.raises(DataError, match=r"frame 2 of drive 0: input 0 \(x\) holds NaN"):
        collect(running_sum(), {TensorId("total"): Need()}, [(name, where, frames)])


def test_what_only_the_state_makes_infinite_is_found_by_running_the_frames_before():
    name, where, frames = drives(5)[0]
    for (array,) in frames:
        array[:] = 1.5e38
    with pytest.raises(DataError, match=r"frame 2 of drive 0: tensor total:0 is not finite .*All inputs are finite"):
        collect(running_sum(), {TensorId("total"): Need()}, [(name, where, frames)])


def test_tensors_that_are_not_f32_are_left_out():
    x = op.parameter([1, 4], np.int32, name="x")
    model = ov.Model([op.relu(named(op.convert(x, "f32"), "real"))], [x])
    needs = {TensorId("x"): Need(), TensorId("real"): Need()}
    found = collect(model, needs, [("a", "a", (np.arange(4, dtype=np.int32)[None],))], streams=1)
    assert list(found) == [TensorId("real")]


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_an_input_that_is_not_finite_is_named_with_its_sample(bad):
    samples = feeds(4)
    samples[2][2][0][0, 1, 3, 4] = bad
    with pytest.raises(DataError, match=r"row 2: tensor image:0 is not finite .*see input 0 \(image\)"):
        collect(branchy(), need_all(), samples, streams=2)


def test_nan_in_an_input_is_found_though_a_relu_would_hide_it():
    x = op.parameter([1, 4], np.float32, name="x")
    model = ov.Model([op.matmul(named(op.relu(x), "r"), normal(4, 2), False, False)], [x])
    samples = [("a", "a.png", (np.array([[1, np.nan, 2, 3]], np.float32),))]
    with pytest.raises(DataError, match=r"a\.png: input 0 \(x\) holds NaN"):
        collect(model, {TensorId("r"): Need()}, samples, streams=1)


def test_a_layer_that_makes_nan_is_named_by_its_first_tensor():
    x = op.parameter([1, 4], np.float32, name="x")
    root = named(op.sqrt(x), "root")
    after = named(op.add(root, np.float32(1)), "after")
    model = ov.Model([op.matmul(after, normal(4, 2), False, False)], [x])
    samples = [("a", "a.png", (np.ones((1, 4), np.float32),)), ("b", "b.png", (-np.ones((1, 4), np.float32),))]
    with pytest.raises(DataError, match=r"b\.png: tensor root:0 .*4 of 4 .*All inputs are finite, so a layer"):
        collect(model, {TensorId("after"): Need(), TensorId("root"): Need()}, samples, streams=1)


def test_infinity_that_only_masks_a_softmax_is_legal():
    x = op.parameter([1, 4], np.float32, name="x")
    mask = op.parameter([1, 4], np.float32, name="mask")
    scores = named(op.softmax(op.add(x, mask), 1), "scores")
    model = ov.Model([op.matmul(scores, normal(4, 2), False, False)], [x, mask])
    masked = np.array([[0, 0, -np.inf, -np.inf]], np.float32)
    found = collect(model, {TensorId("scores"): Need()}, [("a", "a", (normal(1, 4), masked))], streams=1)
    assert found[TensorId("scores")].high <= 1


def test_large_finite_values_whose_sum_overflows_are_accepted():
    x = op.parameter([1, 4], np.float32, name="x")
    model = ov.Model([op.relu(x)], [x])
    big = np.array([[3e38, 3e38, -1, 2]], np.float32)
    found = collect(model, {TensorId("x"): Need()}, [("a", "a", (big,)), ("b", "b", (big / 2,))], streams=1)
    assert found[TensorId("x")].high == np.float32(3e38)
    assert found[TensorId("x")].mean_high == pytest.approx(2.25e38, rel=1e-6)


def test_no_samples_and_unknown_tensors_are_refused():
    with pytest.raises(DataError, match="at least one sample"):
        collect(branchy(), need_all(), [], streams=1)
    with pytest.raises(StatisticsError, match="nowhere:0"):
        collect(branchy(), {TensorId("nowhere"): Need()}, feeds(1), streams=1)


def test_progress_counts_samples():
    seen: list[int] = []
    collect(branchy(), need_all(), feeds(3), streams=1, progress=seen.append)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("histogram", [False, True])
@pytest.mark.parametrize("streams", [1, 2])
def test_a_tensor_that_a_state_takes_over_has_its_own_statistics(histogram: bool, streams: int):
    """A Concat of whole tensors read what the state had overwritten: the extremes of another tensor, or garbage."""
    weights = np.zeros((4, 4, 3, 3), np.float32)
    weights[range(4), range(4), 1, 1] = 3  # each channel times 3
    x = named(op.parameter([1, 4, 8, 8], np.float32, name="x"), "x")
    features = op.relu(op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    start = op.constant(np.zeros((1, 4, 8, 8), np.float32))
    read = ov.opset6.read_value(start, "memory", ov.Type.f32, ov.PartialShape([1, 4, 8, 8]))
    mixed = named(op.add(features, op.multiply(read, np.float32(0.5))), "mixed")
    last = op.relu(op.convolution(mixed, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    model = ov.Model([op.result(last)], [ov.opset6.assign(mixed, "memory")], [x], "stateful")
    samples = [np.random.default_rng(seed).normal(size=(1, 4, 8, 8)).astype(np.float32) for seed in range(5)]
    needs = {TensorId(name): Need(histogram=histogram) for name in ("x", "mixed")}
    feeds = ((str(number), "", (sample,)) for number, sample in enumerate(samples))
    found = collect(model, needs, feeds, streams=streams)[TensorId("mixed")]
    values = [np.maximum(3 * sample, 0) for sample in samples]  # each starts from a fresh state
    assert (found.low, found.high) == (0.0, pytest.approx(max(value.max() for value in values)))
    if histogram:
        expected = [Histogram.of(value) for value in values]
        assert found.histogram is not None and found.histogram.total == sum(one.total for one in expected)
        zeros = sum(int(np.count_nonzero(value == 0)) for value in values)
        assert found.histogram.counts[found.histogram.codes == 0].sum() == zeros
