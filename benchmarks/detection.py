"""Points of COCO's average precision that the demo's detectors lose with everything in INT8, and no layer ignored.

Both networks run on the pictures that the demo composes. A CPU without VNNI can saturate the sums of products with
8-bit weights, so that both targets are measured. What boxes and scores lose apart is that of a network with the boxes
of the one and the scores of the other.

    python benchmarks/detection.py [--pictures 2000] [--networks yolo,ssd] [--targets cpu,cpu-no-vnni]
        [--folder FOLDER --steps 1]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
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


def judged(network: str, data: Path) -> dict[str, Any]:
    """Return how a network is judged."""
    validation = f"coco:{data / 'validation.json'}?images={data / 'validation'}"
    return {"validation": validation, "metric": "coco-map", "decode": DECODERS[network]}


def lost(network: str, target: Any, folder: Path) -> dict[str, Any]:
    """Quantize; return average precision before and after and what was lost with its interval, in points of 100."""
    result = calib.quantize(
        demo_folder() / "detection" / f"{network}.xml",
        f"images:{folder / 'calibration'}",
        target=target,
        speed=False,
        **judged(network, folder),
    )
    result.save(folder / f"{network}-{target}")
    report = result.report
    found: Any = report.accuracy
    return {
        "fp32": round(100 * found.baseline, 3),
        "int8": round(100 * found.quantized, 3),
        "lost": round(100 * found.drop, 3),
        "interval": [round(100 * end, 3) for end in found.interval],
        "interval method": found.interval_method,
        "layers": len(report.layers),
        "layers in float": sum(layer.planned == "float" for layer in report.layers),
        "sqnr dB": {name: round(value, 1) for name, value in report.output_sqnr_db.items()},
    }


def alone(part: str, network: str, target: str, folder: Path) -> float:
    """Return the average precision with the boxes or the scores of the INT8 network alone, in points of 100."""
    plain = core().read_model(demo_folder() / "detection" / f"{network}.xml")
    quantized = core().read_model(folder / f"{network}-{target}" / f"{network}.xml")
    pair = (quantized, plain) if part == "boxes" else (plain, quantized)
    return 100 * calib.evaluate(mixed(*pair), **judged(network, folder)).value


def missing(
    networks: str, targets: str, folder: Path, found: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the rows that have figures missing, and what measures some of these."""
    for network in networks.split(","):
        for target in targets.split(","):
            name = f"{network}, {target}"

            def by(part: str, name: str = name, network: str = network, target: str = target) -> dict[str, Any]:
                value = alone(part, network, target, folder)
                return {f"lost by {part} alone": round(found[name]["fp32"] - value, 3)}

            if name not in found:
                yield name, partial(lost, network, target, folder)
            for part in ("boxes", "scores"):
                if f"lost by {part} alone" not in found.get(name, {}):
                    yield name, partial(by, part)


def main() -> None:
    """Measure every network for every target and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--networks", default="yolo,ssd")
    parser.add_argument("--targets", default="cpu-no-vnni,cpu")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "detection.json")
    parser.add_argument("--folder", type=Path, help="where pictures and models are kept, for a run in several calls")
    parser.add_argument("--steps", type=int, default=100, help="figures to measure in this call at most")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not (folder / "validation.json").exists():
            write_part(demo_folder(), folder, "calibration")
            write_part(demo_folder(), folder, "validation", given.pictures)
        settings = {"pictures": given.pictures}
        found = record.on_file(given.json, settings)
        for name, measured in list(missing(given.networks, given.targets, folder, found))[: given.steps]:
            found[name] = found.get(name, {}) | measured()
            record.write(given.json, settings, found)
            print(name, found[name], flush=True)


if __name__ == "__main__":
    main()
