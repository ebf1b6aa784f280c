"""Raw heads of detectors are measured by the metric of boxes: found by itself, said, and overridden."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import calib
from calib.cli import main
from calib.engine.evaluation import open_evaluator
from calib.engine.prepare import prepare
from calib.errors import MetricError, UsageError
from calib.runtime.session import ov

op = ov.opset13
BOX = [16, 8, 48, 40]
SCALE = "preprocessing.scale=255"


def detector(score: float = 0.9, *, extra: bool = False) -> ov.Model:
    """Return a network of 64x64 pixels whose head [1, 6, 84] holds one box of class 1, brighter images none.

    The score falls with the image's brightness, behind a convolution.
    """
    x = op.parameter([1, 3, 64, 64], np.float32, name="image")
    features = op.convolution(x, np.ones((1, 3, 1, 1), np.float32) / 3, [1, 1], [0, 0], [0, 0], [1, 1])
    bright = op.reduce_mean(features, np.array([2, 3]), True)  # [1, 1, 1, 1]
    head = np.zeros((1, 6, 84), np.float32)
    head[0, :, 7] = [32, 24, 32, 32, 0, score]
    cut = np.zeros((1, 6, 84), np.float32)
    cut[0, 5, 7] = 1
    out = op.subtract(op.constant(head), op.multiply(op.reshape(bright, [1, 1, 1], False), op.constant(cut)))
    out.output(0).set_names({"head"})
    return ov.Model([out, x] if extra else [out], [x], "detector")


def labelled(brightness=(0.0, 0.1, 0.2)):
    target = {"boxes": [BOX], "labels": [1]}
    return [(np.full((1, 3, 64, 64), value, np.float32), target) for value in brightness]


def test_a_raw_head_is_decoded_and_the_report_says_how():
    found = calib.evaluate(detector(), labelled(), "coco-map", sets=["normalize=false"])
    assert found.value == pytest.approx(1)
    assert any("decoded as yolo-v8: 'head' [1,6,84]" in note and "--decode" in note for note in found.notes)


def test_options_are_obeyed_and_said():
    found = calib.evaluate(detector(), labelled(), "coco-map", decode="yolo-v8?label_shift=1")
    assert found.value == 0
    assert any("decoded as yolo-v8?label_shift=1, as asked" in note for note in found.notes)
    assert calib.evaluate(detector(), labelled(), "coco-map", decode="yolo-v8?score=.85").value < 0.5


def test_classes_beyond_the_models_are_told_of_before_and_after_quantizing():
    data = [*labelled(np.linspace(0, 0.4, 4)), (labelled()[0][0], {"boxes": [BOX], "labels": [9]})]
    told = "no detection has a class above 1, and the annotations have 9: 1 of their 2 classes"
    assert any(told in note for note in calib.evaluate(detector(), data, "voc-map").notes)
    made = calib.quantize(
        detector(), [feed for feed, _ in data], validation=data, metric="voc-map", effort="fast", speed=False
    )
    assert any(told in warning for warning in made.report.warnings)


def test_an_object_that_decodes_is_taken():
    class Mine:
        def decode(self, outputs, facts, size):
            assert size == (64, 64) and facts.outputs[0].name == "head"
            return calib.Detections([[16, 8, 48, 40]], [0.5], [1])

    assert calib.evaluate(detector(), labelled(), "coco-map", decode=Mine()).value == pytest.approx(1)


def test_quantizing_within_a_budget_judges_what_is_decoded(caplog):
    data = labelled(np.linspace(0, 0.4, 12))
    result = calib.quantize(
        detector(), [feed for feed, _ in data], validation=data, metric="coco-map", max_drop=0.05, effort="fast"
    )
    assert result.report.accuracy.metric == "coco-map" and result.report.accuracy.baseline == pytest.approx(1)
    assert sum("decoded as yolo-v8" in warning for warning in result.report.warnings) == 1
    settings = {fact.key: fact for fact in result.report.settings}
    assert settings["decode"].value is None


def test_a_decoder_that_the_metric_does_not_take_is_refused_before_anything_runs():
    with pytest.raises(UsageError, match="decode ctc: gives text, and coco-map takes boxes"):
        calib.evaluate(detector(), labelled(), "coco-map", decode="ctc")
    with pytest.raises(UsageError, match="relative-l2 compares outputs whatever they mean"):
        calib.quantize(detector(), [feed for feed, _ in labelled()], metric="relative-l2", max_drop=1, decode="yolo-v8")
    with pytest.raises(UsageError, match=r"decode.*must be one of classification"):
        calib.evaluate(detector(), labelled(), "coco-map", decode="nothing")
    with pytest.raises(UsageError, match="runs the model itself"):
        calib.evaluate(detector(), labelled(), lambda predict: 1.0, decode="yolo-v8")


def test_outputs_that_can_not_be_told_name_the_way_out():
    with pytest.raises(MetricError, match=r"no family.*--decode NAME"):
        x = op.parameter([1, 3, 64, 64], np.float32, name="image")
        pooled = op.reduce_mean(x, np.array([2, 3]))
        calib.evaluate(ov.Model([pooled], [x], "classifier"), labelled(), "coco-map")


def with_annotations(folder, size=(200, 100)) -> str:
    """Write white images of (width, height) with one box each, and return them as DATA."""
    from PIL import Image

    (folder / "images").mkdir()
    images, boxes = [], []
    for number in range(3):
        Image.new("RGB", size, (number, 0, 0)).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]})
        # Of 200x100 pixels in a letterbox of 64x64 the image has the rows 16 to 48, at 0.32 of its size.
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [50, 0, 100, 75], "iscrowd": 0})
    document = {"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]}
    for box in document["annotations"]:
        box["area"] = box["bbox"][2] * box["bbox"][3]
    (folder / "boxes.json").write_text(json.dumps(document))
    return f"coco:{folder}/boxes.json?images={folder}/images"


def test_boxes_of_a_letterboxed_image_are_judged_in_the_original_one(tmp_path):
    # The head's box of 16, 8, 48, 40 is 50, −25, 150, 75 in the image, and is cut at its upper border.
    data = with_annotations(tmp_path)
    found = calib.evaluate(detector(), data, "coco-map", sets=["preprocessing.letterbox=[64,64]", SCALE])
    assert found.value == pytest.approx(1)
    assert (
        calib.evaluate(detector(), data, "coco-map", decode="yolo-v8?clip=no", preprocessing={"letterbox": 64}).value
        < 1
    )
    assert calib.evaluate(detector(), data, "coco-map", preprocessing={"resize": 64}).value < 1


def test_the_command_line_says_and_takes_the_decoder(tmp_path):
    data = with_annotations(tmp_path)
    ov.save_model(detector(), tmp_path / "detector.xml", compress_to_fp16=False)
    argv = ["evaluate", str(tmp_path / "detector.xml"), "--validation", data, "--metric", "voc-map", "--json"]
    argv += ["--set", "preprocessing.letterbox=[64,64]", "--set", SCALE]
    done = CliRunner().invoke(main, argv)
    assert done.exit_code == 0, done.output
    assert "decoded as yolo-v8" in done.stderr and json.loads(done.stdout)["value"] == 1
    done = CliRunner().invoke(main, [*argv, "--decode", "yolo-v8?only=5"])
    assert json.loads(done.stdout)["value"] == 0 and "yolo-v8?only=5, as asked" in done.stdout


def test_a_class_map_is_resized_to_the_mask():
    x = op.parameter([1, 3, 64, 64], np.float32, name="image")
    pooled = op.max_pool(x, [16, 16], [1, 1], [0, 0], [0, 0], [16, 16], "floor", "explicit").output(0)
    model = ov.Model([op.relu(pooled)], [x], "segmentation")
    image = np.zeros((1, 3, 64, 64), np.float32)
    image[0, 2, 32:] = 1
    sample = calib.Sample((image,), id="0", geometry=calib.ImageGeometry.of_size(32, 128).resized(64, 64))
    target = np.zeros((32, 128), np.int64)
    target[16:] = 2
    evaluator = open_evaluator(prepare(model, None, flags={"metric": "mean-iou"}), [(image, target)])
    outputs = evaluator.read(
        [np.array([[np.zeros((4, 4)), np.zeros((4, 4)), np.repeat([0, 0, 1, 1], 4).reshape(4, 4)]])], sample
    )
    assert evaluator.metric.aggregate([evaluator.metric.measure(outputs, target)]) == 1


class Mine:
    """A decoder that finds a box of class 1 where the head's score says so."""

    def decode(self, outputs, facts, size):
        return calib.Detections([BOX], [outputs[0][0, 5, 7]], [1])


