"""The shipped networks do on the shipped images what the README of the datasets says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from calib.demo import demo_folder
from calib.runtime.session import compile_model, core

README = (Path(__file__).resolve().parents[2] / "datasets" / "README.md").read_text(encoding="utf-8")
ACCURACIES = {
    name: float(value) for name, value in re.findall(r"^\| (\w+) \|[^|]+\|[^|]+\| (0\.\d{4}) \|", README, re.M)
}


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "vit"])
def test_fp32_accuracy_on_the_shipped_validation_images_is_what_the_readme_says(name: str):
    model = core().read_model(demo_folder() / f"{name}.xml")
    assert (model.input("image").shape, model.output("logits").shape) == ([1, 1, 28, 28], [1, 10])
    compiled = compile_model(model)
    with np.load(demo_folder() / "validation.npz", allow_pickle=False) as file:
        images, labels = file["image"], file["labels"]
    guesses = [int(np.argmax(compiled(image[None])["logits"])) for image in images]
    # Another CPU adds in another order, which can turn an image whose two best logits are all but equal.
    assert np.mean(guesses == labels) == pytest.approx(ACCURACIES[name], abs=2.5 / len(labels))
