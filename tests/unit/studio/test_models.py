from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from studio_client import Client

DEMO = Path(__file__).resolve().parents[3] / "datasets" / "demo"
EVIL = "<b>&\"'.onnx"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("models")
    for suffix in ("xml", "bin"):
        shutil.copy(DEMO / f"mobilenet.{suffix}", folder)
    (folder / EVIL).write_bytes(b"no model")
    with Client(folder) as client:
        yield client


def test_the_list_names_the_models_at_once_and_asks_for_what_is_in_them(client: Client):
    text = client.get("/").text
    assert 'hx-get="/model/facts?model=mobilenet.xml"' in text and "206 kB" in text
    assert "&lt;b&gt;&amp;&#34;&#39;.onnx" in text and "<b>" not in text


def test_a_model_says_what_could_run_in_int8_and_gives_the_command_line(client: Client):
    text = client.get("/model", model="mobilenet.xml", wait="1").text
    assert "27 of 27" in text and "calib inspect mobilenet.xml" in text and "image" in text
    assert "27 of 27 layers" in client.get("/model/facts", model="mobilenet.xml").text
    rows = json.loads(client.get("/model/layers", model="mobilenet.xml").body)["rows"]
    assert len(rows) == 27 and rows[0][:2] == ["stem/Convolution", "Convolution"]
    assert "27 of 27 layers" in client.get("/").text  # known by now


def test_a_file_that_is_no_model_says_why_and_takes_nothing_down(client: Client):
    found = client.get("/model", model=EVIL, wait="1")
    assert found.status == 200 and "can't be read" in found.text and "<b>" not in found.text
    assert 'class="bad-text"' in client.get("/model/facts", model=EVIL).text
    assert client.get("/model/layers", model=EVIL).status == 400
    assert client.get("/model", model="none.xml").status == 400
