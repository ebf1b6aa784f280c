"""What is advised to install can be installed: it is named as pyproject.toml names it, and not by an extra of ours."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import calib
from calib.errors import MissingExtraError
from calib.values import distribution

ROOT = Path(calib.__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_distribution_has_the_name_that_its_metadata_is_asked_for_by():
    assert PROJECT["name"] == distribution.NAME
    assert metadata.version(distribution.NAME) == calib.__version__


def test_installed_metadata_gives_every_optional_package_as_the_project_requires_it():
    written = {
        text
        for texts in PROJECT["optional-dependencies"].values()
        for text in texts
        if not text.startswith(distribution.NAME)
    }
    read = [text for packages in distribution.extras().values() for text in packages.values()]
    assert sorted(read) == sorted(written)
    assert distribution.requirement("jiwer") in written and distribution.requirement("jiwer").startswith("jiwer>=")


def test_every_use_is_of_an_extra_of_the_project():
    assert distribution.USES.keys() <= PROJECT["optional-dependencies"].keys()


def test_all_that_is_missing_for_a_use_is_named_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distribution, "version", lambda package: "1" if package == "uvicorn" else "")
    found = distribution.needed_with("starlette")
    assert {"starlette>=0.40", "sse-starlette>=2.1"} <= set(found) and not any("uvicorn" in one for one in found)
    assert distribution.needed_with("no-extra-holds-it") == ["no-extra-holds-it"]
    said = str(MissingExtraError("calib studio", "starlette", *found))
    assert "pip install 'python-multipart>=0.0.18' 'sse-starlette>=2.1' 'starlette>=0.40'" in said


def test_extras_are_read_from_requirements_however_they_are_spelled():
    assert distribution.extras(
        [
            "numpy>=2.0",
            'faster-coco-eval>=1.6; extra == "coco"',
            "pytest[x]>=8.0,<9 ; python_version > '3' and extra == 'test'",
            'calib-openvino[coco]; extra == "test"',
            'Calib_OpenVINO[coco]; extra == "mutation"',
        ]
    ) == {"coco": {"faster-coco-eval": "faster-coco-eval>=1.6"}, "test": {"pytest": "pytest[x]>=8.0,<9"}}


def test_without_metadata_the_bare_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distribution, "NAME", "no-such-distribution-9")
    assert distribution.extras() == {}
    assert distribution.requirement("jiwer") == "jiwer"


def test_the_way_out_is_a_line_that_a_shell_takes():
    assert str(MissingExtraError("it", "jiwer", "jiwer>=3.0")).endswith("Run: pip install 'jiwer>=3.0'")
    assert str(MissingExtraError("it", "s3fs")).endswith("Run: pip install s3fs")


def test_nobody_is_told_to_install_another_project_of_our_name():
    # Nor an extra by our distribution's name: no index has it, so pip finds it neither for a checkout nor for a wheel.
    sources = sorted((ROOT / "calib").rglob("*.py"))
    assert sources
    for path in (ROOT / "README.md", *sources):
        assert not re.search(r"pip install (-\S+ )*['\"]?calib", path.read_text(encoding="utf-8")), path
