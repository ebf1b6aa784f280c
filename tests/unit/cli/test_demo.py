"""The demo quantizes one of the shipped networks under a budget; the job itself is run by other tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from calib.cli import demo
from calib.errors import UsageError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the command asked to be run."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(demo, "run", lambda ctx, *more, verbose: found.append(more))
    return found


def networks() -> list[str]:
    return sorted(path.stem for path in demo.demo_folder().glob("*.xml"))


def call(*arguments: str) -> None:
    assert isinstance(demo.command, click.Command)
    demo.command.main(list(arguments), standalone_mode=False)


@pytest.mark.parametrize("name", [None, *networks()])
def test_a_shipped_network_is_quantized_with_its_own_data_under_a_budget(name: str | None, asked: list[Any]):
    call(*(["--network", name] if name else []), "-o", "here")
    ((model, calibration, output, page, as_json, given),) = asked
    assert (Path(model).stem, output, page, as_json) == (name or networks()[0], "here", True, False)
    assert all(Path(place).is_file() for place in (model, calibration, given["validation"]))
    assert given["metric"] == "top-1" and given["max_drop"] == 0.005


def test_another_network_is_refused_with_those_there_are(asked: list[Any]):
    with pytest.raises(UsageError, match=f"no demo network 'nope'; there are {', '.join(networks())}"):
        call("--network", "nope")
    assert asked == []


def test_a_detector_is_quantized_with_pictures_that_are_composed_into_the_folder(tmp_path: Path, asked: list[Any]):
    call("--task", "detection", "--network", "ssd", "--pictures", "2", "-o", str(tmp_path))
    ((model, calibration, _, _, _, given),) = asked
    assert Path(model).parent.name == "detection" and Path(model).stem == "ssd"
    assert len(list((tmp_path / "data" / "validation").iterdir())) == 2
    assert calibration == f"images:{tmp_path / 'data' / 'calibration'}"
    assert given["metric"] == "coco-map" and given["decode"] == "ssd-raw?label_shift=-1"
    assert given["validation"].startswith("coco:") and Path(given["validation"][5:].partition("?")[0]).is_file()


def test_pictures_are_counted_only_where_they_are_composed(asked: list[Any]):
    with pytest.raises(UsageError, match="--pictures is for --task detection"):
        call("--pictures", "2")
    assert asked == []
