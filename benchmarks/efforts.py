"""Ask whether a higher effort is ever worse than a lower one where samples are few.

    python benchmarks/efforts.py [--only REGEX] [--kinds demo,cache] [--seeds 701:761] [--folder DIR] [--samples 20]
        [--efforts fast,balanced] [--minutes 60]

The networks are those of truth.py. Each is quantized with every effort from the same samples, as many as asked for, and
judged on the others that no effort saw, by the sums of truth_judge.py: SQNR in f32 of each floating-point output that
nothing selects, 10 log10 (sum of squares / sum of squared errors) over all samples. A network's figure is that of its
worst output. A run goes on where the last one (read from the JSON) stopped. Exits with 1 if an effort is more than a
decibel below the one before it on any network.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import record
import truth
import truth_judge
import truth_subjects

import calib
from calib.errors import CalibError, MissingExtraError
from calib.runtime.session import core, ov

DEFAULT = Path(__file__).resolve().parent / "results" / "efforts.json"
ALLOWED_DB = 1.0


def samples_of(name: str, folder: Path, others: Path | None, count: int) -> truth_subjects.Case:
    """Return a network with as many samples to calibrate with as asked for, evenly from those it has."""
    kind, _, seed = name.partition("/")
    case = truth_subjects.case_of(name, folder, others)
    if kind == "generated":
        from truth_networks import truth_network  # here: it needs hypothesis, which the other networks do not

        network = truth_network(int(seed))
        calibration = network.samples(count)
    else:
        calibration = case.calibration[:: max(1, len(case.calibration) // count)][:count]
    return truth_subjects.Case(case.path, calibration, case.unseen, case.selects)


def figures(case: truth_subjects.Case, models: Mapping[str, ov.Model]) -> dict[str, list[float]]:
    """Return the SQNR of each output that is compared, by effort, on the unseen samples."""
    before = core().read_model(case.path)
    places = [
        place
        for place, port in enumerate(before.outputs)
        if port.get_element_type().is_real() and not truth_judge.selected(port)
    ]
    reference = truth_judge.run(core().compile_model(before, "CPU", truth_judge.F32), case.unseen)
    found: dict[str, list[float]] = {}
    for effort, model in models.items():
        outputs = truth_judge.run(core().compile_model(model, "CPU", truth_judge.F32), case.unseen)
        energies = truth_judge.energies(reference, outputs)
        found[effort] = [truth.decibel(energies[place]) for place in places]
    return found


def one(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Quantize a network with each effort and judge it."""
    efforts: list[Any] = options.efforts.split(",")
    case = samples_of(name, folder, options.folder, options.samples)
    samples, _ = truth.given(case.calibration)
    models: dict[str, ov.Model] = {}
    recipes: dict[str, str] = {}
    try:
        for effort in efforts:
            result = calib.quantize(case.path, samples, effort=effort, target=truth.target(), speed=False)
            models[effort] = result.model
            recipes[effort] = next((one.name for one in result.report.candidates if one.chosen), "")
    except CalibError as error:
        return {"status": "refused", "reason": f"{type(error).__name__}: {error}"}
    found = figures(case, models)
    if not all(found.values()):
        return {"status": "nothing to compare"}
    return {"status": "judged", "db": found, "recipes": recipes}


def steps(row: Mapping[str, Any]) -> dict[str, float]:
    """Return how many dB each effort is above the one before it, at the worst output."""
    worst = {effort: min(min(found), truth.ROUNDING_DB) for effort, found in row["db"].items()}
    names = list(worst)
    return {f"{after} - {before}": worst[after] - worst[before] for before, after in pairwise(names)}


def tally(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of all networks, for each pair of efforts."""
    judged = {name: steps(row) for name, row in networks.items() if row["status"] == "judged"}
    found: dict[str, Any] = {"networks": len(networks), "judged": len(judged)}
    for pair in next(iter(judged.values()), {}):
        gains = {name: row[pair] for name, row in judged.items()}
        lowest = min(gains, key=gains.__getitem__)
        found[pair] = {
            "more than a decibel below": [name for name, gain in gains.items() if gain < -ALLOWED_DB],
            "lowest, dB": gains[lowest],
            "lowest on": lowest,
            "mean, dB": fmean(gains.values()),
            "above by a decibel": sum(gain > ALLOWED_DB for gain in gains.values()),
        }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="networks whose name holds this regular expression")
    parser.add_argument("--kinds", default="demo,generated,cache,package,benchmark,folder", help="kinds of networks")
    parser.add_argument("--seeds", default="701:761", help="generated networks, FIRST:BEHIND_LAST")
    parser.add_argument("--folder", type=Path, help="others' networks, one folder each")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--efforts", default="fast,balanced", help="from the lowest to the highest")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", type=Path, default=DEFAULT)
    options = parser.parse_args(arguments)
    settings = {"samples": options.samples, "efforts": options.efforts, "code": truth.code()}
    networks: dict[str, Any] = record.on_file(options.json, settings).get("networks", {})
    first, _, last = options.seeds.partition(":")
    end = time.monotonic() + 60 * options.minutes
    for name in truth_subjects.names(options.kinds.split(","), range(int(first), int(last)), options.folder):
        if name in networks or not re.search(options.only, name) or time.monotonic() > end:
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="efforts-") as folder:
                row = one(name, options, Path(folder))
        except MissingExtraError as error:
            print(name, error, flush=True)
            continue
        networks[name] = truth.rounded(row)
        print(name, json.dumps({key: value for key, value in row.items() if key in ("status", "db")}), flush=True)
        record.write(options.json, settings, {"tally": truth.rounded(tally(networks)), "networks": networks})
    found = tally(networks)
    print(json.dumps(found, indent=1))
    return int(any(pair["more than a decibel below"] for pair in found.values() if isinstance(pair, dict)))


if __name__ == "__main__":
    sys.exit(main())
