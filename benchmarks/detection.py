"""Points of COCO's average precision that the demo's detectors lose with everything in INT8, and no layer ignored.

Both networks run on the pictures that the demo composes. A CPU without VNNI can saturate the sums of products with
8-bit weights, so that both targets are measured, and for each also what a CPU computes whose sums do not saturate: the
INT8 model with every FakeQuantize spelled out in operations of floating point. The paired interval of the report takes
many computations of average precision, over an hour for all pictures on two slow cores: it is measured if asked for.

    pip install -e '.[coco]'
    python benchmarks/detection.py [--pictures 2000] [--networks yolo,ssd] [--targets cpu,cpu-no-vnni] [--interval]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import record
from openvino import opset13 as opset

import calib
from calib.demo import demo_folder
from calib.demo.detection import DECODERS, write_part


def spelled_out(model: ov.Model) -> ov.Model:
    """Return a copy whose FakeQuantize operations are clamps, roundings and multiplications: no plugin fuses these."""
    made = model.clone()
    for node in made.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        value, low, high, out_low, out_high = (node.input_value(number) for number in range(5))
        steps = np.float32(node.get_attributes()["levels"] - 1)
        inside = opset.minimum(opset.maximum(value, low), high)
        share = opset.divide(opset.subtract(inside, low), opset.subtract(high, low))
        rounded = opset.divide(opset.round(opset.multiply(share, steps), "half_to_even"), steps)
        result = opset.add(opset.multiply(rounded, opset.subtract(out_high, out_low)), out_low)
        for consumer in node.output(0).get_target_inputs():
            consumer.replace_source_output(result.output(0))
    return made


def lost(network: str, target: str, data: Path, interval: bool) -> dict[str, Any]:
    """Return average precision before and after, and what was lost, in points of 100."""
    model = demo_folder() / "detection" / f"{network}.xml"
    annotated = f"coco:{data / 'validation.json'}?images={data / 'validation'}"
    judged = {"metric": "coco-map", "decode": DECODERS[network]}
    given = {"validation": annotated, **judged} if interval else {}
    result = calib.quantize(model, f"images:{data / 'calibration'}", target=target, speed=False, **given)
    fp32, int8, exact = (
        100 * calib.evaluate(one, annotated, judged["metric"], decode=judged["decode"]).value
        for one in (model, result.model, spelled_out(result.model))
    )
    report = result.report
    found = {
        "fp32": round(fp32, 3),
        "int8": round(int8, 3),
        "lost": round(fp32 - int8, 3),
        "lost where sums do not saturate": round(fp32 - exact, 3),
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
