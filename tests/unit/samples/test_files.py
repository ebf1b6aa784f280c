"""Folders of images and lists of them: targets, links, and files that are damaged or reach outside.

covers: calib.samples.images, calib.samples.lists
"""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from calib.errors import DataError, UsageError
from calib.samples.open import InputSpec, Preprocess, open_dataset

IMAGE = InputSpec("x", ("x",), (1, 3, 8, 8), np.dtype(np.float32))


def save(path, value: int = 0, size: tuple[int, int] = (8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value + 1, value + 2)).save(path)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def opened(text=".", **more):
    return open_dataset(text, inputs=[IMAGE], **more)


def test_class_folders_are_numbered_in_sorted_order(tmp_path):
    for i, name in enumerate(["dog/a.png", "cat/b.png", "dog/c.png"]):
        save(tmp_path / name, i)
    assert {s.id: s.target for s in opened()} == {"cat/b.png": 0, "dog/a.png": 1, "dog/c.png": 1}


def test_class_folders_that_are_numbers_keep_their_numbers(tmp_path):
    for name in ["2/a.png", "10/b.png"]:
        save(tmp_path / name)
    assert {s.id: s.target for s in opened()} == {"2/a.png": 2, "10/b.png": 10}
    assert opened().class_folders == {"2": 2, "10": 10}


def test_a_class_list_numbers_the_folders(tmp_path):
    save(tmp_path / "d" / "dog" / "a.png")
    (tmp_path / "names.txt").write_text("ant\nbee\ndog\n")
    assert next(iter(opened("d?classes=names.txt"))).target == 2
    assert opened("d?classes=names.txt").class_folders == {} != opened("d").class_folders
    (tmp_path / "names.txt").write_text("ant\n")
    with pytest.raises(DataError, match="'dog' is not in"):
        opened("d?classes=names.txt")


def test_a_flat_folder_has_no_targets_and_choosing_reads_no_file(tmp_path):
    for i in range(6):
        save(tmp_path / f"{i}.png", i)
    dataset = opened()
    ids = dataset.choose(3, "s")
    for path in tmp_path.iterdir():
        if path.name not in ids:
            path.write_bytes(b"damaged")
    samples = list(dataset.load(ids))
    assert [s.id for s in samples] == list(ids) and samples[0].target is None
    assert samples[0].feed[0].shape == (1, 3, 8, 8)
    assert samples[0].feed[0][0, :, 0, 0].tolist() == [int(ids[0][0]) + c for c in range(3)]


def test_a_damaged_image_is_named(tmp_path):
    save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"bad\.png of \. can't be read"):
        list(opened())


def test_a_folder_without_images_says_what_is_there(tmp_path):
    with pytest.raises(DataError, match="no images in it"):
        opened()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"1 other files, such as notes\.txt"):
        opened()


def test_images_beside_class_folders_are_refused(tmp_path):
    save(tmp_path / "cat" / "a.png")
    save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png is next to class folders"):
        opened()


def test_links_that_leave_the_folder_need_permission(tmp_path):
    save(tmp_path / "outside.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(DataError, match="is outside of"):
        opened("d")
    assert len(list(opened("d?links=follow"))) == 1
    with pytest.raises(UsageError, match="only value"):
        opened("d?links=yes")


def test_links_to_folders_need_permission_and_never_loop(tmp_path):
    save(tmp_path / "d" / "cat" / "a.png")
    save(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "d" / "dog").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link to a folder"):
        opened("d")
    (tmp_path / "d" / "cat" / "loop").symlink_to(tmp_path / "d")
    assert {s.id for s in opened("d?links=follow")} == {"cat/a.png", "dog/b.png"}


def test_pipes_are_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a regular file"):
        opened()


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bombs_are_errors(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png_of(side, side))
    with pytest.raises(DataError, match="decompression bomb"):
        list(opened())


def test_postscript_never_reaches_its_decoder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(DataError, match=r"a\.png"):
        list(opened())


def test_sixteen_bit_images_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        list(opened())


@pytest.mark.parametrize("header", ["", "path,label\n"])
def test_csv_lists_carry_labels(tmp_path, header):
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", i)
    (tmp_path / "list.csv").write_text(header + "images/0.png,7\n\nimages/2.png,8\n")
    assert [(s.id, s.target) for s in opened("list.csv")] == [("images/0.png", 7), ("images/2.png", 8)]


def test_csv_columns_may_stand_in_any_order_and_labels_may_be_text(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text('id,label,file\n1,"two, words",a.png\n')
    assert next(iter(opened("list.csv"))).target == "two, words"


def test_jsonl_labels_are_any_json_and_files_may_be_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 8, 8)))
    np.savez(tmp_path / "b.npz", x=np.ones((1, 3, 8, 8)))
    (tmp_path / "list.jsonl").write_text('{"path": "a.npy", "label": {"boxes": []}}\n{"path": "b.npz"}\n')
    assert [s.target for s in opened("list.jsonl")] == [{"boxes": []}, None]


@pytest.mark.parametrize("text", ["../secret.png", "/etc/passwd", "link.png"])
def test_lists_can_not_lead_out_of_their_folder(tmp_path, text):
    save(tmp_path / "secret.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "d" / "list.csv").write_text(text + ",1\n")
    with pytest.raises(DataError, match=r"line 1 of d/list\.csv: .* is outside of .*\?root=FOLDER"):
        opened("d/list.csv")


def test_root_says_where_the_files_of_a_list_are(tmp_path):
    save(tmp_path / "pool" / "a.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "list.csv").write_text("a.png,1\n")
    assert len(list(opened("d/list.csv?root=pool"))) == 1


def test_a_file_has_one_id_however_it_is_spelled_and_may_stand_twice(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text(f"./a.png,1\n{tmp_path / 'a.png'},0\nx/../a.png,1\n")
    (tmp_path / "x").mkdir()
    found = {s.id: s.target for s in opened("list.csv")}
    assert sorted(found) == ["a.png", "a.png#2", "a.png#3"] and sorted(found.values()) == [0, 1, 1]
    (tmp_path / "list.csv").write_text("a.png,1\na.png,1\na.png,0\n")
    assert {s.id: s.target for s in opened("list.csv")} == found


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "path,label\n", "empty"),
        ("a.csv", "none.png,1\n", "line 1 .* no such file"),
        ("a.csv", 'x.png,"open\n', "line"),
        ("a.jsonl", "{\n", "line 1 .*no JSON"),
        ("a.jsonl", "[" * 100_000 + "\n", "line 1 .*no JSON"),
        ("a.jsonl", '{"label": 1}\n', "line 1 .*needs"),
        ("a.csv", "\0.png,1\n", "NUL"),
    ],
)
def test_bad_lists_are_refused_with_the_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        opened(name)


def test_binary_lists_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        opened("a.csv")


def test_preprocessing_reaches_the_feed(tmp_path):
    save(tmp_path / "a.png", 100, (20, 10))
    sample = next(iter(opened(preprocess=Preprocess(color="bgr", resize_short=10, mean=(2,), scale=(2,)))))
    assert sample.feed[0][0, :, 3, 3].tolist() == [50.0, 49.5, 49.0]


def test_gif_and_palette_images_are_read_as_colors(tmp_path):
    stream = io.BytesIO()
    Image.new("P", (8, 8)).save(stream, "GIF")
    (tmp_path / "a.gif").write_bytes(stream.getvalue())
    assert next(iter(opened())).feed[0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm"])
def test_damaged_images_only_ever_give_a_data_error(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        try:
            list(opened())
        except DataError as error:
            assert f"a.{suffix}" in str(error)
