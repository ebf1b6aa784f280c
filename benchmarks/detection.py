"""Points of COCO's average precision that the demo's detectors lose with everything in INT8, and no layer ignored.

Both networks run on the pictures that the demo composes. A CPU without VNNI can saturate the sums of products with
8-bit weights, so that both targets are measured. The paired interval of the report takes many computations of average
precision, over an hour for all pictures on two slow cores: it is measured if asked for.

    pip install -e '.[coco]'
    python benchmarks/detection.py [--pictures 2000] [--networks yolo,ssd] [--targets cpu,cpu-no-vnni] [--interval]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import record

import calib
from calib.demo import demo_folder
from calib.demo.detection import DECODERS, write_part


def lost(network: str, target: str, data: Path, interval: bool) -> dict[str, Any]:
    """Return average precision before and after, and what was lost, in points of 100."""
    model = demo_folder() / "detection" / f"{network}.xml"
    annotated = f"coco:{data / 'validation.json'}?images={data / 'validation'}"
    judged = {"metric": "coco-map", "decode": DECODERS[network]}
    given = {"validation": annotated, **judged} if interval else {}
    result = calib.quantize(model, f"images:{data / 'calibration'}", target=target, speed=False, **given)
    fp32, int8 = (
        100 * calib.evaluate(one, annotated, judged["metric"], decode=judged["decode"]).value
        for one in (model, result.model)
    )
    report = result.report
    found = {
        "fp32": round(fp32, 3),
        "int8": round(int8, 3),
        "lost": round(fp32 - int8, 3),
        "layers": len(report.layers),
        "layers in float": sum(layer.planned == "float" for layer in report.layers),
        "sqnr dB": {name: round(value, 1) for name, value in report.output_sqnr_db.items()},
    }
    if report.accuracy is not None and report.accuracy.interval is not None:
        found["interval"] = [round(100 * end, 3) for end in report.accuracy.interval]
    return found


def main() -> None:
    """Measure every network for every target and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--networks", default="yolo,ssd")
    parser.add_argument("--targets", default="cpu-no-vnni,cpu")
    parser.add_argument("--interval", action="store_true")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "detection.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_part(demo_folder(), data, "calibration")
        write_part(demo_folder(), data, "validation", given.pictures)
        settings = {"pictures": given.pictures, "interval": given.interval}
        found = record.on_file(given.json, settings)
        for network in given.networks.split(","):
            for target in given.targets.split(","):
                name = f"{network}, {target}"
                if name not in found:
                    found[name] = lost(network, target, data, given.interval)
                    record.write(given.json, settings, found)
                print(name, found[name], flush=True)


if __name__ == "__main__":
    main()
