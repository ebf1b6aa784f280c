"""Inspect and quantize the models that the onnx package generates or ships: none crashes, each refusal has a reason.

    python benchmarks/onnx_corpus.py [--json FILE]

Samples are random. Prints a tally and writes it as JSON with the reasons; exits with 1 if anything crashed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from onnx_corpus import corpus, kind_of_reason, verdict  # noqa: E402

from calib.runtime.isa import cpu  # noqa: E402

DEFAULT = ROOT / "benchmarks" / "results" / "onnx_corpus.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=DEFAULT)
    options = parser.parse_args()
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    crashed: dict[str, str] = {}
    quantized: list[str] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own reference data divide by zero
        for name, model in corpus():
            said, reason = verdict(model, Path(folder, "model.onnx"))
            verdicts[said] += 1
            if said == "crashed":
                crashed[name] = reason
                print(name, reason, file=sys.stderr)
            elif said == "quantized":
                quantized.append(name)
            else:
                reasons[kind_of_reason(reason)] += 1
    result = {
        "question": "what calib says of the onnx package's node and model tests",
        "machine": {"cpu": cpu().name, "features": list(cpu().features)},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("onnx", "openvino")},
        "models": verdicts.total(),
        "verdicts": dict(verdicts.most_common()),
        "reasons": dict(reasons.most_common()),
        "quantized": quantized,
        "crashed": crashed,
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{verdicts.total()} models:", ", ".join(f"{count} {said}" for said, count in verdicts.most_common()))
    return 1 if crashed else 0


if __name__ == "__main__":
    raise SystemExit(main())
