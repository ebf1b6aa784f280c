from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.config import Settings, resolve
from calib.errors import ConfigError


def write(folder: Path, text: str, name: str = "job.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def mistakes_of(**sources: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        resolve(**sources)
    return caught.value.mistakes


def test_without_sources_every_setting_has_its_default():
    resolved = resolve()
    assert resolved.settings == Settings()
    assert {fact.origin for fact in resolved.facts()} == {"default"}


def test_a_flag_beats_set_beats_config_beats_rt_info_beats_default(tmp_path: Path):
    config = write(tmp_path, "samples: 3\nsalt: c\npreprocessing: {mean: 3, scale: 3, crop: 3}\n")
    sources: dict[str, Any] = {
        "flags": {"samples": 5, "salt": None},
        "sets": ["samples=4", "preprocessing.mean=4"],
        "config": config,
        "rt_info": {"preprocessing": {"mean": 2, "scale": 2, "color": "bgr"}},
    }
    resolved = resolve(**sources)
    block = resolved.settings.preprocessing[""]
    assert (resolved.settings.samples, resolved.settings.salt) == (5, "c")
    assert (block.mean, block.scale, block.crop, block.color) == ((4.0,), (3.0,), (3, 3), "bgr")
    assert resolved.origins == {
        "samples": "flag",
        "salt": f"--config {config}",
        "preprocessing.mean": "--set",
        "preprocessing.scale": f"--config {config}",
        "preprocessing.crop": f"--config {config}",
        "preprocessing.color": "rt_info",
    }


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["flag", "--set", "rt_info"]), min_size=1, unique=True))
def test_the_strongest_source_that_speaks_is_the_origin(speaking: list[str]):
    resolved = resolve(
        {"preprocessing": {"mean": 1}} if "flag" in speaking else {},
        ["preprocessing.mean=2"] if "--set" in speaking else [],
        None,
        {"preprocessing.mean": 3} if "rt_info" in speaking else {},
    )
    assert resolved.origins["preprocessing.mean"] == next(s for s in ("flag", "--set", "rt_info") if s in speaking)


def test_a_config_with_four_mistakes_reports_four_each_with_its_line(tmp_path: Path):
    config = write(tmp_path, "samples: 0\nestimater: kl\npreprocessing:\n  mean: [1, x]\ntime_limit: soon\n")
    with pytest.raises(ConfigError, match="4 mistakes") as caught:
        resolve(config=config)
    assert caught.value.source == str(config)
    assert [line.split(": ")[:2] for line in caught.value.mistakes] == [
        ["line 1", "samples"],
        ["line 2", "estimater"],
        ["line 4", "preprocessing.mean.1"],
        ["line 5", "time_limit"],
    ]
    assert "did you mean estimator?" in caught.value.mistakes[1]


def test_mistakes_of_all_sources_are_reported_at_once(tmp_path: Path):
    config = write(tmp_path, "drop: sideways\n")
    found = "\n".join(mistakes_of(flags={"samples": 0}, sets=["nonsense", "rank_samples=none at all"], config=config))
    assert f"{config}: line 1: drop" in found
    assert "samples: must be greater than or equal to 1, got 0" in found
    assert "--set nonsense: must be key=value" in found
    assert "--set rank_samples: must be a valid integer" in found


def test_json_is_read_too(tmp_path: Path):
    config = write(tmp_path, '{\n\t"samples": 7, "preprocessing": {"image": {"mean": [1, 2, 3]}}}', "job.json")
    resolved = resolve(config=config)
    assert resolved.settings.samples == 7
    assert resolved.settings.preprocessing["image"].mean == (1.0, 2.0, 3.0)


def test_set_reaches_inputs_whose_names_have_dots():
    assert resolve(sets="samples=7").settings.samples == 7  # one alone needs no list
    resolved = resolve(sets=["preprocessing.input.1.mean=[123,116,103]", "ignore=[a, type:MatMul]"])
    assert resolved.settings.preprocessing["input.1"].mean == (123.0, 116.0, 103.0)
    assert resolved.settings.ignore == ("a", "type:MatMul")


