"""Converters number classes and place boxes as the original does, which differs from calib's own formats.

covers: calib.accuracy_check.annotated, calib.accuracy_check.image_converters
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from calib.accuracy_check.annotated import Places, read_pending
from calib.accuracy_check.converters import CONVERTERS
from calib.accuracy_check.fields import Fields
from calib.errors import DataError


def converted(folder, kind, **values):
    problems = []
    made = CONVERTERS[kind](Fields(kind, values, problems))
    assert not problems, problems
    return made(Places(folder, None), {})


def test_pascal_voc_counts_corners_from_one_on_both_sides(tmp_path):
    (tmp_path / "xml").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
    thing = f"<object><name>bicycle</name><difficult>1</difficult>{box}</object>"
    (tmp_path / "xml" / "a.xml").write_text(f"<annotation><filename>a.jpg</filename>{thing}</annotation>")
    (tmp_path / "set.txt").write_text("a\n")
    found = converted(tmp_path, "voc_detection", imageset_file="set.txt", annotations_dir="xml")
    (name, boxes), = found.rows  # fmt: skip
    assert name == "a.jpg" and boxes.labels.tolist() == [2] and boxes.difficult.tolist() == [True]
    assert boxes.corners.tolist() == [[0, 1, 2, 3]] and found.labels.background == 0
    (tmp_path / "set.txt").write_text("../set\n")
    with pytest.raises(DataError, match="leaves"):
        converted(tmp_path, "voc_detection", imageset_file="set.txt", annotations_dir="xml")


def test_coco_classes_are_numbered_in_the_order_of_the_file_and_images_sorted_by_id(tmp_path):
    content = {
        "images": [{"id": 9, "file_name": "b.jpg"}, {"id": 2, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1}],
        "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    found = converted(tmp_path, "mscoco_detection", annotation_file="c.json", has_background=True)
    assert [name for name, _ in found.rows] == ["a.jpg", "b.jpg"]
    assert found.labels.names == {0: "background", 1: "seven", 2: "three"}
    boxes = found.rows[1][1]
    assert boxes.labels.tolist() == [2] and boxes.corners.tolist() == [[1, 2, 4, 6]] and boxes.crowd.tolist() == [True]
    whole = converted(tmp_path, "mscoco_detection", annotation_file="c.json", use_full_label_map=True)
    assert whole.rows[1][1].labels.tolist() == [3]


def test_cvat_leaves_out_other_classes_and_marks_what_is_occluded(tmp_path):
    sides = 'xtl="1" ytl="2" xbr="3" ybr="4"'
    rows = f'<box label="car" occluded="1" {sides}/><box label="sky" occluded="0" {sides}/>'
    meta = "<meta><task><labels><label><name>car</name></label></labels></task></meta>"
    (tmp_path / "c.xml").write_text(f'<annotations>{meta}<image name="x/a.png">{rows}</image></annotations>')
    found = converted(tmp_path, "cvat_object_detection", annotation_file="c.xml", has_background=True)
    (name, boxes), = found.rows  # fmt: skip
    assert name == "a.png" and boxes.labels.tolist() == [1] and boxes.difficult.tolist() == [True]
    (tmp_path / "c.xml").write_text('<!DOCTYPE a [<!ENTITY x "y">]><annotations/>')
    with pytest.raises(DataError, match="a document type"):
        converted(tmp_path, "cvat_object_detection", annotation_file="c.xml")


def test_masks_with_a_palette_become_colors_where_the_original_reads_them_so(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (2, 1)).save(tmp_path / "images" / "a.png")
    mask = Image.frombytes("P", (2, 1), bytes([0, 1]))
    mask.putpalette([0, 0, 0, 128, 0, 0])
    mask.save(tmp_path / "masks" / "a.png")
    (tmp_path / "set.txt").write_text("a\n")
    found = converted(tmp_path, "voc_segmentation", imageset_file="set.txt", images_dir="images", mask_dir="masks")
    np.testing.assert_array_equal(read_pending(found.rows[0][1]).values, [[[0, 0, 0], [128, 0, 0]]])
    assert found.labels.colors[15] == (192, 128, 128)  # a person
    plain = converted(tmp_path, "common_semantic_segmentation", images_dir="images", masks_dir="masks")
    np.testing.assert_array_equal(read_pending(plain.rows[0][1]).values, [[0, 1]])


def test_pairs_of_images_are_told_apart_by_their_suffix(tmp_path):
    (tmp_path / "d").mkdir()
    for name, value in (("1_in.png", 10), ("1_out.png", 20)):
        Image.new("RGB", (2, 2), (value, 0, 1)).save(tmp_path / "d" / name)
    options = {"data_dir": "d", "input_suffix": "_in", "target_suffix": "_out", "annotation_loader": "opencv"}
    (name, target), = converted(tmp_path, "image_processing", **options).rows  # fmt: skip
    assert name == "1_in.png" and read_pending(target).values[0, 0].tolist() == [1, 0, 20]


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("imagenet", "a.png\n", "line 1 of .*a line is path and class number"),
        ("imagenet", "a.png cat\n", "the class: must be a finite number, got 'cat'"),
        ("camvid", "a.png\n", "line 1 of .*a line is the paths of image and mask"),
        ("mscoco_detection", "{", "no usable JSON"),
        ("wider", "a.png\nx\n", "line 2 of .*number of boxes"),
    ],
)
def test_broken_lines_are_named(tmp_path, kind, text, words):
    (tmp_path / "f").write_text(text)
    with pytest.raises(DataError, match=words):
        converted(tmp_path, kind, annotation_file="f")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": [5]}, r"images\[0\]"),
        ({"images": [{"id": [1], "file_name": "a.png"}]}, "id of an image is a number or text"),
        ({"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]}, "the id 1 stands twice"),
        ({"categories": ["dog"]}, r"categories\[0\]"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "the id 1 stands twice"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1}]}, r"annotations\[0\].*needs \"image_id\""),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1]}]}, "category_id 7"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}] * 2}, "id 1 stands twice"),
    ],
)
def test_entries_of_coco_that_are_wrong_or_stand_twice_are_named(tmp_path, content, words):
    good = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "c.json").write_text(json.dumps(good | content))
    with pytest.raises(DataError, match=words):
        converted(tmp_path, "mscoco_detection", annotation_file="c.json")


def test_mattes_are_paired_by_name_and_taken_from_the_last_of_four_channels(tmp_path):
    for folder in ("images", "mattes"):
        (tmp_path / folder).mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (2, 2)).save(tmp_path / "images" / name)
    Image.new("RGBA", (2, 2), (1, 2, 3, 77)).save(tmp_path / "mattes" / "a.png")
    folders = {"images_dir": "images", "masks_dir": "mattes", "image_postfix": ".jpg"}
    found = converted(tmp_path, "background_matting", **folders)
    assert [name for name, _ in found.rows] == ["a.jpg"]
    assert read_pending(found.rows[0][1]).values.tolist() == [[77, 77], [77, 77]]
