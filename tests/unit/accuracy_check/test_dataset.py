"""Configurations run from reader to metric on real models, and give the values that follow by hand.

covers: calib.accuracy_check.judged, calib.accuracy_check.values, calib.accuracy_check.class_names
"""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

import calib
from calib.accuracy_check.judged import AccuracyCheck
from calib.errors import DataError, MetricError, UsageError
from calib.metrics.metric import Configured, WithChance, WithMovedLabels
from calib.runtime.session import ov
from calib.samples.open import InputSpec, open_dataset

opset = ov.opset13


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "pictures").mkdir(parents=True)


def picture(name, pixels, where="pictures"):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(f"data/{where}/{name}")


def configuration(adapter, dataset, **launcher):
    """Write a configuration in JSON, which is YAML, too."""
    entry = {"framework": "openvino", "adapter": adapter, **launcher}
    content = {"models": [{"name": "m", "launchers": [entry], "datasets": [{"name": "d", **dataset}]}]}
    with open("accuracy-check.yml", "w") as file:
        json.dump(content, file)


def evaluated(model, **more):
    given = calib.read_accuracy_check("accuracy-check.yml", source="data", **more)
    return calib.evaluate(model, given.data, given.metric)


def channel_model(size=4):
    """Return a classifier whose scores are the means of the three channels of what it is given."""
    image = opset.parameter([1, 3, size, size], np.float32, name="image")
    mean = opset.reduce_mean(image, np.array([2, 3]))
    mean.output(0).tensor.set_names({"scores"})
    return ov.Model([mean], [image], "channels")


def classes(**more):
    rows = [(0, (200, 10, 20)), (1, (10, 220, 30)), (2, (5, 60, 230)), (2, (90, 80, 10))]  # label, RGB
    for number, (_, color) in enumerate(rows):
        picture(f"{number}.png", np.full((6, 8, 3), color))
    with open("data/val.txt", "w") as file:
        file.writelines(f"folder/{number}.png {label}\n" for number, (label, _) in enumerate(rows))
    return {
        "data_source": "pictures",
        "annotation_conversion": {"converter": "imagenet", "annotation_file": "val.txt"},
        "preprocessing": [{"type": "bgr_to_rgb"}, {"type": "resize", "size": 4}],
        "metrics": [{"type": "accuracy", "name": "top1"}, {"type": "accuracy", "name": "top2", "top_k": 2}],
        **more,
    }


def test_a_classifier_is_judged_by_the_first_metric_or_by_the_one_that_is_named():
    configuration("classification", classes())
    found = evaluated(channel_model())
    assert (found.value, found.metric, found.samples) == (0.75, "top1", 4)
    assert evaluated(channel_model(), metric="top2").value == 0.75
    both = evaluated(channel_model(), metric="top1, top2")
    assert [one.metric for one in both.each] == ["top1", "top2"]
    assert any("as Accuracy Checker does" in note for note in found.notes)


def test_accuracy_tells_guessing_and_labels_that_are_off_by_one_as_top_1_does():
    configuration("classification", classes())
    metric = AccuracyCheck("accuracy-check.yml")
    assert isinstance(metric, WithChance) and metric.chance(4) == 0.25
    assert AccuracyCheck("accuracy-check.yml", metric="top2").chance(3) == 2 / 3
    assert isinstance(metric, WithMovedLabels) and not isinstance(AccuracyCheck(), WithMovedLabels)
    text = calib.read_accuracy_check("accuracy-check.yml", source="data").data
    spec = InputSpec("image", ("image",), (1, 3, 4, 4), np.dtype(np.float32))
    sample = next(s for s in open_dataset(text, inputs=[spec]) if int(s.target.annotation.values) == 1)
    for best, by in ((0, -1), (2, 1)):
        outputs = [np.eye(3)[[best]]]
        assert metric.measure(outputs, sample.target) == 0
        assert metric.measure(outputs, metric.moved_target(outputs, sample.target, by)) == 1


