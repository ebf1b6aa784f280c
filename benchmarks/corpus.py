"""Quantize every model of a folder with calib and NNCF: what runs in INT8, how exact, how fast, and what is refused.

    python benchmarks/corpus_models.py FOLDER
    python benchmarks/corpus.py FOLDER [--match TEXT] [--minutes 60] [--effort balanced] [--target T] [--methods M,…]

For calib, NNCF and, where there is attention, NNCF's transformer mode: quantized or why not, the executed INT8 layers
by primitive, SQNR in dB against the FP32 model in f32 on other samples than those calibrated on, whether the saved
model gives the same again, and CPU time against f32 with one thread. The target cpu-no-vnni is for both: weights of 7
bits, NNCF's OverflowFix.ENABLE; so is auto on a CPU whose INT8 sums saturate. Samples are random numbers. Each method
is one process, which a network that ends it is given again alone; a run goes on where the last one (read from the JSON)
stopped. In the end four lists are printed: networks that calib refuses although a layer of them runs in INT8 with NNCF,
those with fewer INT8 layers than NNCF's, those with as many and more than 1 dB less, and errors that are not in calib's
words.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from onnx_corpus import random_sample  # noqa: E402
from record import on_file, write  # noqa: E402

from calib.errors import CalibError  # noqa: E402
from calib.loading.load import input_specs, load_model  # noqa: E402
from calib.runtime.executed import COMPUTING, executed_nodes  # noqa: E402
from calib.runtime.isa import exact_here  # noqa: E402
from calib.runtime.session import Session, compile_model, core, ov  # noqa: E402
from calib.samples.sample import InputSpec  # noqa: E402
from calib.values.sqnr import decibel  # noqa: E402

DEFAULT = ROOT / "benchmarks" / "results" / "corpus.json"
METHODS = ("calib", "nncf", "nncf transformer")
CALIBRATED, OTHERS = 12, 6
MARK = "corpus: "  # begins a line with a result; NNCF prints others
SECONDS = 240  # of CPU time, for one network with one method
HANGS = 20 * SECONDS  # of time in all: such a process waits for something
TICKS = os.sysconf("SC_CLK_TCK")
SUFFIXES = (".xml", ".onnx")
MULTIPLYING = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}

Feed = list[NDArray[Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument(
        "--worker", nargs=3, metavar=("METHOD", "EFFORT", "TARGET"), help="do what stdin names, one line each"
    )
    parser.add_argument("--match", default="", help="text that names of models have to hold")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--target", default="auto", help="calib's setting")
    parser.add_argument("--again", action="store_true", help="measure what the JSON holds once more")
    parser.add_argument("--methods", default=",".join(METHODS), help="those to run, joined by commas")
    parser.add_argument("--json", type=Path, default=DEFAULT)
    options = parser.parse_args()
    if options.worker:
        for line in sys.stdin:
            print(MARK + json.dumps(measured(Path(line.strip()), *options.worker)), flush=True)
        return 0
    settings = {"effort": options.effort, "target": options.target, "calibrated": CALIBRATED, "others": OTHERS}
    results = on_file(options.json, settings)
    end = time.monotonic() + 60 * options.minutes
    paths = sorted(p for p in options.folder.iterdir() if p.suffix in SUFFIXES and options.match in p.name)
    workers = {method: Worker(method, options.effort, options.target) for method in options.methods.split(",")}
    for path in paths:
        row = results.setdefault(path.name, {})
        for method, worker in workers.items():
            if (
                (method in row and not options.again)
                or time.monotonic() > end
                or (method == METHODS[-1] and not attends(row))
            ):
                continue
            row[method] = worker(path)
            print(path.name, method, shown(row[method]), flush=True)
            write(options.json, settings, {name: one for name, one in results.items() if one})
    results = {name: row for name, row in results.items() if row}
    print("\n".join(summary(results)))
    return 0


class Worker:
    """A process that takes one model after the other, and is started again where one ends it."""

    def __init__(self, method: str, effort: str, target: str):
        self._argv = [sys.executable, __file__, "--worker", method, effort, target]
        self._process: subprocess.Popen[str] | None = None
        self._taken = 0  # models by the process there is

    def __call__(self, path: Path) -> dict[str, Any]:
        """Return what ``measured`` does, or how its process ended with this model alone."""
        found = self._measured(path)
        if found.get("crashed") and self._taken > 1:  # what came before may have left it in that state
            found = self._measured(path)
        return found

    def _measured(self, path: Path) -> dict[str, Any]:
        if self._process is None:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._process, self._taken = subprocess.Popen(self._argv, text=True, bufsize=1, **pipes), 0
        self._taken += 1
        process = self._process
        assert process.stdin and process.stdout
        process.stdin.write(f"{path}\n")
        done = threading.Event()
        threading.Thread(target=killed_when_late, args=(process, done), daemon=True).start()
        line = next((line for line in process.stdout if line.startswith(MARK)), "")
        done.set()
        if line:
            return json.loads(line.removeprefix(MARK))
        self._process = None
        ended = process.wait()
        late = f"took longer than {SECONDS} s of CPU time, or {HANGS} s in all"
        why = late if ended == -signal.SIGKILL else f"the process ended with {ended}"
        return {"quantized": False, "crashed": ended != -signal.SIGKILL, "why": why}


def killed_when_late(process: subprocess.Popen[str], done: threading.Event) -> None:
    """Kill a process once it spent its CPU time on one network, which a busy machine does not shorten."""
    start, began = cpu_seconds(process.pid), time.monotonic()
    while not done.wait(1.0):
        if cpu_seconds(process.pid) - start > SECONDS or time.monotonic() - began > HANGS:
            process.kill()
            return


def cpu_seconds(process: int) -> float:
    """Return the user and system CPU time that a process has spent, 0 if it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def samples_of(path: Path, specs: list[InputSpec]) -> list[dict[str, NDArray[Any]]]:
    """Return random samples, of the shapes that stand beside the model where there are any."""
    beside = path.with_suffix(".npz")
    if beside.exists():
        with np.load(beside) as shapes:
            specs = [replace(spec, shape=tuple(shapes[f"input {i}"].tolist())) for i, spec in enumerate(specs)]
    return [random_sample(specs, seed) for seed in range(CALIBRATED + OTHERS)]


