"""What nothing in the package uses is deleted: names as vulture finds them, and parameters that no call passes.

Calls are told apart by name alone, so that every parameter found here is really passed by nobody in the package.
Functions that are handed on as values (a table's, a callback, what ``partial`` binds) are left out: who calls those
can't be read from the source.
"""

from __future__ import annotations

import ast
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import vulture

import calib

ROOT = Path(calib.__file__).resolve().parent
REPOSITORY = Path(__file__).resolve().parents[2]

# "module.function(parameter)" that nothing in the package passes → why it stays.
PASSED_BY_OTHERS = {
    "store.RunStore(timeout)": "tests wait shorter, and longer, for another process",
    "zoo.process.Local(command)": "tests start workers that meet faults",
    "zoo.worker.main(progress)": "tests meet faults at a stage of a worker",
}


def unused(*more: Path) -> set[str]:
    options = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["vulture"]
    found = vulture.Vulture(ignore_decorators=options["ignore_decorators"])
    found.scavenge([ROOT, *more])
    return {str(item.name) for item in found.get_unused_code(options["min_confidence"])}


def allowed() -> Path:
    return REPOSITORY / ".ci" / "unused_allowed.py"


def test_every_name_is_used_by_the_package_or_allowed_with_a_reason():
    assert unused(allowed()) == set()
    for line in allowed().read_text(encoding="utf-8").partition('"""\n\n')[2].splitlines():
        assert not line or line.startswith("# ") or "  # " in line, f"say who uses {line}"


def test_every_name_that_is_allowed_would_be_found():
    tree = ast.parse(allowed().read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"_"}
    assert names - unused() == set()


@dataclass(frozen=True)
class Call:
    """How a function is called: positional arguments, keywords, and whether * and ** are among them."""

    positional: int
    keywords: frozenset[str]
    star: bool
    keyword_star: bool

    def passes(self, name: str, position: int | None) -> bool:
        by_position = position is not None and (self.star or self.positional > position)
        return by_position or self.keyword_star or name in self.keywords


@dataclass(frozen=True)
class Parameter:
    """An optional parameter: of which function (a class for its fields and ``__init__``), and its position if any."""

    module: str
    function: str
    name: str
    position: int | None
    field: bool = False

    def __str__(self) -> str:
        return f"{self.module}.{self.function}({self.name})"


@cache
def trees() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def own_name(node: ast.AST | None) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def read() -> tuple[dict[str, list[Call]], Counter[str]]:
    """Return the calls by the name of what is called, and how often each name is used as a value."""
    calls: dict[str, list[Call]] = defaultdict(list)
    values: Counter[str] = Counter()
    for tree in trees().values():
        called, annotations = set(), set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called.add(id(node.func))
                keywords = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
                star = any(isinstance(argument, ast.Starred) for argument in node.args)
                call = Call(len(node.args), keywords, star, len(keywords) < len(node.keywords))
                calls[own_name(node.func)].append(call)
            for part in ("annotation", "returns"):
                if (annotation := getattr(node, part, None)) is not None:
                    annotations |= {id(inner) for inner in ast.walk(annotation)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                values[own_name(node)] += id(node) not in called and id(node) not in annotations
    return calls, values


def optionals() -> Iterator[Parameter]:
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield from fields(module, node)
            inside = isinstance(node, ast.ClassDef)
            for one in node.body if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else ():
                if isinstance(one, ast.FunctionDef):
                    yield from parameters(module, one, node.name if inside else "")


def fields(module: str, node: ast.ClassDef) -> Iterator[Parameter]:
    """Yield the fields with a default of a frozen dataclass or a named tuple: later they can't be given."""
    if any("frozen=True" in ast.unparse(d) for d in node.decorator_list) or "NamedTuple" in map(own_name, node.bases):
        declared = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
        for position, one in enumerate(declared):
            if one.value is not None and "ClassVar" not in ast.unparse(one.annotation):
                yield Parameter(module, node.name, ast.unparse(one.target), position, field=True)


def parameters(module: str, node: ast.FunctionDef, owner: str) -> Iterator[Parameter]:
    static = "staticmethod" in map(own_name, node.decorator_list)
    ordered = (node.args.posonlyargs + node.args.args)[1 if owner and not static else 0 :]
    function = owner if node.name == "__init__" else node.name
    first = len(ordered) - len(node.args.defaults)
    for position, argument in enumerate(ordered):
        if position >= first:
            yield Parameter(module, function, argument.arg, position)
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if default is not None:
            yield Parameter(module, function, argument.arg, None)


def passed_by_nobody() -> set[str]:
    calls, values = read()
    found = set()
    for one in optionals():
        ways = calls.get(one.function, [])
        # dataclasses.replace gives fields to a value, whichever that is
        replaced = one.field and any(call.passes(one.name, None) for call in calls["replace"])
        reaches = replaced or any(call.passes(one.name, one.position) for call in ways)
        if ways and not reaches and not values[one.function] and one.function not in calib.__all__:
            found.add(str(one))
    return found


def test_every_optional_parameter_is_passed_by_a_call_in_the_package():
    assert passed_by_nobody() == set(PASSED_BY_OTHERS)
