"""Refuse to compare models that can't be of one network: other inputs, other outputs, or in the wrong order."""

from __future__ import annotations

from collections.abc import Sequence

from calib.errors import UsageError
from calib.loading.load import Loaded, input_specs, output_name
from calib.runtime.session import ov


def require_same_inputs(before: Loaded, after: Loaded) -> None:
    """Refuse to compare two models that can't be given the same samples.

    Raises:
        UsageError: Their inputs differ in shape or type.
    """
    first, second = (input_specs(loaded.model) for loaded in (before, after))
    if [(spec.shape, spec.dtype) for spec in first] != [(spec.shape, spec.dtype) for spec in second]:
        raise UsageError(
            f"{_place(before)} and {_place(after)} take different inputs: {', '.join(map(str, first))} against "
            f"{', '.join(map(str, second))}. Compare a model with what was made from it, with the "
            "same preprocessing settings (--config) where they were embedded"
        )


def require_same_outputs(before: Loaded, after: Loaded) -> None:
    """Refuse to compare two models whose outputs can't be held against each other, one by one in their order.

    Raises:
        UsageError: They have another number of outputs, or two of them can't have the same shape.
    """
    first, second = (list(loaded.reference.outputs) for loaded in (before, after))
    if len(first) != len(second):
        raise UsageError(
            f"{_place(before)} has {_listed(first)} and {_place(after)} has {_listed(second)}: outputs are compared "
            "one by one, in their order. Compare a model with what was made from it, or export both with the same "
            "outputs"
        )
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        if not one.get_partial_shape().compatible(other.get_partial_shape()):
            raise UsageError(
                f"output {number} of {_place(before)}, {_described(one)}, and of {_place(after)}, {_described(other)}, "
                "can't have the same shape, so that the two models are not of one network. Compare a model with what "
                "was made from it, or export both with the same outputs in the same order"
            )


def require_float_first(before: Loaded, after: Loaded) -> None:
    """Refuse a quantized model as the one that a model in floating point is compared with.

    Raises:
        UsageError: The first is quantized, and the second is not.
    """
    if before.quantized and not after.quantized:
        raise UsageError(
            f"{_place(before)} is quantized and {_place(after)} is not: the first is what the second is compared with. "
            "Give the model in floating point first"
        )


def _place(loaded: Loaded) -> str:
    return loaded.facts.source or loaded.facts.name


def _listed(ports: Sequence[ov.Output]) -> str:
    """Return the number of outputs, and the first of them by name."""
    names = ", ".join(repr(output_name(port)) for port in ports[:4]) + (", …" if len(ports) > 4 else "")
    return f"{len(ports)} output{'' if len(ports) == 1 else 's'} ({names})"


def _described(port: ov.Output) -> str:
    return f"{output_name(port)!r} {port.get_partial_shape()}"
