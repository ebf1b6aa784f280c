"""Measure what quantization costs in accuracy: every estimator, every correction, every effort, and NNCF.

For each: the metric's drop against FP32 with its 95 % interval from paired samples, the SQNR of the outputs on the
same validation samples (which shows what a few hundred labels can't), and the CPU time of quantizing over that of
plain FP32 inference on the same calibration samples. All run in f32 on one thread; imports are not in the time.

    pip install -e '.[benchmark]'
    python benchmarks/accuracy.py [--cases mobilenet,vit] [--variants minmax,balanced,nncf]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import record
from ablations import Ablation
from cases import CASES, Case, Reference
from peers import CalibPeer, NncfPeer, Peer

from calib.ranges import ESTIMATORS
from calib.runtime.session import Session, core


def _fast(estimator: str) -> Peer:
    return CalibPeer(estimator, {"effort": "fast", "estimator": estimator})


VARIANTS: Mapping[str, Callable[[], Peer]] = {
    **{name: lambda name=name: _fast(name) for name in sorted(ESTIMATORS, key=lambda name: name != "minmax")},
    "minmax + equalization": lambda: Ablation("minmax + equalization", corrections=("equalization",)),
    "minmax + bias": lambda: Ablation("minmax + bias", corrections=("bias",)),
    "minmax + rounding": lambda: Ablation("minmax + rounding", corrections=("rounding",)),
    "minmax + all three": lambda: Ablation("minmax + all three", corrections=("equalization", "rounding", "bias")),
    "fast": lambda: CalibPeer("fast", {"effort": "fast"}),
    "balanced": lambda: CalibPeer("balanced"),
    "thorough": lambda: CalibPeer("thorough", {"effort": "thorough"}),
    "nncf": NncfPeer,
    "nncf mixed": lambda: NncfPeer("nncf mixed", preset="MIXED"),
    "nncf transformer": lambda: NncfPeer("nncf transformer", model_type="TRANSFORMER"),
    "nncf full bias": lambda: NncfPeer("nncf full bias", fast_bias_correction=False),
}
"""Name → what quantizes."""

ATTENTION = frozenset({"vit", "ppocr recognition"})  # where NNCF's transformer mode has something to do


def plain_seconds(case: Case) -> float:
    """Return the CPU seconds of plain FP32 inference over the calibration samples, compilation apart."""
    session = Session(core().read_model(case.path))
    session([case.calibration[0]])
    started = time.process_time()
    for feed in case.calibration:
        session([feed])
    return time.process_time() - started


def measure(case: Case, reference: Reference, peer: Peer, plain: float) -> dict[str, Any]:
    """Return one row."""
    peer.prepare()
    started = time.process_time()
    model = peer.quantize(case.path, case.calibration)
    spent = time.process_time() - started
    score = reference.score(model)
    return {
        "value": round(score.value, 5),
        "drop": round(score.drop, 5),
        "interval": [round(score.interval.low, 5), round(score.interval.high, 5)] if score.interval else None,
        "sqnr_db": round(score.sqnr_db, 2),
        "cpu_s": round(spent, 3),
        "cpu_ratio": round(spent / plain, 2),
    }


def compare(case: Case, variants: list[str], told: Callable[[str, dict[str, Any]], None]) -> dict[str, Any]:
    """Return the rows of one network by variant; what fails is a row that says why."""
    reference = Reference(case)
    plain = plain_seconds(case)
    rows: dict[str, Any] = {"fp32": {"value": round(reference.value, 5), "cpu_s": round(plain, 3)}}
    told("fp32", rows["fp32"])
    for name in variants:
        if name == "nncf transformer" and case.name not in ATTENTION:
            continue
        try:
            rows[name] = measure(case, reference, VARIANTS[name](), plain)
        except Exception as error:  # a peer's failure is a result
            traceback.print_exc()
            rows[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
        told(name, rows[name])
    return rows


def markdown(name: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one network's table."""
    lines = [
        f"### {name}: {rows['fp32']['value']:.4f} in FP32",
        "| | drop | 95 % interval | SQNR dB | CPU, × plain |",
        "|---|--:|---|--:|--:|",
    ]
    for variant, row in rows.items():
        if "error" in row:
            lines.append(f"| {variant} | failed | {row['error'][:60]} | | |")
        elif variant != "fp32":
            between = "{:+.4f} … {:+.4f}".format(*row["interval"]) if row["interval"] else ""
            lines.append(
                f"| {variant} | {row['drop']:+.4f} | {between} | {row['sqnr_db']:.2f} | {row['cpu_ratio']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def hold_to_one_cpu() -> None:
    """Let this process use one CPU, before OpenVINO counts them: CPU time is of one thread for everybody."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def warm_up(variants: list[str], folder: Path) -> None:
    """Quantize a small network once with each kind of peer, so that no row pays for imports."""
    case = CASES["mobilenet"](folder)
    for name in dict.fromkeys(("balanced", next((v for v in variants if v.startswith("nncf")), "balanced"))):
        peer = VARIANTS[name]()
        peer.prepare()
        peer.quantize(case.path, case.calibration[:8])


def merged(path: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Return the results on file with these in their places: networks can be run one by one."""
    known = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
    return {name: {**known.get(name, {}), **results.get(name, {})} for name in {**known, **results}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "accuracy.json")
    arguments = parser.parse_args()
    variants, cases = arguments.variants.split(","), arguments.cases.split(",")
    if unknown := [name for name in variants if name not in VARIANTS] + [name for name in cases if name not in CASES]:
        parser.error(f"unknown: {', '.join(unknown)}; cases: {', '.join(CASES)}; variants: {', '.join(VARIANTS)}")
    hold_to_one_cpu()
    with tempfile.TemporaryDirectory() as folder:
        warm_up(variants, Path(folder))
        for name in cases:
            case = CASES[name](Path(folder))
            rows = compare(case, variants, lambda v, row, name=name: print(name, v, row, file=sys.stderr, flush=True))
            settings = {"calibration": len(case.calibration), "validation": len(case.validation)}
            rows["fp32"] |= {"metric": case.metric.name, **settings}
            results = merged(arguments.output, {name: rows})
            record.write(arguments.output, {"precision": "f32", "threads": 1}, results)
            print(markdown(name, results[name]), flush=True)


if __name__ == "__main__":
    main()
