"""A DATA argument taken apart: format, path, options."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.errors import DataError, UsageError
from calib.samples.source import absolute, parse_source


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("")


def test_the_format_is_seen_from_the_suffix_unless_it_is_written_in_front(tmp_path: Path):
    write(tmp_path, "d.npz", "list.csv", "odd.bin")
    (tmp_path / "folder").mkdir()
    found = {text: parse_source(text, (), tmp_path).format for text in ("d.npz", "list.csv", "folder", "npz:odd.bin")}
    assert found == {"d.npz": "npz", "list.csv": "csv", "folder": "images", "npz:odd.bin": "npz"}
    with pytest.raises(UsageError, match=r"can't be told from the suffix '\.bin'"):
        parse_source("odd.bin", (), tmp_path)
    write(tmp_path, "boxes.json")
    with pytest.raises(UsageError, match=r"Write it in front, such as coco:boxes\.json; formats: npz"):
        parse_source("boxes.json", (), tmp_path)


def test_options_follow_a_question_mark_unless_a_file_is_called_so(tmp_path: Path):
    write(tmp_path, "d.npz", "e?labels=y.npz")
    given = parse_source("d.npz?labels=y", (), tmp_path)
    assert (given.place, given.options, given.path) == ("d.npz", {"labels": "y"}, tmp_path / "d.npz")
    assert parse_source("npz:e?labels=y.npz", (), tmp_path).options == {}
    assert parse_source("d.npz?labels=a+b%20c", (), tmp_path).options == {"labels": "a+b c"}
    with pytest.raises(UsageError, match=r"no option 'label' \(did you mean \?labels=\?\); its options: .*labels"):
        parse_source("d.npz?label=y", (), tmp_path)
    with pytest.raises(UsageError, match=r"an option is given twice\. Give each of labels once"):
        parse_source("d.npz?labels=y&labels=z", (), tmp_path)


def test_a_colon_is_a_format_only_if_there_is_one(tmp_path: Path):
    write(tmp_path, "c:d.npz")
    assert parse_source("c:d.npz", (), tmp_path).place == "c:d.npz"
    assert parse_source("python:module:function", ()).place == "module:function"


@pytest.mark.parametrize("text", ["", "npz:"])
def test_nothing_is_no_data(text: str):
    with pytest.raises(UsageError, match="names no data"):
        parse_source(text, ())


def test_what_is_not_there_is_named_with_where_it_was_looked_for(tmp_path: Path):
    with pytest.raises(DataError, match=f"gone.npz: no such file or folder: {tmp_path}/gone.npz"):
        parse_source("gone.npz", (), tmp_path)
    with pytest.raises(DataError, match="no such file"):
        str(parse_source("npz:gone", (), tmp_path).path)


def test_folders_in_options_are_made_absolute_too_and_nothing_else(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "val").mkdir()
    text = absolute("coco:boxes.json?images=images&split=val&sequence=row", tmp_path)
    assert text == f"coco:{tmp_path}/boxes.json?images={tmp_path}/images&split=val&sequence=row"
    assert absolute("coco:boxes.json?images=nowhere", tmp_path) == f"coco:{tmp_path}/boxes.json?images=nowhere"
