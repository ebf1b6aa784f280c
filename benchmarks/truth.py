"""Hold reports against a judge that shares no code with calib, over every network that can be had.

    python benchmarks/truth.py [--only REGEX] [--kinds demo,onnx] [--seeds 0:300] [--folder DIR] [--minutes 60]

Networks are the shipped ones, generated ones (tests/truth_networks.py, one for each seed), decoders with a cache of
keys and values, those of the packages in the extra ``benchmark``, the model tests of the package onnx, and with
``--folder`` those of others: folders with ``model.xml`` and ``data.npz``. For each, one process quantizes and writes;
another, truth_judge.py, new for each network, runs the file as given and the INT8 file that was written. They meet in
files alone. A network on which the first process dies counts as a crash, unless OpenVINO by itself, in a process that
only compiles the file as given, dies of it too: that is counted apart, and so is one that is not done after 600 s of
CPU time. A run goes on where the last one (read from the JSON) stopped.

What is held: on the samples that the report names the SQNR of each output, in f32 and in the default configuration, is
the judge's within .5 dB; the interval that it prints for unseen samples holds the judge's figure there on 95 % of the
networks; each layer that it calls INT8 has an INT8 primitive; inputs and outputs are the file's; a result of little use
and a file that OpenVINO reads otherwise than onnxruntime come with a warning; and nothing crashes. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
DEFAULT = HERE / "results" / "truth.json"
NEAR_DB = 0.5
# Beyond this an error is the rounding of f32, which is another at each number of threads.
ROUNDING_DB = 70.0
USELESS_DB = 10.0
ROUNDED = 0.006  # of the figures in a report
READER_DB = 60.0
SECONDS = 600  # of CPU for one network
PATIENCE = 6  # times as much for wall time, since other work may share the machine
GENERATOR = ("truth_networks", "network_kinds", "network_steps", "strategies_networks", "building")


# -- one process: calib


def calibrate(name: str, folder: Path, others: Path | None, effort: Any) -> dict[str, Any]:
    """Quantize one network and write what the judge needs: both models, samples, and what the report says."""
    import truth_subjects

    import calib
    from calib.errors import CalibError, MissingExtraError

    try:
        case = truth_subjects.case_of(name, folder, others)
    except MissingExtraError as error:
        return {"status": "not installed", "reason": str(error)}
    samples, positions = given(case.calibration)
    start = time.process_time()
    try:
        result = calib.quantize(case.path, samples, effort=effort, target=target(), speed=False)
        result.save(folder / "int8")
    except CalibError as error:
        return {"status": "refused", "reason": f"{type(error).__name__}: {error}"}
    report = json.loads((folder / "int8" / "report.json").read_text(encoding="utf-8"))
    layers = [layer for layer in report["layers"] if layer["executed"] == "i8"]
    named = sorted({positions[one] for one in named_samples(report)})
    write_samples(folder / "named.npz", [case.calibration[position] for position in named])
    write_samples(folder / "unseen.npz", case.unseen)
    written = folder / "int8" / f"{report['model']['name']}.xml"
    content = {
        "model": str(case.path),
        "int8": str(written),
        "int8 layers": [layer["name"] for layer in layers],
        "parts": list((report.get("output_sqnr") or {}).get("parts", {})),
    }
    (folder / "case.json").write_text(json.dumps(content), encoding="utf-8")
    return {
        "status": "written",
        "seconds": round(time.process_time() - start, 2),
        "layers": len(report["layers"]),
        "int8": len(layers),
        "calibration": len(case.calibration),
        "named": len(named),
        "selects": case.selects,
    }


def target() -> Any:
    """Return the target whose models this CPU computes as the quantizers say."""
    from calib.runtime.isa import LIMIT, cpu, exact_int8

    return "cpu" if exact_int8(cpu(), os.environ.get(LIMIT, "")) else "cpu-no-vnni"


def given(samples: Sequence[Any]) -> tuple[list[Any], dict[str, int]]:
    """Return the samples as calib takes them, and the position of each by its id."""
    import calib
    from calib.samples.content import content_id

    made: list[Any] = []
    positions: dict[str, int] = {}
    for position, frames in enumerate(samples):
        feeds = [tuple(frame) if len(frame) > 1 else frame[0] for frame in frames]
        if len(frames) > 1:
            positions.setdefault(content_id([array for frame in frames for array in frame]), position)
            made.append(calib.Sequence(feeds))
            continue
        for frame, feed in zip(frames, feeds, strict=True):
            positions.setdefault(content_id(frame), position)
            made.append(feed)
    return made, positions


def named_samples(report: Mapping[str, Any]) -> list[str]:
    """Return the ids of the samples that the report's SQNR is from, without the number of a repeated one."""
    return [one.partition("#")[0] for one in (report.get("output_sqnr") or {}).get("samples", [])]


