"""What a run works on is checked before anything is spent, and says what its results depend on.

covers: calib.engine.prepare
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images

from calib.engine.job import CalibrationFeeds
from calib.engine.prepare import prepare
from calib.errors import ConfigError, DataError
from calib.progress import Clock
from calib.runtime.session import ov

op = ov.opset13


def ready(count: int = 20, **settings: Any):
    return prepare(convnet(), list(images(count)), flags=settings)


def test_samples_are_set_aside_for_scoring_where_there_are_enough_of_them():
    job = ready(20)
    assert len(job.held) == 4 and not set(job.held) & set(job.ids) and len(job.ids) == 16
    assert job.ids == tuple(sorted(job.ids)) and ready(20).held == job.held


@pytest.mark.parametrize(("samples", "effort"), [(7, "balanced"), (20, "fast")])
def test_with_few_samples_or_nothing_to_score_all_of_them_serve_both(samples: int, effort: str):
    job = ready(samples, effort=effort)
    assert job.held == job.ids and len(job.ids) == samples


def test_thorough_holds_out_none_of_what_balanced_learns_from():
    balanced, thorough = (ready(250, effort=effort) for effort in ("balanced", "thorough"))
    count = balanced.effort.samples
    assert thorough.ids[:count] == balanced.ids[:count]
    assert len(thorough.held) == 48 and set(balanced.held) < set(thorough.held)


def test_fewer_samples_than_were_asked_for_are_said():
    assert ready(20).warnings == ()
    assert ready(20, samples=30).warnings == ("30 calibration samples were asked for, but there are only 20",)


def test_preprocessing_that_arrays_do_not_get_is_said():
    (sentence,) = ready(20, preprocessing={"mean": 120, "scale": 58}).warnings
    assert sentence.startswith("preprocessing.mean is for images in files; the calibration samples are arrays")
    assert ready(20, preprocessing={"mean": 0, "scale": 1}).warnings == ()


def test_preprocessing_of_an_input_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"no input 'X_'; its inputs: 'image'"):
        ready(20, preprocessing={"X_": {"mean": 120}})


def test_single_frames_are_told_which_states_they_reset():
    x = op.parameter([1, 4], np.float32)
    total, sinks = x, []
    for number in range(5):
        read = op.read_value(op.constant(np.zeros((1, 4), np.float32)), f"state {number}", np.float32, [1, 4])
        total = op.add(total, read)
        sinks.append(op.assign(total, f"state {number}"))
    hidden = op.matmul(total, op.constant(np.eye(4, dtype=np.float32)), False, False)
    for kept, said in ((5, "('state 0', 'state 1', 'state 2' … 5 in all)"), (1, "('state 4')")):
        model = ov.Model([op.result(hidden)], sinks[-kept:], [x], "frames")
        assert (
            f"the model keeps state {said}, and"
            in prepare(model, list(np.ones((8, 1, 4), np.float32)), flags={}).warnings[0]
        )


def test_mistakes_in_settings_come_before_the_model_is_read():
    with pytest.raises(ConfigError, match="no_such_setting"):
        prepare("there is no such file.xml", None, flags={"no_such_setting": 1})


def test_a_run_without_samples_is_refused():
    with pytest.raises(DataError, match="no samples"):
        prepare(convnet(), [], flags={})


def test_statistics_are_those_of_their_samples_and_of_what_was_asked():
    job = ready(20)
    assert job.statistics_mark("histogram") == ready(20).statistics_mark("histogram")
    assert job.statistics_mark("histogram") != job.statistics_mark("extremes")
    assert job.statistics_mark("histogram") != ready(19).statistics_mark("histogram")


def test_feeds_are_all_samples_counted_and_can_be_read_again():
    feeds = CalibrationFeeds(ready(20))
    names = [name for name, _, _ in feeds]
    assert len(feeds) == len(names) == 20 and names == [name for name, _, _ in feeds]
    assert all(arrays[0].shape == (1, 3, 8, 8) for _, _, arrays in feeds)


class Generated:
    """Samples that are made anew each time they are asked for."""

    def __init__(self, count: int):
        self.count, self.made = count, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int):
        self.made += 1
        return images(self.count)[number]


def test_of_many_calibration_samples_only_a_few_stay_in_memory(monkeypatch: pytest.MonkeyPatch):
    data = Generated(12)
    monkeypatch.setattr("calib.engine.prepare.KEPT", 3 * images(1).nbytes)
    job = prepare(convnet(), data, flags={})
    made = [data.made]
    for _ in range(3):
        assert [name for name, _, _ in CalibrationFeeds(job)] == list(job.all_ids)
        made.append(data.made)
    assert [after - before for before, after in pairwise(made[1:])] == [9, 9]


def test_the_clock_keeps_each_stage_in_order():
    clock = Clock()
    for name in ("load", "search"):
        with clock(name) as stage:
            stage.update(1)
    assert [stage.name for stage in clock.stages] == ["load", "search"]
    assert all(stage.wall >= 0 and stage.cpu >= 0 for stage in clock.stages)
