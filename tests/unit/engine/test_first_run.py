"""The first run of FP32: its outputs are kept for every later comparison, if they are small, and it is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from building import Net
from trust_fixtures.tiny import images

import calib
import calib.engine.first_run as first_run
import calib.runtime.session as session
from calib.engine.job import Job
from calib.engine.prepare import prepare
from calib.runtime.session import Session, ov

op = ov.opset13


def job(samples: int = 12, **settings: Any) -> Job:
    net = Net()
    model = net.model(op.relu(net.conv(op.relu(net.conv(net.input(1, 3, 8, 8), 4)), 4)))
    return prepare(model, list(images(samples)), flags=settings)


def test_the_outputs_are_those_of_the_network_and_known_by_sample():
    made = job()
    done = made.with_first_run()
    assert done.first and done.first.compiling > 0 and done.first.inference > 0
    some = made.held[1:]
    expected = list(Session(made.reference).each(made.feeds(some)))
    known = done.outputs(some)
    assert known and all(
        np.array_equal(*pair) for one in zip(known, expected, strict=True) for pair in zip(*one, strict=True)
    )
    assert done.outputs([*some, made.ids[0]]) is None  # it was held back from scoring, so it did not run
    assert made.outputs(some) is None


def test_outputs_that_are_too_large_are_not_kept_and_only_a_few_samples_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(first_run, "KEPT", 0)
    ran: list[int] = []
    own = first_run.infer_all
    monkeypatch.setattr(
        first_run, "infer_all", lambda compiled, feeds: [ran.append(len(feeds)), own(compiled, feeds)][1]
    )
    made = job(samples=60).with_first_run()
    assert made.first and not made.first.outputs and made.first.inference > 0
    assert sum(ran) == first_run.TIMED < len(made.held)


@pytest.mark.parametrize(("effort", "expected"), [("fast", 4), ("balanced", 9)])
def test_the_network_as_it_was_read_is_compiled_once(monkeypatch: pytest.MonkeyPatch, effort: str, expected: int):
    made = job()
    compiled: list[ov.Model] = []
    own = session.core()

    class Noting:
        def __getattr__(self, name: str) -> Any:
            return getattr(own, name)

        def compile_model(self, model: ov.Model, *rest: Any) -> ov.CompiledModel:
            compiled.append(model)
            return own.compile_model(model, *rest)

    monkeypatch.setattr(session, "core", lambda: Noting())
    calib.quantize(made.reference, list(images(12)), effort=effort, target="cpu")
    bare = [one for one in compiled if not any(node.get_type_name() == "FakeQuantize" for node in one.get_ops())]
    plain = [one for one in bare if len(one.get_ops()) == len(made.reference.get_ops())]
    assert len(plain) == 1
    assert len(compiled) <= expected


@pytest.mark.parametrize(("samples", "frames", "expected"), [(24, 1.0, 1), (60, 1.0, 3), (300, 1.0, 4), (24, 5.0, 4)])
def test_a_stream_pays_if_its_samples_take_as_long_as_compiling(samples: int, frames: float, expected: int):
    own = job().compared[1]
    done = first_run.FirstRun(own, compiling=2.0, inference=0.1, frames=frames)
    assert done.streams(samples, 4) == expected


def test_the_first_run_is_compiled_for_streams_where_its_samples_take_long(monkeypatch: pytest.MonkeyPatch):
    made, asked = job(samples=60, threads=3), list[int]()
    own = first_run.compile_model
    monkeypatch.setattr(
        first_run, "compile_model", lambda model, streams=1: [asked.append(streams), own(model, streams=streams)][1]
    )
    known = made.with_first_run()
    monkeypatch.setattr(first_run, "STREAMS_PAY", 0.0)
    again = made.with_first_run()
    assert asked == [1, 1, 3]
    assert known.first and again.first
    pairs = zip(known.outputs(made.held) or [], again.outputs(made.held) or [], strict=True)
    assert all(np.array_equal(*pair) for one in pairs for pair in zip(*one, strict=True))


def test_a_network_stays_compiled_unless_its_weights_are_large(monkeypatch: pytest.MonkeyPatch):
    made = job().with_first_run()
    assert made.compiled_reference is not None
    assert first_run.constant_bytes(made.reference) >= 4 * 4 * (3 + 4) * 9
    monkeypatch.setattr(first_run, "WEIGHTS", 0)
    assert job().with_first_run().compiled_reference is None
