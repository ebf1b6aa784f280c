from __future__ import annotations

from pathlib import Path

import pytest

from calib.errors import CalibError, UsageError
from calib.studio.allowed import Allowed


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.npz").write_bytes(b"")
        (folder / "list.csv").write_text("a.png,0\n")
    (inside / "link").symlink_to(outside)
    (inside / "circle").symlink_to(inside / "circle")
    return inside.resolve(), outside.resolve()


@pytest.mark.parametrize(
    "text", ["../outside/a.npz", "link/a.npz", "link", "/etc/passwd", "circle", "", "a\0b", "a/../../b"]
)
def test_nothing_outside_is_reached_by_any_way(places: tuple[Path, Path], text: str):
    with pytest.raises(UsageError):
        Allowed(places[0]).existing(text)


def test_what_is_allowed_besides_is_reached_through_links_too(places: tuple[Path, Path]):
    inside, outside = places
    allowed = Allowed(inside, (outside,))
    assert allowed.existing("link/a.npz") == allowed.existing(str(outside / "a.npz")) == outside / "a.npz"
    assert Allowed(inside, (outside / "a.npz",)).path("link/a.npz") == outside / "a.npz"
    with pytest.raises(UsageError, match="--allow"):
        Allowed(inside, (outside / "a.npz",)).path("link/list.csv")


@pytest.mark.parametrize(
    "text",
    [
        "npz:../outside/a.npz",
        "csv:list.csv?root=../outside",
        "csv:list.csv?root=/etc",
        "csv:list.csv?classes=link/list.csv",
        "images:link",
        "coco:list.csv?images=../outside",
        "accuracy-check:list.csv?source=.",
        "python:os:getcwd",
        "nothing.npz",
        "npz:",
    ],
)
def test_data_that_reads_anything_outside_or_runs_code_is_refused(places: tuple[Path, Path], text: str):
    with pytest.raises(CalibError):
        Allowed(places[0]).data(text)


@pytest.mark.parametrize("text", ["a.npz", "npz:a.npz?labels=key", "csv:list.csv?root=.", "list.csv"])
def test_data_inside_are_given_back_as_they_are(places: tuple[Path, Path], text: str):
    assert Allowed(places[0]).data(text) == text


def test_code_runs_only_where_it_was_allowed(places: tuple[Path, Path]):
    assert Allowed(places[0], python=True).data("python:my:data") == "python:my:data"


def test_paths_are_shown_from_the_folder(places: tuple[Path, Path]):
    inside, outside = places
    assert Allowed(inside).shown(inside / "a.npz") == "a.npz"
    assert Allowed(inside).shown(outside) == str(outside)
