from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calib.ranges import get_estimator
from calib.ranges.auto import Auto, clipped_energy
from calib.ranges.mse import FEW_VALUES
from calib.values.plan import Range, Scheme, TensorId
from calib.values.summary import Histogram, TensorSummary


def summary_of(values: np.ndarray, energy: list[float] | None) -> TensorSummary:
    """Summarize ``(rows, channels)``."""
    low, high = float(values.min()), float(values.max())
    return TensorSummary(
        TensorId("t"),
        len(values),
        low,
        high,
        low,
        high,
        Histogram.of(values),
        values.min(axis=0),
        values.max(axis=0),
        channel_energy=None if energy is None else np.array(energy),
    )


def output_error(values: np.ndarray, chosen: Range, energy: list[float]) -> float:
    scale = chosen.high / 255
    return float(((np.clip(np.rint(values / scale), 0, 255) * scale - values) ** 2).mean(axis=0) @ energy)


@pytest.fixture
def rescaled() -> np.ndarray:
    """Eight channels of one law, the last a hundred times larger, as in a network whose channels were rescaled."""
    values = np.abs(np.random.default_rng(0).normal(size=(20_000, 8))).astype(np.float32)
    values[:, 7] *= 100
    return values


def test_a_channel_that_meets_small_weights_may_be_clipped(rescaled):
    energy = [8 / 7] * 7 + [8e-8]
    blind, seeing = (get_estimator("auto")(summary_of(rescaled, e), Scheme.UNSIGNED, 256) for e in (None, energy))
    assert seeing.high < blind.high
    assert output_error(rescaled, seeing, energy) < output_error(rescaled, blind, energy)


def test_a_channel_that_meets_large_weights_is_clipped_less(rescaled):
    even, large = (
        get_estimator("auto")(summary_of(rescaled, [*[(8 - e) / 7] * 7, e]), Scheme.UNSIGNED, 256) for e in (1.0, 7.9)
    )
    assert large.high >= even.high


def test_equal_weights_are_no_news(rescaled):
    told, untold = (summary_of(rescaled, energy) for energy in ([1.0] * 8, None))
    assert get_estimator("auto")(told, Scheme.UNSIGNED, 256) == get_estimator("auto")(untold, Scheme.UNSIGNED, 256)


def test_clipped_channels_count_by_how_far_they_reach_on_both_sides():
    values = np.array([[-3.0, -1.0, -1.0], [1.0, 1.0, 2.0]], np.float32)
    summary = summary_of(values, [2.0, 0.75, 0.25])
    # channel 0 reaches 2 below, channel 2 reaches 1 above
    assert clipped_energy(summary, Range(-1.0, 1.0)) == pytest.approx((2 * 2.0 + 1 * 0.25) / 3)
    assert clipped_energy(summary, Range(-3.0, 2.0)) == 1.0


def test_energies_of_another_number_of_channels_are_not_used(rescaled):
    assert clipped_energy(replace(summary_of(rescaled, [1.0, 0.0])), Range(0.0, 1.0)) == 1.0


def test_the_reason_names_all_that_were_tried_and_why_the_best_is():
    values = np.random.default_rng(1).laplace(size=20_000)
    chosen = Auto()(summary_of(values[:, None], None), Scheme.SYMMETRIC, 16)
    tried = ("minmax", "mean-minmax", "percentile", "percentile-99.9", "mse")
    best, _, figures = chosen.reason.partition(" has the smallest expected error: ")
    assert chosen.estimator == "auto" and best == "mse"
    assert tuple(part.rpartition(" dB")[0].rpartition(" ")[0] for part in figures.split(", ")) == tried


def test_pixels_keep_min_max_under_the_name_of_auto():
    pixels = np.repeat(np.arange(256.0), 20)
    chosen = Auto()(summary_of(pixels[:, None], None), Scheme.UNSIGNED, 256)
    assert (chosen.low, chosen.high, chosen.estimator, chosen.reason) == (0.0, 255.0, "auto", FEW_VALUES)
    zeros = Auto()(summary_of(np.zeros((9, 1)), None), Scheme.UNSIGNED, 256)
    assert "minmax no error" in zeros.reason


def test_what_an_estimator_chose_is_looked_up_for_the_same_statistics_only(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    summary = summary_of(rng.standard_normal((200, 4)).astype(np.float32), None)
    first = [get_estimator(name)(summary, Scheme.SYMMETRIC, 255) for name in ("auto", "mse", "kl", "percentile")]
    monkeypatch.setattr("calib.ranges.bins._made", None)  # no histogram is looked at again
    monkeypatch.setattr("calib.ranges.bins._latest", [])
    again = [get_estimator(name)(summary, Scheme.SYMMETRIC, 255) for name in ("auto", "mse", "kl", "percentile")]
    assert again == first
    with pytest.raises(TypeError):  # other levels, and other statistics, are no known question
        get_estimator("mse")(summary, Scheme.SYMMETRIC, 15)
    with pytest.raises(TypeError):
        get_estimator("mse")(replace(summary, samples=3), Scheme.SYMMETRIC, 255)


def test_a_sample_that_no_histogram_holds_is_not_clipped_for_the_others_sake():
    rng = np.random.default_rng(2)
    usual, far = (rng.normal(0, size, (4096, 1)).astype(np.float32) for size in (1.0, 4.0))
    seen = replace(summary_of(usual, None), samples=160, low=float(far.min()), high=float(far.max()))
    seen = replace(seen, mean_low=-3.5, mean_high=3.5)
    known = replace(seen, uncounted=Histogram.of(far), uncounted_samples=4)
    blind, told = (Auto()(summary, Scheme.SYMMETRIC, 255) for summary in (seen, known))
    assert blind.high < 5.0 and told.high == seen.high
