"""Who gets in and who does not; covers: calib.studio.app, calib.studio.rendering."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from studio_client import OURS, PORT, Client


@pytest.fixture
def client(tmp_path: Path):
    with Client(tmp_path) as client:
        yield client


def test_the_token_is_swapped_once_for_a_cookie_named_by_the_port_and_redirected(tmp_path: Path):
    with Client(tmp_path, enter=False) as client:
        token = client.sessions.token
        first = client.get(f"/?token={token}")
        assert (first.status, first.headers["location"], client.swaps) == (303, "/", 1)
        name, *attributes = first.headers["set-cookie"].lower().split("; ")
        assert name.startswith(f"calib-studio-{PORT}=") and {"httponly", "samesite=strict", "path=/"} <= {*attributes}
        assert client.get("/").status == 200
        client.headers.pop("cookie")
        again = client.get(f"/?token={token}")
        assert (again.status, "set-cookie" in again.headers) == (403, False)
        assert client.get(f"/?token={client.sessions.token}").status == 303


@pytest.mark.parametrize("query", ["", "?token=", "?token=wrong", "?token=%ff", "?token=ü"])
def test_without_the_token_or_with_a_wrong_one_nothing_is_shown(tmp_path: Path, query: str):
    with Client(tmp_path, enter=False) as client:
        found = client.get(f"/{query}")
        assert found.status == 403 and str(tmp_path) not in found.text and "set-cookie" not in found.headers
        assert client.get("/model").status == 403
        assert client.get("/model", headers={"cookie": f"calib-studio-{PORT}=x"}).status == 403
        assert client.get("/", headers={"cookie": f"calib-studio-{PORT + 1}={'x' * 43}"}).status == 403


@pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", "", "[::1", None])
def test_a_name_that_is_not_this_server_s_is_refused_whoever_asks(client: Client, host: str | None):
    assert client.get("/", headers={"host": host}).status == 421


@pytest.mark.parametrize("host", [f"localhost:{PORT}", f"127.0.0.1:{PORT}", f"[::1]:{PORT}"])
def test_the_names_of_this_machine_are_taken(client: Client, host: str):
    assert client.get("/", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1", ""]
)
def test_no_request_of_another_site_works(client: Client, origin: str):
    assert client.get("/", headers={"origin": origin}).status == 403
    assert client.post("/quantize", headers={"origin": origin}).status == 403


def test_what_changes_something_has_to_say_where_it_comes_from(client: Client):
    assert client.post("/quantize", headers={"origin": None}).status == 403
    assert client.post("/nothing-there", headers={"origin": OURS}).status in (404, 405)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_page_of_another_site_embeds_or_links_to_is_refused_but_for_the_first_page(client: Client, site: str):
    assert client.get("/model", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status == 403
    assert client.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}).status == 403
    assert client.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status == 200


@pytest.mark.parametrize("path", ["/", "/nothing-there", "/model?model=../x"])
def test_every_answer_has_the_policy_and_is_never_sniffed_or_kept(client: Client, path: str):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "same-origin"


def test_a_page_holds_no_inline_script_or_style_and_htmx_never_evaluates(client: Client):
    text = client.get("/").text
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:", text)
    for setting in ('"allowEval":false', '"includeIndicatorStyles":false', '"historyCacheSize":0'):
        assert setting in text


def test_scripts_and_styles_are_served_under_their_hash_and_may_be_kept(client: Client):
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', client.get("/").text):
        found = client.get(address)
        assert found.status == 200 and "immutable" in found.headers["cache-control"]
        assert found.headers["content-type"].startswith(("text/javascript", "text/css"))
    assert client.get("/static/0000/page.css").status == 404


def test_more_than_may_be_sent_is_refused_whether_its_length_is_said_or_not(client: Client):
    for headers in ({}, {"content-length": "0"}, {"content-length": "x"}):
        body = b"a=" + b"x" * (2 << 20)
        found = client.send("POST", "/compare/choose", body, {"origin": OURS, **headers})
        assert found.status in (404, 405, 413)
    assert client.send("POST", "/quantize", b"", {"origin": OURS, "content-length": str(2 << 20)}).status == 413


def test_what_a_page_says_of_the_address_is_text(client: Client):
    found = client.get("/model", model="<img src=x onerror=alert(1)>.xml")
    assert found.status == 400 and "<img" not in found.text and "&lt;img" in found.text
