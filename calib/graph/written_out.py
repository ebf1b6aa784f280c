"""Write operations that hold matrix products out as MatMuls, so that these can be layers.

Every part is named after the operation that it is made of: the last one as the operation was, the others with an ending
of their own, such as ``attention/scores``. MatMuls carry its name and type along, so that ``--ignore`` finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from calib.graph import attention, einsum
from calib.graph.attention import Named
from calib.graph.operations import AS_IT_IS, WRITTEN_OUT, Refusal
from calib.graph.view import replace_readers
from calib.runtime.session import ov


@dataclass(frozen=True)
class _Form:
    """How an operation is written out.

    Attributes:
        refusal: Returns why a node stays as it is, a row of ``WRITTEN_OUT``; None if it can be written out.
        write_out: Returns the output of what computes the same.
    """

    refusal: Callable[[ov.Node], Refusal | None]
    write_out: Callable[[ov.Node, Named], ov.Output]


_FORMS: Mapping[str, _Form] = {
    "ScaledDotProductAttention": _Form(attention.refusal, attention.write_out),
    "Einsum": _Form(einsum.refusal, einsum.write_out),
}
assert _FORMS.keys() == WRITTEN_OUT.keys()


def why_whole(node: ov.Node) -> str:
    """Return why an operation of ``WRITTEN_OUT`` stays as it is."""
    return str(_FORMS[node.get_type_name()].refusal(node) or AS_IT_IS)


def write_out(model: ov.Model, apart: Collection[ov.Node], name: Callable[[ov.Node, ov.Node, str], None]) -> None:
    """Write every operation of ``WRITTEN_OUT`` out, in place, that can be.

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

        output = node.output(0)
        made = form.write_out(node, named).get_node()
        name(made, node, "")
        names = output.get_names()
        output.get_tensor().set_names(set())
        replace_readers(output, lambda _, made=made: made)
        made.output(0).get_tensor().set_names(names)
    model.validate_nodes_and_infer_types()