def test_without_a_color_conversion_images_are_bgr_as_opencv_reads_them():
    configuration("classification", classes(preprocessing=[{"type": "resize", "size": 4}]))
    assert evaluated(channel_model()).value == 0.5  # red and blue change places: 0 and 2 go wrong, 3 comes right
    configuration("classification", classes(preprocessing=[{"type": "auto_resize"}], reader="pillow_imread"))
    assert evaluated(channel_model()).value == 0.75


def constant_model(values, name="out", size=(1, 3, 8, 8)):
    """Return a model that gives the same values for every image."""
    image = opset.parameter(list(size), np.float32, name="image")
    zero = opset.multiply(opset.reduce_mean(image, np.array([0, 1, 2, 3])), np.float32(0))
    out = opset.add(np.asarray(values, np.float32), zero)
    out.set_friendly_name(name)
    out.output(0).tensor.set_names({name})
    return ov.Model([out], [image], "constant")


def coco(boxes, size=(20, 40)):
    picture("a.png", np.zeros((*size, 3)))
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": label, "bbox": box, "iscrowd": 0, "segmentation": []}
            for n, (label, box) in enumerate(boxes)
        ],
        "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}],
    }
    with open("data/boxes.json", "w") as file:
        json.dump(content, file)
    return {
        "data_source": "pictures",
        "annotation_conversion": {
            "converter": "mscoco_detection",
            "annotation_file": "boxes.json",
            "has_background": True,
        },
        "preprocessing": [{"type": "resize", "size": 8}],
        "postprocessing": [{"type": "resize_prediction_boxes"}],
    }


@pytest.mark.parametrize("metric", ["map", "coco_precision", "coco_orig_precision"])
def test_boxes_come_back_to_the_image_and_each_class_counts(metric):
    dataset = coco([(7, [4, 2, 20, 10]), (3, [0, 0, 8, 8])])
    exact = {"type": metric, "include_boundaries": False} if metric != "coco_precision" else {"type": metric}
    configuration("ssd", {**dataset, "metrics": [exact]})
    # class 1 is the file's first category; the second row is of class 2 and misses, the third ends the list
    rows = [[0, 1, 0.9, 0.1, 0.1, 0.6, 0.6], [0, 2, 0.8, 0.5, 0.5, 0.9, 0.9], [-1, 0, 0, 0, 0, 0, 0]]
    assert evaluated(constant_model([[rows]])).value == pytest.approx(0.5, abs=1e-6)
    rows[1] = [0, 2, 0.8, 0.0, 0.0, 0.2, 0.4]
    assert evaluated(constant_model([[rows]])).value == pytest.approx(1.0, abs=1e-6)


def test_class_maps_are_brought_to_the_size_of_their_masks():
    (p := [[0, 1, 2, 2], [0, 1, 11, 2]])
    picture("a.png", np.zeros((2, 4, 3)))
    picture("m.png", p)
    with open("data/list.txt", "w") as file:
        file.write("/SegNet/pictures/a.png /SegNet/pictures/m.png\n")
    scores = np.zeros((1, 12, 2, 2), np.float32)
    scores[0, 0, :, 0] = scores[0, 2, :, 1] = 1  # the left half is class 0, the right one class 2
    dataset = {
        "annotation_conversion": {"converter": "camvid", "annotation_file": "list.txt"},
        "preprocessing": [{"type": "resize", "size": 2}],
        "postprocessing": [{"type": "resize_segmentation_mask", "apply_to": "prediction"}],
        "metrics": [{"type": "mean_iou", "ignore_label": 11}],
    }
    configuration("segmentation", dataset)
    found = evaluated(constant_model(scores, size=(1, 3, 2, 2)))
    assert found.value == pytest.approx(np.mean([2 / 4, 0, 3 / 3]))


