"""The pages in the browser that people use: what is promised about them is seen there or nowhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report_fixtures.made_up import made_up_report

from calib.report.html import write_html
from calib.report.leaderboard import LeaderboardRow
from calib.report.leaderboard_page import write_leaderboard_html
from calib.values.facts import ReproduceFacts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).resolve().parents[1] / "axe" / "axe.min.js"
EVIL = "<script>alert(1)</script>"

pytestmark = pytest.mark.requires_chromium

FLAGS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[test]')")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    # Chromium refuses to run as root with its sandbox; everybody else keeps it.
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, path: Path, *, complete: bool = True, **options: Any) -> Iterator[Page]:
    """Open the file, wait until what is near, or all as for paper, is drawn; nothing may be said or fetched, ever."""
    context = browser.new_context(**options)
    said: list[str] = []
    fetched: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: fetched.append(request.url))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', e => console.error(e.violatedDirective, e.blockedURI))"
    )
    try:
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        if complete:
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            page.wait_for_selector("html[data-complete]")
        yield page
        assert said == []
        assert [url for url in fetched if not url.startswith("data:")] == [path.as_uri()]
    finally:
        context.close()


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_html(made_up_report(layers=40), tmp_path_factory.mktemp("forty") / "report.html")


def chart(page: Page, name: str) -> Locator:
    return page.locator(f"[data-chart={name}] svg")


def marks(page: Page, name: str, kind: str) -> int:
    """How many marks of a kind a chart has, without those of its axes and legends."""
    return chart(page, name).locator(f".mark-{kind}.role-mark > *").count()


def column(page: Page, title: str) -> list[str]:
    """The cells in sight of a column of the layer table."""
    table = page.locator("[data-table=layers]")
    place = table.locator("thead th").all_inner_texts().index(title) + 1
    return table.locator(f"tbody tr:not(.gap) td:nth-child({place})").all_inner_texts()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_page_opens_without_a_word_on_the_console_and_fits_its_width(
    browser: Browser, forty: Path, scheme: str, width: int
) -> None:
    with opened(browser, forty, color_scheme=scheme, viewport={"width": width, "height": 900}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 23, 28)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_what_is_far_down_or_folded_away_is_drawn_when_it_comes_near(browser: Browser, forty: Path) -> None:
    with opened(browser, forty, complete=False, viewport={"width": 390, "height": 500}) as page:
        assert page.locator(".chart svg, [data-table=layers] tr").count() == 0
        assert chart(page, "stages").count() == 0
        page.locator("[data-chart=stages]").scroll_into_view_if_needed()
        chart(page, "stages").wait_for()
        assert page.locator("[data-table=layers] tr, [data-table=ranking] tr").count() == 0  # passed by, not seen
        page.click("nav a:text-is('Sensitivity')")
        page.click("summary:text-is('All units')")
        page.locator("[data-table=ranking] tbody button").first.wait_for()
        page.pdf()
        assert chart(page, "sqnr").count() == 1 and page.locator("[data-table=layers] tbody button").count() > 9


def test_charts_have_the_marks_of_their_data_and_words_for_them(browser: Browser, forty: Path) -> None:
    report = made_up_report(layers=40)
    with opened(browser, forty) as page:
        assert marks(page, "drop", "symbol") == 1
        assert marks(page, "drop", "rule") == 2  # the interval, the budget
        assert marks(page, "latency", "rect") == 3
        assert marks(page, "search", "symbol") == len(report.search)
        assert marks(page, "finalists", "symbol") == len(report.finalists) + 1
        assert marks(page, "ranking", "symbol") == 30
        assert marks(page, "sqnr", "symbol") == len([x for x in report.layers if x.sqnr_db is not None])
        assert marks(page, "stages", "rect") == 2 * len(report.stages)
        assert marks(page, "histogram", "rect") == 64 + 4  # bins, estimators
        assert marks(page, "histogram", "rule") == 2
        for place in page.locator("[data-chart]").all():
            assert place.get_attribute("role") in ("img", "graphics-document")
            if place.get_attribute("data-chart") != "histogram":
                assert len(place.get_attribute("aria-label") or "") > 20
        assert "min-max chose" in page.locator("#tensor-words").inner_text()


def test_sorting_goes_up_down_and_back_and_counts_like_people(browser: Browser, forty: Path) -> None:
    with opened(browser, forty) as page:
        before = column(page, "layer")
        head = page.locator("[data-table=layers] thead th", has=page.get_by_text("SQNR", exact=True))
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        falling = [float(cell.removesuffix(" dB")) for cell in column(page, "SQNR") if cell != "–"]
        assert falling == sorted(falling, reverse=True)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        rising = [float(cell.removesuffix(" dB")) for cell in column(page, "SQNR") if cell != "–"]
        assert rising == sorted(rising)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") is None
        assert column(page, "layer") == before
        page.locator("[data-table=layers] thead button", has_text="layer").click()
        blocks = [int(name.split("block")[1].split("/")[0]) for name in column(page, "layer")]
        assert blocks == sorted(blocks)
        assert max(blocks) > 3


def test_search_and_filter_narrow_the_table_and_say_how_far(browser: Browser, forty: Path) -> None:
    with opened(browser, forty) as page:
        table = page.locator("[data-table=layers]")
        table.locator("input").fill("groupconv BLOCK7")
        assert column(page, "layer") == ["features/block7/conv0/GroupConvolution_21/WithoutBiases"]
        assert table.locator("output").inner_text() == "1 of 40 layers"
        table.locator("input").fill("no such layer")
        assert "No layer matches." in table.inner_text()
        table.locator("input").fill("")
        table.locator("select").select_option("reverted")
        assert len(column(page, "layer")) == 3
        assert all(reason.startswith("reverted") for reason in column(page, "why"))


def test_row_opens_its_details_and_its_histogram(browser: Browser, forty: Path) -> None:
    with opened(browser, forty) as page:
        page.locator("[data-table=layers] tbody button", has_text="GroupConvolution_6").first.press("Enter")
        details = page.locator("[data-table=layers] .details").inner_text()
        assert "brgconv_avx512_core_i8" in details
        assert "GroupConvolution_6" in page.locator("#tensor-words").inner_text()
        page.locator("#next").click()
        assert "Convolution_7" in page.locator("#tensor-words").inner_text()
        chart(page, "histogram").locator(".mark-rect.role-mark > *").nth(64 + 4 - 1).wait_for(state="attached")


def test_layer_named_like_a_script_stays_text(browser: Browser, tmp_path: Path) -> None:
    report = made_up_report(layers=6)
    layers = [layer.model_copy(update={"name": EVIL, "reason": EVIL, "type": EVIL}) for layer in report.layers]
    changes = {
        "layers": layers,
        "model": report.model.model_copy(update={"name": EVIL}),
        "quantizers": [q.model_copy(update={"tensor": EVIL, "layers": [EVIL]}) for q in report.quantizers],
        "ranking": [fact.model_copy(update={"layers": [EVIL]}) for fact in report.ranking],
    }
    with opened(browser, write_html(report.model_copy(update=changes), tmp_path / "report.html")) as page:
        assert page.locator("h1").inner_text() == EVIL
        assert column(page, "layer") == [EVIL] * 6
        assert EVIL in page.locator("#tensor-words").inner_text()
        assert EVIL in (chart(page, "ranking").text_content() or "")
        page.locator("[data-table=layers] tbody button").first.click()
        assert EVIL in page.locator("[data-table=layers] .details").inner_text()


def test_table_of_2000_layers_keeps_few_rows_in_the_document(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, write_html(made_up_report(layers=2000), tmp_path / "report.html")) as page:
        table = page.locator("[data-table=layers]")
        assert table.locator("output").inner_text() == "2000 layers"
        assert page.locator("[data-table] tbody tr").count() < 150
        assert table.locator("table").get_attribute("aria-rowcount") == "2001"
        table.locator(".window").evaluate("window => { window.scrollTop = window.scrollHeight; }")
        table.locator('tr[data-row="1999"]').wait_for()
        assert table.locator("tbody tr").count() < 60
        last = table.locator('tr[data-row="1999"]')
        assert last.get_attribute("aria-rowindex") == "2001"
        window, row = table.locator(".window").bounding_box(), last.bounding_box()
        assert window is not None
        assert row is not None
        assert row["y"] + row["height"] <= window["y"] + window["height"] + 20  # in sight: a scroll bar may lie below


def test_names_on_a_narrow_page_keep_what_tells_them_apart(browser: Browser, tmp_path: Path) -> None:
    report = made_up_report(layers=3)
    names = [f"network.block.{i}.expand/Convolution" for i in range(3)]
    layers = [
        layer.model_copy(update={"name": n, "sqnr_db": -0.04}) for n, layer in zip(names, report.layers, strict=True)
    ]
    page_of = write_html(report.model_copy(update={"layers": layers}), tmp_path / "report.html")
    with opened(browser, page_of, viewport={"width": 390, "height": 900}) as page:
        assert [name.split("…")[1][-9:] for name in column(page, "layer")] == [".0.expand", ".1.expand", ".2.expand"]
        assert column(page, "SQNR") == ["0.0 dB"] * 3
    rows = [LeaderboardRow(f"net/estimator={e},effort=fast", "quantized", report="r.html") for e in ("auto", "minmax")]
    board = write_leaderboard_html(rows, tmp_path / "index.html", "0.1.0")
    with opened(browser, board, viewport={"width": 390, "height": 900}) as page:
        assert page.locator("[data-table=models] a").all_inner_texts() == ["net/auto,fast", "net/minmax,fast"]


def test_change_of_theme_draws_the_charts_again(browser: Browser, forty: Path) -> None:
    with opened(browser, forty, color_scheme="light") as page:
        assert chart(page, "drop").locator('[stroke="#0072b2"]').count() == 1
        page.emulate_media(color_scheme="dark")
        chart(page, "drop").locator('[stroke="#56b4e9"]').wait_for(state="attached")


def followed(layers: int, **changes: Any) -> Any:
    """A report whose layers follow each other in a chain."""
    report = made_up_report(layers=layers)
    facts = [
        layer.model_copy(update={"follows": [i - 1] if i else [], "output_precision": "u8", **changes})
        for i, layer in enumerate(report.layers)
    ]
    return report.model_copy(update={"layers": facts})


def test_the_graph_unfolds_by_keyboard_and_leads_to_the_table_and_back(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, write_html(followed(120), tmp_path / "report.html")) as page:
        graph = page.locator("[data-network]")
        assert 0 < graph.locator("g.node").count() <= 40 and graph.locator("g.node.layer").count() == 0
        assert graph.locator("[tabindex='0']").count() == 1  # one stop for Tab; arrows do the rest
        first = graph.locator("g.node").first
        assert first.get_attribute("aria-expanded") == "false" and "3 layers" in (
            first.get_attribute("aria-label") or ""
        )
        first.press("Enter")
        focused = page.locator("g.node:focus")
        assert "features/block0/conv0" in (focused.get_attribute("aria-label") or "")
        focused.press("ArrowDown")
        words = page.locator("g.node:focus").get_attribute("aria-label") or ""
        assert "conv1" in words and "i8 → u8" in words
        page.locator("g.node:focus").press("Enter")
        assert "GroupConvolution_1" in page.locator("[data-table=layers] .details").inner_text()
        page.locator("g.node:focus").press("Escape")
        assert graph.locator("g.node.layer").count() == 0
        page.locator("[data-table=layers] tbody button", has_text="GroupConvolution_6").first.click()
        assert "GroupConvolution_6" in (graph.locator("g.node.picked").get_attribute("aria-label") or "")
        graph.locator("select").select_option("error")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        assert graph.locator("g.heat").count() > 0 and "SQNR" in graph.locator("output").inner_text()


def test_a_graph_of_2000_layers_is_folded_at_first_and_names_stay_text(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, write_html(followed(2000), tmp_path / "report.html")) as page:
        graph = page.locator("[data-network]")
        assert graph.locator("g.node").count() <= 60
        took = page.evaluate(
            "() => { const begun = performance.now(); document.querySelectorAll('[data-network] button')[1].click();"
            " return performance.now() - begun; }"
        )
        assert graph.locator("g.node.layer").count() == 2000 and took < 10_000  # ms; the machine may be busy
    evil = followed(6, name=EVIL, type=EVIL)
    with opened(browser, write_html(evil, tmp_path / "evil.html")) as page:
        assert EVIL in (page.locator("[data-network] g.node").first.get_attribute("aria-label") or "")


@pytest.mark.parametrize("secure", [True, False])
def test_copy_buttons_copy_the_text_to_the_last_line(browser: Browser, tmp_path: Path, secure: bool) -> None:
    texts = {
        "command": "calib quantize '<b>net&.xml' --ignore '*'",
        "config": "model: /a b/net.xml\noutput: .\n",
        "python": "import calib\n\nresult = calib.quantize(\n    'net.xml',\n)\n",
    }
    report = made_up_report(layers=3).model_copy(update={"reproduce": ReproduceFacts(**texts)})
    rights = ["clipboard-read", "clipboard-write"]
    with opened(browser, write_html(report, tmp_path / "report.html"), permissions=rights) as page:
        if not secure:  # as over http://, where a page has no such object
            page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
        for name, text in texts.items():
            page.locator(f"[data-copy=reproduce-{name}]").click()
            page.wait_for_selector(f"[data-copy=reproduce-{name}]:text-is('Copied')")
            page.evaluate("delete navigator.clipboard")
            assert page.evaluate("navigator.clipboard.readText()").rstrip("\n") == text.rstrip("\n")
            if not secure:
                page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
        page.wait_for_selector("[data-copy=reproduce-command]:text-is('Copy')")


def test_leaderboard_leads_to_the_reports_below_it(browser: Browser, forty: Path, tmp_path: Path) -> None:
    rows = [
        LeaderboardRow("good", "within_budget", drop=0.004, unit="fraction", report="models/good/report.html"),
        LeaderboardRow(EVIL, "failed", reason=EVIL),
    ]
    path = write_leaderboard_html(rows, tmp_path / "index.html", "0.1.0")
    target = tmp_path / "models" / "good" / "report.html"
    target.parent.mkdir(parents=True)
    shutil.copy(forty, target)
    with opened(browser, path) as page:
        table = page.locator("[data-table=models]")
        assert EVIL in table.inner_text()
        link = table.locator("a")
        assert link.count() == 1
        assert link.evaluate("link => link.href") == target.as_uri()
        table.locator("select").select_option("failed")
        assert table.locator("tbody tr:not(.gap)").count() == 1


@pytest.mark.parametrize("width", [1280, 420])
def test_a_row_opens_where_it_is_and_closes_again(browser: Browser, tmp_path: Path, width: int) -> None:
    rows = [LeaderboardRow(f"net{i:03}", "failed", reason=f"reason {i} " * 40) for i in range(200)]
    path = write_leaderboard_html(rows, tmp_path / "index.html", "0.1.0")
    with opened(browser, path, viewport={"width": width, "height": 900}) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        window, row = page.locator(".window"), page.locator("tr[data-row='7']")
        row.locator("button").first.click()
        details = page.locator(".window .details")
        assert (
            "reason 7" in details.inner_text() and row.locator("button").first.get_attribute("aria-expanded") == "true"
        )
        frame, above, below = window.bounding_box(), row.bounding_box(), details.bounding_box()
        assert frame and above and below
        assert above["y"] + above["height"] == pytest.approx(below["y"], abs=3)  # directly below its row
        assert frame["y"] + 30 <= above["y"] and below["y"] < frame["y"] + frame["height"]  # below the titles, in sight
        assert below["x"] >= frame["x"] and below["width"] <= frame["width"]
        tall = window.evaluate("window => window.scrollHeight")
        window.evaluate("window => { window.scrollTop = 200 * 34; }")
        page.locator("tr[data-row='199']").wait_for()
        assert details.count() == 0 and window.evaluate("window => window.scrollHeight") == pytest.approx(tall, abs=3)
        window.evaluate("window => { window.scrollTop = 0; }")
        row.locator("td").nth(1).click()
        assert details.count() == 0
