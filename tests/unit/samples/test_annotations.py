"""Annotations of images: boxes arrive in pixels of the original, and broken or hostile files are told of by entry.

covers: calib.samples.coco, calib.samples.wider, calib.samples.labelled_lines
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from calib.errors import DataError, UsageError
from calib.samples.open import InputSpec, Preprocess, open_dataset

IMAGE = InputSpec("x", ("x",), (1, 3, 8, 8), np.dtype(np.float32))


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (20, 10), (1, 2, 3)).save(tmp_path / "pictures" / f"{name}.png")


def opened(text, **more):
    return open_dataset(text, inputs=[IMAGE], **more)


def coco(**changes):
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 10, "width": 20},
            {"id": 9, "file_name": "b.png", "height": 10, "width": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3.5, 4], "iscrowd": 1, "segmentation": [[1, 2]]},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 20, 10]},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
    }
    return content | changes


def changed(kind, position, **fields):
    content = coco()
    content[kind][position] |= fields
    return content


def write(content, name="boxes.json"):
    with open(name, "w") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    return f"coco:{name}?images=pictures"


def test_coco_boxes_become_corners_and_categories_contiguous_classes():
    samples = {s.id: s for s in opened(write(coco()))}
    assert samples["a.png"].target == {
        "boxes": [[1.0, 2.0, 4.5, 6.0], [0.0, 0.0, 20.0, 10.0]],
        "labels": [1, 0],
        "iscrowd": [1, 0],
    }
    assert samples["b.png"].target == {"boxes": [], "labels": []}  # an image may be empty
    assert samples["a.png"].geometry.original == (10, 20) and samples["a.png"].geometry.scale == (0.8, 0.4)


@pytest.mark.parametrize(
    ("options", "labels", "words"),
    [
        ("", [1, 0], "2 classes, numbered in the order of their ids .*: car = 0, toothbrush = 1"),
        ("&first=1", [2, 1], "car = 1, toothbrush = 2"),
        ("&labels=ids", [90, 3], "numbered by their ids: car = 3, toothbrush = 90"),
        ("&classes=names.txt", [0, 2], "3 classes, numbered by names.txt: toothbrush = 0, dog = 1, car = 2"),
    ],
)
def test_the_numbers_of_classes_are_said_and_can_be_chosen(tmp_path, options, labels, words):
    (tmp_path / "names.txt").write_text("toothbrush\ndog\ncar\n")
    dataset = opened(write(coco()) + options)
    assert next(iter(dataset)).target["labels"] == labels
    assert re.search(words, dataset.notes[0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [', "boxes.json.*no usable JSON"),
        ("[" * 100_000, "no usable JSON"),
        ([1], 'COCO\'s format is {"images"'),
        (coco(categories=None), 'COCO\'s format is {"images"'),
        (changed("images", 1, id=7), r"images\[1\].*the id 7 stands twice"),
        (changed("images", 1, file_name="gone.png"), r"images\[1\] \(id 9\).*no image 'gone.png'.*1 of 2.*\?images="),
        (changed("images", 1, file_name="../outside.png"), "is outside of .* and is not read"),
        (changed("images", 0, width="wide"), r"images\[0\].*width: must be a finite number, got 'wide'"),
        (changed("annotations", 1, id=1), r"annotations\[1\].*the id 1 stands twice"),
        (changed("annotations", 1, image_id=8), r"annotations\[1\].*\(id 2\): there is no image with the id 8"),
        (changed("annotations", 1, category_id=4), r"annotations\[1\].*no category with the id 4"),
        (changed("annotations", 1, bbox=[1, 2, 3]), r"annotations\[1\].*\"bbox\": \[x, y, width, height\]"),
        (changed("annotations", 1, bbox=[1, 2, float("nan"), 3]), r"annotations\[1\].*bbox: must be a finite number"),
        (changed("annotations", 1, bbox=[1, 2, 0, 3]), r"annotations\[1\].*has no area.*\?outside=clip"),
        (
            changed("annotations", 1, bbox=[15, 2, 8, 3]),
            r"annotations\[1\].*outside of the image of 10x20.*outside=clip",
        ),
        (changed("categories", 1, id=90), r"categories\[1\].*the id 90 stands twice"),
        (changed("categories", 1, name="toothbrush"), "two categories have the same name.*labels=ids"),
        (coco(images=[]) | {"annotations": []}, "names no image"),
    ],
)
def test_what_is_wrong_is_told_by_its_entry(tmp_path, content, words):
    Image.new("RGB", (20, 10)).save(tmp_path / "outside.png")
    with pytest.raises(DataError, match=words):
        opened(write(content))


def test_boxes_can_be_clipped_and_that_is_said():
    content = changed("annotations", 1, bbox=[15, 2, 8, 3])
    content["annotations"].append({"image_id": 9, "category_id": 3, "bbox": [30, 2, 8, 3]})
    dataset = opened(write(content) + "&outside=clip")
    samples = {s.id: s.target for s in dataset}
    assert samples["a.png"]["boxes"][1] == [15.0, 2.0, 20.0, 5.0] and samples["b.png"]["boxes"] == []
    assert "1 boxes were cut at the edges of their images, and 1 without area were left out" in dataset.notes[1]


def test_an_image_of_another_size_than_its_annotations_say_is_refused():
    dataset = opened(write(changed("images", 0, width=40)))
    with pytest.raises(DataError, match=r"a.png, images\[0\].*say 10x40 pixels .* has 10x20"):
        list(dataset)


@pytest.mark.parametrize(("option", "words"), [("labels=x", "order"), ("first=x", "0 or 1"), ("outside=x", "clip")])
def test_options_have_known_values(option, words):
    with pytest.raises(UsageError, match=words):
        opened(write(coco()) + f"&{option}")


def test_a_missing_folder_of_images_is_named():
    write(coco())
    with pytest.raises(DataError, match=r"no folder .*nowhere.*\?images=FOLDER"):
        opened("coco:boxes.json?images=nowhere")


def test_images_are_also_looked_for_beside_the_annotations(tmp_path, monkeypatch):
    write(coco())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(opened("coco:../boxes.json?images=pictures")) == 2


WIDER = """a.png
2
1 2 3 4 0 0 0 0 0 0
5 6 7 3 0 0 0 1 0 0
b.png
0
0 0 0 0 0 0 0 0 0 0
c.png
1
1 1 0 5 0 0 0 0 0 0
"""


def test_wider_faces_are_read_with_empty_images_and_invalid_faces(tmp_path):
    (tmp_path / "gt.txt").write_text(WIDER)
    dataset = opened("wider:gt.txt?images=pictures&first=1")
    targets = {s.id: s.target for s in dataset}
    assert targets["a.png"] == {"boxes": [[1, 2, 4, 6], [5, 6, 12, 9]], "labels": [1, 1], "difficult": [0, 1]}
    assert targets["b.png"] == targets["c.png"] == {"boxes": [], "labels": []}
    assert any("1 boxes without area were left out" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3 4\n", "line 1 of .*the name of an image comes here"),
        ("a.png\nmany\n", "line 2 of .*number of boxes of a.png: must be a finite number, got 'many'"),
        ("a.png\n-1\n", "line 2 .*at least 0, got '-1'"),
        ("a.png\n2\n1 2 3 4\n", "line 4 of .*a box of a.png comes here.*2 were announced"),
        ("a.png\n999999999999999\n1 2 3 4\n", "line 4 of .*999999999999999 were announced"),
        ("a.png\n1\n1 2 3\n", "line 3 of .*a box of a.png comes here"),
        ("a.png\n1\n1 2 x 4\n", "line 3 of .*finite number, got 'x'"),
        ("gone.png\n0\n", "no image 'gone.png'"),
    ],
)
def test_lines_of_wider_that_are_wrong_are_named(tmp_path, text, words):
    (tmp_path / "gt.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        opened("wider:gt.txt?images=pictures")


def test_lists_of_imagenet_give_class_numbers(tmp_path):
    (tmp_path / "val.txt").write_text("a.png 65\n\nb.png\t970\n")
    assert [s.target for s in opened("imagenet:val.txt?images=pictures")] == [65, 970]
    assert [s.target for s in opened("imagenet:val.txt?images=pictures&first=1")] == [66, 971]
    (tmp_path / "val.txt").write_text("a.png 65\nb.png cat\n")
    with pytest.raises(DataError, match=r"line 2 of .*the class: must be a finite number, got 'cat'"):
        opened("imagenet:val.txt?images=pictures")


def test_lists_of_texts_are_read_as_they_are_written(tmp_path):
    (tmp_path / "gt.txt").write_text('a.png, "Tired, and so on"\nb.png ten green\nc.png\t\n')
    texts = {s.id: s.target for s in opened("text:gt.txt?images=pictures")}
    assert texts == {"a.png": "Tired, and so on", "b.png": "ten green", "c.png": ""}
    (tmp_path / "gt.txt").write_text("a.png\n")
    with pytest.raises(DataError, match=r"line 1 of .*a line is path and text"):
        opened("text:gt.txt?images=pictures")


def test_boxes_of_the_letterboxed_input_come_back_to_the_original():
    dataset = opened(write(coco()), preprocess=Preprocess(letterbox=(8, 8)))
    sample = next(iter(dataset))
    inside = sample.geometry.to_network(np.array(sample.target["boxes"]))
    np.testing.assert_allclose(inside[1], [0, 2, 8, 6])  # 20x10 becomes 8x4, two rows of padding above
    np.testing.assert_allclose(sample.geometry.to_original(inside), sample.target["boxes"])
    assert (sample.feed[0][0, 0, :2] == 114).all() and (sample.feed[0][0, 0, 2:6] == 1).all()
