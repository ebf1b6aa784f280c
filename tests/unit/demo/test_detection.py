"""The pictures of the detection demo are written with boxes that the reader of COCO's format takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import calib
from calib.demo import demo_folder
from calib.demo.detection import CLASSES, DECODERS, PARTS, write_part
from calib.demo.scenes import compose
from calib.samples.open import open_dataset
from calib.samples.sample import InputSpec

SPEC = InputSpec("image", ("image",), (1, 3, 96, 96), np.dtype(np.float32))


def test_pictures_and_boxes_are_those_that_were_composed(tmp_path: Path):
    pictures, annotations = write_part(demo_folder(), tmp_path, "validation", 5)
    with np.load(demo_folder() / "validation.npz", allow_pickle=False) as file:
        composed = list(compose(file["image"][:, 0], file["labels"], 5, PARTS["validation"][1]))
    for path, scene in zip(sorted(pictures.iterdir()), composed, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), scene.image)
    dataset = open_dataset(f"coco:{annotations}?images={pictures}", inputs=[SPEC])
    for sample, scene in zip(dataset.load(sorted(dataset.choose(None))), composed, strict=True):
        assert np.array_equal(sample.target["boxes"], scene.boxes)
        assert np.array_equal(sample.target["labels"], scene.labels) and max(scene.labels) < len(CLASSES)


def test_both_parts_are_composed_of_different_items_and_each_network_has_a_decoder():
    assert PARTS["validation"][0] == 2000 and len({seed for _, seed in PARTS.values()}) == 2
    assert set(DECODERS) == {path.stem for path in (demo_folder() / "detection").glob("*.xml")}


def test_the_demos_detectors_find_the_clothes_and_lose_little_with_everything_in_int8(tmp_path: Path):
    pictures, annotations = write_part(demo_folder(), tmp_path, "validation", 60)
    calibration, _ = write_part(demo_folder(), tmp_path, "calibration", 40)
    for network, decoder in DECODERS.items():
        result = calib.quantize(
            demo_folder() / "detection" / f"{network}.xml",
            f"images:{calibration}",
            validation=f"coco:{annotations}?images={pictures}",
            metric="coco-map",
            decode=decoder,
            effort="fast",
            target="cpu-no-vnni",
        )
        accuracy = result.report.accuracy
        assert accuracy is not None and accuracy.baseline > 0.35, network
        assert all(layer.planned == "int8" for layer in result.report.layers), network
        # So few pictures move by half a point and more from one rounding to another.
        assert accuracy.drop < 0.03, network
        report = result.save(tmp_path / network, pictures=True)
        assert report.pictures and "box" in report.pictures[0].change
