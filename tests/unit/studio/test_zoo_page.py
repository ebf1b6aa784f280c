from __future__ import annotations

from pathlib import Path

import pytest
from studio_client import Client

from calib.errors import CalibError
from calib.studio import zoo_page
from calib.studio.allowed import Allowed
from calib.studio.zoo_page import manifests, opened

MANIFEST = """
sources:
  - glob: "*.xml"
matrix:
  effort: [fast, balanced]
defaults:
  calibration: a.npz
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "inside"
    root.mkdir()
    for name in ("one.xml", "two.xml", "one.bin", "two.bin", "a.npz", "secret.txt"):
        (root / name).write_text("")
    (tmp_path / "b.npz").write_text("")
    (tmp_path / "three.xml").write_text("")
    (root / "zoo.yaml").write_text(MANIFEST)
    (root / "other.yaml").write_text("a: 1\n")
    return root.resolve()


def test_manifests_are_found_and_shown_as_a_matrix(folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert manifests(Allowed(folder), folder / "out") == ["zoo.yaml"]
    started = []
    monkeypatch.setattr(zoo_page, "_run", lambda *given: started.append(given))
    with Client(folder) as client:
        assert "/zoo?manifest=zoo.yaml" in client.get("/zoo").text
        text = client.get("/zoo", manifest="zoo.yaml").text
        assert "0 of 4 done" in text and "effort=fast" in text and "every 2s" not in text
        assert "calib zoo run zoo.yaml" in text
        assert client.post("/zoo", manifest="zoo.yaml").status == 303
        assert started == [(folder / "zoo.yaml", folder / "zoo-out", [])]
        assert "every 2s" in client.get("/zoo", manifest="zoo.yaml", started="1").text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a.npz", "../b.npz"),
        ("a.npz", "python:os:getcwd"),
        ("sources:", "root: ..\nsources:"),
        ("sources:", "output: ../elsewhere\nsources:"),
        ("sources:", "output: memory://x\nsources:"),
        ("  calibration", "  extensions: [lib.so]\n  calibration"),
        ("  calibration", "  ignore: ['file:/etc/passwd']\n  calibration"),
        ("  calibration", "  accuracy_check: {file: ../x.yml, source: .}\n  calibration"),
        ('  - glob: "*.xml"', "  - list: ../b.npz"),
        ("effort", "efort"),
    ],
)
def test_a_manifest_that_reaches_out_runs_code_or_is_wrong_is_refused(folder: Path, before: str, after: str):
    (folder / "zoo.yaml").write_text(MANIFEST.replace(before, after, 1))
    with pytest.raises(CalibError):
        opened(Allowed(folder), "zoo.yaml")
