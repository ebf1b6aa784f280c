"""Models behind URLs, and what is said where their package is missing."""

from __future__ import annotations

import importlib.util

import pytest

from calib.errors import MissingExtraError
from calib.zoo.urls import open_place


def test_a_protocol_without_its_package_names_the_package(monkeypatch: pytest.MonkeyPatch):
    fsspec = pytest.importorskip("fsspec")

    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingExtraError, match=r"needs the package 's3fs'.*pip install s3fs$"):
        open_place("s3://bucket/model.xml")


def test_a_url_without_fsspec_names_its_requirement(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fsspec>=[\d.]+'$"):
        open_place("s3://bucket/model.xml")
