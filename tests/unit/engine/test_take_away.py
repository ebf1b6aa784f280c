"""A result in one zip: complete, the same bytes each time, and what is in it runs."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images

import calib
from calib.engine.take_away import take_away, write_zip
from calib.errors import OutputError, UsageError


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("result")
    calib.quantize(convnet(), images(6), effort="fast", estimator="minmax", speed=False).save(folder)
    return folder


def zipped(folder: Path) -> bytes:
    stream = io.BytesIO()
    write_zip(folder, stream)
    return stream.getvalue()


def test_the_same_result_gives_the_same_bytes_whenever_it_was_written(result: Path, tmp_path: Path):
    first = zipped(result)
    for path in result.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert zipped(tmp_path) == first


def test_the_zip_holds_the_result_and_a_program_that_runs_it(result: Path, tmp_path: Path):
    path = take_away(result, tmp_path / "new" / "out.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    (folder,) = tmp_path.glob("*-int8")
    name = folder.name.removesuffix("-int8")
    wanted = {f"{name}.xml", f"{name}.bin", "plan.json", "plan.npz", "report.json", "README.txt", "run.py"}
    assert wanted <= {one.name for one in folder.iterdir()}
    assert (folder / f"{name}.bin").read_bytes() == (result / f"{name}.bin").read_bytes()
    ran = subprocess.run([sys.executable, folder / "run.py"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and ran.stdout.startswith("output 0: shape (1, "), ran.stderr


def test_what_is_no_complete_result_is_refused_and_leaves_nothing(result: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="does not exist"):
        write_zip(tmp_path, io.BytesIO())
    (tmp_path / "report.json").write_bytes((result / "report.json").read_bytes())
    with pytest.raises(UsageError, match="is missing, so the result is not complete"):
        take_away(tmp_path, tmp_path / "x.zip")
    for path in result.iterdir():
        if path.suffix in (".xml", ".bin"):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(UsageError, match="is a link"):
        take_away(tmp_path, tmp_path / "x.zip")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        take_away(result, tmp_path / "file" / "x.zip")
    assert not list(tmp_path.glob("*.zip"))


def test_the_program_takes_the_first_of_the_samples_in_a_file(result: Path, tmp_path: Path):
    with zipfile.ZipFile(take_away(result, tmp_path / "out.zip")) as archive:
        archive.extractall(tmp_path)
    (program,) = tmp_path.glob("*-int8/run.py")
    np.savez(tmp_path / "data.npz", image=np.stack(list(images(3))))
    ran = [subprocess.run([sys.executable, program, *given], capture_output=True, text=True, check=True).stdout
           for given in ([], [str(tmp_path / "data.npz")])]  # fmt: skip
    assert ran[0] != ran[1] and all(text.startswith("output 0: shape (1, ") for text in ran)
