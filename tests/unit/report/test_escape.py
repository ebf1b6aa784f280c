from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.report.escape import columns_of, csv_cell, json_for_script, markdown_cell, printable, shorten

EVERYTHING = st.text(alphabet=st.characters(), max_size=40)  # surrogates and control characters too
quick = settings(derandomize=True, deadline=None, max_examples=150)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("conv1/WithoutBiases", "conv1/WithoutBiases"),
        ("Größe→層", "Größe→層"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("line\nbreak\r", r"line\nbreak\r"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x9b31m", r"\x9b31m"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_terminal_shows_names_and_obeys_none(name: str, shown: str) -> None:
    assert printable(name) == shown


@quick
@given(EVERYTHING)
def test_printable_text_is_printable_and_encodable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert printable(shown) == shown


@quick
@given(EVERYTHING)
def test_json_in_a_script_cannot_end_it_and_reads_back(text: str) -> None:
    written = json_for_script({"name": text, "values": [1.5, text]})
    assert not set(written) & set("<>&\u2028\u2029")
    written.encode("utf-8")
    assert json.loads(written) == {"name": text, "values": [1.5, text]}


def test_json_in_a_script_has_no_numbers_that_json_lacks() -> None:
    found = json.loads(json_for_script([float("nan"), float("inf"), (-float("inf"), 1)]))
    assert found == [None, "Infinity", ["-Infinity", 1]]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_spreadsheet_takes_no_name_for_a_formula(start: str) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerow([csv_cell(start + "cmd|'/c calc'!A1")])
    (cell,) = next(csv.reader(io.StringIO(stream.getvalue(), newline="")))
    assert cell.startswith("'")


def test_spreadsheet_shows_ordinary_names_as_they_are() -> None:
    assert csv_cell("model-1 = best") == "model-1 = best"


def test_markdown_cell_stays_one_cell_and_one_line() -> None:
    cell = markdown_cell("a|b\n<script>[x](http://y)*")
    assert cell == r"a\|b\\n\<script\>\[x\]\(http://y\)\*"


@quick
@given(EVERYTHING, st.integers(1, 30))
def test_shortened_text_fits(text: str, width: int) -> None:
    assert columns_of(shorten(printable(text), width)) <= width


def test_shortening_keeps_more_of_the_end() -> None:
    assert shorten("features/block3/conv2/Convolution_7", 16) == "featu…volution_7"


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert columns_of("層a") == 3
    assert columns_of("e\u0301") == 1
