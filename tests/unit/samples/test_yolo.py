"""YOLO's text files: boxes in fractions of the image, and the files that name them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from calib.errors import DataError
from calib.samples.open import InputSpec, open_dataset

IMAGE = InputSpec("x", ("x",), (1, 3, 8, 8), np.dtype(np.float32))
YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("val/a", "val/b", "train/c"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(path)
    (tmp_path / "labels" / "val" / "a.txt").write_text("1 0.5 0.5 0.5 0.2\n")
    (tmp_path / "data.yaml").write_text(YAML)
    return tmp_path


def opened(text="yolo:data.yaml"):
    return open_dataset(text, inputs=[IMAGE])


def test_boxes_are_in_pixels_and_an_image_without_labels_is_empty():
    dataset = opened()
    targets = {s.id: s.target for s in dataset}
    assert targets["images/val/b.png"] == {"boxes": [], "labels": []}
    assert targets["images/val/a.png"] == {"boxes": [[5.0, 4.0, 15.0, 6.0]], "labels": [1]}
    assert "2 classes, numbered as in it, images of its 'val': cat = 0, dog = 1" in dataset.notes[0]


def test_other_sets_and_lists_of_names(folder):
    assert [s.id for s in opened("yolo:data.yaml?set=train")] == ["images/train/c.png"]
    (folder / "data.yaml").write_text("val: [list.txt]\nnames: [cat, dog]\n")
    (folder / "list.txt").write_text("./images/val/a.png\n")
    assert [s.target["labels"] for s in opened("yolo:data.yaml?first=1")] == [[2]]


def test_outlines_become_the_box_around_them(folder):
    (folder / "labels" / "val" / "a.txt").write_text("0 0.1 0.2 0.5 0.2 0.3 0.9\n")
    assert next(iter(opened())).target["boxes"] == [[2.0, 2.0, 10.0, 9.0]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2 0.5 0.5 0.1 0.1", r"line 1 of .*a\.txt: class 2, and .* names 2 classes, 0 to 1"),
        ("0 0.5 0.5 0.1", "got 4 numbers"),
        ("0 0.9 0.5 0.5 0.1", "no box inside the image"),
        ("0 5 4 15 6", "fractions of its size"),
        ("0 0.5 0.5 0 0.1", "no box inside the image"),
        ("cat 0.5 0.5 0.1 0.1", "line 1 of .*class: must be a finite number, got 'cat'"),
        ("0 0.5 0.5 nan 0.1", "must be a finite number, got 'nan'"),
    ],
)
def test_lines_that_are_wrong_are_named(folder, line, words):
    (folder / "labels" / "val" / "a.txt").write_text(line)
    with pytest.raises(DataError, match=words):
        opened()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [a\n", "no valid YAML"),
        ("a: &x [1, 1]\nb: [*x, *x]\n", "line 1: anchors.*aliases"),
        ("names: !!python/object:os.system [a]\n", "tags .* are not allowed"),
        ("val: images/val\n", "it needs 'names'"),
        ("val: images/val\nnames: {0: a, 2: b}\n", "names are numbered 0, 1"),
        ("names: [a]\n", r"names no images under 'val'\. Name a folder there: val: images/val"),
        ("val: images/val\nnames: [a, b]\nnc: 3\n", "'nc' is 3, and 'names' holds 2 names"),
        ("path: nowhere\nval: x\nnames: [a]\n", "'path' names 'nowhere', and there is no such folder"),
        ("val: nowhere\nnames: [a]\n", "nowhere is neither a folder nor a .txt file"),
        ("path: images\nval: ../secret\nnames: [a, b]\n", "is outside of .* and is not read"),
    ],
)
def test_files_that_are_broken_or_hostile_are_refused(folder, text, words):
    (folder / "secret").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "secret" / "s.png")
    (folder / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=words):
        opened()
