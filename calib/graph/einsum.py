"""Write Einsum out as a MatMul between Transposes and Reshapes, which can be a layer.

::

    "bti,ihd->bhtd"      x ──▶ MatMul(W as (h·d, i)) ──▶ Reshape (b, t, h, d) ──▶ Transpose (b, h, t, d)

Labels that both factors have are summed over, or stack matrices where the output has them too; the others are rows and
columns. Factors beyond the second are multiplied one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np

from calib.graph.attention import Named
from calib.graph.operations import EINSUM, Refusal
from calib.runtime.session import attributes_of, ov

op = ov.opset13

Labels = tuple[str, ...]
Size = int | None  # None for one that is not known


@dataclass(frozen=True)
class _Step:
    """An operation on one tensor: the axes to sum over, the order of axes, or the new shape (0: as it was)."""

    kind: Literal["sum", "transpose", "reshape"]
    values: tuple[int, ...]


@dataclass(frozen=True)
class _Factor:
    """A tensor whose axes have labels, and what makes it of an input or a product.

    Attributes:
        shape: Length of each axis.
        constant: Whether it holds weights.
    """

    labels: Labels
    shape: tuple[Size, ...]
    constant: bool = False
    steps: tuple[_Step, ...] = ()

    def size(self, label: str) -> Size:
        """Return the length of a label's axis."""
        return self.shape[self.labels.index(label)]

    def only(self, labels: Sequence[str]) -> Labels:
        """Return those of its labels that are among these, in its own order."""
        return tuple(label for label in self.labels if label in labels)

    def summed(self, labels: Sequence[str]) -> _Factor:
        """Return it summed over some of its labels."""
        if not labels:
            return self
        kept = tuple(label for label in self.labels if label not in labels)
        axes = tuple(self.labels.index(label) for label in labels)
        steps = (*self.steps, _Step("sum", axes))
        return replace(self, labels=kept, shape=tuple(map(self.size, kept)), steps=steps)

    def ordered(self, labels: Labels) -> _Factor:
        """Return it with its axes in this order."""
        if labels == self.labels:
            return self
        order = _Step("transpose", tuple(self.labels.index(label) for label in labels))
        return replace(self, labels=labels, shape=tuple(map(self.size, labels)), steps=(*self.steps, order))

    def grouped(self, groups: Sequence[Labels]) -> _Factor:
        """Return it with the axes of each group of labels joined to one."""
        ordered = self.ordered(tuple(label for group in groups for label in group))
        if all(len(group) == 1 for group in groups):
            return ordered
        sizes = [_joined([self.size(label) for label in group]) for group in groups]
        same = next(index for index, group in enumerate(groups) if len(group) != 1)
        return replace(ordered, steps=(*ordered.steps, _reshape(sizes, same)))


@dataclass(frozen=True)
class _Product:
    """A MatMul of the product so far, or the first input, with the next input.

    Attributes:
        swapped: Whether the next input is the left factor.
        turned: Whether the right factor is transposed.
        split: What gives the product's axes back that were joined for it.
    """

    left: tuple[_Step, ...]
    right: tuple[_Step, ...]
    swapped: bool
    turned: bool
    split: tuple[_Step, ...]


class _RefusedError(Exception):
    """What an Einsum needs can't be written out; the message is a key of ``EINSUM``."""


def refusal(node: ov.Node) -> Refusal | None:
    """Return why an Einsum stays one operation; None if it can be written out."""
    try:
        _plan(node)
    except _RefusedError as refused:
        return EINSUM[str(refused)]
    return None


def write_out(node: ov.Node, named: Named) -> ov.Output:
    """Return the output of MatMuls and what is around them, which compute what an Einsum does; no model is edited.

    Args:
        node: Operation for which ``refusal`` returns None.
        named: Names the operations; the last one is the caller's to name.
    """
    products, last = _plan(node)
    whole, *others = node.input_values()
    for index, (product, other) in enumerate(zip(products, others, strict=True)):
        ending = f"/{index}" if index else ""
        pair = (other, whole) if product.swapped else (whole, other)
        left = _run(pair[0], product.left, f"left{ending}", named)
        right = _run(pair[1], product.right, f"right{ending}", named)
        made = named(op.matmul(left, right, False, product.turned), f"product{ending}")
        whole = _run(made, product.split, f"product{ending}", named)
    return _run(whole, last, "output", named)


def _run(tensor: ov.Output, steps: Sequence[_Step], name: str, named: Named) -> ov.Output:
    for step in steps:
        values = op.constant(np.array(step.values, np.int64))
        if step.kind == "sum":
            made = op.reduce_sum(tensor, values, False)
        else:
            made = op.transpose(tensor, values) if step.kind == "transpose" else op.reshape(tensor, values, True)
        tensor = named(made, f"{name}/{step.kind}")
    return tensor


