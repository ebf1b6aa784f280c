"""The shipped data is what its sources say.

covers: calib.demo
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from calib.demo import demo_folder

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
README = (DATASETS / "README.md").read_text(encoding="utf-8")
SUMS = {
    name: (int(size), digest)
    for name, size, digest in re.findall(r"^\| (\S+) \| (\d+) \| `(\w{64})` \|$", README, re.M)
}


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(demo_folder() / f"{name}.npz", allow_pickle=False) as file:
        return file["image"], file["labels"]


def test_demo_folder_of_a_checkout_is_the_one_in_datasets():
    assert demo_folder() == DATASETS / "demo"


def test_every_shipped_file_has_the_size_and_sha256_that_the_readme_says():
    folder = demo_folder()
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()} == SUMS


def test_everything_together_is_under_six_megabytes_and_the_detectors_under_three():
    for folder, most in ((DATASETS, 6_000_000), (demo_folder() / "detection", 3_000_000)):
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < most


def test_datasets_is_no_package_that_would_shadow_another():
    assert not list(DATASETS.rglob("__init__.py"))


@pytest.mark.parametrize(("name", "least"), [("calibration", 300), ("validation", 2000)])
def test_images_are_grey_levels_between_zero_and_one_with_every_class_among_the_labels(name: str, least: int):
    images, labels = load(name)
    assert images.shape == (len(labels), 1, 28, 28) and len(labels) >= least
    assert images.dtype == np.float32 and labels.dtype == np.int64
    assert np.array_equal(images, np.rint(images * 255) / np.float32(255))
    assert images.min() == 0 and images.max() == 1
    assert set(labels.tolist()) == set(range(10))


def test_no_validation_image_is_among_the_calibration_images():
    calibration, validation = ({image.tobytes() for image in load(name)[0]} for name in ("calibration", "validation"))
    assert not calibration & validation