@pytest.mark.parametrize("decode", ["yolo-v8?score=.2", Mine()])
def test_what_was_saved_is_verified_with_the_decoder_of_its_report_or_one_that_is_given(tmp_path, decode):
    data = labelled(np.linspace(0, 0.4, 8))
    settings = {"metric": "coco-map", "max_drop": 0.05, "decode": decode, "effort": "fast", "speed": False}
    calib.quantize(detector(), [feed for feed, _ in data], validation=data, **settings).save(tmp_path / "kept")
    given = {} if isinstance(decode, str) else {"decode": decode}
    ov.save_model(detector(), tmp_path / "fp32.xml", compress_to_fp16=False)
    found = calib.verify(tmp_path / "kept", data, reference_model=tmp_path / "fp32.xml", **given)
    assert found.broken == [] and found.accuracy[0].baseline == pytest.approx(1)


def test_an_object_is_not_handed_to_another_process():
    with pytest.raises(UsageError, match="can't take decode as a Mine"):
        calib.evaluate(detector(), "data.npz", "coco-map", decode=Mine(), isa="avx2")


@pytest.mark.parametrize("metric", ["coco-map", "voc-map", "voc-map,coco-map"])
def test_a_model_is_written_with_its_pictures_whatever_measures_its_boxes(tmp_path, metric):
    data = with_annotations(tmp_path)
    ov.save_model(detector(), tmp_path / "detector.xml", compress_to_fp16=False)
    drops = ",".join(f"{name}=.05" for name in metric.split(",")) if "," in metric else "0.05"
    argv = ["quantize", str(tmp_path / "detector.xml"), "--calibration", f"images:{tmp_path}/images"]
    argv += ["--validation", data, "--metric", metric, "--max-drop", drops, "--effort", "fast", "--no-speed"]
    argv += ["--set", "preprocessing.letterbox=[64,64]", "--set", SCALE, "--decode", "yolo-v8?nms=.6"]
    done = CliRunner().invoke(main, [*argv, "-o", str(tmp_path / "kept")])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "kept" / "report.json").read_text())
    assert report["accuracy"]["metric"].replace(", ", ",") == metric
