"""The page of a report holds it all and runs nothing that a name says.

covers: calib.report.page
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from report_fixtures.made_up import made_up_report

from calib.errors import OutputError
from calib.report.html import render_html, write_html
from calib.report.leaderboard import LeaderboardRow
from calib.report.leaderboard_page import render_leaderboard_html
from calib.values.facts import ModelFacts, Report

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a browser would find: tags with attributes, text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, dict[str, str | None], str]] = []
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append((tag, dict(attrs), ""))
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, attributes, text = self.inside[-1]
            self.inside[-1] = (tag, attributes, text + data)

    def block(self, name: str) -> Any:
        (text,) = [text for _, attributes, text in self.inside if attributes.get("id") == f"data-{name}"]
        return json.loads(text)


def hostile_report() -> Report:
    """A report with markup and line separators in every name that a model file brings."""
    report = made_up_report(layers=6)
    name = f"{EVIL}</script>&\u2028'\""
    layers = [layer.model_copy(update={"name": name, "reason": name, "type": name}) for layer in report.layers]
    quantizers = [q.model_copy(update={"tensor": name, "layers": [name], "reason": name}) for q in report.quantizers]
    return report.model_copy(
        update={
            "layers": layers,
            "quantizers": quantizers,
            "warnings": [name],
            "model": report.model.model_copy(update={"name": name}),
            "ranking": [fact.model_copy(update={"layers": [name]}) for fact in report.ranking],
        }
    )


def test_policy_names_exactly_the_scripts_and_the_style_of_the_page() -> None:
    page = Page(render_html(made_up_report(layers=4)))
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None

    def hashes(tag: str) -> list[str]:
        texts = [text for t, a, text in page.inside if t == tag and a.get("type") != "application/json"]
        return [f"'sha256-{base64.b64encode(hashlib.sha256(x.encode()).digest()).decode()}'" for x in texts]

    parts = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    assert parts["default-src"] == ["'none'"]
    assert parts["script-src"] == hashes("script")
    assert parts["style-src"] == hashes("style")
    assert "unsafe" not in policy


def test_page_points_to_nothing_outside_itself() -> None:
    page = Page(render_html(made_up_report()))
    addresses = [a[key] for _, a in page.tags for key in ("href", "src", "action") if key in a]
    assert addresses
    assert all(address and address.startswith(("#", "data:,")) for address in addresses)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {address[1:] for address in addresses if address and address.startswith("#")} <= ids


def test_no_tag_carries_code_or_style_of_its_own() -> None:
    page = Page(render_html(hostile_report()))
    assert not [name for _, a in page.tags for name in a if name == "style" or name.startswith("on")]


def test_hostile_names_stay_text_and_data() -> None:
    text = render_html(hostile_report())
    assert EVIL not in text
    page = Page(text)
    assert page.block("table-layers")["rows"][0][0].startswith(EVIL)
    assert len([1 for tag, a, _ in page.inside if tag == "script" and a.get("type") != "application/json"]) == 7


def test_sections_without_data_are_left_out() -> None:
    model = ModelFacts(name="m", source="", fingerprint="")
    report = Report(calib_version="0.1.0", status="planned", status_reason="", model=model)
    sections = {a.get("id") for t, a in Page(render_html(report)).tags if t == "section"}
    assert sections == {"summary", "reproduce"}
    everything = {a.get("id") for t, a in Page(render_html(made_up_report())).tags if t == "section"}
    assert everything == {"summary", "layers", "ranges", "sensitivity", "search", "corrections", "reproduce"}


def test_layer_table_tells_plan_execution_range_error_and_time() -> None:
    report = made_up_report()
    table = Page(render_html(report)).block("table-layers")
    titles = [column["title"] for column in table["columns"]]
    rows = [dict(zip(titles, row, strict=True)) for row in table["rows"]]
    assert len(rows) == 40
    odd = rows[9]
    assert (odd["planned"], odd["executed"]) == ("int8", "f32 !")
    assert odd["estimator"] == report.quantizers[8].estimator
    assert odd["SQNR"] == pytest.approx(report.layers[9].sqnr_db, rel=1e-5)
    assert "feeds a Softmax" in odd["why"]
    assert table["filters"]["not run as planned"] == [9]
    assert table["filters"]["reverted"] == [5, 18, 31]


def test_page_of_200_layers_is_below_one_and_a_half_megabytes() -> None:
    assert len(render_html(made_up_report(layers=200)).encode()) < 1.5e6


def test_rendering_is_deterministic() -> None:
    assert render_html(made_up_report()) == render_html(made_up_report())


def test_unwritable_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"report\.html can't be written"):
        write_html(made_up_report(layers=2), tmp_path / "file" / "report.html")


def test_vendored_code_is_what_the_registry_published() -> None:
    vendor = resources.files("calib.report") / "vendor"
    sums = dict(reversed(line.split()) for line in (vendor / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {file.name for file in vendor.iterdir() if file.name.endswith(".js")}
    for name, expected in sums.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == expected
    licences = (vendor / "LICENSES").read_text(encoding="utf-8")
    for name in sums:
        assert name in licences


def test_page_carries_no_source_map_and_no_module() -> None:
    text = render_html(made_up_report(layers=2))
    assert "sourceMappingURL" not in text
    assert not re.search(r"^(import|export) ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("report", "address"),
    [
        ("models/a b/#1?/report.html", "./models/a%20b/%231%3F/report.html"),
        ("javascript:alert(1)", "./javascript%3Aalert%281%29"),
        ("/etc/passwd", ""),
        ("../other/report.html", ""),
        ("..\\other", ""),
        ("//host/share", ""),
        ("", ""),
    ],
)
def test_leaderboard_links_lead_only_below_its_folder(report: str, address: str) -> None:
    page = Page(render_leaderboard_html([LeaderboardRow(EVIL, "within_budget", report=report)], "0.1.0"))
    assert page.block("table-models")["rows"][0][0] == [EVIL, address]
