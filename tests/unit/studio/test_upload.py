"""Uploads are checked, and kept under safe names."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studio_client import OURS, Client

from calib.errors import UsageError
from calib.studio.bombs import FREE_GROWTH
from calib.studio.upload import keep, safe_name


def png(width: int = 4, height: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def zipped(*entries: tuple[str, bytes], link: str = "") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


def kept(folder: Path, *files: tuple[str, bytes]) -> list[str]:
    return keep([(name, io.BytesIO(content)) for name, content in files], folder)


def test_files_are_kept_under_safe_names_and_replace_those_of_the_same_name(tmp_path: Path):
    assert kept(tmp_path, ("a/../net.onnx", b"1"), ("C:\\x\\ü b.csv", b"2")) == ["net.onnx", "ü b.csv"]
    kept(tmp_path, ("net.onnx", b"3"))
    assert (tmp_path / "net.onnx").read_bytes() == b"3" and sorted(p.name for p in tmp_path.iterdir()) == [
        "net.onnx",
        "ü b.csv",
    ]


@pytest.mark.parametrize("name", ["", "..", "/", "...", "-rf"])
def test_what_is_no_name_is_refused(name: str):
    with pytest.raises(UsageError):
        safe_name(name)


def test_a_zip_becomes_a_folder(tmp_path: Path):
    names = kept(tmp_path, ("set.zip", zipped(("cat/1.png", png()), ("dog/1.png", png()))))
    assert names == ["set/cat/1.png", "set/dog/1.png"] and (tmp_path / "set/dog/1.png").is_file()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.sh", b""),
        ("code.py", b""),
        ("lib.so", b""),
        ("broken.zip", b"PK\x03\x04no"),
        ("up.zip", zipped(("../a.csv", b""))),
        ("absolute.zip", zipped(("/a.csv", b""))),
        ("hidden.zip", zipped((".ssh/a.csv", b""))),
        ("program.zip", zipped(("a.py", b""))),
        ("link.zip", zipped(link="a.csv")),
        ("bomb.zip", zipped(("a.csv", bytes(2 * FREE_GROWTH)))),
        ("bomb.npz", zipped(("a.npy", bytes(2 * FREE_GROWTH)))),
        ("broken.npz", b"no"),
        ("broken.png", b"\x89PNG\r\n\x1a\nno"),
        ("pixels.png", png(20_000, 10_000)),
        ("pixels.zip", zipped(("a.png", png(20_000, 10_000)))),
    ],
)
def test_what_runs_is_broken_leaves_its_folder_or_is_a_bomb_is_refused_and_nothing_is_kept(
    tmp_path: Path, name: str, content: bytes
):
    with pytest.raises(UsageError):
        kept(tmp_path / "up", ("good.csv", b""), (name, content))
    assert list((tmp_path / "up").iterdir()) == [] and [p.name for p in tmp_path.iterdir()] == ["up"]


def test_a_form_keeps_its_files_and_one_that_is_too_large_or_empty_is_refused(tmp_path: Path):
    def body(content: bytes) -> bytes:
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.npy"\r\n\r\n'
        return head + content + b"\r\n--x--\r\n"

    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    headers = {"origin": OURS, "content-type": "multipart/form-data; boundary=x"}
    with Client(tmp_path, uploads=1 << 18) as client:
        assert client.send("POST", "/upload", body(stream.getvalue()), headers).status == 303
        assert (tmp_path / "uploads" / "a.npy").read_bytes() == stream.getvalue()
        for length in (None, "0"):
            sent = {**headers, "content-length": length} if length else headers
            assert client.send("POST", "/upload", body(bytes(1 << 19)), sent).status == 413
        assert client.send("POST", "/upload", b"--x--\r\n", headers).status == 400
        assert client.send("POST", "/upload", body(b""), {**headers, "origin": None}).status == 403
