"""A process has one Core: what is left of two ends it at the next signal (see test_openvino_still.py)."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def makes_a_core(file: Path) -> bool:
    calls = (node.func for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return any("Core" in (getattr(called, "attr", ""), getattr(called, "id", "")) for called in calls)


def test_only_the_session_makes_a_core():
    files = [path for folder in ("calib", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if makes_a_core(path)] == ["calib/runtime/session.py"]
