"""Points of COCO's average precision that the demo's detectors lose with everything in INT8, and no layer ignored.

Both networks run on the pictures that the demo composes. The interval is the paired bootstrap of the report. A CPU
without VNNI can saturate sums of 8-bit weights, so that both targets are measured.

    pip install -e '.[coco]'
    python benchmarks/detection.py [--pictures 2000] [--networks yolo,ssd] [--targets cpu,cpu-no-vnni]
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


def lost(network: str, target: str, data: Path) -> dict[str, Any]:
    """Return average precision before and after, and what was lost, in points of 100."""
    model = demo_folder() / "detection" / f"{network}.xml"
    report = calib.quantize(
        model,
        f"images:{data / 'calibration'}",
        validation=f"coco:{data / 'validation.json'}?images={data / 'validation'}",
        metric="coco-map",
        decode=DECODERS[network],
        target=target,
        speed=False,
    ).report
    accuracy = report.accuracy
    assert accuracy is not None and accuracy.interval is not None
    return {
        "fp32": round(100 * accuracy.baseline, 3),
        "int8": round(100 * accuracy.quantized, 3),
        "lost": round(100 * accuracy.drop, 3),
        "interval": [round(100 * end, 3) for end in accuracy.interval],
        "layers": len(report.layers),
        "float layers": sum(layer.planned == "float" for layer in report.layers),
        "sqnr dB": {name: round(value, 1) for name, value in report.output_sqnr_db.items()},
    }


def main() -> None:
    """Measure every network for every target and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--networks", default="yolo,ssd")
    parser.add_argument("--targets", default="cpu,cpu-no-vnni")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "detection.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_part(demo_folder(), data, "calibration")
        write_part(demo_folder(), data, "validation", given.pictures)
        settings = {"pictures": given.pictures}
        found = record.on_file(given.json, settings)
        for network in given.networks.split(","):
            for target in given.targets.split(","):
                name = f"{network}, {target}"
                if name not in found:
                    found[name] = lost(network, target, data)
                    record.write(given.json, settings, found)
                print(name, found[name], flush=True)


if __name__ == "__main__":
    main()
