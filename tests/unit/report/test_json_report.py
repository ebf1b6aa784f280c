"""report.json comes back as it was, and is refused where it is another.

covers: calib.values.facts
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from report_fixtures.made_up import made_up_report

from calib.errors import OutputError, UsageError
from calib.report.json_report import read_report, write_report
from calib.values.facts import LayerFacts


def test_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    report = made_up_report()
    path = write_report(report, tmp_path)
    assert path == tmp_path / "report.json"
    assert read_report(path) == report
    assert read_report(tmp_path) == report


def test_infinite_sqnr_survives_and_the_file_is_strict_json(tmp_path: Path) -> None:
    layer = LayerFacts(name="exact", type="Add", planned="int8", sqnr_db=float("inf"), reason="")
    path = write_report(made_up_report(layers=1).model_copy(update={"layers": [layer]}), tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert read_report(path).layers[0].sqnr_db == float("inf")


def test_writing_leaves_nothing_but_the_report(tmp_path: Path) -> None:
    write_report(made_up_report(layers=3), tmp_path / "new" / "folder")
    write_report(made_up_report(layers=4), tmp_path / "new" / "folder")
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["report.json"]
    assert len(read_report(tmp_path / "new" / "folder").layers) == 4


def test_failed_write_keeps_the_old_report_and_leaves_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(made_up_report(layers=3), tmp_path)

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"report\.json can't be written: No space left"):
        write_report(made_up_report(layers=9), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    assert len(read_report(tmp_path).layers) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema_version": 2, "calib', "is no JSON"),
        (b"[1, 2]", "no report of calib"),
        (b"{}", "has no schema_version"),
        (
            b'{"schema_version": 99, "calib_version": "9.0"}',
            r"schema_version 99, written by calib 9\.0; this calib reads 2",
        ),
        (b'{"schema_version": 2, "calib_version": "0.1.0", "status": "great"}', "status"),
        (b'{"schema_version": 2, "calib_version": "0.1.0", "status": "quantized", "model": {"nme": "x"}}', r"model\.n"),
        (b"\xff\xfe\x00", "can't be read"),
        (b"[" * 100_000, "is no JSON"),
    ],
)
def test_damaged_report_is_refused_by_name_and_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def test_missing_report_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a dict is no folder\. Give the one that quantize or Result\.save wrote"):
        read_report({})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Give the folder that `calib quantize` wrote"):
        read_report(tmp_path)
