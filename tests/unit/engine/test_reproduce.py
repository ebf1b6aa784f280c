"""A run is written down in three forms, and each of them gives the same bytes again."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from trust_fixtures.tiny import convnet, images

import calib
from calib.cli import main
from calib.cli.quantize import command as quantize_command
from calib.engine.reproduce import FLAGS
from calib.errors import UsageError
from calib.runtime.session import ov
from calib.values.facts import ReproduceFacts

GIVEN: dict[str, Any] = {
    "effort": "fast",
    "metric": "relative-l2",
    "max_drop": "80%rel",
    "ignore": ("type:MatMul",),
    "speed": False,
    "preprocessing": {"mean": 0.25},
    "salt": "it's",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a model and samples, which is the current one."""
    ov.save_model(convnet(), tmp_path / "net.xml", compress_to_fp16=False)
    np.savez(tmp_path / "some data.npz", x=images(8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reproduced(**more: Any) -> ReproduceFacts:
    result = calib.quantize("net.xml", "npz:some data.npz", **(GIVEN | more))
    found = result.save("out").reproduce
    assert found is not None
    return found


def weights(folder: Path) -> bytes:
    (path,) = folder.glob("*.bin")
    return path.read_bytes()


def test_the_config_file_repeats_the_run_wherever_it_is(files: Path, monkeypatch: pytest.MonkeyPatch):
    found = reproduced(validation="some data.npz")
    assert (files / "out/job.yaml").read_text() == found.config
    other = files / "other"
    other.mkdir()
    (other / "job.yaml").write_text(found.config)
    monkeypatch.chdir("/")
    done = CliRunner().invoke(main, ["quantize", "--config", str(other / "job.yaml"), "--no-report"])
    assert done.exit_code == 0, done.output
    assert f"to reproduce: calib quantize --config {other / 'job.yaml'}" in done.output
    assert weights(other) == weights(files / "out")
    assert (other / "job.yaml").read_text() == found.config


def test_the_command_line_repeats_the_run(files: Path):
    program, *arguments = shlex.split(reproduced(complete=True).command)
    assert program == "calib" and {"--ignore", "--no-speed", "--complete"} <= set(arguments)
    written = weights(files / "out")
    shutil.rmtree(files / "out")
    done = CliRunner().invoke(main, [*arguments, "--no-report"])
    assert done.exit_code == 0, done.output
    assert weights(files / "out") == written


def test_the_python_program_repeats_the_run(files: Path):
    program = reproduced().python
    written = weights(files / "out")
    shutil.rmtree(files / "out")
    exec(program, {})  # calib's own text
    assert weights(files / "out") == written


def test_python_objects_can_not_be_written_down(files: Path):
    for model, data in ((convnet(), "some data.npz"), ("net.xml", list(images(4)))):
        report = calib.quantize(model, data, effort="fast").save("out")
        assert report.reproduce is None and not os.path.exists("out/job.yaml")


def test_settings_with_a_flag_have_it():
    flags = {flag for parameter in quantize_command.params for flag in parameter.opts}
    assert {f"--{name.replace('_', '-')}" for name in FLAGS} <= flags


def test_a_run_without_model_or_data_says_where_to_name_them(files: Path):
    with pytest.raises(UsageError, match="'model:' in it"):
        calib.quantize()
    with pytest.raises(UsageError, match="'calibration:' in it"):
        calib.quantize("net.xml")


def test_code_named_by_the_file_runs_only_if_allowed(files: Path):
    Path("job.yaml").write_text("model: net.xml\ncalibration: python:nowhere:samples\n")
    with pytest.raises(UsageError, match="--allow-python"):
        calib.quantize(config="job.yaml")
    with pytest.raises(UsageError, match="nowhere"):
        calib.quantize(config="job.yaml", allow_python=True)
    Path("job.yaml").write_text("model: net.xml\ncalibration: some data.npz\nvalidation: python:nowhere:samples\n")
    with pytest.raises(UsageError, match="--allow-python"):
        calib.quantize(config="job.yaml", metric="relative-l2")
