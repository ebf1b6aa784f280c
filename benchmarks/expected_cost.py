"""Compare what a run is said to cost before it starts with the CPU seconds that it used.

A process for each run, at one thread; reading the model and imports are not counted, saving is not either. What is said
is `calib.engine.placing.costs_of`, from the run's own first compilation and inferences. With ``--fit`` the factors of
``calib.config.cost`` are printed as least relative squares over the runs on file give them, none below zero.

    python benchmarks/expected_cost.py [--subjects resnet18,deep_chain:100] [--models DIR] [--samples 20,100,300]
        [--efforts fast,balanced,thorough] [--fit]

``--models`` adds the folders of DIR that hold ``model.xml`` and ``data.npz`` with the inputs ``cal_0``, ``cal_1``, ….
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import networks
import numpy as np
import record
from scipy.optimize import nnls
from subjects import SUBJECTS

import calib
import calib.engine.placing as placing
import calib.pipeline as pipeline
from calib.config.cost import FEATURES, Cost, Work, expected_cost, features_of
from calib.config.efforts import EFFORTS
from calib.runtime.session import ov

DEFAULT = Path(__file__).parent / "results" / "expected_cost.json"
CHOSEN = (
    "demo resnet",
    "demo mobilenet",
    "demo vit",
    "resnet18",
    "mobilenet_v2",
    "deep_chain:100",
    "deep_residual:150",
)
# What a stage can depend on, besides a start, and factors that are set: the statistics' own cost of a pass, and one
# inference of each candidate, which runs of few samples don't tell.
GIVEN = {
    "equalize": ("layer", "weight"),
    "statistics": ("compilation", "counted", "layer and sample", "layer"),
    "correct": ("compilation", "layer", "weight", "start"),
    "insert": ("compilation", "layer", "weight"),
    "report": ("compilation", "scored", "layer"),
    "speed": ("compilation", "layer", "start"),
}
SET = {"equalize": {"scored": 1.1}, "statistics": {"pass": 1.15}, "correct": {"scored": 6.0}}


def samples_of(subject: str, models: Path | None, folder: Path, count: int) -> tuple[Path, list[Any]]:
    """Return the path of a network and as many samples."""
    if models is not None and (models / subject / "data.npz").is_file():
        with np.load(models / subject / "data.npz") as data:
            arrays = [data[key] for key in sorted(data.files) if key.startswith("cal_")]
        arrays = [a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays]
        samples = [tuple(array[i % len(array)] for array in arrays) for i in range(min(count, len(arrays[0])))]
        return models / subject / "model.xml", samples
    if subject in SUBJECTS:
        return SUBJECTS[subject].write(folder), list(SUBJECTS[subject].samples(count))
    kind, _, layers = subject.partition(":")
    model = getattr(networks, kind)(int(layers))
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    rng = np.random.default_rng(0)
    return folder / "model.xml", [rng.standard_normal(tuple(model.inputs[0].shape), np.float32) for _ in range(count)]


def child(subject: str, models: Path | None, every: list[dict[str, Any]]) -> None:
    """Print what the cost of each run follows from, and what its stages used."""
    found: list[Work | None] = []
    own = placing.work_of

    def noted(*given: Any) -> Work | None:
        found.append(own(*given))
        return found[-1]

    placing.work_of = noted
    with tempfile.TemporaryDirectory() as folder:
        calib.quantize(networks.deep_chain(4), [np.ones((1, 8, 8, 8), np.float32)] * 8, effort="balanced")  # imports
        path, samples = samples_of(subject, models, Path(folder), max(one["samples"] for one in every))
        for settings in every:
            found.clear()
            result = pipeline.quantize(path, samples[: settings["samples"]], threads=1, **settings)
            stages = {stage.name: round(stage.cpu, 4) for stage in result.report.stages if stage.name != "load"}
            (work,) = found
            assert work is not None
            print(json.dumps({"work": asdict(work), "stages": stages}), flush=True)


def run(subject: str, models: Path | None, every: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what a child finds, run by run."""
    argv = [sys.executable, __file__, "--child", subject, json.dumps(every)]
    argv += ["--models", str(models)] if models else []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) as going:
        assert going.stdout is not None
        for line in going.stdout:
            yield json.loads(line)


