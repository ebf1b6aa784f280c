"""Draw README's pictures in Debian's chromium: the report of ``calib demo``, and a run of the studio in mid-search.

    python benchmarks/readme_pictures.py [--only report|studio] [--folder FOLDER] [--points 7]

``calib studio`` serves the shipped vision transformer with its data from FOLDER, a temporary one by default, whose name
is seen. A run whose budget is less than its samples can show searches for long; the page is taken once so many plans
were evaluated. Pictures are stored with 128 colours.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

import psutil
from PIL import Image
from playwright.sync_api import Browser, Playwright, sync_playwright

from calib.demo import demo_folder

SIZE = {"width": 1280, "height": 900}
FLOW = {
    "model": "vit.xml",
    "calibration": "calibration.npz",
    "validation": "validation.npz",
    "metric": "top-1",
    "max_drop": "0.02pt",
    "effort": "fast",
}
PICTURES = Path(__file__).resolve().parent / "pictures"
PATIENCE = 600_000  # milliseconds


def report_picture(folder: Path) -> bytes:
    """Run the demo in a folder and return the top of its page as a PNG."""
    words = [sys.executable, "-P", "-m", "calib", "demo"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    (page_file,) = folder.rglob("report.html")
    with sync_playwright() as playwright:
        page = launched(playwright).new_page(viewport=SIZE)  # type: ignore[arg-type]
        page.goto(page_file.as_uri())
        page.locator("svg").first.wait_for()
        return page.screenshot()


def launched(playwright: Playwright) -> Browser:
    flags = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)


def studio_picture(folder: Path, points: int) -> bytes:
    """Start a run in a studio for the folder and return the page as a PNG once so many plans were evaluated."""
    for name in ("vit.xml", "vit.bin", "calibration.npz", "validation.npz"):
        shutil.copy(demo_folder() / name, folder)
    words = [sys.executable, "-P", "-m", "calib", "studio", str(folder), "--no-open"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        link = re.findall(r"http://\S+", server.stdout.readline())[0]
        browser = launched(playwright)
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        page.set_default_timeout(PATIENCE)
        page.goto(link)
        page.goto(f"{link.partition('?')[0]}quantize?{urlencode(FLOW)}")
        page.click("button:text-is('Start')")
        ended = page.locator("iframe")
        page.locator("circle").nth(points - 1).or_(ended).first.wait_for()
        assert not ended.count(), "the search ended with fewer plans: ask for fewer --points"
        taken = page.screenshot()
        browser.close()
        end(folder, server)
    return taken


def end(folder: Path, server: subprocess.Popen[str]) -> None:
    """End the server, and the supervisor and worker that would outlive it."""
    server.terminate()
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(folder) in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("report", "studio"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--points", type=int, default=7)
    options = parser.parse_args()
    draw = {"report": report_picture, "studio": lambda folder: studio_picture(folder, options.points)}
    for name in [options.only] if options.only else draw:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
            folder = options.folder or Path(made)
            folder.mkdir(parents=True, exist_ok=True)
            taken = draw[name](folder)
        out = PICTURES / f"{name}.png"
        with Image.open(io.BytesIO(taken)) as image:
            image.convert("RGB").quantize(128).save(out, optimize=True)
        print(f"{out.name}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
