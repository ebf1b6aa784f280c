"""Deterministic, unique names for every operation, whatever OpenVINO's transformations invent.

OpenVINO names what it creates by a counter of the process (``Multiply_8902``): another number at each run, and at
times the very name of another operation of the file. So every operation is marked before the transformations, and
afterwards the marks that it carries (its own name, or the ``fused_names`` of what was merged into it) say where it
came from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from calib.runtime.session import ov

# A control character: no file's name can hold it (XML 1.0 forbids it), and it is no comma, which separates
# the names in fused_names.
_MARK = "\x1fcalib"


@dataclass(frozen=True)
class Origin:
    """An operation as it was before the transformations.

    Attributes:
        type: the operation's type.
        name: its friendly name, "" if a counter invented it.
        half: whether it is a constant stored in half precision (f16 or bf16).
    """

    type: str
    name: str
    half: bool = False


def bodies(node: ov.Node) -> list[ov.Model]:
    """Return the bodies of an If, Loop or TensorIterator; empty for any other operation."""
    kind = node.get_type_name()
    if kind == "If":
        return [node.get_function(0), node.get_function(1)]  # pyright: ignore[reportAttributeAccessIssue]
    if kind in ("Loop", "TensorIterator"):
        return [node.get_function()]  # pyright: ignore[reportAttributeAccessIssue]
    return []


def walk(model: ov.Model) -> Iterator[tuple[ov.Model, list[ov.Node]]]:
    """Yield the model and then every body inside it, each with its operations in topological order."""
    nodes = model.get_ordered_ops()
    yield model, nodes
    for node in nodes:
        for body in bodies(node):
            yield from walk(body)


def mark(model: ov.Model, invented: Callable[[ov.Node], bool]) -> dict[str, Origin]:
    """Give every operation a mark for a name, in place, and return what each mark stands for.

    Args:
        model: edited in place, bodies included.
        invented: tells whether an operation's present name comes from a counter.
    """
    origins: dict[str, Origin] = {}
    for _, nodes in walk(model):
        for node in nodes:
            kind = node.get_type_name()
            half = kind == "Constant" and node.get_output_element_type(0) in (ov.Type.f16, ov.Type.bf16)
            name = "" if invented(node) else node.get_friendly_name()
            key = f"{_MARK}{len(origins)}"
            origins[key] = Origin(kind, name, half)
            node.set_friendly_name(key)
    return origins


def sources(node: ov.Node, origins: Mapping[str, Origin]) -> list[Origin]:
    """Return the marked operations that were merged into ``node``, in the order they were marked."""
    info = node.get_rt_info()
    fused = info["fused_names_0"].astype(str).split(",") if "fused_names_0" in info else []
    keys = {key for key in fused if key in origins}
    return [origins[key] for key in sorted(keys, key=lambda key: int(key[len(_MARK) :]))]


def restore(model: ov.Model, origins: Mapping[str, Origin]) -> None:
    """Name every operation, in place; no two have one name, not even in different bodies."""
    used: set[str] = set()
    for _, nodes in list(walk(model)):
        for node, name in zip(nodes, _names(nodes, origins, used), strict=True):
            node.set_friendly_name(name)


def _names(nodes: list[ov.Node], origins: Mapping[str, Origin], used: set[str]) -> list[str]:
    """Return unique names for ``nodes``: the file's where one can be told, else type and rank among its type.

    An operation that came through unchanged keeps its name. One that was created gets the name of the one operation
    of its own type that went into it, else of the one operation at all; a name that two would get goes to neither.
    ``used`` holds the names given before, and gets these too.
    """
    kept = [_kept(node, origins) for node in nodes]
    wanted = [name or _inherited(node, origins) for node, name in zip(nodes, kept, strict=True)]
    claims = Counter(name for name, own in zip(wanted, kept, strict=True) if not own)
    reserved = {name for name in kept if name} - used  # each goes to the first operation that has it
    used |= reserved
    ranks: Counter[str] = Counter()
    result: list[str] = []
    for node, own, name in zip(nodes, kept, wanted, strict=True):
        kind = node.get_type_name()
        rank, ranks[kind] = ranks[kind], ranks[kind] + 1
        if own in reserved:
            reserved.remove(own)
            result.append(own)
            continue
        if own or name in used or not name or claims[name] > 1:
            name = _free(own or f"{kind}_{rank}", used)
        used.add(name)
        result.append(name)
    return result


def _kept(node: ov.Node, origins: Mapping[str, Origin]) -> str:
    """Return the name of an operation that came through as what it was, "" for any other."""
    origin = origins.get(node.get_friendly_name())
    return origin.name if origin and origin.type == node.get_type_name() else ""


def _inherited(node: ov.Node, origins: Mapping[str, Origin]) -> str:
    """Return the name of the one operation that ``node`` was made from, "" if there are several or none.

    Of several it is the only one of its type, else the one whose name OpenVINO copied. A constant takes the copied name
    first: that of the Convert behind half-precision weights is the name that they have in a single-precision file.
    """
    known = [origin for origin in sources(node, origins) if origin.name]
    alike = [origin for origin in known if origin.type == node.get_type_name()]
    copied = [origins[name]] if (name := node.get_friendly_name()) in origins and origins[name].name else []
    for group in (copied, alike, known) if node.get_type_name() == "Constant" else (alike, copied, known):
        if len(group) == 1:
            return group[0].name
    return ""


def _free(name: str, used: set[str]) -> str:
    """Return ``name``, or the first of ``name/1``, ``name/2``… that nobody has."""
    candidate, suffix = name, 0
    while candidate in used:
        suffix += 1
        candidate = f"{name}/{suffix}"
    return candidate
