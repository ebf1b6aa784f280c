"""What the report costs: size of the page, time to make it, time until a browser has drawn it, cost of what it shows.

    python benchmarks/report_cost.py [--repeat 5] [--subjects "demo resnet,mobilenet_v2"] [--json FILE]

The reports are made up (tests/report_fixtures) with every section filled: 64 bins and four estimators a tensor. "Open"
is the time from navigation until tables and charts of the first screen and a half are drawn and the page can be used,
"complete" until everything further down is drawn, too, at once as for paper; a reader who scrolls has it drawn piece by
piece. In Debian's chromium, on a page never seen before; the browser already runs. Medians.

Collecting is measured on real runs of ``quantize`` at its default effort, timing included, to the files on disk: with
calibration samples alone, and where there are labels, with a budget on the validation set too. CPU seconds of one
process on one CPU, in all and inside the functions that nothing but the report needs: SQNR of layers, their counters,
ranges that other estimators would choose, the page. What counting adds to an inference, .06 µs a node, is not in them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import record

import calib
from calib.demo import demo_folder
from calib.report.console import table
from calib.report.html import write_html
from calib.report.json_report import read_report, write_report
from calib.report.text import render_text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from report_fixtures.made_up import made_up_report

LAYERS = (40, 200, 2000)
TARGETS = {"bytes of 200 layers": 1_500_000, "seconds to open 2000 layers": 2.0, "share of collecting": 0.1}
SUBJECTS = ("demo resnet", "demo mobilenet", "mobilenet_v2")
SAMPLES = 300
# module, place in it: what nothing but the report needs
COLLECTING = (
    ("calib.engine.report", "_layer_sqnr"),
    ("calib.engine.report", "quantizer_facts"),
    ("calib.runtime.timing", "_Runner.layer_ms"),
    ("calib.runtime.timing", "_Runner._averages"),
)
OUTPUT = Path(__file__).resolve().parent / "results" / "report_cost.json"


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
    if chromium is None or importlib.util.find_spec("playwright") is None:
        print("chromium or playwright is not installed: opening is not measured", file=sys.stderr)
        return "", {}
    from playwright.sync_api import sync_playwright

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
    page.wait_for_selector("html[data-ready]")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_selector("html[data-complete]")
    # The page marks these moments itself, in milliseconds since navigation; polling from here would add its own time.
    marks = "['ready', 'complete'].map(name => performance.getEntriesByName(name)[0].startTime / 1000)"
    ready, complete = page.evaluate(marks)
    context.close()
    return ready, complete


def collect(subject: str, validated: bool) -> None:
    """Print the CPU seconds of a whole run and of collecting what its report shows, in a process of its own."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before OpenVINO counts CPUs
    from subjects import SUBJECTS as networks

    spent: dict[str, float] = {}
    for module, place in COLLECTING:
        *path, name = place.split(".")
        owner: Any = importlib.import_module(module)
        for step in path:
            owner = getattr(owner, step)
        setattr(owner, name, counted(getattr(owner, name), spent, place))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, samples = networks[subject].write(folder), networks[subject].samples(SAMPLES)
        calib.quantize(model, samples[:4], effort="fast")  # imports and caches are not the report's
        spent.clear()
        promise: dict[str, Any] = {"speed": True}
        if validated:
            promise = {"validation": str(demo_folder() / "validation.npz"), "metric": "top-1", "max_drop": 0.005}
        start = time.process_time()
        report = calib.quantize(model, samples, **promise).save(folder / "out")
        counted(write_html, spent, "page")(report, folder / "out" / "report.html")
        total = time.process_time() - start
    share = sum(spent.values()) / total
    print(json.dumps({"subject": subject, "validated": validated, "cpu": total, "collecting": spent, "share": share}))


def counted(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    """Return the function; its CPU seconds are added to ``spent``."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - start

    return wrapped


def measure_collecting(subjects: Sequence[str], repeat: int) -> list[dict[str, Any]]:
    """Return the run with the median share, for each network."""
    found = []
    cases = [(name, validated) for name in subjects for validated in (False, True) if "demo" in name or not validated]
    for subject, validated in cases:
        argv = [sys.executable, __file__, "--collect", subject, *(["--validated"] if validated else [])]
        runs = [json.loads(subprocess.check_output(argv, text=True).splitlines()[-1]) for _ in range(repeat)]
        found.append(sorted(runs, key=lambda run: run["share"])[len(runs) // 2])
        what = "with validation" if validated else "calibration only"
        print(f"{subject}, {what}: {found[-1]['share']:.1%} of {found[-1]['cpu']:.2f} s", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--subjects", default=",".join(SUBJECTS), help="networks that collecting is measured on")
    parser.add_argument("--collect", help=argparse.SUPPRESS)
    parser.add_argument("--validated", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, default=OUTPUT, help="where to write the results")
    options = parser.parse_args()
    if options.collect:
        collect(options.collect, options.validated)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [measure_writing(layers, folder, options.repeat) for layers in LAYERS]
        browser, opened = measure_opening({n: folder / f"{n}.html" for n in LAYERS}, options.repeat)
    for row in rows:
        row["open_seconds"], row["complete_seconds"] = opened.get(row["layers"], (None, None))
    titles = ["layers", "html", "write html", "json", "write json", "read json", "text", "open", "complete"]
    cells = [_cells(row) for row in rows]
    print("\n".join(table(titles, cells, 120, right=range(9))), file=sys.stderr)
    collecting = measure_collecting([name for name in options.subjects.split(",") if name], options.repeat)
    settings = {"targets": TARGETS, "repeat": options.repeat, "samples": SAMPLES, "chromium": browser}
    record.write(options.json, settings, {"pages": rows, "collecting": collecting})


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
