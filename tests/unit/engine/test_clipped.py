"""Ranges that clip many samples have to be ahead on these too, and not on the few alone that are held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from building import Net, op

from calib.corrections.candidate import Candidate
from calib.corrections.scoring import Scorer
from calib.corrections.tried import Tried
from calib.engine.clipped import behind_where_clipped
from calib.engine.correcting import FloatNetwork, collect_statistics
from calib.engine.job import Job
from calib.engine.placing import place_quantizers
from calib.engine.prepare import prepare
from calib.graph.insert import Edits
from calib.progress import silent
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.values.summary import Collected


@pytest.fixture(scope="module")
def ready() -> tuple[Job, Collected]:
    """Return a run on 20 images, of which every fourth is twice as large, and its statistics."""
    net = Net(3)
    model = net.model(net.conv(op.relu(net.conv(net.input(1, 4, 8, 8), 8)), 4))
    images = np.random.default_rng(0).uniform(-1, 1, (20, 4, 8, 8)).astype(np.float32)
    images[::4] *= 2
    job = prepare(model, images, flags={"speed": False, "target": "cpu-no-vnni", "effort": "thorough"})
    with silent("statistics") as stage:
        return job, collect_statistics(job, FloatNetwork(job.loaded.model, job.view), place_quantizers(job), stage)


def _tried(job: Job, summaries: Collected, *, narrowed: float) -> Tried:
    """Return a candidate with min-max ranges, each narrowed by a factor, and with errors of .01 on held-out samples."""
    plan = assign(place_quantizers(job), summaries.kept, get_estimator("minmax"))
    quantizers = tuple(
        replace(q, range=replace(q.range, low=q.range.low * narrowed, high=q.range.high * narrowed))
        for q in plan.activations
        if q.range
    )
    candidate = Candidate(job.loaded.model, job.view, replace(plan, activations=quantizers), Edits())
    name = next(iter(Scorer(job.reference, job.feeds(job.held[:1]), compared=job.compared).names))
    return Tried(f"{narrowed:g}", candidate, 40.0, None, {name: np.array([[1.0, 1e-4]] * 4)})


def test_ranges_that_clip_are_not_taken_for_what_a_few_samples_say(ready: tuple[Job, Collected]):
    job, summaries = ready
    narrow, whole = (_tried(job, summaries, narrowed=factor) for factor in (0.5, 1.0))
    why = behind_where_clipped(job, summaries, None, narrow, whole)
    assert "samples that its ranges clip most" in why and "those of 1 at" in why


def test_ranges_that_clip_nothing_are_not_doubted(ready: tuple[Job, Collected]):
    job, summaries = ready
    wide, whole = (_tried(job, summaries, narrowed=factor) for factor in (1.5, 1.0))
    assert behind_where_clipped(job, summaries, None, wide, whole) == ""


def test_ranges_that_clip_a_little_stay_chosen_if_they_are_far_ahead(ready: tuple[Job, Collected]):
    job, summaries = ready
    narrow, whole = (_tried(job, summaries, narrowed=factor) for factor in (0.98, 1.0))
    worse = replace(whole, energies={name: rows * [1, 100] for name, rows in whole.energies.items()})
    assert behind_where_clipped(job, summaries, None, narrow, worse) == ""


def test_what_is_still_compiled_is_not_compiled_again(ready: tuple[Job, Collected], monkeypatch: pytest.MonkeyPatch):
    job, summaries = ready
    pair = [_tried(job, summaries, narrowed=factor) for factor in (0.5, 1.0)]
    expected = behind_where_clipped(job, summaries, None, *pair)
    job = job.with_first_run()
    scorer = Scorer(job.reference, job.feeds(job.held), outputs=job.outputs(job.held), compared=job.compared)
    pair = [replace(one, scored=scorer.shipped(one.candidate)) for one in pair]
    monkeypatch.setattr("calib.corrections.scoring.compile_model", lambda *_, **__: pytest.fail("compiled again"))
    assert expected and behind_where_clipped(job, summaries, None, *pair) == expected
