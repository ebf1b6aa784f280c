"""Pascal VOC folders and class maps as images.

covers: calib.samples.masks
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from calib.errors import DataError, UsageError
from calib.samples.open import InputSpec, open_dataset

IMAGE = InputSpec("x", ("x",), (1, 3, 8, 8), np.dtype(np.float32))
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def thing(name="dog", box=(1, 2, 3, 4), more=""):
    return f"<object><name>{name}</name>{more}{BOX.format(*box)}</object>"


def annotation(*objects, size=(10, 20)):
    sides = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    return f"<annotation><filename>x.png</filename>{sides}{''.join(objects)}</annotation>"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Annotations", "JPEGImages", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (tmp_path / "voc" / name).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (20, 10)).save(tmp_path / "voc" / "JPEGImages" / f"{name}.png")
        (tmp_path / "voc" / "Annotations" / f"{name}.xml").write_text(annotation())
    return tmp_path / "voc"


def opened(text):
    return open_dataset(text, inputs=[IMAGE])


def test_boxes_count_pixels_from_one_and_difficult_ones_are_marked(folder):
    text = annotation(thing(), thing("cat", (5, 5, 20, 10), "<difficult>1</difficult>"))
    (folder / "Annotations" / "a.xml").write_text(text)
    dataset = opened("voc:voc")
    targets = {s.id: s.target for s in dataset}
    assert targets["a.png"] == {"boxes": [[0, 1, 3, 4], [4, 4, 20, 10]], "labels": [11, 7], "difficult": [0, 1]}
    assert targets["b.png"] == {"boxes": [], "labels": []}
    assert "20 classes, the 20 of Pascal VOC" in dataset.notes[0] and "aeroplane = 0" in dataset.notes[0]


def test_other_classes_are_numbered_by_name_or_by_a_file(folder, tmp_path):
    (folder / "Annotations" / "a.xml").write_text(annotation(thing("wrench"), thing("bolt")))
    assert next(iter(opened("voc:voc"))).target["labels"] == [1, 0]
    (tmp_path / "names.txt").write_text("wrench\nnut\nbolt\n")
    assert next(iter(opened("voc:voc?classes=names.txt&first=1"))).target["labels"] == [1, 3]
    (tmp_path / "names.txt").write_text("nut\nbolt\n")
    with pytest.raises(DataError, match=r"class 'wrench' is not in names.txt"):
        opened("voc:voc?classes=names.txt")


def test_a_set_names_its_images(folder):
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b -1\n")
    assert [s.id for s in opened("voc:voc?set=val")] == ["b.png"]
    with pytest.raises(
        DataError, match=r"no set 'vla', neither voc/ImageSets/Main/vla\.txt nor a file\. Sets there: val"
    ):
        opened("voc:voc?set=vla")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("../b\n")
    with pytest.raises(DataError, match=r"'../b' is not the name of an image"):
        opened("voc:voc?set=val")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("c\n")
    with pytest.raises(DataError, match=r"c\.xml does not exist, and the set names it"):
        opened("voc:voc?set=val")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation>", r"a\.xml: no well-formed XML"),
        ('<!DOCTYPE a [<!ENTITY e "x">]><annotation/>', r"a\.xml: line 1: a document type"),
        (annotation("<object><name>dog</name></object>"), r"a\.xml: object 0: has no bndbox"),
        (annotation(thing(name="")), r"a\.xml: object has no name"),
        (annotation(thing(box=("x", 2, 3, 4))), r"a\.xml: object 0: bndbox/xmin: must be a finite number, got 'x'"),
        (annotation(thing(box=(5, 2, 3, 4))), r"a\.xml: object 0: .* has no area"),
        (annotation(thing(box=(5, 2, 30, 4))), r"a\.xml: object 0: .*outside of the image of 10x20"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_object(folder, text, words):
    (folder / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(DataError, match=words):
        opened("voc:voc")


def test_annotated_images_have_to_be_there(folder):
    (folder / "JPEGImages" / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.xml.*no image 'b.jpg'"):
        opened("voc:voc")


def palette(path, values):
    image = Image.fromarray(np.asarray(values, np.uint8), "L").convert("P")
    image = Image.frombytes("P", image.size, np.asarray(values, np.uint8).tobytes())
    image.putpalette([(7 * n) % 256 for n in range(768)])
    image.save(path)


def test_masks_of_voc_are_the_indices_of_their_palette(folder):
    values = np.arange(200).reshape(10, 20) % 21
    values[0, 0] = 255
    palette(folder / "SegmentationClass" / "a.png", values)
    (sample,) = opened("voc:voc?target=masks")
    np.testing.assert_array_equal(sample.target, values)
    assert sample.target.dtype.kind == "i" and sample.geometry.original == (10, 20)
    with pytest.raises(UsageError, match=r"boxes .* or masks"):
        opened("voc:voc?target=x")


def masks(folder, values):
    (folder / "images").mkdir(), (folder / "masks").mkdir()
    Image.new("RGB", (20, 10)).save(folder / "images" / "a.png")
    Image.fromarray(values).save(folder / "masks" / "a.png")


def test_a_folder_of_masks_gives_class_maps(tmp_path):
    values = (np.arange(200).reshape(10, 20) % 5).astype(np.uint8)
    masks(tmp_path, values)
    (sample,) = opened("masks:.")
    np.testing.assert_array_equal(sample.target, values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((10, 20, 3), np.uint8), r"a\.png.*the mask a\.png has colours"),
        (np.zeros((10, 10), np.uint8), r"a\.png.*has 10x10 pixels .*and its image 10x20"),
    ],
)
def test_masks_that_do_not_fit_are_named(tmp_path, values, words):
    masks(tmp_path, values)
    with pytest.raises(DataError, match=words):
        list(opened("masks:."))


def test_an_image_without_mask_and_a_mask_without_image_are_named(tmp_path):
    masks(tmp_path, np.zeros((10, 20), np.uint8))
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "b.png")
    with pytest.raises(DataError, match=r"b\.png has no mask"):
        opened("masks:.")
    (tmp_path / "images" / "b.png").rename(tmp_path / "masks" / "c.png")
    with pytest.raises(DataError, match=r"c\.png has no image"):
        opened("masks:.")


def test_a_damaged_mask_and_one_that_leaves_its_folder_are_refused(tmp_path):
    masks(tmp_path, np.zeros((10, 20), np.uint8))
    (tmp_path / "masks" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(DataError, match=r"the mask a\.png can't be read"):
        list(opened("masks:."))
    (tmp_path / "masks" / "a.png").unlink()
    Image.new("L", (20, 10)).save(tmp_path / "secret.png")
    (tmp_path / "masks" / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="is outside of"):
        list(opened("masks:."))
