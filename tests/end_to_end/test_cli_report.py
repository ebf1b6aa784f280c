"""``calib report`` makes the page of a run again.

covers: calib.cli.report
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from report_fixtures.made_up import made_up_report

from calib.cli import main
from calib.report.html import render_html
from calib.report.json_report import write_report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_report(made_up_report(layers=4), tmp_path / "run")
    return tmp_path / "run"


def test_page_is_made_again_beside_its_report(folder: Path) -> None:
    for given in (folder, folder / "report.json"):
        result = CliRunner().invoke(main, ["report", str(given)])
        assert result.exit_code == 0
        assert result.stdout == ""
        assert str(folder / "report.html") in result.stderr
        assert (folder / "report.html").read_text(encoding="utf-8") == render_html(made_up_report(layers=4))
        (folder / "report.html").unlink()


def test_page_goes_where_it_is_asked_for(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--quiet", "report", str(folder), "-o", str(tmp_path / "new" / "page.html")])
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "new" / "page.html").is_file()
    assert not (folder / "report.html").exists()


def test_folder_without_a_report_is_a_mistake_of_use(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "report.json does not exist" in result.stderr
    assert "Traceback" not in result.stderr


def test_place_that_cannot_be_written_is_an_error(folder: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(folder), "-o", str(folder / "report.json" / "page.html")])
    assert result.exit_code == 1
    assert "can't be written" in result.stderr