def test_what_is_missing_or_no_sample_of_a_configuration_is_told(tmp_path):
    configuration("classification", classes())
    (tmp_path / "data" / "pictures" / "2.png").unlink()
    with pytest.raises(DataError, match=r"no image '2\.png' in .*1 of 4 are missing.*--source"):
        evaluated(channel_model())
    with pytest.raises(UsageError, match="no such file or folder"):
        calib.read_accuracy_check("accuracy-check.yml", source="nowhere")
    with pytest.raises(UsageError, match="give the folder of the data sets"):
        spec = InputSpec("image", ("image",), (1, 3, 4, 4), np.dtype(np.float32))
        open_dataset("accuracy-check:accuracy-check.yml", inputs=[spec])
    with pytest.raises(MetricError, match="reads samples of accuracy-check: alone"):
        sample = (np.zeros((1, 3, 4, 4), np.float32), 0)
        calib.evaluate(channel_model(), [sample], "accuracy-check?file=accuracy-check.yml")


def test_names_of_a_configuration_do_not_leave_the_source(tmp_path):
    (tmp_path / "val.txt").write_text("0.png 0\n")
    for name in ("../val.txt", str(tmp_path / "val.txt")):
        dataset = classes(annotation_conversion={"converter": "imagenet", "annotation_file": name})
        configuration("classification", dataset)
        with pytest.raises(DataError, match="leaves the folder of the data sets"):
            evaluated(channel_model())
    os.symlink(tmp_path / "val.txt", "data/link.txt")
    configuration(
        "classification", classes(annotation_conversion={"converter": "imagenet", "annotation_file": "link.txt"})
    )
    with pytest.raises(DataError, match=r"data/link\.txt is a link that leaves the folder of the data sets"):
        evaluated(channel_model())


def test_masks_and_images_to_compare_with_do_not_leave_the_source_either(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    with open("data/list.txt", "w") as file:
        file.write("pictures/0.png x/../secret.png\n")
    picture("0.png", np.zeros((8, 8, 3)))
    (tmp_path / "data" / "masks").mkdir()
    masks = {"data_source": "", "annotation_conversion": {"converter": "camvid", "annotation_file": "list.txt"}}
    paired = {"converter": "image_processing", "data_dir": "pictures", "input_suffix": "0",
              "target_suffix": "/../../../secret"}  # fmt: skip
    restored = {"data_source": "pictures", "annotation_conversion": paired}
    for dataset, kind, metric in ((masks, "segmentation", "mean_iou"), (restored, "image_processing", "mae")):
        configuration(kind, {**dataset, "metrics": [{"type": metric}]})
        with pytest.raises(DataError, match=r"secret\.png is outside of"):
            evaluated(constant_model(np.zeros((1, 3, 8, 8))))


def test_other_inputs_are_given_what_the_configuration_says():
    configuration(
        "classification",
        classes(),
        inputs=[{"name": "image", "type": "INPUT"}, {"name": "info", "type": "IMAGE_INFO"}],
    )
    image = opset.parameter([1, 3, 4, 4], np.float32, name="image")
    info = opset.parameter([1, 3], np.float32, name="info")
    for node, name in ((image, "image"), (info, "info")):
        node.output(0).tensor.set_names({name})
    scores = opset.add(opset.reduce_mean(image, np.array([2, 3])), opset.multiply(info, np.float32(1000)))
    model = ov.Model([scores], [image, info], "two")
    assert evaluated(model).value == 0.5  # 4, 4 and 1 of the resized image: class 2 never wins


def test_samples_are_the_same_each_time():
    configuration("classification", classes())
    text = calib.read_accuracy_check("accuracy-check.yml", source="data").data
    spec = InputSpec("image", ("image",), (1, 3, 4, 4), np.dtype(np.float32))
    first, second = (list(open_dataset(text, inputs=[spec])) for _ in range(2))
    assert [repr(s.target) for s in first] == [repr(s.target) for s in second]
    assert len({repr(s.target) for s in first}) == 3  # the label and what was done tell targets apart


def test_a_changed_file_is_another_metric_for_a_run_that_is_resumed():
    configuration("classification", classes())
    made = [AccuracyCheck("accuracy-check.yml"), AccuracyCheck("accuracy-check.yml")]
    configuration("classification", classes(metrics=[{"type": "accuracy", "name": "top1", "top_k": 3}]))
    os.utime("accuracy-check.yml", (1e9, 1e9))
    made.append(AccuracyCheck("accuracy-check.yml"))
    same, again, other = (one.configuration for one in made)
    assert same == again != other and isinstance(made[0], Configured)
