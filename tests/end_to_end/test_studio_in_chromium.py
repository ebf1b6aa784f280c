"""The studio in the browser that people use: the whole flow on the demo network, kills in mid-run, and other sites."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
import psutil
import pytest
from building import Net, op
from zoo_faults.tiny_zoo import wait_for

from calib.runtime.session import ov
from calib.zoo.events import read_events
from calib.zoo.jobs import JobRow, JobStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

CHROMIUM = shutil.which("chromium")
DEMO = Path(__file__).resolve().parents[2] / "datasets" / "demo"
AXE = Path(__file__).resolve().parents[1] / "axe" / "axe.min.js"
EVIL = "<img src=x onerror=alert(1)>.onnx"
# What the browser says of a request that was refused, or that a killed server did not answer, and htmx of events that
# ended and of requests that it gave up when a page was left.
USUAL = ("Failed to load resource: net::ERR", "Failed to load resource: the server responded with a status of 400")
USUAL += ("htmx:", "[object Event]")
PATIENCE = 180_000  # milliseconds, of a machine that does much else

# A metric of a user's own that takes its time: it waits until the test lets it measure more samples, or until its run
# is interrupted. It counts the branches that are as in FP32, so on any CPU a drop is the share of layers in INT8.
GATE = """
import signal
import time
from pathlib import Path

import numpy as np


class Gate:
    unit, reads, higher_is_better, needs_target, needs_reference = "fraction", "", True, False, True

    def __init__(self, name):
        self.name, self.place, self.measured = name, Path(__file__).parent / name, 0

    def measure(self, outputs, target, reference=None):
        self.place.with_suffix(".measured").write_text(str(self.measured))
        while self.measured >= self.allowed() and not interrupted():
            time.sleep(0.01)
        self.measured += 1
        return float(np.isclose(outputs[0], reference[0], rtol=1e-5, atol=1e-7).mean())

    def allowed(self):
        try:
            return int(self.place.with_suffix(".allowed").read_text() or 0)
        except FileNotFoundError:
            return 0

    def aggregate(self, parts):
        return float(np.mean(parts))

    def per_sample(self, parts):
        return None


def interrupted():
    return getattr(getattr(signal.getsignal(signal.SIGINT), "__self__", None), "noted", False)


first, second = Gate("first"), Gate("second")
"""
SAMPLES = 12

pytestmark = pytest.mark.requires_chromium


class Studio:
    """A studio as a process, which can be killed and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.link = ""
        self.log = folder.parent / "studio.log"

    def start(self) -> str:
        words = [
            sys.executable,
            "-P",
            "-m",
            "calib",
            "studio",
            str(self.folder),
            "--no-open",
            "-j",
            "2",
            "--allow-python",
        ]
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found
        self.link = found[0]
        return self.link

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def end(self) -> None:
        """End the server, and the supervisors and workers that outlive it."""
        self.kill()
        for process in psutil.process_iter():
            try:
                if str(self.folder) in " ".join(process.cmdline()):
                    process.kill()
            except psutil.Error:
                continue

    def row(self, name: str) -> JobRow:
        """Return a run as the store has it."""
        with JobStore(self.folder / "calib-studio" / "zoo.sqlite") as store:
            return next(row for row in store.rows() if row.name == name)

    def worker(self, name: str) -> int:
        """Return the process that works on a run."""
        with JobStore(self.folder / "calib-studio" / "zoo.sqlite") as store:
            return int(store.attempts(self.row(name).key)[-1].worker.split(":")[1])

    def let(self, gate: str, samples: int) -> None:
        """Let the run of a gate measure so many samples, and wait until it waits for more."""
        (self.folder / f"{gate}.allowed").write_text(str(samples))
        measured = self.folder / f"{gate}.measured"
        wait_for(lambda: measured.exists() and measured.read_text() == str(samples), PATIENCE / 1000)

    def search_until_within(self, gate: str, name: str) -> None:
        """Let a run search until a plan keeps the budget, and no further."""
        row, passes = self.row(name), 1
        events = self.folder / "calib-studio" / "logs" / f"{name}.{row.key[:8]}.events.jsonl"
        while not any(one.kind == "search" and one.values["within"] for one in read_events(events)):
            passes += 1
            self.let(gate, passes * SAMPLES)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    for name in ("mobilenet.xml", "mobilenet.bin", "calibration.npz"):
        shutil.copy(DEMO / name, folder)
    with np.load(DEMO / "validation.npz") as whole:
        np.savez(folder / "validation.npz", **{name: whole[name][:500] for name in whole})
    branches(folder)
    (folder / EVIL).write_bytes(b"no model")
    (folder / "zoo.yaml").write_text("sources:\n  - glob: '*.xml'\ndefaults:\n  calibration: calibration.npz\n")
    made = Studio(folder)
    made.start()
    yield made
    made.end()


