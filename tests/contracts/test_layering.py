"""Imports point down, and the maths does not know OpenVINO: read from the source of every module."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import calib

ROOT = Path(calib.__file__).resolve().parent

# From the bottom; a module may import from its own layer and from those before it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "progress", "progress_shown", "interrupts", "values"}),
    frozenset({"store", "python_object", "demo", "demo_data", "documents"}),
    frozenset({"ranges", "samples", "metrics", "outputs"}),
    frozenset({"config"}),
    frozenset({"runtime"}),
    frozenset({"loading", "graph"}),
    frozenset({"report", "accuracy", "accuracy_check", "corrections", "statistics"}),
    frozenset({"engine"}),
    frozenset({"pipeline"}),
    frozenset({"zoo"}),
    frozenset({"studio"}),
    frozenset({"cli", "__main__"}),
)

NUMPY_ONLY = ("values", "ranges", "accuracy", "statistics.accumulators", "metrics", "outputs", "accuracy_check")

# What builds nodes or changes those of a model: two packages do and no other, so that whoever wants to know what was
# done to a network has to look nowhere else.
EDITING = frozenset(
    {"opset13", "make_model", "Model", "clone_model", "replace_source_output", "replace_readers", "set_arguments"}
    | {"set_argument", "set_friendly_name", "set_names", "set_rt_info", "add_parameters", "add_results", "add_outputs"}
    | {"add_sinks", "remove_result", "remove_parameter", "validate_nodes_and_infer_types", "PrePostProcessor"}
    | {"replace_node", "replace_parameter"}
)
EDITORS = ("graph", "loading")
ALSO_EDIT = {
    "calib.runtime.session": "makes a model of results for graph",
    "calib.runtime.float_weights": "folds i8 constants of what a simulation or several streams compile",
    "calib.runtime.random_numbers": "holds what draws random numbers still in the clone that is compiled",
    "calib.runtime.machine": "asks OpenVINO for its number of threads with a Relu of its own",
}


@cache
def modules() -> dict[str, Path]:
    """Dotted name → file of every module of the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("calib", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports anywhere in it: modules of ours by dotted name, others by their top-level name.

    Imports for type checkers count too, but not those of calib/__init__.py: that is the table of public names.
    """
    path = modules()[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if module == "calib":
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(_known(name) for name in found) - {module}


def _known(name: str) -> str:
    if name.partition(".")[0] != "calib":
        return name.partition(".")[0]
    while name not in modules():
        name = name.rpartition(".")[0]
    return name


def loads(module: str) -> frozenset[str]:
    """What importing a module runs: what it imports, and the packages that these modules are in."""
    found: set[str] = set()
    for name in {module, *imports(module)}:
        parts = name.split(".")
        found.update(".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return frozenset(found) - {module}


def layer(module: str) -> int:
    if module == "calib":
        return 0
    part = module.split(".")[1]
    for index, names in enumerate(LAYERS):
        if part in names:
            return index
    raise AssertionError(f"calib.{part} has no layer: give it one in LAYERS of {__file__}")


def ways(start: str) -> dict[str, tuple[str, ...]]:
    """Every module that loading ``start`` can lead to, with one way there."""
    found: dict[str, tuple[str, ...]] = {start: (start,)}
    open_ends = [start]
    while open_ends:
        module = open_ends.pop()
        if module not in modules():
            continue
        for name in sorted(loads(module)):
            if name not in found:
                found[name] = (*found[module], name)
                open_ends.append(name)
    return found


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str):
    ours = [name for name in imports(module) if name in modules()]
    upward = [name for name in ours if layer(name) > layer(module)]
    assert not upward, f"{module} imports {upward} from a layer above its own"


@pytest.mark.parametrize("part", NUMPY_ONLY)
def test_numpy_only_code_never_reaches_openvino(part: str):
    inside = [name for name in modules() if name == f"calib.{part}" or name.startswith(f"calib.{part}.")]
    assert inside, f"calib.{part} is gone: mend NUMPY_ONLY"
    for module in inside:
        way = ways(module).get("openvino")
        assert way is None, " → ".join(way or ())


def test_openvino_is_loaded_through_its_one_door():
    # calib.runtime.session keeps OpenVINO's telemetry from starting; submodules may be imported once it has run.
    direct = {name for name in modules() if "openvino" in imports(name)}
    assert "calib.runtime.session" in direct
    for name in direct - {"calib.runtime.session"}:
        assert "calib.runtime.session" in imports(name), f"{name} imports openvino before calib.runtime.session"


def test_packages_of_one_layer_do_not_import_in_circles():
    edges: dict[str, set[str]] = {}
    for module in modules():
        if module == "calib":
            continue
        part = module.split(".")[1]
        for name in imports(module):
            if name in modules() and name != "calib" and name.split(".")[1] != part:
                edges.setdefault(part, set()).add(name.split(".")[1])
    for start in edges:
        seen, open_ends = set(), list(edges[start])
        while open_ends:
            part = open_ends.pop()
            if part not in seen:
                seen.add(part)
                open_ends += edges.get(part, ())
        assert start not in seen, f"calib.{start} is imported by what it imports"


def test_of_scipy_special_alone_is_used_and_loaded_at_its_first_use():
    # A second of CPU to load scipy.stats, .optimize or .signal in every process, and a quarter for scipy.special.
    using = {
        module: text for module, path in modules().items() if "scipy" in (text := path.read_text(encoding="utf-8"))
    }
    assert using
    for module, text in using.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("scipy"), module
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("scipy.") for alias in node.names), module
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "scipy":
                assert node.attr == "special", module


def edits(module: str) -> set[str]:
    """Return the names by which a module builds or changes nodes: in calls, and of what it imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("opset"):
            found.add("opset13")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.add(node.func.attr)
            on = node.func.value
            if node.func.attr == "replace" and isinstance(on, ast.Call) and isinstance(on.func, ast.Attribute):
                found.update({"replace_node"} if on.func.attr == "output" else ())
    return found & EDITING


def test_models_are_edited_in_graph_and_loading_alone():
    editing = {name: edits(name) for name in modules() if edits(name)}
    inside = {name for name in editing if name.split(".")[1] in EDITORS}
    assert inside and editing.keys() - inside == ALSO_EDIT.keys(), {n: editing[n] for n in editing.keys() - inside}


PACKAGES = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - {"demo_data"})  # that one holds no code


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_in_three_lines_what_belongs_there(package: str):
    text = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len([line for line in text.splitlines() if line]) >= 3, text


def test_few_modules_lie_loose_under_the_package():
    assert len(list(ROOT.glob("*.py"))) <= 9
