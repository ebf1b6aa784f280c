from __future__ import annotations

import json
from pathlib import Path

from calib.studio.allowed import Allowed
from calib.studio.files import listing


def made(root: Path, *names: str, content: str = "x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def test_models_and_data_are_found_by_what_they_are(tmp_path: Path):
    made(tmp_path, "a/net.xml", content='<?xml version="1.0"?>\n<net name="x" version="11">')
    made(tmp_path, "a/net.bin", "b.onnx", "samples.npz", "plain/1.png", "plain/2.JPG", "list.csv", ".hidden/c.onnx")
    made(tmp_path, "classes/cat/1.png", "classes/dog/1.png", "voc/Annotations/1.xml", "voc/JPEGImages/1.jpg")
    made(tmp_path, "boxes.json", content=json.dumps({"annotations": [], "images": []}))
    made(tmp_path, "other.json", content="{}")
    made(tmp_path, "calib-studio/models/x.onnx")
    models, data = listing(Allowed(tmp_path), tmp_path / "calib-studio")
    assert [(one.argument, one.kind) for one in models] == [("a/net.xml", "IR"), ("b.onnx", "ONNX")]
    assert {one.argument for one in data} == {
        "samples.npz",
        "plain",
        "list.csv",
        "classes",
        "voc:voc",
        "coco:boxes.json",
    }
    assert next(one for one in data if one.argument == "classes").detail == "2 folders"


def test_what_is_allowed_besides_is_listed_with_its_whole_path(tmp_path: Path):
    made(tmp_path, "inside/a.onnx", "outside/b.onnx", "single.onnx")
    root = tmp_path / "inside"
    models, _ = listing(Allowed(root, (tmp_path / "outside", tmp_path / "single.onnx")), root / "out")
    assert [one.argument for one in models] == sorted(
        ["a.onnx", str(tmp_path / "outside/b.onnx"), str(tmp_path / "single.onnx")]
    )


def test_links_are_not_followed_by_the_list(tmp_path: Path):
    made(tmp_path, "outside/b.onnx")
    root = tmp_path / "inside"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    assert listing(Allowed(root), root / "out") == ([], [])
