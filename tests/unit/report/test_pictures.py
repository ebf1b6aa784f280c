"""Two results drawn in one image: small, escaped, and in the page only if it is what was written.

covers: calib.values.pictures
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_fixtures.made_up import made_up_report

from calib.report.html import render_html
from calib.report.pictures import GAP, HEADER, LARGEST, PALETTE, TOO_LARGE, Found, drawn, embedded, shortened
from calib.values.detections import Detections
from calib.values.pictures import PictureFacts

GREY = np.full((40, 60, 3), 128, np.uint8)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_both_results_stand_side_by_side_each_with_its_own_boxes():
    box = Detections(np.array([[15.0, 15.0, 45.0, 30.0]]), np.array([0.9]), np.array([2]))
    sheet = pixels(drawn(GREY, Found(boxes=box), Found(boxes=Detections(np.zeros((0, 4)), [], []))))
    width = (sheet.shape[1] - GAP) // 2
    left, right = sheet[HEADER:, :width], sheet[HEADER:, width + GAP :]
    coloured = (left == PALETTE[2]).all(-1)
    rows, columns = np.flatnonzero(coloured.any(1)), np.flatnonzero(coloured.any(0))
    factor = width / 60
    assert abs(columns[0] - 15 * factor) <= 1 and abs(columns[-1] - 45 * factor) <= 1
    assert abs(rows[0] - 15 * factor) <= 1 and abs(rows[-1] - 30 * factor) <= 1
    assert (right[: left.shape[0]] == 128).all()


def test_a_class_map_colours_all_but_the_class_zero():
    classes = np.zeros((20, 30), np.int64)
    classes[:, 15:] = 1
    sheet = pixels(drawn(GREY, Found(class_map=classes), Found()))
    width = (sheet.shape[1] - GAP) // 2
    row = sheet[HEADER + 10, :width].astype(int)
    assert (row[: width // 2 - 2] == 128).all()
    assert np.abs(row[width // 2 + 2 :] - (128 + np.array(PALETTE[0])) / 2).max() <= 1


@pytest.mark.parametrize("size", [(9, 9), (28, 28), (3000, 200), (64, 4000)])
def test_a_picture_is_bounded_whatever_the_image(size: tuple[int, int]):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    data = drawn(image, Found(lines=("a",) * 5), Found())
    sheet = pixels(data)
    assert max(sheet.shape[0] - HEADER - 60, (sheet.shape[1] - GAP) // 2) <= LARGEST
    assert len(data) < TOO_LARGE


def test_names_that_no_font_has_and_boxes_outside_do_not_stop_a_picture():
    boxes = Detections(np.array([[-50.0, -5, 4, 5], [70, 50, 90, 90]]), np.array([0.5, 0.4]), np.array([0, -3]))
    assert drawn(GREY, Found(boxes=boxes, names=("\u540d\u524d\n<b>",)), Found(lines=("\u540d",)))
    assert shortened("a\n b" + "x" * 100) == "a b" + "x" * 56 + "…"


def facts(**fields: str) -> PictureFacts:
    return PictureFacts(**{"file": "pictures/1.png", "sample": "one", "change": "top-1 1 → 0", **fields})


def test_the_page_holds_the_pictures_and_no_markup_of_their_words(tmp_path: Path):
    evil = "<script>alert(1)</script>"
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(drawn(GREY, Found(), Found()))
    picture = PictureFacts(file="pictures/1.png", sample=evil, change=evil, target=evil, before=[evil], after=[evil])
    report = made_up_report(layers=2).model_copy(update={"pictures": [picture]})
    page = render_html(report, tmp_path)
    assert page.count("data:image/png;base64,") == 1 and evil not in page
    assert "data:image/png;base64," not in render_html(report)


def test_only_pngs_in_the_folder_of_pictures_are_read(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    png = drawn(GREY, Found(), Found())
    (tmp_path / "secret.png").write_bytes(png)
    (tmp_path / "pictures" / "text.png").write_text("no picture")
    (tmp_path / "pictures" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "pictures" / "large.png").write_bytes(png + b"\0" * TOO_LARGE)
    (tmp_path / "pictures" / "1.png").write_bytes(png)
    names = ["../secret.png", "pictures/text.png", "pictures/link.png", "pictures/large.png", "missing.png", "1.png"]
    found = embedded([facts(file=name) for name in names], tmp_path)
    assert [bool(address) for address in found] == [False] * 5 + [True]


def test_why_nothing_is_drawn_stands_in_the_page():
    report = made_up_report(layers=2).model_copy(update={"pictures_note": "No sample is drawn: no images."})
    assert "No sample is drawn: no images." in render_html(report)
