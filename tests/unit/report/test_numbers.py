"""Numbers as people read them: three digits, a true minus, and never "nothing" for what is something."""

from __future__ import annotations

import math

import pytest

from calib.report import numbers
from calib.values.accuracy_facts import AccuracyFacts

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.9997, "1.00"),
        (0.012345, "0.0123"),
        (-12.345, "−12.3"),
        (123456.0, "123456"),
        (1e6, "1.00e+06"),
        (0.00009, "9.00e-05"),
        (INF, "∞"),
        (-INF, "−∞"),
        (NAN, "–"),
    ],
)
def test_three_significant_digits_without_an_exponent_where_that_stays_short(value: float, text: str):
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (14_012, "14.0 kB"), (14e6, "14.0 MB"), (2e12, "2000 GB")]
)
def test_bytes_have_the_unit_that_reads_well(count: int, text: str):
    assert numbers.size(int(count)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.44, "0.4 s"), (73.4, "73 s"), (725.0, "12 min 5 s"), (7380.0, "2 h 3 min"), (math.inf, "∞ s")],
)
def test_durations_have_two_units_at_most(value: float, text: str):
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0 %"), (0.00005, "<0.01 %"), (0.1234, "12.3 %"), (1.0, "100 %")]
)
def test_a_share_is_nothing_only_where_it_is_nothing(value: float | None, text: str):
    assert numbers.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (27.34, "27.3 dB"), (-0.04, "0.0 dB"), (-3.0, "−3.0 dB"), (INF, "∞ dB")]
)
def test_an_sqnr_has_one_decimal_and_no_negative_zero(value: float | None, text: str):
    assert numbers.decibel(value) == text


def test_layers_are_told_in_microseconds_and_models_in_milliseconds():
    assert numbers.milliseconds(0.25) == "0.250 ms" and numbers.microseconds(0.25) == "250 µs"
    assert numbers.milliseconds(None) == numbers.microseconds(None) == "–"


def test_factors_and_plurals():
    assert numbers.ratio(2.814) == "2.81×" and numbers.ratio(NAN) == "–"
    assert numbers.plural(1, "layer") == "1 layer" and numbers.plural(1200, "layer") == "1,200 layers"


def accuracy(unit: str, kind: str = "absolute") -> AccuracyFacts:
    return AccuracyFacts(
        metric="m",
        higher_is_better=True,
        unit=unit,
        samples=100,
        baseline=0.8,
        quantized=0.79,
        drop=0.01,
        drop_kind=kind,  # pyright: ignore[reportArgumentType]
        interval=(-0.002, 0.02),
    )


@pytest.mark.parametrize(
    ("unit", "kind", "drop", "interval"),
    [
        ("fraction", "absolute", "1.00 points", "−0.20 … 2.00 points"),
        ("dB", "absolute", "0.01 dB", "−0.002 … 0.02 dB"),
        ("dB", "relative", "1.00 % of the baseline", "−0.20 … 2.00 % of the baseline"),
        ("", "absolute", "0.01", "−0.002 … 0.02"),
    ],
)
def test_a_drop_is_in_the_unit_of_the_budget(unit: str, kind: str, drop: str, interval: str):
    facts = accuracy(unit, kind)
    assert numbers.drop(facts, facts.drop) == drop and numbers.interval(facts) == interval
    assert numbers.bare_drop(facts, 0.5 / numbers.drop_scale(facts)) in ("0.5", "0.50")
    assert numbers.interval(facts.model_copy(update={"interval": None})) == ""


def test_a_fraction_reads_as_a_percentage_and_other_units_stay():
    assert numbers.value(accuracy("fraction"), 0.7654) == "76.54 %"
    assert numbers.value(accuracy("dB"), -31.2345) == "−31.23 dB"


def test_a_unit_of_words_stands_once_and_noise_has_its_sqnr_beside_it():
    assert numbers.change(accuracy("fraction"), 0.8, 0.79) == "80.00 % → 79.00 %"
    assert numbers.change(accuracy("average precision"), 0.8, 0.79) == "0.8 → 0.79 average precision"
    assert numbers.change(accuracy("of the signal"), 0.0, 6.04e-5) == "0 → 6.04e-05 of the signal (42.2 dB)"
