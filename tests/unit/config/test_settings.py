"""Settings and their types refuse what can't be meant, and their JSON Schema says what is allowed.

covers: calib.config.preprocessing, calib.config.types
"""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from calib.config import Preprocessing, Settings, json_schema, parse_duration, parse_memory
from calib.config.run_inputs import MEANING
from calib.config.settings import metric_names
from calib.metrics import METRICS
from calib.ranges import ESTIMATORS


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("0.5h", 1800), (" 1d ", 86400)]
)
def test_a_time_limit_is_read_as_people_write_it(text: str, seconds: float):
    assert parse_duration(text) == seconds
    assert Settings(time_limit=text).time_limit == seconds  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("text", ["2x", "h", "", "1h 5", "-3s", "1e3s"])
def test_text_that_is_no_time_is_refused_with_examples(text: str):
    with pytest.raises(ValueError, match="30m"):
        parse_duration(text)


@pytest.mark.parametrize("text, count", [("512MiB", 512 << 20), ("2GiB", 2 << 30), ("1.5 GB", 1_500_000_000)])
def test_a_memory_limit_is_read_as_people_write_it(text: str, count: int):
    assert parse_memory(text) == count


@pytest.mark.parametrize("device", ["gpu", "NPU"])
def test_a_target_that_is_not_there_yet_is_refused_with_the_reason(device: str):
    with pytest.raises(ValidationError, match="knows only the rules of the CPU plug-in"):
        Settings(target=device)  # pyright: ignore[reportArgumentType]


def test_every_estimator_of_the_table_is_a_setting():
    for name in ESTIMATORS:
        assert Settings(estimator=name).estimator == name


def test_every_metric_of_the_table_is_a_setting():
    for name in METRICS:
        assert Settings(metric=name).metric == name


def test_an_estimator_object_is_taken_as_it_is():
    own = next(iter(ESTIMATORS.values()))
    assert Settings(estimator=own).estimator is own


def test_the_direction_of_a_metric_of_your_own_is_never_guessed():
    with pytest.raises(ValidationError, match="--higher-is-better or --lower-is-better"):
        Settings(metric="python:my.module:score")
    Settings(metric=lambda predict: 1.0)  # a Python function is a score by its documented contract
    assert Settings(metric="python:my.module:score", higher_is_better=False).higher_is_better is False


def test_a_number_is_not_taken_from_a_truth_value():
    with pytest.raises(ValidationError) as caught:
        Settings(samples=True, max_drop=True, time_limit=True)
    assert len(caught.value.errors()) == 3


@pytest.mark.parametrize(
    ("given", "drop", "expected"),
    [
        (0.01, "absolute", (0.01, "absolute", False)),
        ("0.01", "absolute", (0.01, "absolute", False)),
        (0.01, "relative", (0.01, "relative", False)),
        ("0.5pt", "absolute", (0.005, "absolute", True)),
        (" .5 PT ", "absolute", (0.005, "absolute", True)),
        ("1%rel", "absolute", (0.01, "relative", False)),
        ("1 % rel", "relative", (0.01, "relative", False)),
        ("0", "absolute", (0.0, "absolute", False)),
    ],
)
def test_a_budget_says_its_unit(given, drop, expected):
    assert Settings(max_drop=given, drop=drop).allowed_drops == {"": expected}


@pytest.mark.parametrize("given", ["top-1=0.5pt, mae = 0.1", {"top-1": "0.5pt", "mae": 0.1}])
def test_each_metric_has_a_budget_with_its_own_unit(given):
    settings = Settings(max_drop=given, drop="relative")
    assert settings.max_drop == "top-1=0.5pt,mae=0.1"
    assert settings.allowed_drops == {"top-1": (0.005, "absolute", True), "mae": (0.1, "relative", False)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("top-1=0.1,top-1=0.2", "gives top-1 two budgets"),
        ("top-1=0.1,0.2", "must name the metric of each budget"),
        ("top-1=1%", "could mean two things"),
        ({"top-1": "one"}, "must be a number such as 0.01"),
    ],
)
def test_budgets_by_metric_that_can_not_be_read_are_refused(given, words):
    with pytest.raises(ValidationError, match=words):
        Settings(max_drop=given)


