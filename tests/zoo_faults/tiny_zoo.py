"""Zoos of tiny networks, and what tests ask of a zoo's output folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from trust_fixtures.tiny import convnet, images, write_ir
from zoo_faults.nursery import Child, Nursery

from calib.zoo.commands import Zoo, open_store, open_zoo
from calib.zoo.jobs import Attempt, JobRow

EXACT = "target: cpu-no-vnni"  # the same levels of weights, and so the same search, on every CPU
FAST = f"effort: fast, estimator: minmax, {EXACT}"
# Everything in INT8 misses this budget, and some layers back in floating point keep it: every stage has its work.
THOROUGH_ENOUGH = f"effort: balanced, validation: data.npz, metric: relative-l2, max_drop: 0.002, {EXACT}"


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what a condition gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not happen within {seconds} s")


def write_zoo(folder: Path, names: str = "abc", settings: str = FAST, more: str = "") -> Path:
    """Write networks that differ in their first channel, their data and the manifest; return its path."""
    for name in names:
        write_ir(convnet(1.0 + "abcd".index(name)), folder / f"{name}.xml")
    np.savez(folder / "data.npz", image=images(10))
    text = f"sources: [{{glob: '*.xml'}}]\ndefaults: {{calibration: data.npz, {settings}}}\n{more}"
    (folder / "zoo.yaml").write_text(text)
    return folder / "zoo.yaml"


def results(zoo: Zoo) -> dict[str, Any]:
    """Name → bytes of each file of a model or a plan, and each report without what a clock said."""
    root = Path(zoo.output.place)
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.suffix in (".xml", ".bin") or path.name in ("plan.json", "plan.npz"):
            found[name] = path.read_bytes()
        elif path.name == "report.json":
            found[name] = _without_times(json.loads(path.read_text()))
    return found


def _without_times(facts: Any) -> Any:
    """Leave out what the clock said: of the stages, and of one evaluation."""
    if not isinstance(facts, dict):
        return facts
    return {key: _without_times(value) for key, value in facts.items() if key not in ("stages", "bound_s")}


def rows_and_attempts(zoo: Zoo) -> tuple[list[JobRow], list[Attempt]]:
    with open_store(zoo, new=False) as store:
        return store.rows(), store.attempts()


def outcomes(zoo: Zoo) -> dict[str, list[tuple[str, int | None]]]:
    """Job name → outcome and exit code of each of its attempts."""
    rows, attempts = rows_and_attempts(zoo)
    return {row.name: [(one.outcome, one.exit) for one in attempts if one.key == row.key] for row in rows}


def run_undisturbed(nursery: Nursery, manifest: Path, out: Path) -> dict[str, Any]:
    assert supervise(nursery, manifest, out).wait() == 0
    zoo = open_zoo(str(manifest), str(out))
    assert all(attempts == [("done", 0)] for attempts in outcomes(zoo).values())
    return results(zoo)


def supervise(
    nursery: Nursery,
    manifest: Path,
    out: Path,
    point: str = "",
    faults: dict[str, Any] | None = None,
    only: str = "*",
) -> Child:
    """Start a supervisor whose workers meet these faults: job name → a ``[point, how]`` for each attempt."""
    path = manifest.with_name("faults.json")
    path.write_text(json.dumps(faults or {}))
    return nursery.start("zoo_faults.killed_supervisor:main", str(manifest), str(out), point, str(path), only)
