"""Write a benchmark's results as JSON, with the machine and the versions that they were measured with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from calib.runtime.isa import cpu
from calib.runtime.session import default_precision
from calib.values.version import __version__

PACKAGES = ("openvino", "nncf", "numpy", "onnxruntime")


def machine() -> dict[str, Any]:
    found = cpu()
    return {
        "cpu": found.name,
        "features": list(found.features),
        "cores": os.cpu_count(),
        "default precision": default_precision(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "calib": __version__,
        "commit": _commit(),
        **{name: _version(name) for name in PACKAGES},
    }


def _commit() -> str:
    """Return the commit that is measured, with "-dirty" where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not in a repository"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def on_file(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the results that an earlier run with these settings left, empty if there is none: a run can go on."""
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    return record["results"] if record.get("settings") == settings else {}


def write(path: Path, settings: dict[str, Any], results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(), "settings": settings, "results": results}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
