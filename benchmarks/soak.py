"""Quantize changing networks in one process for a while: memory has to stay flat, and no handle or thread be lost.

    python benchmarks/soak.py [--minutes 30] [--json FILE]

The networks are those of tests/strategies_networks.py, one for each seed, each with the next of several settings; every
result is written and read again. Growth is the slope of the memory over the second half of the run (Theil-Sen: the
median of slopes between pairs, which a large network here and there does not move). oneDNN keeps the last 1,024
primitives that it made, which takes a thousand networks and some 30 MB to fill: it is told to keep 16, so that what is
left is growth without an end. Exits with 1 if that is more than 20 KiB a network, or if file handles, threads or
temporary folders are left.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy.stats import theilslopes

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")  # read when OpenVINO is loaded

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from record import write  # noqa: E402
from strategies_networks import seeded_network  # noqa: E402

import calib  # noqa: E402
from calib.errors import CalibError  # noqa: E402

DEFAULT = ROOT / "benchmarks" / "results" / "soak.json"
MOST_GROWTH = 20.0  # KiB a network: a day of one network a second would take 1.7 GiB
FIRST_SEED = 2000
WARM = 50  # networks until lazy imports and OpenVINO's pools are there
SETTINGS: tuple[dict[str, Any], ...] = (
    {"effort": "fast", "estimator": "minmax", "speed": False},
    {"effort": "fast", "estimator": "kl", "speed": True},
    {"effort": "balanced", "speed": False},
    {"effort": "fast", "estimator": "mse", "speed": False, "metric": "relative-l2", "max_drop": 0.01},
)


def one(seed: int, folder: Path) -> str:
    """Quantize, write and read one network; return how it ended."""
    network = seeded_network(seed)
    samples = [tuple(feed) for feed in network.feeds * 3]
    try:
        result = calib.quantize(network.model, samples, threads=1, **SETTINGS[seed % len(SETTINGS)])
        result.save(folder / "out")
        calib.inspect(folder / "out" / "model.xml" if (folder / "out" / "model.xml").exists() else network.model)
    except CalibError as error:
        return type(error).__name__
    return result.report.status


def leftovers() -> int:
    """Count calib's temporary folders."""
    return len(list(Path(tempfile.gettempdir()).glob("calib-*")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, default=DEFAULT)
    options = parser.parse_args()
    process, ended = psutil.Process(), Counter[str]()
    memory, handles, threads = [], [], []
    with tempfile.TemporaryDirectory(prefix="soak-") as own:
        tempfile.tempdir = own  # calib's temporary folders are seen, those of others are not
        end, seed = time.monotonic() + 60 * options.minutes, FIRST_SEED
        while time.monotonic() < end:
            with tempfile.TemporaryDirectory(prefix="result-") as folder:
                ended[one(seed, Path(folder))] += 1
            gc.collect()
            memory.append(process.memory_info().rss / 1024)
            handles.append(process.num_fds())
            threads.append(process.num_threads())
            seed += 1
        left = leftovers()
    half = np.asarray(memory[len(memory) // 2 :])
    growth = float(theilslopes(half, np.arange(len(half)))[0])
    lost = {"file handles": handles[-1] - handles[min(WARM, len(handles) - 1)],
            "threads": threads[-1] - threads[min(WARM, len(threads) - 1)], "temporary folders": left}  # fmt: skip
    results = {
        "networks": len(memory),
        "endings": dict(ended.most_common()),
        "KiB a network over the second half": round(growth, 2),
        "MiB at each tenth": [round(m / 1024, 1) for m in memory[:: max(len(memory) // 10, 1)]],
        "lost": lost,
    }
    write(options.json, {"minutes": options.minutes, "first seed": FIRST_SEED}, results)
    print(f"{len(memory)} networks, {growth:.1f} KiB a network, lost: {lost}", dict(ended))
    return 1 if growth > MOST_GROWTH or any(value > 0 for value in lost.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