def measured(path: Path, method: str, effort: Any, target: Any) -> dict[str, Any]:
    """Quantize one model with one method and return what came of it."""
    try:
        loaded = load_model(path)
        specs = input_specs(loaded.reference)
        samples = samples_of(path, specs)
        feeds = [[sample[spec.name] for spec in specs] for sample in samples]
        exact = compile_model(loaded.reference)
        expected = outputs(exact, feeds[CALIBRATED:])
    except (CalibError, RuntimeError, ValueError) as error:
        return {"quantized": False, "why": f"does not run in f32: {in_one_line(error)}"}
    found: dict[str, Any] = {"attention": has_attention(loaded.model)}
    start = time.process_time()
    try:
        model, kept = quantized(path, method, effort, target, feeds[:CALIBRATED], samples)
        found |= {"kept in float": kept} if kept else {}
    except CalibError as error:
        return found | {"quantized": False, "why": in_one_line(error)}
    except Exception as error:  # NNCF raises what its parts raise
        return found | {"quantized": False, "foreign": True, "why": f"{type(error).__name__}: {in_one_line(error)}"}
    found["seconds"] = round(time.process_time() - start, 2)
    try:
        compiled = compile_model(model)
        ours = outputs(compiled, feeds[CALIBRATED:])
        found |= {"reload": reloaded(model, ours, feeds[CALIBRATED:])}
    except (CalibError, RuntimeError, ValueError) as error:
        return found | {"quantized": False, "why": f"its INT8 model does not run: {in_one_line(error)}"}
    int8 = primitives(model, compiled)
    times = cpu_ms((exact, compiled), feeds[0])
    pairs = zip(zip(*expected, strict=True), zip(*ours, strict=True), strict=True)
    worst = min((sqnr(a, b) for a, b in pairs), default=float("inf"))
    return found | {"quantized": True, "int8": int8, "sqnr_db": worst, "f32_ms": times[0], "int8_ms": times[1]}


