"""Inspect and quantize the models that the onnx package generates or ships: none crashes, each refusal has a reason.

    python benchmarks/onnx_backend_tests.py [--minutes 30] [--json FILE]

Samples are random. Prints a tally and writes it as JSON with the reasons; a run goes on where the last one (read from
the JSON) stopped. Exits with 1 if anything crashed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from onnx_corpus import corpus, kind_of_reason, verdict  # noqa: E402

from calib.runtime.isa import cpu  # noqa: E402

DEFAULT = ROOT / "benchmarks" / "results" / "onnx_backend_tests.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=DEFAULT)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    said: dict[str, list[str]] = {}
    if options.json.exists():
        said = json.loads(options.json.read_text(encoding="utf-8"))["said"]
    end, models = time.monotonic() + 60 * options.minutes, 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own reference data divide by zero
        for name, model in corpus():
            models += 1
            if name not in said and time.monotonic() < end:
                found, reason = verdict(model, Path(folder, "model.onnx"))
                said[name] = [found, reason if found == "crashed" else kind_of_reason(reason)]
                if found == "crashed":
                    print(name, reason, file=sys.stderr, flush=True)
                if len(said) % 100 == 0:
                    keep(options.json, said, None)
    keep(options.json, said, models)
    verdicts = Counter(found for found, _ in said.values())
    print(f"{len(said)} of {models} models:", ", ".join(f"{n} {found}" for found, n in verdicts.most_common()))
    return 1 if verdicts["crashed"] else 0


def keep(path: Path, said: dict[str, list[str]], models: int | None) -> None:
    """Write what is known: ``{model: [verdict, reason]}``, with the tally in front."""
    result = {
        "question": "what calib says of the onnx package's node and model tests",
        "machine": {"cpu": cpu().name, "features": list(cpu().features)},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("onnx", "openvino")},
        "models": models,
        "seen": len(said),
        "verdicts": dict(Counter(found for found, _ in said.values()).most_common()),
        "reasons": dict(Counter(reason for found, reason in said.values() if found != "quantized").most_common()),
        "said": said,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