def _plan(node: ov.Node) -> tuple[list[_Product], tuple[_Step, ...]]:
    """Return the products of the inputs in order, and what makes the output of the last one."""
    factors, wanted = _read(node)
    whole, *others = factors
    if not others:
        raise _RefusedError("one")
    products: list[_Product] = []
    for index, factor in enumerate(others):
        later = {label for other in others[index + 1 :] for label in other.labels}
        product, whole = _multiplied(whole, factor, later | set(wanted))
        products.append(product)
    return products, whole.ordered(wanted).steps


def _read(node: ov.Node) -> tuple[list[_Factor], Labels]:
    """Return the factors with their labels, and the labels of the output."""
    equation = str(attributes_of(node)["equation"]).replace(" ", "")
    left, arrow, right = equation.partition("->")
    factors: list[_Factor] = []
    dots: Labels = ()
    for text, tensor in zip(left.split(","), node.input_values(), strict=True):
        partial = tensor.get_partial_shape()
        if partial.rank.is_dynamic:
            raise _RefusedError("rank")
        head, ellipsis, tail = text.partition("...")
        dotted = tuple(f".{axis}" for axis in range(len(partial) - len(head) - len(tail))) if ellipsis else ()
        if dotted and dots and dotted != dots:
            raise _RefusedError("broadcast")
        dots = dots or dotted
        labels = (*head, *dotted, *tail)
        if len(set(labels)) < len(labels):
            raise _RefusedError("diagonal")
        shape = tuple(axis.get_length() if axis.is_static else None for axis in partial)
        factors.append(_Factor(labels, shape, _constant(tensor)))
    _check_sizes(factors)
    if not arrow:  # in the order of the alphabet, those that occur once
        return factors, (*dots, *sorted(label for label in set(left) - set(",.") if left.count(label) == 1))
    head, ellipsis, tail = right.partition("...")
    return factors, (*head, *(dots if ellipsis else ()), *tail)


def _constant(tensor: ov.Output) -> bool:
    """Return whether a tensor is made of a Constant alone, converted or moved."""
    node = tensor.get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Transpose", "Squeeze", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant"


def _check_sizes(factors: Sequence[_Factor]) -> None:
    """Refuse labels whose axes are of different lengths, or may be where the labels stand for an ellipsis."""
    for label in {label for factor in factors for label in factor.labels}:
        sizes = [factor.size(label) for factor in factors if label in factor.labels]
        unsure = label.startswith(".") and len(sizes) > 1 and None in sizes
        if len(set(sizes) - {None}) > 1 or unsure:
            raise _RefusedError("broadcast")


def _multiplied(a: _Factor, b: _Factor, kept: set[str]) -> tuple[_Product, _Factor]:
    """Return the MatMul of two factors and its product, summed over the labels that nothing needs any more."""
    swapped = a.constant and not b.constant  # a layer's weights are on the right
    a, b = (b, a) if swapped else (a, b)
    a, b = (
        one.summed([x for x in one.labels if x not in kept and x not in two.labels]) for one, two in ((a, b), (b, a))
    )
    shared = a.only(b.labels)
    stack, summed = (tuple(x for x in shared if (x in kept) == stays) for stays in (True, False))
    if not summed:
        raise _RefusedError("sum")
    rows, columns = (tuple(x for x in one.labels if x not in shared) for one in (a, b))
    if not rows and not columns:
        raise _RefusedError("vectors")
    # One matrix can be multiplied with rows of several axes; of a stack each has one axis of rows.
    split_rows = [(x,) for x in rows] if rows and not stack else [rows]
    heads = [(x,) for x in stack]
    turned = b.constant or b.labels[-1] in summed
    left = a.grouped([*heads, *split_rows, summed])
    right = b.grouped([*heads, *((columns, summed) if turned else (summed, columns))])
    labels = (*stack, *rows, *columns)
    sizes = tuple(a.size(x) if x in a.labels else b.size(x) for x in labels)
    split: tuple[_Step, ...] = ()
    if len(heads) + len(split_rows) + 1 != len(labels):
        split = (_reshape(sizes, len(stack) if stack or not rows else len(rows)),)
    return _Product(left.steps, right.steps, swapped, turned, split), _Factor(labels, sizes)


def _joined(sizes: Sequence[Size]) -> Size:
    known = [size for size in sizes if size is not None]
    return prod(known) if len(known) == len(sizes) else None


def _reshape(sizes: Sequence[Size], same: int) -> _Step:
    """Return the step to other axes, of which the first ``same`` are as they were."""
    shape = tuple(
        0 if size is None and axis < same else -1 if size is None else size for axis, size in enumerate(sizes)
    )
    if shape.count(-1) > 1:
        raise _RefusedError("unknown")
    return _Step("reshape", shape)
