"""What the studio costs with a network of 2,000 layers and 1,000 runs: CPU of the server, time in the browser, at rest.

    python benchmarks/studio_cost.py [--repeat 5] [--json FILE]

``calib studio`` serves a folder with a chain of 2,000 convolutions and a store of 1,000 runs whose reports are made up
(tests/report_fixtures). For each page: CPU milliseconds of the server for one request, the median over requests one by
one, and seconds in Debian's chromium from navigation until the page is loaded and its tables are filled, the least
of several, since other processes share the machine. What a question to a model takes is not in it: the page
waits for a process of its own, once. At rest: CPU of the server in 30 s while a browser shows the list of runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil
import record

from calib.report.console import table
from calib.report.html import write_html
from calib.report.json_report import write_report
from calib.runtime.session import ov
from calib.zoo.jobs import JobStore
from calib.zoo.leaderboard_rows import row_of_report, to_json
from calib.zoo.make_jobs import ZooJob

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from building import Net, op
from report_fixtures.made_up import made_up_report

LAYERS, RUNS, REST_SECONDS = 2000, 1000, 30.0
REQUESTS = 10  # of one measurement
TARGETS = {"CPU seconds of a page": 0.05, "seconds in the browser": 1.0, "share of a core at rest": 0.01}
OUTPUT = Path(__file__).resolve().parent / "results" / "studio_cost.json"
PAGES = {
    "models": "/",
    "model": "/model?model=net.xml",
    "layers of the model": "/model/layers?model=net.xml",
    "data": "/data?model=net.xml",
    "baseline": "/baseline?model=net.xml",
    "INT8": "/quantize?model=net.xml&calibration=some.npz",
    "runs": "/runs",
    "a run": "/run/key0999",
    "its report": "/run/key0999/report",
    "choose runs": "/compare",
    "two runs": "/compare?run=key0999&run=key0998",
    "their layers": "/compare/layers?run=key0999&run=key0998",
    "their trade": "/compare/trade?run=key0999&run=key0998",
    "zoo": "/zoo",
}
PARTS = ("layers of the model", "their layers", "their trade")  # what a page asks for after it is shown


def make_folder(folder: Path) -> None:
    """Write the network, a few samples for it, and the store of runs."""
    net = Net()
    x = net.input(1, 8, 4, 4)
    y: Any = x
    for _ in range(LAYERS):
        y = op.relu(net.conv(y, 8, kernel=1))
    ov.save_model(ov.Model([y], net.inputs, "net"), folder / "net.xml", compress_to_fp16=False)
    np.savez(folder / "some.npz", samples=np.zeros((8, 8, 4, 4), np.float32))
    output = folder / "calib-studio"
    output.mkdir()
    report = made_up_report(layers=LAYERS)
    chain = [layer.model_copy(update={"follows": [i - 1] if i else []}) for i, layer in enumerate(report.layers)]
    report = report.model_copy(update={"layers": chain})  # with a graph of the network
    board = json.dumps(to_json(row_of_report("net", report, 12.0)))
    settings = {"effort": "fast", "metric": "top-1", "max_drop": "0.5pt"}
    jobs = [
        ZooJob(f"net-{i}", "net.xml", str(folder / "net.xml"), str(folder), "some.npz", settings=settings)
        for i in range(RUNS)
    ]
    with JobStore(output / "zoo.sqlite") as store:
        store.enter([(f"key{i:04}", f"f{i}-1", job) for i, job in enumerate(jobs)], [job.name for job in jobs])
        with store.store.transaction() as connection:
            connection.execute("UPDATE jobs SET status = 'within_budget', board = ?", (board,))
    first = output / "models" / jobs[0].name
    first.mkdir(parents=True)
    write_report(report, first)
    write_html(report, first / "report.html")
    for job in jobs[1:]:  # the same files, which each cost as much to read
        at = output / "models" / job.name
        at.mkdir()
        for name in ("report.json", "report.html"):
            os.link(first / name, at / name)


class Server:
    """A studio in a process of its own, asked one request after the other."""

    def __init__(self, folder: Path):
        words = [sys.executable, "-P", "-m", "calib", "studio", str(folder), "--no-open"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.link = re.findall(r"http://\S+", self._process.stdout.readline())[0]
        self.home = self.link.partition("/?")[0]
        self.client = httpx.Client(base_url=self.home, timeout=600, follow_redirects=True)
        self.client.get(self.link)
        self._facts = psutil.Process(self._process.pid)

    def cpu(self) -> float:
        """Return the CPU seconds of the server so far; those of the processes that it starts are not in it."""
        times = self._facts.cpu_times()
        return times.user + times.system

    def cost(self, path: str, repeat: int) -> float:
        """Return the CPU seconds of one request, once what it waits for is known."""
        while "hx-get" in (text := self.client.get(path).text) and "wait=1" in text:
            self.client.get(path + "&wait=1")
        self.client.get(path)
        found = []
        for _ in range(repeat):  # the kernel counts in hundredths of a second: several requests a measurement
            start = self.cpu()
            for _ in range(REQUESTS):
                self.client.get(path)
            found.append((self.cpu() - start) / REQUESTS)
        return median(found)

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()


def browse(server: Server, repeat: int) -> tuple[str, dict[str, tuple[float, float]], float | None]:
    """Return the browser's version, least seconds and CPU seconds of each page, and the server's share at rest."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed: the browser is not measured", file=sys.stderr)
        return "", {}, None
    from playwright.sync_api import sync_playwright

    flags = ["--disable-gpu", "--disable-background-networking", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        cookies = [
            {"name": name, "value": value, "domain": "127.0.0.1", "path": "/"}
            for name, value in server.client.cookies.items()
        ]
        context.add_cookies(cookies)  # type: ignore[arg-type]
        page = context.new_page()
        found = {}
        for name, path in PAGES.items():
            if name not in PARTS:
                times = [_open(page, server.home + path) for _ in range(repeat)]
                wall, cpu = zip(*times, strict=True)
                found[name] = (min(wall), min(cpu))
        page.goto(f"{server.home}/runs")
        before = server.cpu()
        page.wait_for_timeout(REST_SECONDS * 1000)
        rest = (server.cpu() - before) / REST_SECONDS
        version = browser.version
        browser.close()
    return version, found, rest


def _open(page: Any, address: str) -> tuple[float, float]:
    """Return the seconds until a page is loaded and its tables are filled, and the CPU seconds of its thread."""
    page.goto("about:blank")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _busy(session)
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(".waiting, [data-src]:not(:has(*))", state="detached")
    wall = time.perf_counter() - start
    page.wait_for_timeout(500)
    cpu = _busy(session) - before
    session.detach()
    return wall, cpu


def _busy(session: Any) -> float:
    """Return the CPU seconds of the tasks of a page's main thread so far."""
    return next(
        one["value"] for one in session.send("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, default=OUTPUT, help="where to write the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_folder(Path(name))
        server = Server(Path(name))
        costs = {}
        for title, path in PAGES.items():
            costs[title] = server.cost(path, options.repeat)
            print(f"{title}: {1000 * costs[title]:.1f} ms of server CPU", file=sys.stderr, flush=True)
        version, opened, rest = browse(server, options.repeat)
        server.close()
    rows = [
        [title, f"{1000 * cost:.1f} ms", *(f"{value:.2f} s" for value in opened.get(title, ())), *(["–"] * 2)][:4]
        for title, cost in costs.items()
    ]
    titles = ["page", "server CPU", "browser", "browser CPU"]
    print("\n".join(table(titles, rows, 100, right=range(1, 4))), file=sys.stderr)
    print(f"at rest: {100 * (rest or 0):.2f} % of a core", file=sys.stderr)
    settings = {"targets": TARGETS, "layers": LAYERS, "runs": RUNS, "repeat": options.repeat, "chromium": version}
    pages = [
        {
            "page": title,
            "server_cpu_seconds": cost,
            "browser_seconds": opened[title][0] if title in opened else None,
            "browser_cpu_seconds": opened[title][1] if title in opened else None,
        }
        for title, cost in costs.items()
    ]
    record.write(options.json, settings, {"pages": pages, "share_of_a_core_at_rest": rest})


if __name__ == "__main__":
    main()
