"""What a configuration asks for is built, or refused by name, all of it at once and before anything runs.

covers: calib.accuracy_check.document, calib.accuracy_check.fields, calib.accuracy_check.inputs,
calib.accuracy_check.survey
"""

from __future__ import annotations

import json

import pytest

import calib
from calib.accuracy_check.build import build
from calib.accuracy_check.survey import survey
from calib.errors import ConfigError, UsageError

GOOD = {
    "annotation_conversion": {"converter": "imagenet", "annotation_file": "val.txt"},
    "metrics": [{"type": "accuracy"}],
}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(dataset, launchers=None, name="accuracy-check.yml", **more):
    launchers = launchers or [{"framework": "openvino", "adapter": "classification"}]
    content = {"models": [{"name": "m", "launchers": launchers, "datasets": [{"name": "d", **dataset}]}], **more}
    with open(name, "w") as file:
        json.dump(content, file)
    return name


def mistakes(file, *more):
    with pytest.raises(ConfigError) as caught:
        build(file, *more)
    return caught.value.mistakes


def test_everything_that_is_not_supported_is_named_at_once_with_a_way_out():
    file = write(
        {
            "annotation_conversion": {"converter": "squad", "x": 1},
            "reader": "wav_reader",
            "preprocessing": [{"type": "clip_audio"}, {"type": "resize", "size": 4, "strange": 1}, {"type": "resize"}],
            "postprocessing": [{"type": "sort"}, {"type": "filter", "min_confidence": "high"}],
            "metrics": [{"type": "wer"}, {"type": "accuracy", "top_k": 0}],
            "subsample_size": 10,
        },
        [{"framework": "openvino", "adapter": {"type": "mask_rcnn"}}],
    )
    found = mistakes(file)
    for words in (
        "annotation converter 'squad'", "reader 'wav_reader'", "preprocessing 'clip_audio'", "parameter 'strange'",
        "size, or dst_width and dst_height, are needed", "postprocessing 'sort'", "min_confidence must be a number",
        "metric 'wer'", "top_k must be a number from 1", "subsample_size", "adapter 'mask_rcnn'",
    ):  # fmt: skip
        assert sum(words in one for one in found) == 1, (words, found)
    with pytest.raises(ConfigError, match=rf"\A.*: {len(found)} mistakes\n(  - .*\n)+What .*--metric python:module"):
        build(file)


def test_evaluations_would_run_code_and_are_refused():
    with open("accuracy-check.yml", "w") as file:
        json.dump({"evaluations": [{"name": "m", "module": "custom_evaluators.x.Y"}]}, file)
    assert "no code of a configuration is run" in mistakes("accuracy-check.yml")[0]


def test_annotations_that_are_converted_already_are_pickles_and_are_refused():
    file = write({"annotation": "imagenet.pickle", "metrics": [{"type": "accuracy"}]})
    assert any("'imagenet.pickle' are converted already: a pickle, which can run code" in one for one in mistakes(file))


def test_definitions_fill_in_what_a_data_set_does_not_say():
    file = write({"preprocessing": [{"type": "resize", "size": 8}]})
    assert "is defined in another file: give it, --definitions" in mistakes(file)[0]
    with open("definitions.yml", "w") as out:
        json.dump({"datasets": [{"name": "d", "preprocessing": [{"type": "crop"}], **GOOD}]}, out)
    made = build(file, "definitions.yml")
    assert made.title == "accuracy" and len(made.before) == 1


def test_the_launcher_for_openvino_is_taken_and_a_data_set_can_be_chosen():
    launchers = [{"framework": "tf", "adapter": "unknown"}, {"framework": "dlsdk", "adapter": "classification"}]
    file = write(GOOD, launchers)
    assert build(file).entry.launcher["framework"] == "dlsdk"
    assert "it has no data set 'e' for a model; data sets: d" in mistakes(file, None, "e")[0]


def test_a_metric_can_be_chosen_and_the_others_are_not_needed_then():
    file = write({**GOOD, "metrics": [{"type": "wer"}, {"type": "accuracy", "name": "top5", "top_k": 5}]})
    assert any("metric 'wer'" in one for one in mistakes(file))
    assert build(file, metric="top5").title == build(file, metric="accuracy").title == "top5"
    assert any("it has no metric 'x'; metrics: wer, top5" in one for one in mistakes(file, None, "", "x"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: [", "no valid YAML"),
        ("models: &a []\nx: *a\n", "anchors .* are not allowed"),
        ("models: !!python/object/apply:os.system [ls]\n", "tags .* are not allowed"),
        ("- a\n", "must be a mapping"),
        ("models: []\n", "no model with a launcher and a data set"),
    ],
)
def test_broken_and_hostile_files_are_refused(text, words):
    with open("accuracy-check.yml", "w") as file:
        file.write(text)
    with pytest.raises(ConfigError, match=words):
        build("accuracy-check.yml")


def test_a_survey_says_which_would_run_and_what_the_others_lack(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(GOOD, name="a/accuracy-check.yml")
    write({**GOOD, "metrics": [{"type": "bleu"}]}, name="b/accuracy-check.yml")
    good, bad = survey(["."])
    assert (good.metric, good.problems) == ("accuracy", ())
    assert len(bad.problems) == 1 and "metric 'bleu' is not supported" in bad.problems[0]
    with pytest.raises(UsageError, match="no accuracy-check"):
        survey([str(tmp_path / "nothing")])


def test_data_and_metric_hold_whole_paths_so_that_they_mean_the_same_anywhere(tmp_path):
    write(GOOD)
    (tmp_path / "d & e").mkdir()
    given = calib.read_accuracy_check(".", source="d & e", metric="accuracy")
    assert given.data == f"accuracy-check:{tmp_path}/accuracy-check.yml?metric=accuracy&source=" + (
        f"{tmp_path}/d & e".replace(" ", "%20").replace("&", "%26")
    )
    assert given.metric.startswith("accuracy-check?file=") and given.metric.endswith("metric=accuracy")


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([], "no model with a launcher and a data set"),
        ([{"name": "m", "launchers": [], "datasets": [{"name": "d"}]}], "no model with a launcher and a data set"),
        ([{"launchers": [{"framework": "openvino"}], "datasets": [{"metrics": []}]}], "neither a name"),
    ],
)
def test_a_file_without_a_data_set_says_so(models, said):
    with open("empty.yml", "w") as file:
        json.dump({"models": models}, file)
    (sentence,) = mistakes("empty.yml")
    assert said in sentence and "''" not in sentence


def test_classes_of_masks_are_read_where_open_model_zoo_names_them(tmp_path):
    """Its definitions say ``dataset_meta`` in the conversion, where the program's own word is ``dataset_meta_file``."""
    from calib.accuracy_check.annotated import Places

    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "meta.json").write_text('{"label_map": {"0": "road", "1": "kerb"}}')
    masks = {"converter": "common_semantic_segmentation", "images_dir": "images", "masks_dir": "masks"}
    entry = {"annotation_conversion": {**masks, "dataset_meta": "meta.json"}, "dataset_meta": "written.json"}
    made = build(
        write({**entry, "metrics": [{"type": "mean_iou"}]}, [{"framework": "openvino", "adapter": "segmentation"}])
    )
    assert made.convert(Places(tmp_path, None), made.entry.dataset).labels.names == {0: "road", 1: "kerb"}
