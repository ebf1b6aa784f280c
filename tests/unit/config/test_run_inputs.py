"""A config file may name the model, the data and the output; its paths start from its own folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.config import resolve
from calib.config.run_inputs import RunInputs
from calib.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_paths_start_from_the_folder_of_the_file(tmp_path: Path):
    text = "model: nets/a.xml\ncalibration: npz:c.npz?labels=y\nvalidation: /data/v.csv\noutput: .\nsamples: 7\n"
    found = resolve({}, (), written(tmp_path, text))
    assert found.settings.samples == 7
    assert found.inputs == RunInputs(
        str(tmp_path / "nets/a.xml"), f"npz:{tmp_path}/c.npz?labels=y", "/data/v.csv", str(tmp_path)
    )


def test_a_python_source_stays_a_module(tmp_path: Path):
    found = resolve({}, (), written(tmp_path, "calibration: python:my.data:samples\n"))
    assert found.inputs == RunInputs(calibration="python:my.data:samples")


def test_what_names_nothing_is_listed_with_all_other_mistakes(tmp_path: Path):
    path = written(tmp_path, "model: 3\noutput: ''\nsamples: 0\nmodle: x\n")
    with pytest.raises(ConfigError) as raised:
        resolve({}, (), path)
    one, two, three, four = raised.value.mistakes
    assert one.startswith("line 1: model: must be text, got 3") and two.startswith("line 2: output: must be text")
    assert "samples" in three and "did you mean model?" in four
