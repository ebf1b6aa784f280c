"""Points of COCO's average precision that the demo's detectors lose with everything in INT8, and no layer ignored.

Both networks run on the pictures that the demo composes. A CPU without VNNI can saturate the sums of products with
8-bit weights, so that both targets are measured. What boxes and scores lose apart is that of a network with the boxes
of the one and the scores of the other.

    python benchmarks/detection.py [--pictures 2000] [--networks yolo,ssd] [--targets cpu,cpu-no-vnni]
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
from calib.runtime.session import core


def mixed(boxes: ov.Model, scores: ov.Model) -> ov.Model:
    """Return a network with the boxes of one model and the scores of another.

    SSD has an output of each, boxes first; in YOLO's one the first rows are boxes.
    """
    made, other = boxes.clone(), scores.clone()
    for port in other.inputs[0].get_target_inputs():
        port.replace_source_output(made.inputs[0])
    ends, others = made.get_results(), [one.input_value(0) for one in other.get_results()]
    if len(ends) > 1:
        for end, port in zip(ends[1:], others[1:], strict=True):
            end.input(0).replace_source_output(port)
    else:
        rows = np.array([4, made.outputs[0].shape[1] - 4])
        first, second = (opset.variadic_split(port, np.array(1), rows) for port in (ends[0].input_value(0), others[0]))
        ends[0].input(0).replace_source_output(opset.concat([first.output(0), second.output(1)], 1).output(0))
    made.validate_nodes_and_infer_types()
    return made


def lost(network: str, target: Any, data: Path) -> dict[str, Any]:
    """Return average precision before and after, what was lost with its interval, and by what, in points of 100."""
    model = demo_folder() / "detection" / f"{network}.xml"
    judged: dict[str, Any] = {
        "validation": f"coco:{data / 'validation.json'}?images={data / 'validation'}",
        "metric": "coco-map",
    }
    judged["decode"] = DECODERS[network]
    result = calib.quantize(model, f"images:{data / 'calibration'}", target=target, speed=False, **judged)
    report, plain = result.report, core().read_model(model)
    found: Any = report.accuracy
    apart = {
        part: found.baseline - calib.evaluate(mixed(*pair), **judged).value
        for part, pair in {"boxes": (result.model, plain), "scores": (plain, result.model)}.items()
    }
    return {
        "fp32": round(100 * found.baseline, 3),
        "int8": round(100 * found.quantized, 3),
        "lost": round(100 * found.drop, 3),
        "interval": [round(100 * end, 3) for end in found.interval],
        "interval method": found.interval_method,
        "lost by boxes alone": round(100 * apart["boxes"], 3),
        "lost by scores alone": round(100 * apart["scores"], 3),
        "layers": len(report.layers),
        "layers in float": sum(layer.planned == "float" for layer in report.layers),
        "sqnr dB": {name: round(value, 1) for name, value in report.output_sqnr_db.items()},
    }


def main() -> None:
    """Measure every network for every target and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--networks", default="yolo,ssd")
    parser.add_argument("--targets", default="cpu-no-vnni,cpu")
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