def test_a_model_file_can_say_nothing_but_its_preprocessing():
    rt_info = {
        "metric": "python:os:system",
        "threads": 10**6,
        "preprocessing": {"mean": [1], "embed": True, "scale": 0},
    }
    resolved = resolve(rt_info=rt_info)
    assert resolved.origins == {"preprocessing.mean": "rt_info"}
    assert resolved.settings.metric is None and resolved.settings.threads is None
    assert [key for key in ("metric", "threads", "embed", "scale") if any(key in note for note in resolved.notes)] == [
        "metric",
        "threads",
        "embed",
        "scale",
    ]


def test_a_value_of_a_file_has_its_place_until_something_overrides_it(tmp_path: Path):
    config = write(tmp_path, "higher_is_better: true\nmetric: python:my.metrics:score\npreprocessing: {mean: 0}\n")
    resolved = resolve(config=config, sets=["higher_is_better=false"])
    assert resolved.settings.metric == "python:my.metrics:score"  # nothing is imported here
    assert resolved.places == {
        "metric": f"{config}: line 2: metric",
        "preprocessing.mean": f"{config}: line 3: preprocessing.mean",
    }
    assert "metric" not in resolve({"metric": "top-1"}, config=config).places


def test_facts_show_an_object_by_its_name():
    def score(predict: Any) -> float:
        return 1.0

    facts = {fact.key: fact for fact in resolve({"metric": score, "higher_is_better": True}).facts()}
    assert "score" in facts["metric"].value and facts["metric"].origin == "flag"


@pytest.mark.parametrize(
    "flags", [{"preprocessing": 3}, {"preprocessing": {"mean": {}, "x": 1}}, {"preprocessing": [1]}]
)
def test_nonsense_for_preprocessing_is_a_mistake_and_no_crash(flags: dict[str, Any]):
    assert mistakes_of(flags=flags, sets=["preprocessing.scale=2"])


INPUTS = [("image", "image:0"), ("mask",)]


def test_preprocessing_of_an_input_that_does_not_exist_is_a_mistake_that_names_the_inputs(tmp_path: Path):
    config = write(tmp_path, "samples: 3\npreprocessing:\n  imge:\n    mean: 3\n    scale: 2\n")
    (mistake,) = mistakes_of(config=config, model_inputs=INPUTS)
    assert mistake.startswith("line 4: preprocessing.imge.mean: the model has no input 'imge' (did you mean 'image'?)")
    assert mistake.endswith("its inputs: 'image', 'mask'")
    (mistake,) = mistakes_of(sets=["preprocessing.X_.mean=3"], model_inputs=[("x",)])
    assert mistake == "--set preprocessing.X_.mean: the model has no input 'X_'; its inputs: 'x'"
    (mistake,) = mistakes_of(flags={"preprocessing": {"X_": {"mean": 3}}}, model_inputs=[("x",)])
    assert "no input 'X_'" in mistake


def test_preprocessing_that_reaches_no_input_is_a_mistake():
    (mistake,) = mistakes_of(sets=["preprocessing.mean=3"], model_inputs=INPUTS)
    assert "several inputs, 'image', 'mask'" in mistake
    (mistake,) = mistakes_of(sets=["preprocessing.mask.mean=3"], model_inputs=INPUTS)
    assert "only the first input, 'image', is preprocessed" in mistake


def test_preprocessing_under_any_name_of_the_first_input_is_right():
    for sources in ({"sets": ["preprocessing.image.mean=3"]}, {"sets": ["preprocessing.image:0.mean=3"]}):
        assert resolve(**sources, model_inputs=INPUTS).settings.preprocessing
    assert resolve(sets=["preprocessing.mean=3"], model_inputs=INPUTS[:1]).settings.preprocessing
    assert resolve(rt_info={"preprocessing": {"mean": 3}}, model_inputs=INPUTS).settings.preprocessing


def test_before_the_model_is_read_any_input_may_exist():
    assert resolve(sets=["preprocessing.X_.mean=3"]).settings.preprocessing
