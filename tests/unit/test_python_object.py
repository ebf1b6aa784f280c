"""``module:name``: what was named is imported, and nothing is left on Python's path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from calib.errors import UsageError
from calib.python_object import load_object

CODE = "class Inner:\n    value = 5\ndef function():\n    return 7\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "python_object_for_test.py").write_text(CODE)
    (tmp_path / "python_object_broken.py").write_text("1 / 0\n")
    return tmp_path


def load(place: str, base: Path):
    return load_object(place, f"python:{place}", base)


def test_functions_and_what_is_inside_of_objects_are_found(folder: Path):
    before = list(sys.path)
    assert load("python_object_for_test:function", folder)() == 7
    assert load("python_object_for_test:Inner.value", folder) == 5
    assert sys.path == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("python_object_for_test", "write python:module:function"),
        (":function", "write python:module:function"),
        ("python_object_for_test:gone", "has no 'gone'"),
        ("python_object_for_test:Inner.gone", "has no 'Inner.gone'"),
        ("python_object_nowhere:f", "importing 'python_object_nowhere' failed: ModuleNotFoundError.*looked for in"),
        ("python_object_broken:f", "ZeroDivisionError"),
    ],
)
def test_what_can_not_be_found_is_named_as_it_was_written(place: str, message: str, folder: Path):
    before = list(sys.path)
    with pytest.raises(UsageError, match=f"^python:{place}: .*{message}"):
        load(place, folder)
    assert sys.path == before
