"""The estimators on distributions whose right answer is known, by the error on the values themselves.

A uniform quantizer with step s has an error of s²/12; the rest follows from the distribution.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from oracles import quantize_dequantize

from calib.ranges import get_estimator
from calib.ranges.affine import range_limits
from calib.values.plan import Range, Scheme, TensorId
from calib.values.summary import Histogram, TensorSummary

SIZE = 1 << 18
SCHEMES = {"relu": Scheme.UNSIGNED, "relu6": Scheme.UNSIGNED, "outliers": Scheme.UNSIGNED, "silu": Scheme.ASYMMETRIC}


@cache
def values_of(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=SIZE)
    if name == "outliers":
        values = np.abs(normal)
        values[rng.choice(SIZE, SIZE // 10_000, replace=False)] *= 50
    else:
        values = {
            "relu": np.maximum(normal, 0),
            "relu6": np.clip(4 * normal, 0, 6),
            "silu": 3 * normal / (1 + np.exp(-3 * normal)),
        }[name]
    return values.astype(np.float32)


@cache
def summary_of(name: str) -> TensorSummary:
    samples = values_of(name).reshape(8, -1)
    lows, highs = samples.min(axis=1), samples.max(axis=1)
    means = float(lows.mean(dtype=np.float64)), float(highs.mean(dtype=np.float64))
    return TensorSummary(TensorId(name), 8, float(lows.min()), float(highs.max()), *means, Histogram.of(samples))


@cache
def sqnr(name: str, estimator: str) -> float:
    values, scheme = values_of(name), SCHEMES[name]
    low, high = range_limits(get_estimator(estimator)(summary_of(name), scheme, 256), scheme, 256)
    return decibels(quantize_dequantize(values, low, high, 256), values)


def decibels(quantized, values) -> float:
    noise = np.mean((quantized.astype(np.float64) - values) ** 2)
    return float(10 * np.log10(np.mean(values.astype(np.float64) ** 2) / noise))


@cache
def best_sqnr(name: str) -> float:
    """By trying ends on the values themselves."""
    values, scheme, found = values_of(name), SCHEMES[name], []
    for share in np.geomspace(0.2, 1.0, 60):
        for below in (0.25, 0.5, 0.75, 0.9, 1.0) if values.min() < 0 else (1.0,):
            low, high = float(values.min()) * below, float(values.max()) * share
            found.append(decibels(quantize_dequantize(values, *limits(low, high, scheme), 256), values))
    return max(found)


def limits(low, high, scheme):

    return range_limits(Range(min(low, 0.0), high), scheme, 256)


def rounding_sqnr(name: str) -> float:
    """Of min-max, as s²/12 on the values that are not zero predicts."""
    values = values_of(name).astype(np.float64)
    step = (max(values.max(), 0) - min(values.min(), 0)) / 255
    dead = np.abs(values) < step / 2
    noise = np.mean(np.where(dead, values**2, step**2 / 12))
    return float(10 * np.log10(np.mean(values**2) / noise))


@pytest.mark.parametrize("name", ["relu", "silu", "outliers"])
def test_minmax_has_the_error_that_its_step_predicts(name):
    assert sqnr(name, "minmax") == pytest.approx(rounding_sqnr(name), abs=0.2)


@pytest.mark.parametrize("name", list(SCHEMES))
def test_mse_finds_the_best_range_there_is(name):
    # ends lie on bin edges, 2^-7 apart: within 2 * 2^-7 of the error, and as much again where levels meet a peak
    assert sqnr(name, "mse") >= best_sqnr(name) - 10 * np.log10(1 + 4 * 2**-7)


def test_relu_gains_from_kl_and_mse():
    # half of the values are zero and quantized exactly: a histogram that keeps them makes KL lose 20 dB here
    assert sqnr("relu", "kl") > sqnr("relu", "minmax")
    assert sqnr("relu", "mse") > sqnr("relu", "minmax") + 0.5


@pytest.mark.parametrize("estimator", ["mean-minmax", "percentile", "percentile-99.9", "kl", "mse", "auto"])
def test_relu6_keeps_its_clamp(estimator):
    # 6.7 % of the values lie on the upper end: nothing may clip them
    assert sqnr("relu6", estimator) == sqnr("relu6", "minmax")


def test_outliers_that_carry_power_are_not_clipped_away():
    # clipped at the bulk, only the bulk's share of the power is left: a few dB
    assert sqnr("outliers", "percentile-99.9") < 10
    assert sqnr("outliers", "kl") == sqnr("outliers", "minmax")
    assert sqnr("outliers", "mse") > sqnr("outliers", "minmax")


def test_silu_keeps_its_sign():
    # KL over |x| loses 8 dB to min-max here
    assert sqnr("silu", "kl") >= sqnr("silu", "minmax") - 0.1
    assert sqnr("silu", "mse") > sqnr("silu", "minmax")


def test_kl_says_when_its_guard_fired():
    chosen = get_estimator("kl")(summary_of("outliers"), Scheme.UNSIGNED, 256)
    assert chosen.reason.startswith("min-max: the guard fired") and "times that of min-max" in chosen.reason


def test_auto_says_what_it_chose_and_the_figures_of_all():
    reason = get_estimator("auto")(summary_of("silu"), Scheme.ASYMMETRIC, 256).reason
    assert "smallest expected error: minmax 4" in reason
    assert all(f"{name} " in reason for name in ("mean-minmax", "percentile", "percentile-99.9", "mse"))


@pytest.mark.parametrize("name", list(SCHEMES))
def test_auto_is_within_half_a_decibel_of_the_best(name):
    best = max(sqnr(name, estimator) for estimator in ("minmax", "mean-minmax", "percentile", "kl", "mse"))
    assert sqnr(name, "auto") >= best - 0.5


def pictures(mean: float, std: float) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, size=(8, 4000)) ** 2 // 255  # dark, as pictures are
    pixels.reshape(-1)[:256] = np.arange(256)
    return ((pixels - mean) / std).astype(np.float32)


def summary_of_pictures(values: np.ndarray) -> TensorSummary:
    ends = float(values.min()), float(values.max())
    return TensorSummary(TensorId("x"), 8, *ends, *ends, Histogram.of(values))


@pytest.mark.parametrize("estimator", ["mse", "auto"])
def test_pixels_of_eight_bits_keep_their_own_levels(estimator):
    values = pictures(72.9, 90.0)
    chosen = get_estimator(estimator)(summary_of_pictures(values), Scheme.ASYMMETRIC, 256)
    assert (chosen.low, chosen.high) == (values.min(), values.max()) and "each has its own" in chosen.reason
    quantized = quantize_dequantize(values, *range_limits(chosen, Scheme.ASYMMETRIC, 256), 256)
    # all are shifted alike, by a tenth of a level; the scale's rounding moves up to 255 levels by 2^-15 each
    assert np.ptp(quantized - values) <= 255 * 2.0**-15 / 90.0


def test_pixels_half_a_level_off_are_no_such_case():
    summary = summary_of_pictures(pictures(127.5, 127.5))
    reason = get_estimator("mse")(summary, Scheme.ASYMMETRIC, 256).reason
    assert "each has its own" not in reason
    symmetric = get_estimator("mse")(summary_of_pictures(pictures(72.9, 90.0)), Scheme.SYMMETRIC, 255).reason
    assert "each has its own" not in symmetric