def branches(folder: Path) -> None:
    """Make a network of eight branches with one layer each, samples for it, and the metric that waits."""
    net = Net()
    parts = op.split(net.input(1, 8, 8, 8), op.constant(1), 8).outputs()
    means = [op.reduce_mean(op.relu(net.conv(part, 4)), op.constant([1, 2, 3]), False) for part in parts]
    joined = op.concat([op.unsqueeze(mean, op.constant(1)) for mean in means], 1)
    ov.save_model(ov.Model([joined], net.inputs, "branches"), folder / "branches.xml", compress_to_fp16=False)
    for name, count in (("some.npz", 32), ("few.npz", SAMPLES)):
        np.savez(folder / name, samples=net.rng.standard_normal((count, 8, 8, 8)).astype(np.float32))
    (folder / "gate.py").write_text(GATE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[test]')")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    flags = ["--disable-gpu", "--disable-background-networking", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Browser, studio: Studio) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1240, "height": 900})
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, studio: Studio) -> Iterator[Page]:
    """A tab in which nothing may be said on the console and nothing fetched from elsewhere."""
    said: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url) if not _ours(request.url, studio) else None)
    if not context.cookies():
        page.goto(studio.link)
        assert "token" not in page.url
    yield page
    page.close()
    assert "Traceback" not in studio.log.read_text(encoding="utf-8"), studio.log.read_text(encoding="utf-8")
    assert [one for one in said if not one.startswith(USUAL)] == []


def _ours(url: str, studio: Studio) -> bool:
    return url.startswith((studio.link.partition("?")[0], "data:", "blob:"))


def home(studio: Studio, path: str) -> str:
    return studio.link.partition("?")[0] + path.removeprefix("/")


