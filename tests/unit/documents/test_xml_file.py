"""XML of strangers: elements come out, and nothing is expanded or opened."""

from __future__ import annotations

import pytest

from calib.documents.xml_file import MAX_DEPTH, read_xml
from calib.errors import DataError


def write(folder, text):
    path = folder / "a.xml"
    path.write_text(text, encoding="utf-8")
    return path


def test_elements_text_and_attributes_are_read(tmp_path):
    root = read_xml(write(tmp_path, '<a><b n="1">x &amp; y</b><b>ü</b></a>'))
    assert root.tag == "a" and [b.text for b in root.findall("b")] == ["x & y", "ü"]
    assert root.findall("b")[0].get("n") == "1"


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE a [<!ENTITY x "0123456789"><!ENTITY y "&x;&x;">]>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://localhost/a.dtd">',
    ],
)
def test_a_document_type_is_refused_before_anything_expands(tmp_path, doctype):
    with pytest.raises(DataError, match=r"a\.xml: line 2: a document type .* is refused"):
        read_xml(write(tmp_path, f"\n{doctype}<a>&y;</a>"))


@pytest.mark.parametrize("text", ["", "<a>", "<a></b>", "<a>&undeclared;</a>", "no XML", '<?xml encoding="x"?><a/>'])
def test_broken_files_are_named(tmp_path, text):
    with pytest.raises(DataError, match=r"a\.xml: no well-formed XML"):
        read_xml(write(tmp_path, text))


def test_depth_and_size_have_bounds(tmp_path):
    deep = "<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1)
    with pytest.raises(DataError, match="nested deeper than"):
        read_xml(write(tmp_path, deep))
    with pytest.raises(DataError, match="larger than"):
        read_xml(write(tmp_path, "<a>" + "x" * 5000 + "</a>"), most=4096)
    with pytest.raises(DataError, match="can't be read"):
        read_xml(tmp_path / "none.xml")
