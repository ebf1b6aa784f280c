"""Running many feeds: order, lifetime of outputs, state, errors, and leaving early."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from calib.errors import ModelError
from calib.runtime import session
from calib.runtime.session import SIMULATED, Session, compile_model, infer_all, ov
from calib.samples.sample import Frames

op = ov.opset13


def squares(streams: int) -> ov.CompiledModel:
    """x → x · xᵀ, for any number of rows, so that feeds take different times."""
    x = op.parameter([-1, 8], np.float32, name="x")
    return compile_model(ov.Model([op.matmul(x, x, False, True)], [x], "squares"), streams=streams)


def sums(streams: int) -> ov.CompiledModel:
    """A running sum: the state plus the input."""
    x = op.parameter([1, 2], np.float32, name="x")
    state = op.read_value(op.constant(np.zeros((1, 2), np.float32)), "sum", ov.Type.f32, ov.PartialShape([1, 2]))
    total = op.add(state, x)
    return compile_model(
        ov.Model([op.result(total)], [op.assign(total, "sum")], [x], "sums"), threads=streams, streams=streams
    )


def inputs(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(300 if i % 3 == 0 else 1, 8)).astype(np.float32) for i in range(count)]


class Watched:
    """A compiled model that counts which of its requests run; one stream on a machine with one core."""

    def __init__(self, compiled: ov.CompiledModel):
        self._compiled = compiled
        self.streams = int(compiled.get_property("NUM_STREAMS"))
        self.outputs = compiled.outputs
        self.running: set[int] = set()
        self.started = 0

    def get_property(self, name: str) -> Any:
        return self._compiled.get_property(name)

    def create_infer_request(self) -> WatchedRequest:
        return WatchedRequest(self, self._compiled.create_infer_request())


class WatchedRequest:
    def __init__(self, owner: Watched, request: ov.InferRequest):
        self._owner, self._request = owner, request
        self.query_state, self.get_tensor = request.query_state, request.get_tensor

    def start_async(self, feed: dict[int, np.ndarray]) -> None:
        self._request.start_async(feed)
        self._owner.running.add(id(self))
        self._owner.started += 1

    def wait(self) -> None:
        self._owner.running.discard(id(self))
        self._request.wait()


def test_a_model_is_compiled_for_as_many_streams_as_were_asked_for():
    cores = len(os.sched_getaffinity(0))
    for streams in range(1, cores + 1):
        assert Watched(squares(streams)).streams == streams


@pytest.mark.parametrize("streams", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_outputs_come_in_the_order_of_the_feeds(streams: int, count: int):
    feeds = inputs(count)
    outputs = [[y.copy() for y in one] for one in infer_all(squares(streams), ({0: x} for x in feeds))]
    assert [one[0].shape for one in outputs] == [(len(x), len(x)) for x in feeds]
    for x, (y,) in zip(feeds, outputs, strict=True):
        np.testing.assert_allclose(y, x @ x.T, rtol=1e-5, atol=1e-4)


def test_as_many_feeds_run_at_once_as_there_are_streams():
    watched = Watched(squares(2))
    outputs = infer_all(watched, ({0: x} for x in inputs(5)))  # pyright: ignore[reportArgumentType]
    at_once = [watched.started - done for done, _ in enumerate(outputs)]
    assert at_once == [min(watched.streams, 5 - done) for done in range(5)]


def test_of_a_model_whose_shapes_are_too_dynamic_for_the_plug_in_the_error_says_to_fix_them():
    x = op.parameter([-1, -1, 8], np.float32, name="x")
    model = ov.Model([op.relu(ov.opset15.squeeze(x))], [x], "squeezed")  # how many axes are left depends on the data
    with pytest.raises(
        ModelError, match=r"can't compile squeezed .* dynamic rank.*; with fixed shapes it may: openvino"
    ):
        compile_model(model)
    model.reshape([1, 4, 8])
    assert compile_model(model)([np.ones((1, 4, 8), np.float32)])[0].shape == (4, 8)


def test_a_network_in_f64_is_compiled_where_fused_kernels_have_no_f64():
    rng, op = np.random.default_rng(0), ov.opset13
    weights, feed = [rng.standard_normal(shape) for shape in ((20, 32), (32,), (32, 4), (4,))], rng.random((4, 20))
    x = op.parameter([4, 20], np.float64)
    first, bias, second, other = map(op.constant, weights)
    hidden = op.relu(op.add(op.matmul(x, first, False, False), bias))
    y = op.add(op.matmul(hidden, second, False, False), other)
    (found,) = Session(ov.Model([op.result(y)], [x], "f64"))([feed])  # on a CPU with AVX2 it fails as it is
    expected = np.maximum(feed @ weights[0] + weights[1], 0) @ weights[2] + weights[3]
    assert found.dtype == np.float64 and np.allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_each_feed_starts_from_a_fresh_state():
    feeds = [{0: np.full((1, 2), value, np.float32)} for value in (1, 2, 3, 4)]
    assert [float(total[0, 0]) for (total,) in infer_all(sums(2), feeds)] == [1, 2, 3, 4]


def sequences(*lengths: int) -> list[Frames]:
    """Sequences of ones, tens, hundreds and so on."""
    return [
        Frames([(np.full((1, 2), 10.0**number, np.float32),) for _ in range(length)])
        for number, length in enumerate(lengths)
    ]


def expected(*lengths: int) -> list[float]:
    return [10.0**number * (frame + 1) for number, length in enumerate(lengths) for frame in range(length)]


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("lengths", [(5,), (4, 1, 3, 6), (1, 9, 2), (2, 2, 2, 2, 2)])
def test_frames_run_in_order_and_state_is_reset_for_each_sequence(streams: int, lengths: tuple[int, ...]):
    found = [float(total[0, 0]) for (total,) in infer_all(sums(streams), sequences(*lengths))]
    assert found == expected(*lengths)


def test_a_sequence_that_waits_for_its_turn_runs_on_and_keeps_its_outputs():
    outputs = infer_all(sums(2), sequences(6, 6))
    found: list[float] = []
    for (total,) in outputs:
        time.sleep(0.01)  # the other stream has finished its frame by then
        found.append(float(total[0, 0]))
    assert found == expected(6, 6)


def test_without_room_for_outputs_a_sequence_waits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "AHEAD", 0)
    assert [float(total[0, 0]) for (total,) in infer_all(sums(2), sequences(4, 5, 2))] == expected(4, 5, 2)


def test_leaving_in_the_middle_of_a_sequence_waits_for_what_still_runs():
    outputs = infer_all(sums(2), sequences(4, 5, 2))
    next(outputs), next(outputs)
    outputs.close()
    with pytest.raises(RuntimeError):  # a frame that does not fit comes out as an error of that frame
        list(infer_all(sums(2), [Frames([*sequences(1)[0], (np.zeros((1, 5), np.float32),)])]))


def test_a_session_keeps_state_between_frames_and_not_between_samples():
    x = op.parameter([1, 2], np.float32, name="x")
    total = op.add(op.read_value(op.constant(np.zeros((1, 2), np.float32)), "sum", ov.Type.f32, [1, 2]), x)
    made = Session(ov.Model([op.result(total)], [op.assign(total, "sum")], [x], "sums"))
    assert [float(total[0, 0]) for (total,) in made.each(sequences(3, 2))] == expected(3, 2)
    assert [float(made([np.ones((1, 2), np.float32)])[0][0, 0]) for _ in range(2)] == [1.0, 1.0]


def test_a_simulation_carries_state_over_frames_of_several_shapes():
    """It is compiled anew for each shape; the state is that of the frames before all the same."""
    x = op.parameter([-1, 2], np.float32, name="x")
    state = op.read_value(op.constant(np.zeros((1, 2), np.float32)), "sum", ov.Type.f32, [1, 2])
    total = op.add(state, op.reduce_sum(x, np.array([0]), keep_dims=True))
    made = Session(ov.Model([op.result(total)], [op.assign(total, "sum")], [x], "sums"), SIMULATED)
    frames = Frames([(np.ones((rows, 2), np.float32),) for rows in (3, 1, 1, 4)])
    for _ in range(2):
        assert [float(total[0, 0]) for (total,) in made.each([frames])] == [3, 4, 5, 9]


@pytest.mark.parametrize("taken", [1, 3])
def test_leaving_early_waits_for_what_still_runs(taken: int):
    watched = Watched(squares(2))
    outputs = infer_all(watched, ({0: x} for x in inputs(9)))  # pyright: ignore[reportArgumentType]
    for _ in range(taken):
        next(outputs)
    assert len(watched.running) == watched.streams - 1
    outputs.close()
    assert not watched.running
    assert watched.started == watched.streams - 1 + taken  # nothing more was started


def test_an_error_in_the_loop_over_outputs_waits_for_what_still_runs():
    watched = Watched(squares(2))
    with pytest.raises(KeyError):
        for _ in infer_all(watched, ({0: x} for x in inputs(5))):  # pyright: ignore[reportArgumentType]
            raise KeyError("the caller's")
    assert not watched.running


def test_an_error_in_the_feeds_comes_out_after_what_still_runs():
    def feeds() -> Iterator[dict[int, np.ndarray]]:
        yield {0: inputs(1)[0]}
        raise KeyError("no more")

    watched = Watched(squares(2))
    with pytest.raises(KeyError, match="no more"):
        list(infer_all(watched, feeds()))  # pyright: ignore[reportArgumentType]
    assert watched.started == 1
    assert not watched.running


def test_a_feed_that_does_not_fit_is_an_error_once_those_before_it_have_ended():
    watched = Watched(squares(2))
    feeds = [{0: inputs(1)[0]}, {0: np.zeros((1, 5), np.float32)}, {0: inputs(1)[0]}]
    with pytest.raises(RuntimeError):
        list(infer_all(watched, feeds))  # pyright: ignore[reportArgumentType]
    assert not watched.running


@pytest.mark.parametrize(("least", "expected"), [(0, 1), (1 << 50, 0)])
def test_freed_memory_is_given_back_where_the_process_is_large(
    monkeypatch: pytest.MonkeyPatch, least: int, expected: int
):
    class Library:
        given = 0

        def malloc_trim(self, pad: int) -> int:
            self.given += 1
            return pad

    library = Library()
    monkeypatch.setattr(session, "_C", library)
    monkeypatch.setattr(session, "LARGE", least)
    squares(1)
    assert library.given == expected
