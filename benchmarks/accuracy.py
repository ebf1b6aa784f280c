"""Measure what quantization costs in accuracy: every estimator, every correction, every effort, and NNCF.

For each: the metric's drop against FP32 with its 95 % interval from paired samples, the SQNR of the outputs on the
same validation samples (which shows what a few hundred labels can't), and the CPU time of quantizing over that of
plain FP32 inference on the same calibration samples. All run in f32 on one thread; imports are not in the time.

    pip install -e '.[benchmark]'
    python benchmarks/accuracy.py [--cases mobilenet,vit] [--variants minmax,balanced,nncf] [--again]
    python benchmarks/accuracy.py --folder MODELS --cases mine
    python benchmarks/accuracy.py --table

MODELS holds a folder for each further network, with its data and metric, see :func:`cases.in_folder`.

On a CPU whose INT8 sums saturate (no VNNI) all tools use half the levels of weights, which it computes exactly.

Each row is written as soon as it is measured; rows on file are not measured again unless asked for.
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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import record
from cases import CASES, Case, Reference, arrays_of, in_folder
from peers import HALF_RANGE, Peer
from variants import ATTENTION, GROUPS, VARIANTS, named

from calib.runtime.session import Session, core


def plain_seconds(case: Case) -> float:
    """Return the CPU seconds of plain FP32 inference over the calibration samples, compilation apart."""
    session = Session(core().read_model(case.path))
    session(arrays_of(case.calibration[0]))
    started = time.process_time()
    for feed in case.calibration:
        session(arrays_of(feed))
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


def compare(case: Case, variants: list[str], known: Mapping[str, Any], keep: Callable[[str, dict[str, Any]], None]):
    """Measure what is not known yet of one network and hand over each row; what fails is a row that says why."""
    suited = [name for name in variants if not name.startswith("nncf transformer") or case.name in ATTENTION]
    missing = [name for name in suited if "drop" not in known.get(name, {})]
    if not missing:
        return
    reference = Reference(case)
    plain = plain_seconds(case)
    counts = {"calibration": len(case.calibration), "validation": len(case.validation)}
    keep("fp32", {"value": round(reference.value, 5), "cpu_s": round(plain, 3), "metric": case.metric.name, **counts})
    for name in missing:
        try:
            row = measure(case, reference, VARIANTS[name](), plain)
        except Exception as error:  # a peer's failure is a result
            traceback.print_exc()
            row = {"error": f"{type(error).__name__}: {error}"[:300]}
        keep(name, row)


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


def overview(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return all networks in one table: drop, ``*`` where its interval lies above zero, and SQNR of the outputs."""
    names = list(results)
    lines = [f"| | {' | '.join(names)} | sum of drops above 0 |", "|---" * (len(names) + 2) + "|"]
    for variant in VARIANTS:
        rows = [results[name].get(variant, {}) for name in names]
        if any("drop" in row for row in rows):
            cells = [_cell(row) for row in rows]
            whole = all("drop" in row for row in rows)
            total = f"{sum(max(row['drop'], 0.0) for row in rows):.4f}" if whole else ""
            lines.append(f"| {variant} | {' | '.join(cells)} | {total} |")
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, Any]) -> str:
    if "drop" not in row:
        return "failed" if "error" in row else ""
    worse = "*" if row["interval"] and row["interval"][0] > 0 else ""
    return f"{row['drop']:+.4f}{worse} {row['sqnr_db']:.1f} dB"


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


def on_file(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows measured so far, by network and variant."""
    return json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}


def merged(path: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Return the results on file with these in their places: networks can be run one by one."""
    known = on_file(path)
    return {name: {**known.get(name, {}), **results.get(name, {})} for name in {**known, **results}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help="names; all by default")
    parser.add_argument("--folder", type=Path, help="folder of further networks, whose metric.py is run")
    parser.add_argument("--variants", default=",".join(GROUPS), help="names or groups of them")
    parser.add_argument("--samples", type=int, default=300, help="most samples to calibrate with")
    parser.add_argument("--again", action="store_true", help="measure rows that are on file already too")
    parser.add_argument("--table", action="store_true", help="print all rows on file in one table and measure nothing")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "accuracy.json")
    arguments = parser.parse_args()
    others = sorted(arguments.folder.glob("*/metric.py")) if arguments.folder else []
    known_cases = {**CASES, **{path.parent.name: partial(in_folder, path.parent) for path in others}}
    try:
        variants = named(arguments.variants)
        cases = {name: known_cases[name] for name in (arguments.cases or ",".join(known_cases)).split(",")}
    except KeyError as error:
        parser.error(f"unknown: {error}; cases: {', '.join(known_cases)}; variants: {', '.join([*GROUPS, *VARIANTS])}")
    if arguments.table:
        print(overview(on_file(arguments.output)), end="")
        return
    hold_to_one_cpu()
    settings = {"precision": "f32", "threads": 1, "levels of weights": "half" if HALF_RANGE else "all"}
    with tempfile.TemporaryDirectory() as folder:
        warm_up(variants, Path(folder))
        for name, make in cases.items():

            def keep(variant: str, row: dict[str, Any], name: str = name) -> None:
                print(name, variant, row, file=sys.stderr, flush=True)
                results = on_file(arguments.output)  # read again: another process may have added rows
                results.setdefault(name, {})[variant] = row
                record.write(arguments.output, settings, results)

            known = {} if arguments.again else on_file(arguments.output).get(name, {})
            case = make(Path(folder))
            case = replace(case, calibration=case.calibration[: arguments.samples])
            compare(case, variants, known, keep)
            rows = on_file(arguments.output).get(name, {})
            print(markdown(name, {v: rows[v] for v in ("fp32", *VARIANTS) if v in rows}), flush=True)


if __name__ == "__main__":
    main()