def fit(rows: dict[str, dict[str, Any]], effort: str) -> dict[str, dict[str, float]]:
    """Return the factors of each stage: those that make the sum of squares of errors, relative to the run, least."""
    table: dict[str, dict[str, float]] = {}
    runs = [row for key, row in rows.items() if key.split("/")[1] == effort]
    for stage, names in GIVEN.items() if runs else ():
        matrix, target = list[list[float]](), list[float]()
        known = SET.get(stage, {}) if effort != "fast" or stage == "statistics" else {}
        for row in runs:
            whole = sum(row["stages"].values())
            values = dict(zip(FEATURES, features_of(Work(**row["work"]), effort), strict=True))
            matrix.append([values[name] / whole for name in names])
            left = row["stages"].get(stage, 0.0) - sum(factor * values[name] for name, factor in known.items())
            target.append(left / whole)
        scale = np.maximum(np.abs(matrix).max(axis=0), 1e-300)
        found = nnls(np.array(matrix) / scale, np.array(target))[0] / scale
        table[stage] = known | {
            name: float(f"{factor:.2g}") for name, factor in zip(names, found, strict=True) if factor
        }
    return table


def ratios(rows: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Cost, float, float]]:
    """Yield the name of each run, what was said, the seconds used, and the first as a multiple of the second."""
    for key, row in rows.items():
        cost = expected_cost(Work(**row["work"]), key.split("/")[1])
        used = sum(row["stages"].values())
        yield key, cost, used, cost.seconds / used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", default=",".join(CHOSEN))
    parser.add_argument("--models", type=Path)
    parser.add_argument("--samples", default="20,100")
    parser.add_argument("--efforts", default=",".join(EFFORTS))
    parser.add_argument("--targets", default="auto,cpu")
    parser.add_argument("--speed", action="store_true", help="measure speed in these runs")
    parser.add_argument("--output", type=Path, default=DEFAULT)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("SUBJECT", "SETTINGS"))
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], arguments.models, json.loads(arguments.child[1]))
        return
    rows: dict[str, Any] = record.on_file(arguments.output, {})
    subjects = arguments.subjects.split(",")
    subjects += sorted(one.parent.name for one in arguments.models.glob("*/model.xml")) if arguments.models else []
    for count, subject in product(arguments.samples.split(","), filter(None, subjects)):
        every = {
            f"{subject}/{effort}/{count}/{target}{'/timed' if arguments.speed else ''}": {
                "effort": effort,
                "samples": int(count),
                "target": target,
                "speed": arguments.speed,
            }
            for target, effort in product(arguments.targets.split(","), arguments.efforts.split(","))
        }
        every = {key: settings for key, settings in every.items() if key not in rows}
        for key, found in zip(every, run(subject, arguments.models, [*every.values()]) if every else (), strict=False):
            rows[key] = found
            record.write(arguments.output, {}, rows)
            print(key, round(sum(found["stages"].values()), 2), flush=True)
    if arguments.fit:
        for effort in EFFORTS:
            print(effort, *(f"  {stage}: {factors}" for stage, factors in fit(rows, effort).items()), sep="\n")
        return
    print(f"{'run':<50}{'said s':>8}{'used s':>8}{'ratio':>7}")
    found = list(ratios(rows))
    for key, cost, used, ratio in found:
        print(f"{key:<50}{cost.seconds:>8.2f}{used:>8.2f}{ratio:>7.2f}")
    for effort in EFFORTS:
        some = [ratio for key, *_, ratio in found if key.split("/")[1] == effort]
        if some:
            within = sum(1 / 1.5 <= ratio <= 1.5 for ratio in some)
            print(f"{effort}: {within} of {len(some)} within 1.5, median {median(some):.2f}, "
                  f"{min(some):.2f} to {max(some):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
