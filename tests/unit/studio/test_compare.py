"""Results side by side, and as a zip; covers: calib.studio.take_away."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from report_fixtures.made_up import made_up_report
from studio_client import Client

from calib.report.json_report import write_report
from calib.studio.compare import trade
from calib.zoo.jobs import JobStore
from calib.zoo.make_jobs import ZooJob


@pytest.fixture
def client(tmp_path: Path):
    """A studio with two runs that are done and one that is not."""
    with Client(tmp_path) as client:
        jobs = [
            ZooJob(
                f"net-{i}", "net.xml", str(tmp_path / "net.xml"), str(tmp_path), "a.npz", settings={"effort": effort}
            )
            for i, effort in enumerate(("fast", "balanced", "thorough"))
        ]
        with JobStore(client.output / "zoo.sqlite") as store:
            store.enter([(f"key{i}", f"f{i}-1", job) for i, job in enumerate(jobs)], [job.name for job in jobs])
            for i in range(2):
                store.claim(threads=9, memory=1e12, only=f"key{i}")
                board = json.dumps({"unit": "fraction"})
                store.finish(f"key{i}", 1, status="within_budget", outcome="done", board=board)
                folder = client.output / "models" / f"net-{i}"
                folder.mkdir(parents=True)
                write_report(made_up_report(layers=5), folder)
                for suffix in ("xml", "bin"):
                    (folder / f"{made_up_report(layers=5).model.name}.{suffix}").write_bytes(b"1")
                (folder / "job.json").write_text("{}")
        yield client


def test_runs_stand_side_by_side_with_what_differs_in_their_settings(client: Client):
    text = client.get("/compare?run=key0&run=key1&run=key0").text
    assert text.count('<th scope="col"><a href="/run/') == 2 and "fast" in text and "balanced" in text
    assert "effort" in text and "latency in INT8" in text and "calib compare" in text
    plot = client.get("/compare/trade?run=key0").text
    assert plot.count("<circle") == 2 and 'href="/run/key1"' in plot
    rows = json.loads(client.get("/compare/layers?run=key0&run=key1").body)
    assert len(rows["rows"]) == 5 and any("net-1" in column["title"] for column in rows["columns"])


def test_what_fp32_gets_right_and_int8_wrong_is_counted_shown_and_said_to_be_unknown(client: Client):
    assert "What FP32 gets right and INT8 wrong" in client.get("/compare?run=key0").text
    assert "say it of single samples" in client.get("/compare?run=key0").text
    for name, lost in (("net-0", ["<b>a", "b"]), ("net-1", ["b"])):
        path = client.output / "models" / name / "report.json"
        found = json.loads(path.read_text())
        found["changed"] = {
            "metric": "top-1", "samples": 9, "right_or_wrong": True, "worse": len(lost), "better": 0, "names": lost
        }  # fmt: skip
        found["pictures"] = [
            {"file": "pictures/1.png", "sample": "row b", "id": "b", "change": "", "after": ["7: 0.9"]}
        ]
        (path.parent / "pictures").mkdir()
        (path.parent / "pictures" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        path.write_text(json.dumps(found))
    text = client.get("/compare?run=key0&run=key1").text
    assert "INT8 gets 2 wrong that FP32 got right" in text and "wrong in all of them" in text
    assert text.count("data:image/png") == 2 and "&lt;b&gt;a" in text and "<b>a" not in text


def test_without_a_choice_those_that_are_done_are_offered(client: Client):
    text = client.get("/compare").text
    assert "key0" in text and "key1" in text and "key2" not in text
    assert client.get("/compare?run=key2").status == 400 and client.get("/compare?run=none").status == 400


def test_a_damaged_report_is_said(client: Client):
    (client.output / "models" / "net-0" / "report.json").write_text("{}")
    found = client.get("/compare?run=key0")
    assert found.status == 400 and "can&#39;t be read" in found.text
    assert client.get("/compare/trade?run=key1").text.count("<circle") == 1


def test_nothing_measured_is_not_drawn():
    assert trade([], []) is None


def test_the_result_is_packed_by_a_process_of_its_own_and_the_temporary_file_is_gone(client: Client):
    found = client.get("/run/key0/take-away.zip")
    assert (found.status, found.headers["content-disposition"]) == (200, 'attachment; filename="net-0.zip"')
    with zipfile.ZipFile(io.BytesIO(found.body)) as archive:
        assert {"run.py", "report.json"} <= {Path(name).name for name in archive.namelist()}
    assert not list(client.output.glob(".calib-*"))
    assert client.get("/run/key2/take-away.zip").status == 404


def test_a_result_that_is_not_complete_is_said(client: Client):
    (client.output / "models" / "net-1" / "report.json").unlink()
    found = client.get("/run/key1/take-away.zip")
    assert found.status == 400 and "report.json" in found.text
