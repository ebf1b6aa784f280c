"""Write operations out as parts that can be layers: attention and Einsum as MatMuls, recurrence as sequences.

Every part is named after the operation that it is made of: the last one as the operation was, the others with an ending
of their own, such as ``attention/scores``. Layers carry its name and type along, so that ``--ignore`` finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from calib.graph import attention, einsum, sequences
from calib.graph.attention import Named
from calib.graph.operations import AS_IT_IS, AS_SEQUENCES, WRITTEN_OUT, Refusal
from calib.runtime.session import ov


@dataclass(frozen=True)
class _Form:
    """How an operation is written out.

    Attributes:
        refusal: Returns why a node stays as it is, for MatMuls a row of ``WRITTEN_OUT``; None if it can be written out.
        write_out: Returns what computes the same as each output.
    """

    refusal: Callable[[ov.Node], Refusal | None]
    write_out: Callable[[ov.Node, Named], Sequence[ov.Output]]


_FORMS: Mapping[str, _Form] = {
    "ScaledDotProductAttention": _Form(attention.refusal, lambda *given: [attention.write_out(*given)]),
    "Einsum": _Form(einsum.refusal, lambda *given: [einsum.write_out(*given)]),
    **dict.fromkeys(sequences.SPLIT, _Form(sequences.refusal_to_split, sequences.split_directions)),
    **dict.fromkeys(("TensorIterator", "Loop"), _Form(sequences.refusal_to_unroll, sequences.cell_to_sequence)),
}
assert _FORMS.keys() == WRITTEN_OUT.keys() | AS_SEQUENCES


def why_whole(node: ov.Node) -> str:
    """Return why an operation of ``WRITTEN_OUT`` stays as it is."""
    return str(_FORMS[node.get_type_name()].refusal(node) or AS_IT_IS)


def write_out(model: ov.Model, apart: Collection[ov.Node], name: Callable[[ov.Node, ov.Node, str], None]) -> None:
    """Write every operation of ``WRITTEN_OUT`` and ``AS_SEQUENCES`` out, in place, that can be.

    Args:
        model: Model, edited in place; bodies inside it are not.
        apart: Operations that stay as they are.
        name: Names a new node, given the operation that it is made of and its own ending, "" for the last node.
    """
    left = {node.get_instance_id() for node in apart}
    for node in model.get_ordered_ops():
        form = _FORMS.get(node.get_type_name())
        if form is None or node.get_instance_id() in left or form.refusal(node):
            continue

        def named(made: ov.Node, ending: str, whole: ov.Node = node) -> ov.Output:
            name(made, whole, ending)
            return made.output(0)

        parts = form.write_out(node, named)
        name(parts[0].get_node(), node, "")
        for output, made in zip(node.outputs(), parts, strict=True):
            names = output.get_names()
            output.get_tensor().set_names(set())
            for reader in list(output.get_target_inputs()):
                reader.replace_source_output(made)
            made.get_tensor().set_names(names)
    model.validate_nodes_and_infer_types()
