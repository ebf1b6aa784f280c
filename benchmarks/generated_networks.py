"""Quantize random networks for a while: what OpenVINO compiles wrongly shows here first.

    python benchmarks/generated_networks.py [--minutes 30] [--json FILE]

Networks are those of tests/strategies_networks.py, one for each seed from the first that chooses from all steps; a run
goes on where the last one (read from the JSON) stopped, or begins again where the code that makes them is another. Each
network has to compile, keep its inputs and outputs, run in INT8 where the plan says so, agree with its own simulation
(LP_TRANSFORMS_MODE=NO), stay near FP32, and go through ``calib.quantize``. Exits with 1 if one did not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from proof import error, faults, prove  # noqa: E402
from strategies_networks import WIDER, Generated, seeded_network  # noqa: E402

import calib  # noqa: E402
from calib.errors import CalibError  # noqa: E402
from calib.runtime.isa import cpu  # noqa: E402
from calib.runtime.session import Session  # noqa: E402

DEFAULT = ROOT / "benchmarks" / "results" / "generated_networks.json"
GENERATOR = tuple(ROOT / "tests" / name for name in ("strategies_networks.py", "network_steps.py", "building.py"))


def generator() -> str:
    """Return a digest of the code that turns a seed into a network."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in GENERATOR)).hexdigest()[:16]


def judge(network: Generated) -> tuple[str, list[str], int]:
    """Return ``(verdict, faults, layers in INT8)`` of one network."""
    try:
        Session(network.model)(network.feeds[0])
    except (CalibError, RuntimeError):
        return "not runnable in f32", [], 0
    try:
        proof = prove(network.model, network.feeds)
        found = faults(proof)
    except Exception as raised:  # the question is whether there are any
        return "failed", [f"{type(raised).__name__}: {' '.join(str(raised).split())[-300:]}"], 0
    distance = error(proof.int8_outputs, proof.float_outputs)
    if distance > network.distance(len(proof.planned)):
        found.append(f"INT8 is {distance:.3g} of the signal away from FP32, with {len(proof.planned)} layers")
    found += whole_way(network, bool(proof.planned))
    verdict = "faulty" if found else "quantized" if proof.planned else "nothing to quantize"
    return verdict, found, len(proof.planned)


def whole_way(network: Generated, plannable: bool) -> list[str]:
    """List what ``calib.quantize`` does that it should not: raise, or take a layer out that was planned."""
    feeds = [tuple(feed) for feed in network.feeds]
    try:
        result = calib.quantize(network.model, feeds, effort="fast", estimator="minmax", speed=False, threads=1)
    except CalibError as said:
        return [] if not plannable and "nothing to quantize" in str(said) else [f"quantize refused: {said}"]
    except Exception as raised:  # the question is whether there are any
        return [f"quantize raised {type(raised).__name__}: {' '.join(str(raised).split())[-300:]}"]
    return [
        f"{layer.name} was taken out: {layer.reason}"
        for layer in result.report.layers
        if "OpenVINO" in (layer.reason or "") and "although" in layer.reason
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, default=DEFAULT)
    parser.add_argument("--seeds", type=int, nargs="*", help="only these, with their steps; nothing is written")
    options = parser.parse_args()
    if options.seeds:
        for seed in options.seeds:
            network = seeded_network(seed)
            print(seed, *judge(network), network.steps, flush=True)
        return 0
    state: dict[str, Any] = {
        "generator": generator(),
        "next_seed": WIDER,
        "networks": 0,
        "layers": 0,
        "minutes": 0.0,
        "verdicts": {},
        "steps": {},
        "faults": {},
    }
    if options.json.exists():
        before = json.loads(options.json.read_text(encoding="utf-8"))
        state = before if before.get("generator") == generator() else state
    verdicts, steps, seed = Counter(state["verdicts"]), Counter(state["steps"]), state["next_seed"]
    start = saved = time.monotonic()
    while time.monotonic() < start + 60 * options.minutes:
        network = seeded_network(seed)
        verdict, found, layers = judge(network)
        verdicts[verdict] += 1
        steps.update(network.steps)
        if found:
            state["faults"][str(seed)] = {"steps": network.steps, "faults": found}
            print(seed, *found, file=sys.stderr, flush=True)
        seed += 1
        now = time.monotonic()
        minutes, saved = round(state["minutes"] + (now - saved) / 60, 3), now
        state |= {"next_seed": seed, "networks": seed - WIDER, "layers": state["layers"] + layers, "minutes": minutes}
        state |= {"verdicts": dict(verdicts), "steps": dict(sorted(steps.items()))}
        state["machine"] = {"cpu": cpu().name, "features": list(cpu().features)}
        state["versions"] = {"python": platform.python_version(), "openvino": version("openvino")}
        if seed % 20 == 0:  # what a kill costs
            options.json.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    options.json.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    print(f"{state['networks']} networks, {state['layers']} layers in INT8:", dict(verdicts))
    return 1 if verdicts["failed"] + verdicts["faulty"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
