"""Runs from their start to their result, without the engine; covers: calib.studio.quantize, calib.studio.runs."""

from __future__ import annotations

import asyncio
import html
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from studio_client import Client

from calib.cli import main
from calib.studio import run, supervise
from calib.studio.run import plots
from calib.zoo import cost
from calib.zoo.events import note
from calib.zoo.jobs import JobStore

DEMO = Path(__file__).resolve().parents[3] / "datasets" / "demo"
FORM = {"model": "mobilenet.xml", "calibration": "calibration.npz", "validation": "validation.npz"}
BUDGET = {"metric": "top-1", "max_drop": "0.5pt"}
BOARD = {"model": "m", "status": "within_budget", "unit": "fraction", "int8": 0.9, "drop": 0.001, "layers": 3}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A studio whose supervisors are only counted."""
    for name in ("mobilenet.xml", "mobilenet.bin", "calibration.npz", "validation.npz"):
        shutil.copy(DEMO / name, tmp_path)
    monkeypatch.setattr(supervise, "start", lambda *_: None)
    monkeypatch.setattr(run, "LIVE_SECONDS", 0.01)
    with Client(tmp_path) as client:
        yield client


def started(client: Client, **more: str) -> str:
    found = client.post("/quantize", **{**FORM, **BUDGET, **more})
    assert found.status == 303, found.text
    return found.headers["location"].rpartition("/")[2]


def finish(client: Client, key: str, report: str = "<p>report</p>") -> None:
    """Give a run the result that a supervisor would."""
    with JobStore(client.output / "zoo.sqlite") as store:
        store.enter([(row.key, row.family, row.job) for row in store.rows()], [row.name for row in store.rows()])
        row, number = store.claim(threads=99, memory=1e12, only=key) or pytest.fail("it does not wait")
        store.finish(key, number, status="within_budget", outcome="done", board=json.dumps(BOARD))
    (client.output / "models" / row.name).mkdir(parents=True)
    (client.output / "models" / row.name / "report.html").write_text(report)


def test_the_form_offers_what_fits_and_says_what_the_samples_show_and_what_it_costs(client: Client):
    assert "&amp;wait=1" in client.get("/quantize", **FORM).text
    text = client.get("/quantize", **FORM, wait="1").text
    assert re.search(r"<option selected>top-1</option>", text) and 'value="0.5pt"' in text
    assert "What 2,500 samples can show" in text and "budget 0.50" in text and "about" in text
    assert "calib quantize mobilenet.xml --calibration calibration.npz" in text


def test_the_file_of_a_model_that_was_looked_into_is_not_read_again(client: Client, monkeypatch: pytest.MonkeyPatch):
    client.get("/quantize", **FORM, wait="1")
    monkeypatch.setattr(cost, "size_of", lambda path: pytest.fail(f"{path} is parsed by the server"))
    for address in ("/quantize", "/quantize/preview"):
        text = client.get(address, **FORM, **BUDGET).text
        assert "What 2,500 samples can show" in text and "calib quantize" in text
    assert len(re.findall(r'id="time-\w+">about [\d.]+ s', client.get("/quantize", **FORM).text)) == 3


def test_what_is_wrong_in_the_form_is_said_beside_what_was_typed(client: Client):
    found = client.post("/quantize", **{**FORM, **BUDGET, "samples": "-3", "ignore": "<b>"})
    assert found.status == 422 and "samples" in found.text and 'value="-3"' in found.text and "<b>" not in found.text
    assert client.get("/quantize/preview", **FORM, set="x").text.count("KEY=VALUE") == 1
    without = client.get("/quantize/preview", **{**FORM, **BUDGET, "validation": ""}).text
    assert "the largest drop are left out" in without and "--max-drop" not in without


def test_a_run_up_to_the_knee_starts_again_with_all_that_it_was_given_and_without_a_budget(client: Client):
    key = started(client, max_drop="", knee="true", ignore="first\nlast", samples="40")
    text = client.get(f"/run/{key}").text
    assert "top-1, up to the knee, balanced" in text and " --knee" in text
    finish(client, key)
    (again,) = re.findall(r'href="(/quantize\?[^"]+)">Run again', client.get(f"/run/{key}").text)
    form = client.get(f"{html.unescape(again)}&wait=1").text
    assert re.search(r'name="knee" value="true" checked', form) and ">first\nlast</textarea>" in form
    assert re.search(r'name="samples" value="40"', form) and re.search(r'name="max_drop" value=""', form)
    wrong = client.get("/quantize/preview", **FORM, **BUDGET, knee="true").text
    assert "knee: chooses layers without a budget, which max_drop is" in html.unescape(wrong)


def test_runs_have_names_of_their_own_and_are_listed_newest_first(client: Client):
    first, second = started(client), started(client)
    text = client.get("/runs").text
    assert first != second and text.index("mobilenet-2") < text.index("mobilenet-1")
    assert "calib quantize" in client.get(f"/run/{first}").text
    assert client.get("/run/none").status == 400


def test_a_run_that_waits_says_for_what_and_the_list_says_how_far_those_that_run_are(client: Client):
    first, second, third = (started(client, effort=effort) for effort in ("fast", "balanced", "fast"))
    runs = client.app.state.studio.runs
    assert runs.waits_for(runs.row(third)) == ""  # a supervisor starts in a moment
    with JobStore(client.output / "zoo.sqlite") as store:
        store.enter([(row.key, row.family, row.job) for row in store.rows()], [row.name for row in store.rows()])
        assert store.claim(threads=99, memory=1e12, only=first)
    file = runs.folders.events("mobilenet-1", first)
    note(file, 1, "stage", {"stage": "load", "state": "begun", "total": None, "seconds": 0.0})
    note(file, 1, "stages", {"names": ["load", "insert"], "seconds": {"insert": 100.0}})
    said = client.get(f"/run/{third}").text
    assert "mobilenet-1 is running, and 1 waits before it" in said and "calib studio -j 2" in said
    assert "mobilenet-1 is running. calib" in client.get(f"/run/{second}").text
    page, text = client.get("/runs").text, client.get(f"/run/{first}").text
    for one in (page, text):
        assert re.search(r"stage 1 of 2, [\d.]+ s so far, about 100 s left", one)
    assert "top-1, at most 0.5pt, fast" in page and 'hx-get="/runs?after=0"' in page
    assert 'class="to-come"><span class="name">insert' in text


def test_the_list_of_runs_has_pages(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "PAGE", 1)
    for _ in range(2):
        started(client)
    newest, older = client.get("/runs").text, client.get("/runs?after=1").text
    assert "mobilenet-2" in newest and "mobilenet-1" not in newest and "/runs?after=1" in newest
    assert "mobilenet-1" in older and "Older" not in older and "/runs?after=0" in older


def test_a_run_is_paused_cancelled_and_resumed_by_post_alone(client: Client):
    key = started(client)
    for action, status in (("pause", "paused"), ("resume", "waiting"), ("cancel", "cancelled"), ("resume", "waiting")):
        assert client.post(f"/run/{key}/{action}").status == 303
        assert client.app.state.studio.runs.row(key).status == status
    assert client.get(f"/run/{key}/pause").status == 405
    assert client.post(f"/run/{key}/nonsense").status == 400


def test_what_the_page_asks_of_a_run_the_command_line_asks_too(client: Client):
    key = started(client)
    words = ["zoo", "cancel", str(client.output), "mobilenet-1"]
    assert shlex.join(["calib", *words]) in client.get(f"/run/{key}").text
    found = CliRunner().invoke(main, words)
    assert (found.exit_code, client.app.state.studio.runs.row(key).status) == (0, "cancelled"), found.output


def test_the_report_is_shown_in_a_sandboxed_frame_under_its_own_policy(client: Client):
    key = started(client)
    assert client.get(f"/run/{key}/report").status == 404
    finish(client, key)
    text = client.get(f"/run/{key}").text
    assert f'src="/run/{key}/report" sandbox="allow-scripts allow-downloads"' in text and "sse-connect" not in text
    found = client.get(f"/run/{key}/report")
    policy = found.headers["content-security-policy"]
    assert found.text == "<p>report</p>" and policy.startswith("sandbox allow-scripts") and "same-origin" not in policy
    assert "default-src 'none'" in policy and "connect-src" not in policy


def test_events_go_on_from_the_last_one_seen_and_end_with_the_run(client: Client):
    key = started(client)
    runs = client.app.state.studio.runs
    file = runs.folders.events("mobilenet-1", key)
    note(file, 1, "stage", {"stage": "load", "state": "begun", "total": None, "seconds": 0.0})
    before = runs.live(runs.row(key)).number
    note(file, 1, "log", {"stage": "load", "text": "<b>hostile</b>\r\nline"})

    async def watched(seen: int) -> list[dict[str, str]]:
        found = []
        async for event in run._changes(runs, key, seen):
            found.append(event)
            if len(found) == 1:
                finish(client, key)
        return found

    everything = client.runner.run(watched(before))
    assert [one["event"] for one in everything] == ["state", "log", "done"]  # nothing runs: there is no time left
    assert "&lt;b&gt;" in everything[1]["data"] and "\r" not in everything[1]["data"]
    assert int(everything[1]["id"]) > before


def test_the_search_is_drawn_from_its_events(client: Client):
    point = {"step": 1, "drop": 0.01, "reverted": 2, "of_layers": 9, "within": False, "text": "1.00 points"}
    live = run.Live()
    live.points = [{**point, "drop_kind": "absolute", "unit": "fraction", "budget": 0.005, "interval": [0.0, None]}]
    (plot,) = plots(live)
    assert plot.placed[0].point.y == pytest.approx(1.0) and plot.limit is not None and plot.y_title == "drop, points"
    seen = {**live.points[0], "step": 2, "drop": 0.004, "samples": 99}
    live.points = [*live.points, seen, {**seen, "within": True}]
    assert [one.point.tone for one in plots(live)[0].placed] == ["bad", "open", "good"]  # 99 samples are a part
    assert "on 99 samples" in plots(live)[0].placed[1].point.words
    live.timed = {1: 2.5}
    assert len(plots(live)) == 2


def test_a_supervisor_is_started_for_what_waits_and_not_for_what_is_done(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    starts: list[Path] = []
    monkeypatch.setattr(supervise, "start", lambda output, *_: starts.append(output))
    key = started(client)
    assert starts == [client.output]
    finish(client, key)
    runs = client.app.state.studio.runs

    async def watched() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runs.watch(), 0.1)

    client.runner.run(watched())
    assert len(starts) == 1