def write_samples(path: Path, samples: Sequence[Any]) -> None:
    arrays = {
        f"{number}.{frame}.{position}": array
        for number, frames in enumerate(samples)
        for frame, feed in enumerate(frames)
        for position, array in enumerate(feed)
    }
    np.savez(path, **arrays)


def work() -> int:
    """Quantize the networks whose names arrive on standard input, one JSON line each way."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        others = Path(asked["others"]) if asked["others"] else None
        try:
            answer = calibrate(asked["name"], Path(asked["folder"]), others, asked["effort"])
        except Exception as error:  # the question is whether there are any
            answer = {"status": "crashed", "reason": f"{type(error).__name__}: {' '.join(str(error).split())[-400:]}"}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


class Worker:
    """A process that quantizes; it is started again if it dies or takes too long."""

    def __init__(self):
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer, or a crash."""
        if self._process is None:
            command = [sys.executable, str(HERE / "truth.py"), "--worker"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        process = self._process
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        started, end = cpu_seconds(process.pid), time.monotonic() + PATIENCE * SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready: Sequence[Any] = ()
            while not ready and cpu_seconds(process.pid) < started + SECONDS and time.monotonic() < end:
                ready = selector.select(1.0)
        line = process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        spent = cpu_seconds(process.pid) - started
        self.stop()
        if ready:
            return {"status": "crashed", "reason": f"the process died: {process.returncode}"}
        return {"status": "took too long", "reason": f"not done after {spent:.0f} s of CPU time"}

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            with self._process:  # closes its pipes and waits
                self._process.kill()
            self._process = None


def cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has taken, in seconds; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


PLAIN = "import sys, openvino; openvino.Core().compile_model(sys.argv[1], 'CPU')"


def without_calib(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what is said of a network that a process died on: whether OpenVINO dies of the file as given, too.

    Only where a signal ended the process, and where the file is in the folder, as it is if it was made there.
    """
    files = [*folder.glob("*.xml"), *folder.glob("*.onnx")]
    if not found.get("reason", "").startswith("the process died: -") or not files:
        return found
    command = [sys.executable, "-I", "-c", PLAIN, str(files[0])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return found
    if done.returncode >= 0:
        return found
    reason = f"OpenVINO by itself dies on compiling the file as given (signal {-done.returncode})"
    return {"status": "OpenVINO died", "reason": reason}


# -- another process: the judge


def judge(folder: Path) -> dict[str, Any]:
    """Return what the judge says of a folder, or that it failed."""
    command = [sys.executable, "-I", str(HERE / "truth_judge.py"), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"the judge took more than {PATIENCE * SECONDS} s"}
    if done.returncode:
        return {"failed": f"the judge ended with {done.returncode}: {' '.join(done.stderr.split())[-400:]}"}
    return json.loads(done.stdout)


# -- where they meet


def decibel(energies: Sequence[Sequence[float]]) -> float:
    """Return the SQNR of one output from ``[energy, energy of the error]`` of each sample."""
    power, error = (sum(column) for column in zip(*energies, strict=True)) if energies else (0.0, 0.0)
    if error <= 0:
        return math.inf
    return 10 * math.log10(power / error) if power > 0 and math.isfinite(error) else -math.inf


def apart(one: float, other: float) -> float:
    """Return how many dB two figures are apart, those beyond the rounding of f32 taken for equal."""
    one, other = (min(max(value, -10.0), ROUNDING_DB) for value in (one, other))
    return abs(one - other)


def verdict(report: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of both sides for each part that the report gives an SQNR of, and the faults found."""
    facts = report.get("output_sqnr") or {"parts": {}}
    rows = [figures(name, stated, said["parts"].get(name)) for name, stated in facts["parts"].items()]
    faults = [fault for row in rows for fault in near(row)]
    useless = [row for row in rows if row["unseen"] is not None and row["unseen"] < USELESS_DB]
    useless += [row for row in outputs(said) if row["unseen"] < USELESS_DB]
    if useless and not any("SQNR" in warning for warning in (*report["warnings"], *facts.get("notes", ()))):
        faults.append(f"{useless[0]['name']}: {useless[0]['unseen']:.1f} dB on unseen samples and no warning")
    for layer, ran in said["claims"].items():
        if not any(primitive.lower().endswith("i8") for primitive in ran.values()):
            faults.append(f"{layer} is called INT8 and ran {ran}")
    if said["interface"][0] != said["interface"][1]:
        faults.append(f"inputs or outputs changed: {said['interface'][0]} → {said['interface'][1]}")
    faults += misread(report, said)
    if not rows and not report["warnings"]:
        faults.append("the report gives no SQNR of the outputs, and no reason")
    unsure = [row["name"] for row in rows if row["interval"] is None]
    if unsure and not facts.get("notes"):
        faults.append(f"{unsure[0]}: neither an interval nor a reason why there is none")
    unjudged = [row["name"] for row in rows if row["written"] is None]
    return {
        "parts": rows,
        "outputs": outputs(said),
        "unjudged": unjudged,
        "faults": faults,
        "notes": facts.get("notes", []),
        "warnings": report["warnings"],
    }


def figures(name: str, stated: Mapping[str, Any], said: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the figures of one part: what is stated, and what the judge found on named and unseen samples."""
    heard = said and {
        "written": decibel(said["named"]["int8"][0]),
        "default": decibel(said["named"]["int8 default"][0]),
        "fp32 default": decibel(said["named"]["fp32 default"][0]),
        "unseen": decibel(said["unseen"]["int8"][0]),
    }
    return {
        "name": name,
        "stated": number(stated["held_out_db"]),
        "interval": [number(end) for end in stated["interval"]] if stated["interval"] else None,
        "stated written": number(stated["written_db"]),
        "stated default": number(stated["default_db"]),
        "stated fp32 default": number(stated["fp32_default_db"]),
        **(heard or dict.fromkeys(("written", "default", "fp32 default", "unseen"))),
    }


def outputs(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the SQNR of each floating-point output that nothing selects, whole, on unseen samples."""
    return [
        {"name": names[0], "unseen": decibel(said["unseen"]["int8"][place])}
        for place, names in enumerate(said["names"])
        if said["floats"][place] and not said["selected"][place]
    ]


def misread(report: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    """List the outputs that OpenVINO computes otherwise than onnxruntime without a warning.

    Where onnxruntime has no kernel for the file, the report has to say that they were not compared.
    """
    found = []
    if "not read" in said and not any("onnxruntime" in warning for warning in report["warnings"]):
        found.append(f"onnxruntime does not run the file, not said: {said['not read']}")
    for place, energies in enumerate(said.get("reader", ())):
        heard = decibel(energies)
        if said["floats"][place] and heard < READER_DB and not any("onnxruntime" in w for w in report["warnings"]):
            found.append(f"{said['names'][place][0]}: OpenVINO and onnxruntime are {heard:.1f} dB apart, not warned of")
    return found


def number(value: Any) -> float | None:
    """Return a figure of a report, in which infinite ones are words."""
    return None if value is None else float(value)


def near(row: Mapping[str, Any]) -> list[str]:
    """List the stated figures that are not the judge's on the same samples."""
    found = []
    for kind in ("written", "default", "fp32 default"):
        stated, heard = row[f"stated {kind}"], row[kind]
        if heard is not None and (stated is None or apart(stated, heard) > NEAR_DB):
            found.append(f"{row['name']}: {kind} {stated} dB, the judge {heard:.2f} dB")
    return found


def one(name: str, worker: Worker, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Quantize and judge one network."""
    others = str(options.folder.resolve()) if options.folder else None
    found = worker({"name": name, "folder": str(folder), "others": others, "effort": options.effort})
    if found["status"] != "written":
        return without_calib(found, folder)
    said = judge(folder)
    if "failed" in said:
        return {**found, "status": "crashed", "reason": said["failed"]}
    if options.keep:
        (options.keep / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.json").write_text(json.dumps(said))
    report = json.loads((folder / "int8" / "report.json").read_text(encoding="utf-8"))
    return {**found, "status": "judged", **verdict(report, said)}


def tally(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a run over all networks; a network's interval is that of its worst part, as in a report."""
    judged = [row for row in results.values() if row["status"] == "judged"]
    worst = [min(row["parts"], key=lambda part: part["stated"] or math.inf) for row in judged if row["parts"]]
    printed = [verdict for part in worst if (verdict := held(part)) is not None]
    parts = [verdict for row in judged for part in row["parts"] if (verdict := held(part)) is not None]
    differences = [
        apart(part["stated written"], part["written"])
        for row in judged
        for part in row["parts"]
        if part["written"] is not None
    ]
    return {
        "networks": len(results),
        **Counter(row["status"] for row in results.values()),
        "INT8 layers": sum(row["int8"] for row in judged),
        "networks with faults": sum(bool(row["faults"]) for row in judged),
        "largest difference on named samples, dB": max(differences, default=0.0),
        "parts with an interval": len(parts),
        "that hold": sum(parts),
        "networks with an interval": len(printed),
        "where it holds": sum(printed),
    }


def held(part: Mapping[str, Any]) -> bool | None:
    """Say whether an interval holds the judge's figure on unseen samples; None without both."""
    if part["interval"] is None or part["unseen"] is None:
        return None
    low, high = part["interval"]
    return low - ROUNDED <= part["unseen"] <= high + ROUNDED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="networks whose name holds this regular expression")
    parser.add_argument(
        "--kinds", default="demo,generated,cache,package,benchmark,folder,onnx", help="kinds of networks"
    )
    parser.add_argument("--seeds", default="0:300", help="generated networks, FIRST:BEHIND_LAST")
    parser.add_argument("--folder", type=Path, help="others' networks, one folder each")
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", type=Path, default=DEFAULT)
    parser.add_argument("--keep", type=Path, help="folder for what the judge said of each network, sample by sample")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work()
    import record
    import truth_subjects

    settings = {"effort": options.effort, "code": code()}
    networks: dict[str, Any] = record.on_file(options.json, settings).get("networks", {})
    first, _, last = options.seeds.partition(":")
    end, worker = time.monotonic() + 60 * options.minutes, Worker()
    for name in truth_subjects.names(options.kinds.split(","), range(int(first), int(last)), options.folder):
        if name in networks or not re.search(options.only, name) or time.monotonic() > end:
            continue
        with tempfile.TemporaryDirectory(prefix="truth-") as folder:
            row = one(name, worker, options, Path(folder))
        if row["status"] == "not installed":
            print(name, row["reason"], flush=True)
            continue
        networks[name] = rounded(row)
        said = row.get("faults") or ([row["reason"]] if row["status"] not in ("judged", "refused") else [])
        print(name, row["status"], row.get("seconds", ""), *said, flush=True)
        if len(networks) % 10 == 0:  # what a kill costs
            record.write(options.json, settings, {"tally": tally(networks), "networks": networks})
    worker.stop()
    record.write(options.json, settings, {"tally": tally(networks), "networks": networks})
    print(json.dumps(tally(networks), indent=1))
    bad = ("crashed", "took too long")
    return int(any(row["status"] in bad or row.get("faults") for row in networks.values()))


def code() -> str:
    """Return a digest of calib, of the judge and of the generator: results of two states are never mixed."""
    root = HERE.parent
    files = [*(root / "calib").rglob("*.py"), *HERE.glob("truth*.py")]
    files += [root / "tests" / f"{name}.py" for name in GENERATOR]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]


def rounded(value: Any) -> Any:
    """Return a result with its figures rounded to hundredths."""
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    sys.exit(main())
