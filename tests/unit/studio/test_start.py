from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from calib.errors import CalibError, UsageError
from calib.studio.allowed import Allowed
from calib.studio.start import (
    command,
    command_of,
    form_of,
    preprocessing_of,
    preprocessing_text,
    read_form,
    settings_of,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "inside"
    root.mkdir()
    (root / "net.onnx").write_bytes(b"")
    np.savez(root / "a.npz", x=np.zeros(3))
    (tmp_path / "secret.txt").write_text("")
    return root.resolve()


def form(**more: str) -> dict[str, str]:
    return {"model": "net.onnx", "calibration": "a.npz", **more}


def test_a_form_becomes_a_job_and_the_command_line_that_does_the_same(folder: Path):
    asked = read_form(
        form(
            validation="a.npz",
            metric="top-1",
            max_drop="0.5pt",
            effort="fast",
            ignore="first\ntype:MatMul\n",
            pre="color=bgr; resize=224; mean=1,2,3",
            set="require_speedup=1.5\nspeed=false",
        ),
        Allowed(folder),
    )
    job = asked.job("net-1", folder, 2)
    assert job.settings["preprocessing"] == {"color": "bgr", "resize": 224, "mean": [1, 2, 3]}
    assert (job.settings["ignore"], job.settings["speed"]) == (["first", "type:MatMul"], False)
    words = shlex.split(command(asked, "out"))
    assert words[:3] == ["calib", "quantize", "net.onnx"] and words[words.index("--max-drop") + 1] == "0.5pt"
    assert words.count("--ignore") == 2 and "require_speedup=1.5" in words
    assert command_of(job, folder).startswith("calib quantize net.onnx --calibration a.npz")


def test_settings_become_the_form_that_gives_them_again(folder: Path):
    given = form(
        knee="true",
        effort="thorough",
        samples="40",
        ignore="first\nre:^a.*",
        pre="resize=224; mean=1,2,3",
        set="require_speedup=1.5\nmetric=[top-1, f1]",
    )
    settings = settings_of(given, "a.npz")
    assert settings["knee"] is True and settings_of(form_of(settings), "a.npz") == settings
    assert "--knee" in command(read_form({**given, "set": ""}, Allowed(folder)), "out").split()


def test_a_metric_counts_only_where_there_is_something_to_measure_on(folder: Path):
    settings = read_form(form(metric="top-1", max_drop="0.5pt"), Allowed(folder)).settings
    assert "metric" not in settings and "max_drop" not in settings
    asked = read_form(form(min_sqnr="30"), Allowed(folder))
    assert asked.settings == {"min_sqnr": "30"} and "--min-sqnr 30" in command(asked, "out")
    with pytest.raises(UsageError, match="leave out metric"):
        read_form(form(validation="a.npz", metric="top-1", min_sqnr="30"), Allowed(folder))
    with pytest.raises(UsageError, match="needs a metric"):
        read_form(form(validation="a.npz", max_drop="0.5pt"), Allowed(folder))


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "../secret.txt"},
        {"model": ""},
        {"calibration": ""},
        {"calibration": "python:os:getcwd"},
        {"effort": "none"},
        {"samples": "-1"},
        {"set": "nothing"},
        {"set": "none=1"},
        {"set": "extensions=[lib.so]"},
        {"set": "metric=python:os:getcwd\nhigher_is_better=true"},
        {"set": "ignore=[file:../secret.txt]"},
        {"set": "ignore=file:../secret.txt"},
        {"ignore": "file:/etc/passwd"},
        {"set": "samples=!!python/object:os.system"},
        {"validation": "a.npz", "metric": "cer?vocabulary=../secret.txt"},
        {"validation": "a.npz", "metric": "top-1,cer?vocabulary=/etc/passwd"},
        {"validation": "a.npz", "metric": "cer?vocabulary=..%2fsecret.txt"},
        {"validation": "a.npz", "metric": "cer?vocabul%61ry=../secret.txt"},
        {"validation": "a.npz", "set": "decode=ssd-raw?priors=../secret.npy"},
        {"validation": "a.npz", "set": "metric=[top-1, cer?vocabulary=../secret.txt]"},
        {"validation": "a.npz", "metric": "python:os:getcwd"},
        {"validation": "a.npz", "metric": "accuracy-check?file=../secret.txt"},
        {"pre": "resize"},
        {"pre": "scale=0"},
        {"pre": "what=1"},
    ],
)
def test_what_is_wrong_reaches_out_or_runs_code_is_refused_with_a_sentence(folder: Path, wrong: dict[str, str]):
    with pytest.raises(CalibError) as caught:
        read_form(form(**wrong), Allowed(folder))
    assert str(caught.value)


def test_preprocessing_is_the_same_after_being_written(folder: Path):
    steps = {
        "color": "bgr",
        "resize": [224, 200],
        "mean": [123.7, 116.3, 103.5],
        "scale": 58.4,
        "pad_position": "corner",
    }
    assert preprocessing_of(preprocessing_text(steps)) == steps
    assert preprocessing_of("") == {}
