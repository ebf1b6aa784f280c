"""A result appears in its place only when it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.errors import OutputError
from calib.zoo.output import Output
from calib.zoo.task import MARKER, write_marker


def result(folder: Path, key: str, text: str) -> Path:
    folder.mkdir()
    (folder / "model.xml").write_text(text)
    (folder / "pictures").mkdir()
    (folder / "pictures" / f"{text}.png").write_text(text)
    write_marker(folder, key, {"status": "quantized", "text": text})
    return folder


def test_a_result_replaces_an_older_one_and_keeps_what_others_put_there(tmp_path: Path):
    output = Output(f"{tmp_path}/models/")
    output.publish(result(tmp_path / "one", "k1", "old"), "group/net")
    assert output.board("group/net", "k1") == {"status": "quantized", "text": "old"}
    place = Path(output.of("group/net"))
    (place / "notes.txt").write_text("mine")
    output.publish(result(tmp_path / "two", "k2", "new"), "group/net")
    assert output.board("group/net", "k1") is None
    assert output.board("group/net", "k2") == {"status": "quantized", "text": "new"}
    assert sorted(path.name for path in place.iterdir()) == [MARKER, "model.xml", "notes.txt", "pictures"]
    assert [path.name for path in (place / "pictures").iterdir()] == ["new.png"]


def test_a_result_that_was_cut_off_does_not_count(tmp_path: Path):
    output = Output(str(tmp_path / "models"))
    output.publish(result(tmp_path / "one", "k", "old"), "net")
    (Path(output.of("net")) / MARKER).unlink()
    assert output.board("net", "k") is None


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path):
    (tmp_path / "models").write_text("")
    with pytest.raises(OutputError, match="models/net: the result can't be written"):
        Output(str(tmp_path / "models")).publish(result(tmp_path / "one", "k", "x"), "net")
