"""How far a written model may be from the one in memory, whatever single samples hold."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net

import calib
from calib.engine import verify
from calib.engine.building import median_db
from calib.engine.report import Findings, make_report


def test_equal_outputs_and_no_samples_have_no_error():
    assert median_db([], []) == np.inf
    assert median_db([[np.ones(4)]], [[np.ones(4)]]) == np.inf


def test_the_error_is_the_mean_over_outputs_and_the_median_over_samples():
    before = [[np.ones(4), np.ones(4)]] * 3
    after = [[y * 1.1, y] for y, _ in before]
    after[0] = [np.zeros(4), np.zeros(4)]  # one sample that is all wrong decides nothing
    assert median_db(before, after) == pytest.approx(20 + 10 * np.log10(2))


def test_samples_with_nearly_empty_outputs_do_not_refuse_a_model():
    before = [[np.ones(4)], [np.ones(4)], [np.full(4, 1e-9)], [np.full(4, 1e-9)], [np.full(4, 1e-9)]]
    after = [[y + 1e-3] for (y,) in before]
    assert median_db(before, after) > 50


def test_an_output_that_became_zero_or_not_a_number_is_all_wrong():
    before = [[np.ones(4)]] * 3
    assert median_db(before, [[np.zeros(4)]] * 3) == 0
    assert median_db(before, [[np.full(4, np.nan)]] * 3) == -np.inf


def test_outputs_of_other_lengths_do_not_count():
    assert median_db([[np.ones(4), np.ones(3)]], [[np.ones(4), np.ones(2)]]) == np.inf


def test_large_models_are_not_kept_compiled_while_others_are(monkeypatch: pytest.MonkeyPatch):
    net, seen = Net(0), list[Findings]()
    model = net.model(net.conv(net.input(1, 4, 8, 8), 4))
    samples = np.random.default_rng(0).standard_normal((8, 4, 8, 8), np.float32)
    monkeypatch.setattr("calib.pipeline.make_report", lambda job, found: seen.append(found) or make_report(job, found))
    for large in (verify.LARGE, 0):
        monkeypatch.setattr(verify, "LARGE", large)
        calib.quantize(model, samples, effort="fast", speed=False, target="cpu-no-vnni")
    kept, gone = seen
    for found, none in ((kept, False), (gone, True)):
        assert (found.outcome.built.compiled is None, found.chosen.scored.compiled is None) == (none, none)
