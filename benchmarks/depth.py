"""Measure what depth costs: compiling, the pass that collects statistics, a whole ``fast`` run and saving it.

Networks of tiny layers, so that compiling is nearly all of it: chains of convolutions, residual networks and
transformers. CPU seconds (user and system) at one thread, a process for each network, and as multiples of compiling
the FP32 network once; the pass, as a multiple of a plain pass over the same samples, the two in turns. "Allowed" is
the target of a whole run: 5 compilations of the FP32 network, 2 of the INT8 one and 1.4 passes.

    python benchmarks/depth.py [--kinds chain,residual,transformer] [--layers 100,300,1000,3000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import networks
import numpy as np
import record
from statistics_cost import exhaust, needs_of

import calib
import calib.runtime.session as session
from calib.graph.taps import tap
from calib.runtime.session import compile_model, infer_all, ov
from calib.statistics.flat import InPieces
from calib.statistics.totals import sampled

KINDS = {"chain": networks.deep_chain, "residual": networks.deep_residual, "transformer": networks.deep_transformer}
SAMPLES, ROUNDS = 16, 5
SETTINGS: dict[str, Any] = {"effort": "fast", "speed": False, "threads": 1, "target": "cpu-no-vnni"}


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a call, and what it returns."""
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


@contextmanager
def compilations() -> Iterator[list[tuple[bool, float]]]:
    """Note of every compilation whether the model is quantized, and its CPU seconds."""
    own, found = session.core(), list[tuple[bool, float]]()

    class Noting:
        def __getattr__(self, name: str) -> Any:
            return getattr(own, name)

        def compile_model(self, model: ov.Model, *rest: Any) -> ov.CompiledModel:
            seconds, made = cpu(lambda: own.compile_model(model, *rest))
            found.append((any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()), seconds))
            return made

    made, session.core = session.core, lambda: Noting()
    try:
        yield found
    finally:
        session.core = made


def child(kind: str, layers: int) -> None:
    """Print the figures of one network."""
    model = KINDS[kind](layers)
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal(tuple(model.inputs[0].shape)).astype(np.float32) for _ in range(SAMPLES)]
    calib.quantize(KINDS[kind](8), samples, **SETTINGS)  # imports
    found: dict[str, Any] = {"nodes": len(model.get_ops()), **passes(model, samples)}
    with compilations() as made, tempfile.TemporaryDirectory() as folder:
        whole, result = cpu(lambda: calib.quantize(model, samples, **SETTINGS))
        count = len(made)
        saving, _ = cpu(lambda: result.save(folder))
    plain, int8 = found["plain compile"], [seconds for quantized, seconds in made if quantized]
    found |= {
        "layers": len(result.plan.layers),
        "int8 compile": median(int8),
        "int8 compilations": len(int8),
        "all compilations": len(made),
        "compilations of saving": len(made) - count,
        "fast": whole,
        "stages": {stage.name: round(stage.cpu, 3) for stage in result.report.stages},
        "saving": saving,
        "allowed": 5 * plain + 2 * median(int8) + 1.4 * SAMPLES * found["plain pass ms"] / 1e3,
    }
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}))


def passes(model: ov.Model, samples: list[np.ndarray]) -> dict[str, Any]:
    """Return the cost of compiling, tapped and not, and of both passes, each the median over a few turns."""
    plain, compiled = cpu(lambda: compile_model(model))
    needs = needs_of(model, {"histogram": True})
    pieces, _ = tap(model, needs, sampled(needs, SAMPLES))
    tapped, instrumented = cpu(lambda: InPieces(pieces))
    feeds, times = [{0: sample} for sample in samples], list[tuple[float, float]]()
    for _ in range(ROUNDS):
        once = (infer_all(compiled, feeds), instrumented.outputs(feeds))
        seconds = [cpu(lambda one=one: exhaust(one))[0] for one in once]
        times.append((seconds[0], seconds[1]))
    return {
        "plain compile": plain,
        "tapped compile": tapped,
        "pieces": len(pieces),
        "plain pass ms": median(one for one, _ in times) / SAMPLES * 1e3,
        "pass ratio": median(two / one for one, two in times),
    }


def show(kind: str, row: dict[str, Any]) -> None:
    plain = row["plain compile"]
    print(
        f"{kind:<12}{row['layers']:>6}{plain:>8.2f}{row['tapped compile'] / plain:>8.2f}{row['pieces']:>7}"
        f"{row['plain pass ms']:>8.2f}{row['pass ratio']:>7.2f}{row['int8 compile'] / plain:>7.2f}"
        f"{row['fast']:>8.1f}{row['allowed']:>9.1f}{row['saving']:>8.2f}{row['compilations of saving']:>7}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--layers", default="100,300,1000,3000")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "depth.json")
    parser.add_argument("--again", action="store_true", help="measure what is on file too")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "LAYERS"))
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], int(arguments.child[1]))
        return
    settings = {"samples": SAMPLES, **SETTINGS}
    results = {} if arguments.again else record.on_file(arguments.output, settings)
    print("network     layers   plain  tapped pieces pass ms  ratio   INT8  fast s  allowed  saving  compil.")
    for layers in arguments.layers.split(","):
        for kind in arguments.kinds.split(","):
            rows = results.setdefault(kind, {})
            if layers not in rows:
                argv = [sys.executable, __file__, "--child", kind, layers]
                done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
                rows[layers] = json.loads(done.stdout.splitlines()[-1])
                record.write(arguments.output, settings, results)
            show(kind, rows[layers])


if __name__ == "__main__":
    main()
