"""JSON of others: numbers are finite, text is Unicode."""

from __future__ import annotations

import pytest

from calib.documents.json_text import load_json


@pytest.mark.parametrize("text", ["1e999", "-1e999", "[NaN]", '{"a": Infinity}', "[-Infinity]"])
def test_a_number_that_is_not_finite_is_refused_and_named(text: str):
    with pytest.raises(ValueError, match="is no finite number"):
        load_json(text)


@pytest.mark.parametrize(
    "text", [r'"\ud800"', r'{"a\uDFFF": 1}', r'"\ud83d x \ude00"', r'"\\\ud800"', r'"\ude00\ud83d"']
)
def test_half_of_a_character_is_refused(text: str):
    with pytest.raises(ValueError, match="half of a character"):
        load_json(text)


@pytest.mark.parametrize(
    ("text", "value"), [(r'"\ud83d\ude00"', "\U0001f600"), (r'"\\ud800"', r"\ud800"), ("\ufeff[1.5]".encode(), [1.5])]
)
def test_what_is_sound_is_read(text: str | bytes, value: object):
    assert load_json(text) == value


def test_bytes_that_are_no_utf_8_are_a_value_error():
    with pytest.raises(ValueError, match="utf-8"):
        load_json(b'"\xed\xa0\x80"')
