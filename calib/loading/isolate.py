"""Keep some operations of a model out of its transformations, and find which ones have to be kept out.

An isolated operation is cut out of the graph while the transformations run::

    producer ──▶ operation ──▶ reader        producer ──▶ Result       Parameter ──▶ reader

and joined to it again afterwards, so that no pattern of a transformation can match it, or anything across it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from calib.runtime.session import ov

op = ov.opset13

# Parameters and Results are the interface, Constants belong to their readers, and state has to stay a pair.
_NEVER = frozenset({"Parameter", "Result", "Constant", "ReadValue", "Assign"})


def can_be_isolated(node: ov.Node) -> bool:
    """Return whether an operation can be isolated.

    One that computes integers can't: shapes and axes come from them, and readers of a Parameter in their place would
    lose what is known about their own shapes.
    """
    real = all(port.get_element_type().is_real() for port in node.outputs())
    return real and node.get_type_name() not in _NEVER


@contextmanager
def isolated(model: ov.Model, nodes: Sequence[ov.Node]) -> Iterator[None]:
    """Context in which these operations of a model are cut out of it; the model is edited in place.

    Args:
        model: Model to transform inside the context.
        nodes: Operations of it for which ``can_be_isolated`` holds, in topological order.
    """
    read: list[tuple[ov.Input, ov.Node]] = []
    made: list[tuple[ov.Output, ov.Node]] = []
    for node in nodes:
        for port in node.inputs():
            source = port.get_source_output()
            if source.get_node().get_type_name() != "Constant":
                read.append((port, op.result(source)))
        for output in node.outputs():
            stand_in = op.parameter(output.get_partial_shape(), output.get_element_type())
            for reader in list(output.get_target_inputs()):
                reader.replace_source_output(stand_in.output(0))
            made.append((output, stand_in))
    model.add_results([result for _, result in read])
    model.add_parameters([stand_in for _, stand_in in made])
    yield
    for port, result in read:
        port.replace_source_output(result.input_value(0))
        model.remove_result(result)
    for output, stand_in in made:
        for reader in list(stand_in.output(0).get_target_inputs()):
            reader.replace_source_output(output)
        model.remove_parameter(stand_in)
    model.validate_nodes_and_infer_types()


def fewest(names: Sequence[str], fits: Callable[[Collection[str]], bool]) -> list[str]:
    """Return a smallest set of names that fits, in their order: without any one of them it does not.

    It takes about ``2 k log2(n / k)`` calls for k of n names, as QuickXplain does (Junker, 2004, algorithm 1).

    Args:
        names: All names, which fit together.
        fits: Function that tells whether a set fits; with a name more, a set that fits goes on to.
    """

    def search(kept: list[str], added: bool, some: Sequence[str]) -> list[str]:
        if added and fits(kept):
            return []
        if len(some) == 1:
            return list(some)
        first, second = some[: len(some) // 2], some[len(some) // 2 :]
        of_second = search([*kept, *first], True, second)
        of_first = search([*kept, *of_second], bool(of_second), first)
        return [*of_first, *of_second]

    return search([], False, names) if names else []
