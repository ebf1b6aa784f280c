"""A file is the old one or the new one, whole."""

from __future__ import annotations

import os

import pytest

from calib.errors import OutputError
from calib.report.files import write_text


def test_missing_folders_are_made_and_nothing_else_is_left(tmp_path):
    path = write_text(tmp_path / "a" / "b" / "c.txt", "one")
    write_text(path, "tür")
    assert path.read_bytes() == "tür".encode() and [p.name for p in path.parent.iterdir()] == ["c.txt"]


def test_names_that_are_no_text_are_written_as_escapes(tmp_path):
    assert write_text(tmp_path / "a", os.fsdecode(b"x\xff")).read_text() == "x\\udcff"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a", "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"a can't be written: No space left.*another place"):
        write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_parent_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/a can't be written"):
        write_text(tmp_path / "file" / "a", "text")
