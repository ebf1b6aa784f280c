"""Bring a model to the form that ``ov.convert_model`` gives, with names that are always the same.

Un-normalized (saved straight from a reader)        normal
    Convolution → Multiply → Add (BatchNormalization)    Convolution with other weights → Add
    Minimum → Maximum                                    Clamp
    Constant(f16) → Convert → Reshape → Convolution      Constant(f32) → Convolution

OpenVINO names the operations it creates by a counter of the process (``Multiply_8902``), differently in each run and
sometimes as another operation of the file. So every operation is marked before the transformations, and afterwards its
marks (its own name, or the ``fused_names`` of operations merged into it) show where it came from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from calib.errors import ModelError
from calib.graph.layers import LAYERS
from calib.graph.operations import RECURRENT, WRITTEN_OUT
from calib.graph.view import bodies, body_labels, replace_readers, set_part_of
from calib.loading.isolate import isolated
from calib.loading.transposes import sink_transposes
from calib.runtime.session import attributes_of, ov, values_of

# From this size on a constant that was half precision in the file stays so, even where fusing changed its values;
# below it (biases, scales) single precision costs nothing and rounding would.
_FP16_ELEMENTS = 4096

_OTHER_FLOATS = (ov.Type.f16, ov.Type.bf16, ov.Type.f64)

# No file's name can hold this control character (XML 1.0), and it is no comma, which separates names in fused_names.
_MARK = "\x1fcalib"


@dataclass(frozen=True)
class Normalized:
    """A normalized model.

    Attributes:
        model: Private clone.
        sentences: Description of what was changed, for the report; empty if nothing was.
        fp16_stored: Names of the f32 constants that the file stores in half precision. All their values are
            representable in it, so they can be stored that way again.
        changed: Whether any operation, connection or constant is another one than before; False if only names are.
    """

    model: ov.Model
    sentences: list[str]
    fp16_stored: frozenset[str]
    changed: bool


def apply_common_transformations(model: ov.Model) -> None:
    """Run, in place, the transformations that ``ov.convert_model`` runs on a model from a reader.

    They are in a private module without a public equivalent (``convert_model`` takes no ``ov.Model``, saving does not
    run them), so only this place uses them; tests/contracts/test_common_transformations.py says what for.
    """
    try:
        from openvino._offline_transformations import apply_moc_transformations
    except ImportError as error:
        raise ModelError(
            f"OpenVINO {ov.__version__} has no apply_moc_transformations, which brings a model to its normal form; "
            "install a version that calib supports: pip install 'openvino>=2026.2,<2027'"
        ) from error
    # cf=False keeps ShapeOf subgraphs: folding them would freeze the shapes of a model that can be reshaped.
    apart = nullcontext()
    if any(node.get_type_name() == "Softmax" for node in model.get_ordered_ops()):
        from calib.loading.attention_apart import attention_apart  # here: most models have none

        apart = attention_apart(model)
    with apart:
        apply_moc_transformations(model, cf=False)


def normalize(
    model: ov.Model,
    invented: Callable[[ov.Node], bool] = lambda node: False,
    *,
    rewrite: bool = True,
    in_f32: bool = True,
    apart: Collection[str] = (),
) -> Normalized:
    """Return a normalized clone of a floating-point model; ``model`` itself is not edited.

    Constant subgraphs (Convert, Reshape, Transpose… on weights) and other floating-point types become f32: only then do
    all layers that read them run in INT8.

    Args:
        model: Floating-point model.
        invented: Function that tells whether an operation's name comes from a counter and must not be kept.
        rewrite: Whether to run the transformations; False only sets names, because the i8 weights of a quantized model
            could be folded.
        in_f32: Whether what computes in another floating-point type is brought to f32.
        apart: Friendly names of operations, not those inside bodies, that the transformations must leave as they are.
    """
    clone = model.clone()
    kept = [node for node in clone.get_ordered_ops() if node.get_friendly_name() in apart]
    origins = mark(clone, invented)
    retyped: list[str] = []
    if in_f32 and any(origin.other_float for origin in origins.values()):
        from calib.loading.element_types import bring_to_f32  # here: few models compute in other types

        retyped = bring_to_f32(clone)
    if not rewrite:
        fp16 = _half_precision_constants(clone, origins)[0] if retyped else []
        restore(clone, origins)
        return Normalized(clone, retyped, frozenset(node.get_friendly_name() for node in fp16), bool(retyped))
    before, wiring = _histogram(clone), _wiring(clone)
    parts = _write_out(clone, kept, origins) if before.keys() & (WRITTEN_OUT.keys() | RECURRENT) else {}
    sunk = sink_transposes(clone, {node.get_friendly_name() for node in kept}) if "Transpose" in before else 0
    with isolated(clone, kept) if kept else nullcontext():
        apply_common_transformations(clone)
    computed = _compute_weights(clone)
    fp16, rounded = _half_precision_constants(clone, origins)
    changed = bool(retyped) or _wiring(clone) != wiring
    restore(clone, origins)
    for node in (one for one in clone.get_ordered_ops() if one.get_friendly_name() in parts):
        set_part_of(node, *parts[node.get_friendly_name()])
    _forget_marks(clone)
    sentences = retyped + computed + _describe(before, _histogram(clone), origins)
    if sunk:
        sentences.append(
            f"operations on channels-last data that were moved in front of a Transpose, to be fused with layers: {sunk}"
        )
    if rounded:
        sentences.append(
            f"{rounded} constants that are stored in half precision changed when operations were fused into them; "
            "they were rounded to half precision again"
        )
    return Normalized(clone, sentences, frozenset(node.get_friendly_name() for node in fp16), changed)


def _compute_weights(model: ov.Model) -> list[str]:
    """Compute, in place, weights that are made from constants, and say so; empty if there are none."""
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() in LAYERS]
    read = ([value.get_node().get_type_name() for value in node.input_values()[:2]] for node in layers)
    if all("Constant" in kinds for kinds in read):
        return []
    from calib.loading.constant_weights import compute_weights, weights_to_compute  # here: few models have any

    weights = weights_to_compute(model)
    return [compute_weights(weights)] if weights else []


def _write_out(model: ov.Model, kept: Collection[ov.Node], origins: dict[str, Origin]) -> dict[str, tuple[str, str]]:
    """Write operations out as parts, in place, and mark these; return name of a layer → name and type of its whole.

    Args:
        model: Marked model.
        kept: Operations that stay as they are.
        origins: Origin of each mark, to which those of the new operations are added.
    """
    from calib.graph.written_out import write_out  # here: few models have any

    parts: dict[str, tuple[str, str]] = {}
    ranks: Counter[str] = Counter()
    wholes: dict[str, str] = {}  # mark → name
    for node in model.get_ordered_ops():
        mark, kind = node.get_friendly_name(), node.get_type_name()
        origin = origins.get(mark)  # a Convert that brings an input to f32 has none
        wholes[mark] = (origin.name if origin else "") or f"{kind}_{ranks[kind]}"
        ranks[kind] += 1

    def name(made: ov.Node, whole: ov.Node, ending: str) -> None:
        mark, kind = f"{_MARK}{len(origins)}", made.get_type_name()
        inside, _, part = ending.rpartition("/")
        if part in origins:  # of the operation in a body that it is made of
            ending = f"{inside}/{origins[part].name or origins[part].type}"
        own = wholes[whole.get_friendly_name()]
        text = f"{own}/{ending}" if ending else own
        half = kind == "Constant" and made.get_output_element_type(0) in (ov.Type.f16, ov.Type.bf16)
        origins[mark] = Origin(kind, text, half)
        made.set_friendly_name(mark)
        if kind == "MatMul" or kind in RECURRENT:
            parts[text] = own, whole.get_type_name()

    write_out(model, kept, name)
    return parts


def _wiring(model: ov.Model) -> dict[str, tuple[object, ...]]:
    """Return what each operation is and reads, by its name: equal for two models that compute the same by design.

    A Constant is known by the memory of its values, which clones of a model share.
    """
    found: dict[str, tuple[object, ...]] = {}
    for _, nodes in walk(model):
        for node in nodes:
            own = values_of(node).ctypes.data if node.get_type_name() == "Constant" else str(attributes_of(node))
            read = tuple((value.get_node().get_friendly_name(), value.get_index()) for value in node.input_values())
            found[node.get_friendly_name()] = (node.get_type_name(), own, read)
    return found


def _half_precision_constants(model: ov.Model, origins: dict[str, Origin]) -> tuple[list[ov.Node], int]:
    """Return the f32 constants made from half-precision ones, and the number that had to be rounded (in place)."""
    found: list[ov.Node] = []
    rounded = 0
    if not any(origin.half for origin in origins.values()):
        return found, rounded
    for node in [node for _, nodes in walk(model) for node in nodes]:
        if node.get_type_name() != "Constant" or node.get_output_element_type(0) != ov.Type.f32:
            continue
        own = origins.get(node.get_friendly_name())
        if not (own and own.half) and not any(origin.half for origin in sources(node, origins)):
            continue
        values = values_of(node)
        with np.errstate(over="ignore"):
            again = values.astype(np.float16).astype(np.float32)
        if np.array_equal(values, again, equal_nan=True):
            found.append(node)
        elif values.size >= _FP16_ELEMENTS and np.isfinite(again).all():
            found.append(_replace_constant(node, again))
            rounded += 1
    return found, rounded


def _replace_constant(node: ov.Node, values: np.ndarray) -> ov.Node:
    """Replace ``node`` by a constant with other values, the same name and the same marks.

    Changing the values in place would change the user's model too, because clones share the memory of constants.
    """
    other = ov.op.Constant(values)
    other.set_friendly_name(node.get_friendly_name())
    if "fused_names_0" in node.get_rt_info():
        other.get_rt_info()["fused_names_0"] = node.get_rt_info()["fused_names_0"].astype(str)
    return replace_readers(node.output(0), lambda _: other)


def _forget_marks(model: ov.Model) -> None:
    """Remove the marks that the transformations left in the operations' runtime information.

    A ShapeOf marked as not to be folded, which no file holds, makes an LSTM a loop (184 µs, not 79, in a small one).
    """
    from openvino._offline_transformations import apply_fused_names_cleanup

    apply_fused_names_cleanup(model)
    for info in (node.get_rt_info() for _, nodes in walk(model) for node in nodes if node.get_type_name() == "ShapeOf"):
        if "DisableConstantFolding_0" in info:
            del info["DisableConstantFolding_0"]


def _histogram(model: ov.Model) -> Counter[str]:
    return Counter(node.get_type_name() for _, nodes in walk(model) for node in nodes)


def _describe(before: Counter[str], after: Counter[str], origins: dict[str, Origin]) -> list[str]:
    """Return sentences on what normalization did; constants and their conversions apart from the rest."""
    sentences: list[str] = []
    constants = ("Constant",)
    gone = {kind: count for kind, count in sorted((before - after).items()) if kind not in constants}
    new = {kind: count for kind, count in sorted((after - before).items()) if kind not in constants}
    if gone or new:
        parts = [f"{count} {kind} fewer" for kind, count in gone.items()]
        parts += [f"{count} {kind} more" for kind, count in new.items()]
        sentences.append(
            f"brought to the form that ov.convert_model gives: {before.total()} → {after.total()} operations "
            f"({', '.join(parts)})"
        )
    halves = sum(origin.half for origin in origins.values())
    if halves:
        sentences.append(f"{halves} constants are stored in half precision")
    return sentences


@dataclass(frozen=True)
class Origin:
    """An operation as it was before the transformations.

    Attributes:
        type: Type of the operation.
        name: Friendly name; "" if it came from a counter.
        half: Whether it is a constant stored in half precision (f16 or bf16).
        other_float: Whether it is an operation whose outputs are f16, bf16 or f64.
    """

    type: str
    name: str
    half: bool = False
    other_float: bool = False


def walk(model: ov.Model) -> Iterator[tuple[ov.Model, list[ov.Node]]]:
    """Yield the model and every body inside it, each with its operations in topological order."""
    nodes = model.get_ordered_ops()
    yield model, nodes
    for node in nodes:
        for body in bodies(node):
            yield from walk(body)


def mark(model: ov.Model, invented: Callable[[ov.Node], bool]) -> dict[str, Origin]:
    """Rename every operation to a mark, in place, and return the origin of each mark.

    Args:
        model: Model, which is edited in place with its bodies.
        invented: Function that tells whether an operation's present name comes from a counter.
    """
    origins: dict[str, Origin] = {}
    for _, nodes in walk(model):
        for node in nodes:
            kind = node.get_type_name()
            half = kind == "Constant" and node.get_output_element_type(0) in (ov.Type.f16, ov.Type.bf16)
            other = kind != "Constant" and any(port.get_element_type() in _OTHER_FLOATS for port in node.outputs())
            name = "" if invented(node) else node.get_friendly_name()
            key = f"{_MARK}{len(origins)}"
            origins[key] = Origin(kind, name, half, other)
            node.set_friendly_name(key)
    return origins


def sources(node: ov.Node, origins: Mapping[str, Origin]) -> list[Origin]:
    """Return the marked operations that were merged into ``node``, in the order they were marked."""
    info = node.get_rt_info()
    fused = info["fused_names_0"].astype(str).split(",") if "fused_names_0" in info else []
    keys = {key for key in fused if key in origins}
    return [origins[key] for key in sorted(keys, key=lambda key: int(key[len(_MARK) :]))]


def restore(model: ov.Model, origins: Mapping[str, Origin], used: set[str] | None = None, prefix: str = "") -> None:
    """Name every operation in place; names are unique, and those in bodies say in which: ``branch/then/conv``.

    Args:
        model: Model or body.
        origins: Origin of each mark.
        used: Names given before, to which these are added.
        prefix: Start of the names in a body: the name of its owner and what the body is called.
    """
    used = set() if used is None else used
    nodes = model.get_ordered_ops()
    for node, name in zip(nodes, _names(nodes, origins), strict=True):
        name = _free(name if name.startswith(prefix) else prefix + name, used)
        used.add(name)
        node.set_friendly_name(name)
    for node in nodes:
        for label, body in zip(body_labels(node), bodies(node), strict=True):
            restore(body, origins, used, f"{node.get_friendly_name()}/{label}/")


def _names(nodes: list[ov.Node], origins: Mapping[str, Origin]) -> list[str]:
    """Return unique names for ``nodes``: the file's name if it can be told, else type and number among its type.

    An operation that is unchanged keeps its name. One that was created gets the name of the only operation of its type
    that went into it, else of the only operation at all; a name that two would get goes to neither.
    """
    kept = [_kept(node, origins) for node in nodes]
    wanted = [name or _inherited(node, origins) for node, name in zip(nodes, kept, strict=True)]
    claims = Counter(name for name, own in zip(wanted, kept, strict=True) if not own)
    reserved = {name for name in kept if name}  # each goes to the first operation that has it
    used = set(reserved)
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
    """Return the name of an operation that is unchanged, "" for any other."""
    origin = origins.get(node.get_friendly_name())
    return origin.name if origin and origin.type == node.get_type_name() else ""


def _inherited(node: ov.Node, origins: Mapping[str, Origin]) -> str:
    """Return the name of the operation that ``node`` was made from, "" if it can't be told.

    Of several it is the only one of its type, else the one whose name OpenVINO copied. A constant takes the copied name
    first: that of the Convert after half-precision weights is the name that they have in a single-precision file.
    """
    known = [origin for origin in sources(node, origins) if origin.name]
    alike = [origin for origin in known if origin.type == node.get_type_name()]
    copied = [origins[name]] if (name := node.get_friendly_name()) in origins and origins[name].name else []
    for group in (copied, alike, known) if node.get_type_name() == "Constant" else (alike, copied, known):
        if len(group) == 1:
            return group[0].name
    return ""


def _free(name: str, used: set[str]) -> str:
    """Return ``name``, or the first of ``name/1``, ``name/2``… that is not used."""
    candidate, suffix = name, 0
    while candidate in used:
        suffix += 1
        candidate = f"{name}/{suffix}"
    return candidate
