"""Quantize random networks for a while: what OpenVINO compiles wrongly shows here first.

    python benchmarks/generated_networks.py [--minutes 30] [--json FILE]

Networks are those of tests/strategies_networks.py, one for each seed; a run goes on where the last one (read from the
JSON) stopped. Each network has to compile, keep its inputs and outputs, run in INT8 where the plan says so, and agree
with its own simulation (LP_TRANSFORMS_MODE=NO). Exits with 1 if one did not.
"""

from __future__ import annotations

import argparse
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

from proof import faults, prove  # noqa: E402
from strategies_networks import seeded_network  # noqa: E402

from calib.errors import CalibError  # noqa: E402
from calib.runtime.isa import cpu  # noqa: E402
from calib.runtime.session import compile_model  # noqa: E402

DEFAULT = ROOT / "benchmarks" / "results" / "generated_networks.json"


def judge(seed: int) -> tuple[str, list[str], int]:
    """Return ``(verdict, faults, layers in INT8)`` of one network."""
    network = seeded_network(seed)
    try:
        compile_model(network.model)
    except RuntimeError:
        return "not runnable in f32", [], 0
    try:
        proof = prove(network.model, network.feeds)
    except CalibError as error:
        return f"refused: {type(error).__name__}", [str(error)], 0
    except RuntimeError as error:
        return "failed", [" ".join(str(error).split())[-300:]], 0
    found = faults(proof)
    verdict = "faulty" if found else "quantized" if proof.planned else "nothing to quantize"
    return verdict, found, len(proof.planned)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--json", type=Path, default=DEFAULT)
    options = parser.parse_args()
    state: dict[str, Any] = {"next_seed": 0, "networks": 0, "layers": 0, "verdicts": {}, "faults": {}}
    if options.json.exists():
        state = json.loads(options.json.read_text(encoding="utf-8"))
    verdicts, seed = Counter(state["verdicts"]), state["next_seed"]
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        verdict, found, layers = judge(seed)
        verdicts[verdict] += 1
        if found:
            state["faults"][str(seed)] = {"steps": seeded_network(seed).steps, "faults": found}
            print(seed, *found, file=sys.stderr)
        seed += 1
        state |= {"next_seed": seed, "networks": seed, "layers": state["layers"] + layers, "verdicts": dict(verdicts)}
        state["machine"] = {"cpu": cpu().name, "features": list(cpu().features)}
        state["versions"] = {"python": platform.python_version(), "openvino": version("openvino")}
        if seed % 50 == 0:
            options.json.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    options.json.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    print(f"{state['networks']} networks, {state['layers']} layers in INT8:", dict(verdicts))
    return 1 if verdicts["failed"] + verdicts["faulty"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
