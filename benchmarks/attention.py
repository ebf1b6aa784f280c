"""Ask what self-attention in INT8 gains and costs, by the form it is exported in, beside attention in f32 and NNCF.

Blocks of a vision transformer with random weights, once with ScaledDotProductAttention and once with the MatMuls
written out, over 197 and 512 tokens. For each model: the products of attention that are planned and that execute in
INT8, the SQNR on samples that no tool saw, as executed and as simulated (what a CPU computes whose INT8 sums do not
saturate), and its time over that of calib's model with attention in f32, all models interleaved, over several
compilations. NNCF is given the transformer mode.

    pip install -e '.[benchmark]'
    python benchmarks/attention.py [--samples 24] [--seconds 2] [--compilations 5] [--tokens 197,512]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import record
from networks import vision_blocks
from numpy.typing import NDArray
from peers import CalibPeer, NncfPeer, Peer

from calib.runtime.executed import executed_nodes
from calib.runtime.session import F32, SIMULATED, Session, compile_model, core, ov
from calib.runtime.timing import TimedModel, time_models
from calib.values.sqnr import decibel, squared_error

Samples = Sequence[NDArray[np.float32]]

WIDTH, UNSEEN = 384, 8
FUSED, WRITTEN = "one operation", "written out"
QUIET = {"speed": False}
MODELS: Mapping[str, tuple[str, Peer]] = {
    "calib, attention in f32": (FUSED, CalibPeer(settings={**QUIET, "ignore": ("type:ScaledDotProductAttention",)})),
    f"calib, {FUSED}": (FUSED, CalibPeer(settings=QUIET)),
    f"calib, {WRITTEN}": (WRITTEN, CalibPeer(settings=QUIET)),
    f"nncf, {FUSED}": (FUSED, NncfPeer(model_type="TRANSFORMER")),
    f"nncf, {WRITTEN}": (WRITTEN, NncfPeer(model_type="TRANSFORMER")),
}
BESIDE = "calib, attention in f32"


def draw(count: int, tokens: int, seed: int) -> Samples:
    return list(np.random.default_rng(seed).standard_normal((count, 1, tokens, WIDTH)).astype(np.float32))


def sqnr(reference: Session, session: Session, samples: Samples) -> float:
    pairs = [squared_error(reference([x])[0], session([x])[0]) for x in samples]
    signal, noise = np.sum(pairs, axis=0).tolist()
    return round(decibel(signal, noise), 2)


def primitives(model: ov.Model) -> dict[str, int]:
    """Return how often each primitive runs that multiplies two activations, alone or with what is fused to it."""
    found: dict[str, int] = {}
    for node in executed_nodes(compile_model(model)):
        fused = node.kind == "Subgraph" and any("oftmax" in name for name in node.originals)
        if node.kind == "MatMul" or fused:
            found[node.primitive] = found.get(node.primitive, 0) + 1
    return found


def ratios(
    models: Mapping[str, ov.Model], feeds: list[Any], seconds: float, compilations: int
) -> dict[str, list[float]]:
    """Return each model's time over that of ``BESIDE``: median, lowest and highest over the compilations."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(compilations):
        times = time_models([TimedModel(name, model, F32) for name, model in models.items()], feeds,
                            rounds=10_000, seconds=seconds)  # fmt: skip
        beside = times.speedup(BESIDE).value
        for name in models:
            found[name].append(beside / times.speedup(name).value)
    return {name: [round(value, 3) for value in (median(all_), min(all_), max(all_))] for name, all_ in found.items()}


def measure(tokens: int, samples: int, seconds: float, compilations: int) -> dict[str, Any]:
    feeds, unseen = draw(samples, tokens, 1), draw(UNSEEN, tokens, 2)
    with tempfile.TemporaryDirectory() as folder:
        paths = {form: Path(folder) / f"{number}.xml" for number, form in enumerate((FUSED, WRITTEN))}
        for form, path in paths.items():
            ov.save_model(vision_blocks(tokens, WIDTH, fused=form == FUSED), path, compress_to_fp16=False)
        with contextlib.redirect_stdout(sys.stderr):  # NNCF's bars
            models = {name: peer.quantize(paths[form], feeds) for name, (form, peer) in MODELS.items()}
        whole = core().read_model(paths[FUSED])
    reference = Session(whole)
    times = ratios({"f32": whole, **models}, [[x] for x in unseen[:4]], seconds, compilations)
    found: dict[str, Any] = {"f32": {"time": times["f32"], "products": primitives(whole)}}
    for name, model in models.items():
        found[name] = {
            "time": times[name],
            "sqnr": sqnr(reference, Session(model), unseen),
            "sqnr simulated": sqnr(reference, Session(model, SIMULATED), unseen),
            "products": primitives(model),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--compilations", type=int, default=5)
    parser.add_argument("--tokens", default="197,512")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "attention.json")
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("samples", "seconds", "compilations")}
    results = record.on_file(arguments.output, settings)
    for tokens in arguments.tokens.split(","):
        if tokens not in results:
            results[tokens] = measure(int(tokens), **settings)
            record.write(arguments.output, settings, results)
        for name, row in results[tokens].items():
            time, low, high = row["time"]
            print(f"{tokens:>4} {name:<26}{time:6.3f} [{low:.3f}, {high:.3f}] {row.get('sqnr', '-'):>6} dB "
                  f"{row.get('sqnr simulated', '-'):>6} dB  {row['products']}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