def quantized(
    path: Path, method: str, effort: Any, target: Any, feeds: Sequence[Feed], samples: list[Any]
) -> tuple[ov.Model, dict[str, str]]:
    """Return the INT8 model of a file, and for calib the layers that stay in floating point, with the reasons."""
    if method == "calib":
        import calib

        result = calib.quantize(path, samples[:CALIBRATED], effort=effort, target=target, speed=False)
        facts = result.report.layers
        return result.model, {fact.name: fact.reason or "" for fact in facts if fact.planned == "float"}
    import nncf

    nncf.set_log_level("ERROR")
    mode = nncf.ModelType.TRANSFORMER if "transformer" in method else None
    halved = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    saturates = target == "cpu-no-vnni" or (target == "auto" and not exact_here())
    more = {"advanced_parameters": halved} if saturates else {}
    model = core().read_model(path) if path.suffix == ".xml" else ov.convert_model(path)
    before = sum(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
    made = nncf.quantize(model, nncf.Dataset(list(feeds)), subset_size=len(feeds), model_type=mode, **more)
    if sum(node.get_type_name() == "FakeQuantize" for node in made.get_ops()) == before:
        raise ValueError("it inserted no FakeQuantize")
    return made, {}


def outputs(compiled: ov.CompiledModel, feeds: Sequence[Feed]) -> list[list[NDArray[Any]]]:
    session = Session.of(compiled)
    return [session(feed) for feed in feeds]


def reloaded(model: ov.Model, ours: Sequence[Feed], feeds: Sequence[Feed]) -> str:
    """Say whether the model gives the same to the bit when it was saved and read again, or how far it is off."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        ov.save_model(model, path, compress_to_fp16=False)
        again = outputs(compile_model(core().read_model(path)), feeds)
    same = all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
               for one, other in zip(ours, again, strict=True) for a, b in zip(one, other, strict=True))  # fmt: skip
    return "same" if same else "differs"


def primitives(model: ov.Model, compiled: ov.CompiledModel) -> dict[str, int]:
    """Return primitive → number of executed INT8 nodes that multiply: layers, and kernels that took in a MatMul."""
    names = {node.get_friendly_name() for node in model.get_ops() if node.get_type_name() in MULTIPLYING}
    nodes = [node for node in executed_nodes(compiled) if node.int8 and node.kind in COMPUTING]
    return dict(Counter(node.primitive for node in nodes if node.kind != "Subgraph" or names & {*node.originals}))


def has_attention(model: ov.Model) -> bool:
    """Say whether there is fused attention, or a Softmax beside a product of two activations."""
    kinds = Counter(node.get_type_name() for node in model.get_ops())
    products = any(
        node.get_type_name() == "MatMul"
        and not any(value.get_node().get_type_name() == "Constant" for value in node.input_values())
        for node in model.get_ops()
    )
    return bool(kinds["ScaledDotProductAttention"] or (kinds["Softmax"] and products))


def sqnr(expected: Iterable[NDArray[Any]], ours: Iterable[NDArray[Any]]) -> float:
    """Return the SQNR in dB of one output over all samples; infinite for integers and other shapes."""
    pairs = list(zip(expected, ours, strict=True))
    if any(a.dtype.kind != "f" or a.shape != b.shape for a, b in pairs):
        return float("inf")
    signal = sum(float(np.square(a, dtype=np.float64).sum()) for a, _ in pairs)
    noise = sum(float(np.square(b.astype(np.float64) - a).sum()) for a, b in pairs)
    return round(decibel(signal, noise), 2) if signal and noise else float("inf")


def cpu_ms(compiled: Sequence[ov.CompiledModel], feed: Feed, seconds: float = 0.3) -> list[float]:
    """Return the least CPU time of one inference of each, in milliseconds, from interleaved runs with one thread."""
    sessions, least, end = [Session.of(one) for one in compiled], [float("inf")] * len(compiled), time.monotonic()
    for _ in range(200):
        for place, session in enumerate(sessions):
            start = time.process_time()
            session(feed)
            least[place] = min(least[place], (time.process_time() - start) * 1e3)
        if time.monotonic() - end > seconds * len(sessions):
            break
    return [round(value, 4) for value in least]


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def attends(row: dict[str, Any]) -> bool:
    """Say whether a network holds attention, as far as one method has told."""
    return any(one.get("attention") for one in row.values())


def shown(one: dict[str, Any]) -> str:
    if not one["quantized"]:
        return f"not quantized: {one['why'][:160]}"
    layers = sum(one["int8"].values())
    ratio = one["f32_ms"] / one["int8_ms"] if one["int8_ms"] else float("nan")
    return f"{layers} in INT8, {one['sqnr_db']} dB, {ratio:.2f}x, {one['reload']}"


def summary(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the tally of each method, and the networks where calib is behind."""
    lines: list[str] = []
    for method in METHODS:
        rows = [row[method] for row in results.values() if method in row]
        done = [one for one in rows if one["quantized"]]
        layers = sum(sum(one["int8"].values()) for one in done)
        crashed = sum(one.get("crashed", False) for one in rows)
        lines.append(f"{method}: {len(done)} of {len(rows)} quantized, {layers} INT8 layers, {crashed} crashed")
    for title, found in lists(results).items():
        lines += [f"{title}: {len(found)}", *(f"  {line}" for line in found)]
    return lines


def lists(results: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return the networks where calib is behind, by what it is behind in."""
    refused: list[str] = []
    fewer: list[str] = []
    less: list[str] = []
    foreign: list[str] = []
    for name, row in results.items():
        ours, count = row.get("calib"), max(map(layers_of, others(row)), default=0)
        if ours is None:
            continue
        if ours.get("foreign") or ours.get("crashed"):
            foreign.append(f"{name}: {ours['why'][:200]}")
        if not ours["quantized"]:
            refused += [f"{name}, {count} in INT8 with NNCF: {ours['why'][:300]}"] if count else []
            continue
        own = layers_of(ours)
        if own < count:
            best = max(others(row), key=layers_of)
            kept = "; ".join(f"{layer}: {why}" for layer, why in ours.get("kept in float", {}).items())
            fewer.append(f"{name}: {own} of {count}, {ours['sqnr_db']} against {best['sqnr_db']} dB. {kept[:400]}")
        best_db = max((one["sqnr_db"] for one in others(row) if layers_of(one) >= own), default=ours["sqnr_db"])
        if ours["sqnr_db"] < best_db - 1:
            less.append(f"{name}: {ours['sqnr_db']} against {best_db} dB with {own} layers or more")
    return {
        "refused although a layer runs in INT8 with NNCF": refused,
        "fewer INT8 layers than with NNCF": fewer,
        "less exact by more than 1 dB at the same number of layers or more": less,
        "errors that are not in calib's words": foreign,
    }


def others(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what NNCF's forms gave, where they gave a model."""
    return [row[method] for method in METHODS[1:] if method in row and row[method]["quantized"]]


def layers_of(one: dict[str, Any]) -> int:
    return sum(one["int8"].values())


if __name__ == "__main__":
    raise SystemExit(main())
