"""Measure the peak memory of ``quantize``: of a network with large weights beside plain inference, and by samples.

The peak is that of a process for each run (VmHWM), less what it held once everything was imported. Plain inference
reads, compiles and runs the FP32 model. "Allowed" is the promise: plain inference, a fifth more, and 128 MiB.

    python benchmarks/memory.py [--weights 320] [--efforts fast,balanced] [--samples 300,20000]
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import record
from numpy.typing import NDArray

import calib
import calib.pipeline
from calib.runtime.session import Session, core, ov

op = ov.opset13

PLAIN = "plain"
WIDTH = 2048  # of a layer: 16 MiB of weights
FEW = 24  # samples of the network with large weights


def wide(mebibytes: int) -> ov.Model:
    """Return a chain of fully connected layers with so many MiB of weights."""
    rng = np.random.default_rng(0)
    x = op.parameter([1, WIDTH], np.float32, name="x")
    node: Any = x
    for number in range(max(1, mebibytes * 2**20 // (4 * WIDTH * WIDTH))):
        weights = rng.standard_normal((WIDTH, WIDTH), np.float32) * np.float32((2 / WIDTH) ** 0.5)
        layer = op.matmul(node, op.constant(weights), False, True)
        layer.set_friendly_name(f"layer{number}")
        node = op.relu(op.add(layer, op.constant(rng.standard_normal((1, WIDTH), np.float32) * np.float32(0.01))))
    return ov.Model([op.result(node)], [x], "wide")


def tiny() -> ov.Model:
    """Return two small convolutions."""
    rng = np.random.default_rng(0)
    x = op.parameter([1, 3, 16, 16], np.float32, name="x")
    node: Any = x
    for inputs, outputs in ((3, 16), (16, 16)):
        weights = op.constant(rng.standard_normal((outputs, inputs, 3, 3), np.float32) * np.float32(0.2))
        node = op.relu(op.convolution(node, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    return ov.Model([op.result(node)], [x], "tiny")


class Made:
    """Samples that are made when they are read, so that they take no memory themselves."""

    def __init__(self, shape: tuple[int, ...], count: int):
        self._shape, self._count = shape, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for number in range(self._count):
            yield np.random.default_rng(number).standard_normal(self._shape, np.float32)


def memory(key: str) -> float:
    """Return a figure of this process in MiB."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1024


def child(run: Any, path: Path, samples: int) -> None:
    """Print what one run adds to the memory of a process, at its peak, in MiB."""
    shape = tuple(core().read_model(path).inputs[0].shape)
    feeds = Made(shape, samples)
    gc.collect()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is held now
    if run == PLAIN:
        session = Session(core().read_model(path))
        for feed in feeds:
            session([feed])
    else:
        calib.quantize(path, feeds, samples=samples, effort=run, speed=False)
    print(json.dumps({"before": round(before, 1), "added": round(memory("VmHWM") - before, 1)}))


def measure(run: str, path: Path, samples: int) -> dict[str, float]:
    argv = [sys.executable, __file__, "--child", run, str(path), str(samples)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=int, default=320, help="MiB")
    parser.add_argument("--efforts", default="fast,balanced")
    parser.add_argument("--samples", default="300,20000")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "memory.json")
    parser.add_argument("--child", nargs=3, metavar=("RUN", "PATH", "SAMPLES"))
    arguments = parser.parse_args()
    if arguments.child:
        run, path, samples = arguments.child
        child(run, Path(path), int(samples))
        return
    settings = {"weights MiB": arguments.weights, "samples": FEW}
    results: dict[str, Any] = record.on_file(arguments.output, settings)
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "wide.xml", Path(folder) / "tiny.xml"
        ov.save_model(wide(arguments.weights), large, compress_to_fp16=False)
        ov.save_model(tiny(), small, compress_to_fp16=False)
        rows = results.setdefault("large weights", {})
        for run in (PLAIN, *arguments.efforts.split(",")):
            rows[run] = measure(run, large, FEW)
            allowed = 1.2 * rows[PLAIN]["added"] + 128
            times = rows[run]["added"] / arguments.weights
            print(
                f"{run:<10}{rows[run]['added']:>8.0f} MiB {times:>6.2f} × the weights, allowed {allowed:.0f}",
                flush=True,
            )
            record.write(arguments.output, settings, results)
        for run in arguments.efforts.split(","):
            for samples in arguments.samples.split(","):
                row = measure(run, small, int(samples))
                results.setdefault("samples", {}).setdefault(run, {})[samples] = row
                print(f"{run:<10}{samples:>8} samples {row['added']:>8.0f} MiB", flush=True)
                record.write(arguments.output, settings, results)


if __name__ == "__main__":
    main()
