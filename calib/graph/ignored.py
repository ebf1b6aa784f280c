"""What the user leaves in floating point: operations, tensors, and parts of a network between operations.

NAME: the operation of this name, as reports and `calib inspect` name it. A layer (a convolution, a MatMul) runs in
floating point. An Add or a mean that is fused into layers reads floating point, and the layers stay in INT8. INT8 is
not carried through an operation that only selects values, such as MaxPool: the quantizer stands behind it. Where no
quantizer sits at what an operation reads, the one on its output is left out, as with NODE:OUTPUT.

NODE:OUTPUT: the tensor of this name, as reports name what a quantizer sits on: the layers that the quantizer serves run
in floating point.

type:TYPE: all operations of a type, such as type:MatMul.

re:REGEX: all operations in whose name the regular expression is found.

subgraph:IN,IN...OUT,OUT: all operations on the ways from the operations IN to the operations OUT, both ends included,
such as subgraph:block3/add...block4/add.

file:FILE: the patterns in a text file, one a line; empty lines and lines that begin with # are left out. A config names
the file relative to its own folder.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from calib.errors import UsageError
from calib.values.plan import QuantizationPlan, TensorId

if TYPE_CHECKING:  # `calib help` reads the text above in a process that never loads OpenVINO
    from calib.graph.view import GraphView

Test = Callable[[str, str], bool]


class Ignored:
    """Patterns of operations to leave in floating point, and which of them were of use."""

    def __init__(self, view: GraphView, patterns: Sequence[str]):
        self._view = view
        self._tests = {pattern: _test(view, pattern) for pattern in patterns}
        self._unused = list(self._tests)
        self._behind: dict[str, str] = {}

    def __call__(self, name: str, kind: str) -> str:
        """Return the first pattern that matches an operation which would be quantized; empty if none does."""
        whole = self._view.part_of(name)
        hits = [pattern for pattern, matches in self._tests.items() if matches(name, kind) or matches(*whole)]
        self._unused = [pattern for pattern in self._unused if pattern not in hits]
        return hits[0] if hits else self._behind.get(name, "")

    def leave_behind(self, plan: QuantizationPlan) -> bool:
        """Leave out the layers behind the quantizers on the tensors of patterns that nothing else has matched.

        Returns:
            Whether there were any, so that quantizers have to be placed again.
        """
        found: dict[str, str] = {}
        for quantizer in plan.activations:
            node = quantizer.tensor.node
            for pattern in self._unused:
                if pattern == str(quantizer.tensor) or self._tests[pattern](node, self._view.types[node]):
                    found |= dict.fromkeys(quantizer.layers, pattern)
                    found |= {fused.port.node: pattern for fused in quantizer.fused}
        new = found.keys() - self._behind.keys()
        self._behind |= found
        return bool(new)

    def require_matches(self, others: Iterable[str] = ()) -> None:
        """Refuse patterns that match nothing.

        Args:
            others: Names of layers that are no operations of the model itself, but inside of one.

        Raises:
            UsageError: A pattern matches no operation and no tensor; the nearest right one is named.
        """
        types = self._view.types
        for pattern in self._unused:
            if not any(self._tests[pattern](name, kind) for name, kind in types.items()) and not self._tensor(pattern):
                raise UsageError(
                    f"ignore: {pattern!r} matches none of the model's {len(types)} operations"
                    f"{_did_you_mean(pattern, types, others)}"
                )

    def require_use(self) -> None:
        """Refuse patterns that match operations at which nothing is quantized.

        Raises:
            UsageError: There is one.
        """
        unused = [pattern for pattern in self._unused if pattern not in self._behind.values()]
        for pattern in unused:
            raise UsageError(
                f"ignore: at what {pattern!r} matches there is no quantizer, so it runs in floating point as it is: "
                "leave the pattern out. `calib inspect MODEL` lists the layers, and a report its quantizers"
            )

    def _tensor(self, pattern: str) -> bool:
        node, colon, output = pattern.rpartition(":")
        return bool(colon) and node in self._view.nodes and output.isdecimal() and self._has(TensorId.parse(pattern))

    def _has(self, tensor: TensorId) -> bool:
        return tensor.output < self._view.nodes[tensor.node].get_output_size()


def _test(view: GraphView, pattern: str) -> Test:
    """Return the question whether an operation of this name and type is meant."""
    prefix, _, rest = pattern.partition(":")
    if prefix == "type" and rest:
        return lambda _, kind: kind == rest
    if prefix == "re" and rest:
        try:
            compiled = re.compile(rest)
        except re.error as error:
            raise UsageError(f"ignore: {pattern!r} is no regular expression: {error}") from error
        return lambda name, _: compiled.search(name) is not None
    if prefix == "subgraph" and rest:
        between = _between(view, pattern, rest)
        return lambda name, _: name in between
    return lambda name, _: name == pattern


def _between(view: GraphView, pattern: str, text: str) -> frozenset[str]:
    """Return the operations on the ways between the ends of a subgraph, the ends included."""
    first, _, last = text.partition("...")
    starts, ends = ([name.strip() for name in part.split(",")] for part in (first, last))
    for name in (*starts, *ends):
        if name not in view.types:
            raise UsageError(f"ignore: {pattern!r}: the model has no operation {name!r}"
                             f"{_did_you_mean(name, view.types)}")  # fmt: skip
    reads = {name: {tensor.node for tensor in tensors} for name, tensors in view.inputs.items()}
    after, before = set(starts), set(ends)
    for name in view.nodes:  # in topological order
        if reads[name] & after:
            after.add(name)
    for name in reversed(view.nodes):
        if name in before:
            before |= reads[name]
    for name in (*(one for one in starts if one not in before), *(one for one in ends if one not in after)):
        raise UsageError(f"ignore: {pattern!r}: no way between the two ends leads through {name!r}; IN comes before "
                         "OUT in the direction of the data")  # fmt: skip
    return frozenset(after & before)


def _did_you_mean(pattern: str, types: Mapping[str, str], others: Iterable[str] = ()) -> str:
    """Return the nearest right spelling of a pattern, as the end of a message."""
    prefix, _, rest = pattern.partition(":")
    if prefix == "re":
        return "; `calib inspect MODEL` lists the layers"
    if prefix == "type":
        close = [f"type:{kind}" for kind in _nearest(rest, sorted(set(types.values())))]
    else:
        tensor = pattern.rpartition(":")[0]
        close = _nearest(pattern, [*types, *others]) or _nearest(tensor, list(types))
    return f"; did you mean {', '.join(map(repr, close))}?" if close else "; `calib inspect MODEL` lists the layers"


def _nearest(word: str, choices: Sequence[str]) -> list[str]:
    """Return up to three choices that are spelt nearly like a word, whatever the case, or begin like it."""
    lower = {choice.lower(): choice for choice in reversed(choices)}
    close = difflib.get_close_matches(word.lower(), list(lower), 3)
    close = close or sorted(one for one in lower if len(word) > 2 and one.startswith(word.lower()))[:3]
    return [lower[one] for one in close]
