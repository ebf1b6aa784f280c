"""What a killed process left is swept, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from calib.runtime.temporary import sweep, temporary_folder, temporary_path

MAKER = """
import sys
from calib.runtime.temporary import temporary_folder, temporary_path
temporary_path(sys.argv[1], ".xml").write_text("half")
with temporary_folder(sys.argv[1]) as folder:
    (folder / "model.bin").write_text("half")
    print("made", flush=True)
    sys.stdin.read()
"""


def makes(folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that has made a temporary file and a folder."""
    maker = subprocess.Popen([sys.executable, "-c", MAKER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert maker.stdout is not None and maker.stdout.readline() == b"made\n"
    return maker


def test_what_kill_9_leaves_is_swept_by_the_next_that_makes_one(tmp_path: Path):
    (tmp_path / "mine").write_text("kept")
    with makes(tmp_path) as maker:
        assert len(list(tmp_path.iterdir())) == 3
        with temporary_folder(tmp_path):  # it runs: its files stay
            assert len(list(tmp_path.iterdir())) == 4
        assert len(list(tmp_path.iterdir())) == 3
        maker.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 3
    with temporary_folder(tmp_path) as folder:
        assert sorted(tmp_path.iterdir()) == [folder, tmp_path / "mine"]
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def gone(path: Path) -> Path:
    """Return the path as of a process that is no more: no process id is as large."""
    return path.with_name(re.sub(r"-\d+-(\d+)-", r"-9999999999-\1-", path.name))


def test_an_id_that_another_process_has_now_is_told_by_its_start(tmp_path: Path):
    own = temporary_path(tmp_path, ".bin")
    earlier = own.with_name(re.sub(r"-(\d+)-(\d+)-", r"-\1-1000-", own.name))
    for path in (own, earlier):
        path.write_text("x")
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [own]


def test_links_and_other_machines_and_other_names_stay(tmp_path: Path):
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.mkdir()
    (precious / "data").write_text("kept")
    folder.mkdir()
    link = gone(temporary_path(folder))
    link.symlink_to(precious)
    elsewhere = folder / re.sub(r"^\.calib-[0-9a-f]{8}", ".calib-00000000", gone(temporary_path(folder)).name)
    elsewhere.mkdir()
    (folder / ".calib-notes").write_text("mine")
    inside = gone(temporary_path(folder))
    inside.mkdir()
    (inside / "out").symlink_to(precious)
    sweep(folder)
    assert sorted(os.listdir(folder)) == sorted([link.name, elsewhere.name, ".calib-notes"])
    assert (precious / "data").read_text() == "kept"


def test_sweeping_a_folder_that_is_not_there_is_nothing(tmp_path: Path):
    sweep(tmp_path / "none")
    with pytest.raises(FileNotFoundError), temporary_folder(tmp_path / "none"):
        raise AssertionError("it was made")


def test_the_folder_is_for_its_user_alone():
    with temporary_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
