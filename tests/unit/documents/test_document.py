from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.config import parse_json, parse_yaml, read_document
from calib.documents.document import MAX_DEPTH, MAX_JSON, MAX_YAML
from calib.errors import ConfigError


def test_every_place_knows_its_line():
    document = parse_yaml("a: 1\nb:\n  - x\n  - {c: true}\n", "f")
    assert document.data == {"a": 1, "b": ["x", {"c": True}]}
    assert document.where(("b", 1, "c")) == "line 4: b.1.c"
    assert document.where(("b", 0, "nowhere")) == "line 3: b.0.nowhere"


def test_words_and_dates_stay_text():
    assert parse_yaml("a: yes\nb: 2024-01-01\nc: on\nd: ~\ne: 1e-3\n", "f").data == {
        "a": "yes",
        "b": "2024-01-01",
        "c": "on",
        "d": None,
        "e": 0.001,
    }


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text, rule",
    [
        (BOMB, "line 1: anchors"),
        ("a: 1\nb: *a\n", "line 2: aliases"),
        ("a: !!python/object/apply:os.system [true]\n", "line 1: tags"),
        ("a: !local 3\n", "line 1: tags"),
        ("a: 1\n---\nb: 2\n", "line 2: no valid YAML"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice"),
        ("[" * (MAX_DEPTH + 1), "nested deeper"),
        ("[" * 100_000, "nested deeper"),
        ("? [1, 2]\n: 3\n", "a key must be text"),
        ("a: \x00\n", "no valid YAML"),
        ("a: [1\n", "no valid YAML"),
        ("a: " + "9" * 5000 + "\n", "line 1: no usable value"),
    ],
)
def test_what_could_harm_or_mislead_is_refused_with_its_line(text: str, rule: str):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    assert rule in "\n".join(caught.value.mistakes)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "{", "[" * 100_000, "9" * 5000, "nope"])
def test_bad_json_is_refused(text: str):
    with pytest.raises(ConfigError):
        parse_json(text, "f.json")


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(alphabet=st.sampled_from(list("ab:-[]{},&*!|>'\"#%@? \n\t0.~<")), max_size=40))
def test_no_text_ends_in_anything_but_data_or_a_config_error(text: str):
    try:
        parse_yaml(text, "f")
    except ConfigError as error:
        assert error.mistakes


def test_a_missing_a_binary_and_an_enormous_file_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        read_document(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_document(tmp_path / "binary.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_YAML + 1))
    with pytest.raises(ConfigError, match=r"larger than 1 MiB.*write it as JSON, of which 4 MiB"):
        read_document(tmp_path / "big.yaml")
    (tmp_path / "big.json").write_bytes(b" " * MAX_JSON + b"1")
    with pytest.raises(ConfigError, match="larger than 4 MiB"):
        read_document(tmp_path / "big.json")
