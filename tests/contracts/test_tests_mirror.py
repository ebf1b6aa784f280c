"""Tests mirror the package: where a module's tests are is known from its name, or said by the file that holds them.

A module ``calib/x/y.py`` is tested in ``tests/unit/x/test_y.py``, or a test file's docstring names it behind
``covers:``. A package's ``__init__.py`` counts where it holds more than a docstring and names of its modules.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import calib

ROOT = Path(calib.__file__).resolve().parent
TESTS = Path(__file__).resolve().parents[1]


def holds_code(path: Path) -> bool:
    """Tell whether a file has more than a docstring, imports and ``__all__``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = (ast.Expr, ast.Import, ast.ImportFrom)
    return any(not isinstance(node, plain) and "__all__" not in ast.unparse(node) for node in tree.body)


def modules() -> dict[str, Path]:
    """Dotted name → the unit test of that name, for each module that holds code."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).with_suffix("")
        if not holds_code(path):
            continue
        package = place.name == "__init__"
        name = ".".join(("calib", *(place.parent if package else place).parts))
        found[name] = TESTS / "unit" / place.with_name(f"test_{place.name.strip('_')}.py")
    return found


def covered() -> dict[str, list[str]]:
    """Test file → the modules that its docstring names behind ``covers:``."""
    found = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        _, _, named = text.partition("covers:")
        found[str(path.relative_to(TESTS))] = re.findall(r"calib(?:\.\w+)*", named)
    return found


MODULES, COVERED = modules(), covered()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_test_of_its_name_or_is_named_by_the_test_that_covers_it(module: str):
    named = [file for file, names in COVERED.items() if module in names]
    assert MODULES[module].exists() or named, (
        f"write {MODULES[module].relative_to(TESTS)}, or name {module} behind 'covers:' in the docstring of its test"
    )


def test_what_docstrings_name_are_modules_without_a_test_of_their_own_name():
    assert {name for names in COVERED.values() for name in names} - set(MODULES) == set()
    own = {name for name, path in MODULES.items() if path.exists()}
    assert {name for names in COVERED.values() for name in names} & own == set()