def test_several_metrics_are_names_between_commas_or_a_list():
    assert Settings(metric=["top-1", "f1"]).metric == Settings(metric="top-1, f1").metric == "top-1,f1"
    assert metric_names("cer?vocabulary=a,b.txt,top-1") == ["cer?vocabulary=a,b.txt", "top-1"]
    with pytest.raises(ValidationError, match="did you mean top-1"):
        Settings(metric="f1,top1")
    with pytest.raises(ValidationError, match="must name a metric"):
        Settings(metric=[])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("1%", r"1pt allows 1 percentage point of the metric, 1%rel allows 1 % of the FP32 baseline"),
        ("one", r"0\.5pt \(percentage points\) or 1%rel"),
        ("-1pt", r"must be a number"),
        (-0.1, r"must be a number such as 0\.01"),
        (float("nan"), r"must be a number such as 0\.01"),
        ("1e400", r"must be a number such as 0\.01"),
    ],
)
def test_a_budget_that_could_be_misread_is_refused(given, words):
    with pytest.raises(ValidationError, match=words):
        Settings(max_drop=given)


def test_a_smallest_sqnr_is_a_budget_with_a_metric_of_its_own():
    settings = Settings(min_sqnr="30")
    assert settings.allowed_drops == {"": (pytest.approx(1e-3), "absolute", False)}
    assert settings.has_budget and settings.measures_speed and settings.judged_by == "noise"
    for also in ({"metric": "top-1"}, {"max_drop": 0.01}, {"metric": "mae", "max_drop": 0.01}):
        with pytest.raises(ValueError, match=f"leave out {' and '.join(also)}, or min_sqnr"):
            Settings(min_sqnr=30, **also)
    for wrong in (0, -3, 500):
        with pytest.raises(ValueError):
            Settings(min_sqnr=wrong)


def test_the_knee_is_no_budget_and_takes_none():
    assert Settings(knee=True).knee and not Settings(knee=True).has_budget
    for also in ({"max_drop": 0.01}, {"min_sqnr": 30}):
        with pytest.raises(ValueError, match=f"without a budget, which {next(iter(also))} is"):
            Settings(knee=True, **also)


def test_points_are_not_a_share_of_the_baseline():
    with pytest.raises(ValidationError, match="give 1%rel"):
        Settings(max_drop="1pt", drop="relative")


def test_all_unreadable_ignore_patterns_are_named():
    with pytest.raises(ValidationError, match=r"'re:\(' is no regular expression.*'type:' names nothing"):
        Settings(ignore=("re:(", "type:", "fine"))


def test_the_block_of_an_input_is_laid_over_the_nameless_one():
    settings = Settings(
        preprocessing={"": Preprocessing(mean=(1.0,), color="bgr"), "image": Preprocessing(scale=(2.0,))}
    )
    block = settings.preprocessing_for("image", only=True)
    assert (block.mean, block.scale, block.color) == ((1.0,), (2.0,), "bgr")
    assert settings.preprocessing_for("image", only=False).mean is None
    assert settings.preprocessing_for("x", ["image"], only=False).scale == (2.0,)


def test_preprocessing_becomes_what_samples_apply():
    block = Preprocessing(mean=(127.5,), scale=(2.0,), color="gray", resize=(2, 2))
    host = block.on_host()
    assert (host.mean, host.scale, host.color, host.resize) == ((127.5,), (2.0,), "gray", (2, 2))


def test_the_json_schema_holds_every_setting_with_its_meaning_and_choices():
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(Settings.model_fields) | set(MEANING)
    assert all(entry.get("description") for entry in schema["properties"].values())
    assert schema["properties"]["estimator"]["enum"] == list(ESTIMATORS)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("given", [True, "high", "nan", "a=1,a=2", "=1", {"a": None}, "a=b"])
def test_a_published_value_is_a_number_or_one_for_each_metric_named_once(given):
    assert Settings(reference="0.5").references == {"": 0.5}
    assert Settings(reference={"top-1": 0.5, "map@0.5": "0.25"}).references == {"top-1": 0.5, "map@0.5": 0.25}
    with pytest.raises(ValidationError):
        Settings(reference=given)
