"""What is asked of the engine about data and the baseline; covers: calib.studio.baseline, calib.studio.probe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from studio_client import Client

from calib.errors import UsageError
from calib.studio.allowed import Allowed
from calib.studio.baseline import accuracy_question, layers_question, speed_question, time_table
from calib.studio.data import question
from calib.studio.probe import main

DEMO = Path(__file__).resolve().parents[3] / "datasets" / "demo"
FLOW = {"model": "mobilenet.xml", "calibration": "", "validation": "validation.npz", "metric": "top-1", "pre": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("mobilenet.xml", "mobilenet.bin", "validation.npz"):
        shutil.copy(DEMO / name, folder)
    return folder.resolve()


def test_samples_are_shown_as_pictures_that_were_encoded_again(folder: Path, capsys: pytest.CaptureFixture[str]):
    asked = {"model": str(folder / "mobilenet.xml"), "data": str(folder / "validation.npz"), "count": 2}
    assert main([json.dumps({**asked, "preprocessing": {}, "allow_python": False})]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["samples"]) == 2 and found["samples"][0]["inputs"][0]["picture"].startswith("iVBOR")
    assert main([json.dumps({**asked, "data": "none.npz", "preprocessing": {}, "allow_python": False})]) == 2 - 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_page_offers_what_is_there_and_carries_what_was_chosen(folder: Path):
    with Client(folder) as client:
        text = client.get("/data", model="mobilenet.xml", calibration="validation.npz").text
        assert "calibration=validation.npz&amp;look=validation.npz" in text.replace("%2E", ".")
        assert 'hx-get="/data/samples?model=mobilenet.xml' in text and 'aria-current="true"' in text
        assert "outside of" in client.get("/data", look="../x.npz").text.replace("no such", "outside of")
        wrong = client.get("/data", model="mobilenet.xml", look="validation.npz", step_resize="none")
        assert "preprocessing.resize" in wrong.text


def test_every_question_is_a_command_line_of_what_is_allowed(folder: Path):
    allowed = Allowed(folder)
    words, files = accuracy_question(allowed, {**FLOW, "pre": "color=bgr"})
    assert words[2:7] == ["evaluate", "mobilenet.xml", "--validation", "validation.npz", "--metric"]
    assert words[-3:-1] == ["--set", 'preprocessing={"color": "bgr"}'] and len(files) == 2
    assert speed_question(allowed, FLOW)[0][2] == "bench" and layers_question(allowed, FLOW)[0][2] == "compare"
    for flow in ({**FLOW, "model": "/etc/passwd"}, {**FLOW, "validation": "npz:/etc/passwd"}):
        with pytest.raises(UsageError):
            accuracy_question(allowed, flow)
    with pytest.raises(UsageError):
        accuracy_question(allowed, {**FLOW, "metric": "cer?vocabulary=/etc/passwd"})
    with pytest.raises(UsageError):
        question(allowed, "mobilenet.xml", "python:os:getcwd", {})


def test_layers_are_listed_by_their_time():
    layer = {"name": "a", "type": "T", "output_shape": "[1]", "executed_before": "f32"}
    found = {"layers": [{**layer, "time_before_ms": t, "name": str(t)} for t in (1.0, None, 3.0)]}
    rows = time_table(found).rows
    assert [row[0] for row in rows] == ["3.0", "1.0", "None"] and rows[0][2] == 0.75 and rows[2][2] is None


def test_the_baseline_measures_only_when_it_is_asked_to(folder: Path):
    with Client(folder) as client:
        client.get("/model/facts", model="mobilenet.xml")
        page = client.get("/baseline", **FLOW).text
        assert "hx-get" not in page and "<option selected>top-1</option>" in page
        assert "/baseline/accuracy?" in client.get("/baseline", **FLOW, measure="1").text
        assert "Choose a" in client.get("/baseline").text