def serious(page: Page) -> list[Any]:
    """Return what axe finds that keeps somebody from using a page."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { iframes: false })")
    return [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def fits(page: Page) -> bool:
    """Return whether a page needs no sideways scrolling on a phone and on a large screen."""
    sizes = []
    for width in (420, 1920, 1240):
        page.set_viewport_size({"width": width, "height": 900})
        sizes.append(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))
    return all(sizes)


def press(page: Page, selector: str | Locator, key: str = "Enter", *, tab: str = "Tab") -> None:
    """Press a key on an element, which is reached by Tab alone and shows that it has the focus."""
    wanted = (page.locator(selector) if isinstance(selector, str) else selector).first.element_handle()
    for _ in range(150):
        page.keyboard.press(tab)
        if wanted.evaluate("one => one === document.activeElement"):
            assert wanted.evaluate("one => getComputedStyle(one).outlineStyle") == "solid", selector
            page.keyboard.press(key)
            return
    pytest.fail(f"Tab does not reach {selector}")


def test_the_whole_flow_from_a_model_to_its_int8_as_a_zip_by_keyboard_alone(page: Page, studio: Studio):
    def sound(path: str) -> None:
        assert page.url.startswith(home(studio, path)) and serious(page) == [] and fits(page), path

    page.goto(home(studio, "/"))
    page.wait_for_selector("text=27 of 27 layers")
    page.wait_for_selector(".bad-text")  # the hostile one
    assert EVIL in page.locator("table").inner_text()
    sound("/")
    press(page, "a:text-is('mobilenet.xml')")
    page.wait_for_selector("text=block.0.expand")
    sound("/model")
    press(page, "a:text-is('Choose data')")
    page.wait_for_url("**/data?*")
    press(page, "a[aria-label='calibrate with calibration.npz']")
    page.wait_for_url("**calibration=calibration.npz*")
    press(page, "a[aria-label='validate with validation.npz']")
    page.wait_for_url("**validation=validation.npz*")
    page.wait_for_selector(".samples img")
    sound("/data")
    press(page, "a:text-is('On to the baseline')")
    page.wait_for_url("**/baseline?*")
    press(page, "button:text-is('Measure')")
    page.wait_for_selector("text=89.20 %")
    page.wait_for_selector("text=samples a second")
    page.wait_for_selector("[data-label='Layers and their time'] .precision")
    sound("/baseline")
    press(page, "a:text-is('On to INT8')")
    page.wait_for_selector("text=What 500 samples can show")
    press(page, "input[name=effort]:checked", "ArrowLeft")
    page.wait_for_selector("code:has-text('--effort fast')")
    sound("/quantize")
    press(page, "button:text-is('Start')")
    page.wait_for_url("**/run/*")
    page.wait_for_selector(".stages li")
    sound("/run/")
    page.wait_for_selector("iframe")
    frame = page.frame_locator("iframe")
    frame.locator("h1:has-text('mobilenet')").wait_for()
    frame.locator("[data-chart=drop] svg").wait_for()
    with page.expect_download() as download:
        press(page, "a:text-is('Take away as zip')")
    assert download.value.suggested_filename == "mobilenet-1.zip"
    press(page, frame.locator("nav a:text-is('Layers')"))
    frame.locator("[data-network] g.node").first.wait_for()
    sound("/run/")
    press(page, "main a:text-is('Compare')", tab="Shift+Tab")
    page.wait_for_selector("[data-label='Layers of these runs'] .precision")
    sound("/compare")
    page.goto(home(studio, "/runs"))
    sound("/runs")
    page.goto(home(studio, "/zoo?manifest=zoo.yaml"))
    sound("/zoo")


def test_what_is_broken_or_would_fill_the_disk_is_refused_with_a_reason_and_nothing_of_it_is_kept(
    page: Page, studio: Studio
):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("<b>zeros.npy", bytes(32 << 20))
    page.goto(home(studio, "/data"))  # no model is asked for there
    for name, content, reason in (
        ("<i>no image</i>.png", b"no image", "no image, or broken"),
        ("bomb.zip", bomb.getvalue(), "bytes would become 33,554,432"),
        ("run.py", b"raise SystemExit", "files of this kind are not taken"),
        ("broken.zip", b"PK\x03\x04", "no zip file, or broken"),
    ):
        page.set_input_files("#files", {"name": name, "mimeType": "application/octet-stream", "buffer": content})
        page.click("button:text-is('Add')")
        page.wait_for_selector(f".said.bad:has-text('{reason}')")
        assert page.locator(".said i, .said b").count() == 0
        page.go_back()
    assert not any(path.is_file() for path in (studio.folder / "uploads").rglob("*"))


def test_a_page_of_another_site_reaches_nothing(context: BrowserContext, page: Page, studio: Studio):
    address = home(studio, "/")
    post = f'<form method="post" action="{address}run/x/cancel"><button>send</button></form>'
    embed = f'<img src="{address}runs"><iframe src="{address}runs"></iframe><a href="{address}runs">link</a>'
    context.route("http://evil.example/", lambda route: route.fulfill(content_type="text/html", body=post + embed))
    evil = context.new_page()
    evil.goto("http://evil.example/")
    asked = f"fetch('{address}runs', {{credentials: 'include'}}).then(() => 'read', () => 'refused')"
    assert evil.evaluate(asked) == "refused"
    for what, heading in (("button", "another site"), ("a", "another site")):
        evil.goto("http://evil.example/")
        evil.click(what)
        evil.wait_for_selector(f"text={heading}")
        assert evil.locator("nav").count() == 0
    evil.close()
    stranger = context.browser.new_context() if context.browser else pytest.fail("it has a browser")
    tab = stranger.new_page()
    for path in ("/", "/runs", "/?token=wrong"):
        assert (answer := tab.goto(home(studio, path))) and answer.status == 403
    stranger.close()


def start(page: Page, studio: Studio, gate: str) -> str:
    """Start a run from the form and return its name."""
    data = {"model": "branches.xml", "calibration": "some.npz", "validation": "few.npz", "effort": "fast"}
    asked = {"metric": f"python:gate:{gate}", "max_drop": "0.7", "set": "higher_is_better=true\nspeed=false"}
    page.goto(home(studio, f"/quantize?{urlencode(data | asked)}"))
    page.click("button:text-is('Start')")
    page.wait_for_selector(".stages li.begun:has-text('baseline')")
    return page.locator("h1").inner_text()


def test_two_runs_at_once_outlive_kill_9_of_server_and_worker_and_are_paused_resumed_and_cancelled_in_two_tabs(
    page: Page, studio: Studio, context: BrowserContext
):
    twin, other = context.new_page(), context.new_page()
    first = start(page, studio, "first")
    start(other, studio, "second")
    twin.goto(page.url)  # both are under way: neither waits for the other, although they are of one model and data
    studio.search_until_within("first", first)
    twin.wait_for_selector("circle.good")
    steps = twin.locator("circle").count()

    studio.kill()
    studio.start()
    page.reload()
    assert page.locator("h1").inner_text() == first and page.locator("circle").count() == steps
    assert page.locator("[role=status]").inner_text() == "running" and studio.row(first).tries == 1
    os.kill(studio.worker(first), signal.SIGKILL)
    page.wait_for_selector("text=attempt 2")
    twin.wait_for_selector("text=attempt 2")  # it reached the new server by itself
    page.wait_for_selector("text=resumed:")  # what was evaluated before is known
    twin.wait_for_selector("circle.good")

    other.reload()
    other.click("button:text-is('Cancel')")  # it has found nothing yet
    other.wait_for_selector("[role=status]:text-is('cancelled')")
    other.click("button:text-is('Resume')")
    other.wait_for_selector("[role=status]:text-is('running')")
    other.click("button:text-is('Pause')")
    other.wait_for_selector("[role=status]:text-is('paused')")

    page.click("button:text-is('Cancel')")
    for tab in (page, twin):
        tab.frame_locator("iframe").locator("h1:has-text('branches')").wait_for()
    assert '"stopped": "it was interrupted"' in studio.row(first).board
    assert studio.row(first).status == "within_budget" and page.locator("iframe").count() == 1
    twin.close()
    other.close()
