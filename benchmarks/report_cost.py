"""What the report costs: size of the page, time to make it, time until a browser has drawn it.

    python benchmarks/report_cost.py [--repeat 5] [--json FILE]

The reports are made up (tests/report_fixtures) with every section filled: 64 bins and four estimators a tensor. "Open"
is the time from navigation until tables and charts in sight are drawn and the page can be used, "complete" until all
charts further down are drawn, too: in Debian's chromium, on a page never seen before; the browser already runs.
Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from calib.report.console import table
from calib.report.html import write_html
from calib.report.json_report import read_report, write_report
from calib.report.text import render_text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from report_fixtures.made_up import made_up_report

LAYERS = (40, 200, 2000)
TARGETS = {"bytes of 200 layers": 1_500_000, "seconds to open 2000 layers": 2.0}


def seconds(work: Callable[[], Any], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)


def measure_writing(layers: int, folder: Path, repeat: int) -> dict[str, Any]:
    report = made_up_report(layers)
    page = folder / f"{layers}.html"
    return {
        "layers": layers,
        "html_seconds": seconds(lambda: write_html(report, page), repeat),
        "html_bytes": page.stat().st_size,
        "json_seconds": seconds(lambda: write_report(report, folder), repeat),
        "json_bytes": (folder / "report.json").stat().st_size,
        "json_read_seconds": seconds(lambda: read_report(folder), repeat),
        "text_seconds": seconds(lambda: render_text(report), repeat),
    }


def measure_opening(pages: dict[int, Path], repeat: int) -> tuple[str, dict[int, tuple[float, float]]]:
    """Return the browser's version and, for each page, median seconds until open and complete; empty without one."""
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("chromium or playwright is not installed: opening is not measured", file=sys.stderr)
        return "", {}
    flags = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        opened = {}
        for layers, path in pages.items():
            ready, complete = zip(*(_open(browser, path) for _ in range(repeat)), strict=True)
            opened[layers] = (median(ready), median(complete))
        name = browser.version
        browser.close()
    return name, opened


def _open(browser: Any, path: Path) -> tuple[float, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-complete]")
    # The page marks these moments itself, in milliseconds since navigation; polling from here would add its own time.
    marks = "['ready', 'complete'].map(name => performance.getEntriesByName(name)[0].startTime / 1000)"
    ready, complete = page.evaluate(marks)
    context.close()
    return ready, complete


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [measure_writing(layers, folder, options.repeat) for layers in LAYERS]
        browser, opened = measure_opening({n: folder / f"{n}.html" for n in LAYERS}, options.repeat)
    for row in rows:
        row["open_seconds"], row["complete_seconds"] = opened.get(row["layers"], (None, None))
    result = {
        "benchmark": "report_cost",
        "targets": TARGETS,
        "rows": rows,
        "chromium": browser,
        "calib": version("calib"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    titles = ["layers", "html", "write html", "json", "write json", "read json", "text", "open", "complete"]
    cells = [_cells(row) for row in rows]
    print("\n".join(table(titles, cells, 120, right=range(9))), file=sys.stderr)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def _cells(row: dict[str, Any]) -> list[str]:
    def took(key: str) -> str:
        return "–" if row[key] is None else f"{row[key]:.3f} s"

    return [
        str(row["layers"]),
        f"{row['html_bytes'] / 1e6:.2f} MB",
        took("html_seconds"),
        f"{row['json_bytes'] / 1e6:.2f} MB",
        took("json_seconds"),
        took("json_read_seconds"),
        took("text_seconds"),
        took("open_seconds"),
        took("complete_seconds"),
    ]


if __name__ == "__main__":
    main()
