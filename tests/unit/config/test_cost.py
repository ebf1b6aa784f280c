"""What a run is expected to cost is a sum over its stages, in proportion to what was measured at its start."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calib.config.cost import COUNTED, FACTORS, FEATURES, Cost, Work, expected_cost
from calib.config.efforts import EFFORTS

WORK = Work(compiling=0.5, inference=0.01, layers=50, weights=4e6, samples=300)


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_has_factors_for_features_that_there_are_and_all_count(effort: str):
    assert all(factors.keys() <= set(FEATURES) for factors in FACTORS[effort].values())
    conditions = {condition for _, condition in FACTORS[effort]} - {""}
    assert all(isinstance(getattr(WORK, condition), bool) for condition in conditions)
    plain = expected_cost(WORK, effort)
    assert plain.seconds == pytest.approx(sum(plain.stages.values())) and min(plain.stages.values()) > 0
    changes = {"compiling": 1.0, "inference": 0.02, "layers": 100, "weights": 8e6, "samples": 600, "timed": True}
    for name, value in changes.items():
        assert expected_cost(replace(WORK, **{name: value}), effort).seconds > plain.seconds, name


def test_a_higher_effort_costs_more():
    seconds = [expected_cost(WORK, effort).seconds for effort in EFFORTS]
    assert list(EFFORTS) == ["fast", "balanced", "thorough"]
    assert seconds == sorted(seconds)


def test_many_samples_cost_little_more_than_their_plain_pass():
    one, two = (expected_cost(replace(WORK, samples=samples), "fast") for samples in (1000, 2000))
    assert one.stages["statistics"] > 1.15 * 1000 * WORK.inference
    own = 3e-5 * WORK.layers * 1000
    assert two.stages["statistics"] - one.stages["statistics"] == pytest.approx(1.15 * 1000 * WORK.inference + own)
    assert COUNTED < 1000


def test_a_choice_of_levels_compiles_one_model_more():
    exact, saturates = (expected_cost(replace(WORK, saturates=one), "fast").seconds for one in (False, True))
    assert saturates - exact == pytest.approx(1.65 * 0.5 + 0.0057 * 50 + 1e-7 * 4e6)


def test_timing_forms_is_part_of_the_stage_that_times():
    timed = replace(WORK, timed=True)
    plain, forms = (expected_cost(replace(timed, optimize_speed=one), "fast").stages["speed"] for one in (False, True))
    assert forms - plain == pytest.approx(40 * 0.5 + 0.01 * 50 + 4.2)


def test_validation_and_a_search_are_said_apart():
    measured = replace(WORK, validation=1000)
    plain, both = expected_cost(WORK, "fast"), expected_cost(measured, "fast")
    assert both.seconds - plain.seconds == pytest.approx(2 * 1000 * 0.01 + 0.5)
    assert both.search == 0.0
    search = expected_cost(replace(measured, reverts=True), "fast")
    assert search.search == pytest.approx(10 * (1000 * 0.01 + 3 * 0.5)) and search.seconds == both.seconds


def test_the_sentence_names_the_stages_that_count():
    said = str(Cost({"statistics": 12.3, "correct": 20.0, "insert": 0.4, "report": 5.0}, search=8.04))
    assert said == (
        "expected: about 38 s of CPU time (statistics 12 s, correct 20 s, report 5.0 s)"
        "; up to 8.0 s more if layers have to be reverted"
    )
    assert str(Cost({"statistics": 300.0})) == "expected: about 5 min of CPU time (statistics 5 min)"
