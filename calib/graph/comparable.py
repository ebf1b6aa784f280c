"""Choose what two runs of a network are compared by: real-valued outputs in parts, or the tensors that decide others.

Differences of indices, labels and counts have no meaning, and outputs behind a selection (NonMaxSuppression, TopK, a
threshold) change place where two scores are close: one such change outweighs every other error. So these outputs are
compared by the nearest real-valued tensors before the selection. What no layer takes part in (anchors, inputs handed
through) is exact in every form of a network and would only dilute the error of the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from calib.graph.insert import clone_model, output_node
from calib.graph.layers import LAYERS
from calib.graph.operations import BODIES, LEFT_ALONE, RECURRENT, SHAPE_ONLY, WRITTEN_OUT
from calib.graph.output_parts import PARTED, Joined, OutputParts
from calib.graph.view import GraphView, port_name
from calib.runtime.session import make_model, ov
from calib.values.compared import ComparedOutputs, ComparedPart, Window
from calib.values.plan import TensorId

op = ov.opset13

Heads = Sequence[tuple[int, Window]]
"""Number of an output and positions in it that are one part, such as the boxes of all anchors."""

# Of these all outputs are selected or rounded, the real-valued ones too. Operations that make integers or booleans of
# real numbers (comparisons, Convert, NonZero, Bucketize, …) are known by the types of their ports.
DECIDING = frozenset(
    {
        *("NonMaxSuppression", "NMSRotated", "MulticlassNms", "MatrixNms", "DetectionOutput", "Proposal", "TopK"),
        *("ExperimentalDetectronDetectionOutput", "ExperimentalDetectronTopKROIs", "GenerateProposals", "Unique"),
        *("ExperimentalDetectronGenerateProposalsSingleImage", "CTCGreedyDecoder", "CTCGreedyDecoderSeqLen"),
        *("Round", "Floor", "Ceiling", "Sign"),
    }
)
# Of these, what is chosen are places: rows, boxes, steps. TopK gives them as its second output.
PLACING = (DECIDING - {"Round", "Floor", "Ceiling", "Sign"}) | {"NonZero"}
NOTHING = (
    "the model has no real-valued output that a layer takes part in, nor such a tensor before its outputs: recipes and "
    "corrections can't be compared on it, so none was tried, layers are not ranked, and there is no output SQNR. Give "
    "the model an output in floating point that depends on its layers"
)


def compared_outputs(model: ov.Model, view: GraphView | None = None, heads: Heads = ()) -> ComparedOutputs:
    """Return what is compared of a floating-point model and of the forms made from it.

    Args:
        model: Floating-point model with unique friendly names.
        view: View of the model, if there is one.
        heads: Parts of outputs that are known from elsewhere, for those that the graph shows no parts of.
    """
    return _Chooser(model, view or GraphView(model), heads).chosen()


def compared_form(model: ov.Model, compared: ComparedOutputs) -> ov.Model:
    """Return the model with the tensors that are compared as further outputs behind its own; itself if there are none.

    Args:
        model: Any form of the network in which these tensors have their names.
        compared: What is compared.
    """
    if not compared.extra:
        return model
    clone = clone_model(model)
    nodes = {node.get_friendly_name(): node for node in clone.get_ordered_ops()}
    results = [op.result(nodes[output_node(nodes, tensor.node)].output(tensor.output)) for tensor in compared.extra]
    results = [*clone.get_results(), *results]
    return make_model(results, clone.get_parameters(), clone.get_sinks(), clone.get_friendly_name())


def aligned(
    model: ov.Model, *others: ov.Model, view: GraphView | None = None, heads: Heads = ()
) -> tuple[ComparedOutputs, ...]:
    """Return what is compared of a floating-point model, and the same for other forms of the network, in their order.

    The tensors before a selection are looked for in each form by itself, and not by name: an operation of the same name
    can hold another function where normalization has fused a factor into it. If those of one form are of another number
    or other shapes, only outputs are compared of all forms, and a note says so.

    Args:
        model: Floating-point model with unique friendly names.
        others: Other forms of it, with as many outputs and unique friendly names.
        view: View of the model, if there is one.
        heads: As for `compared_outputs`.
    """
    view = view or GraphView(model)
    compared = compared_outputs(model, view, heads)
    found = [compared]
    for other in others:
        own = compared
        if other is not model and compared.extra:
            own = replace(compared, extra=compared_outputs(other).extra)
        if _shapes(other, own) != _shapes(model, compared):
            return (_Chooser(model, view, heads).chosen(decided=False),) * (1 + len(others))
        found.append(own)
    return tuple(found)


def _shapes(model: ov.Model, compared: ComparedOutputs) -> list[str]:
    """Return the shape of each further tensor in a model."""
    if not compared.extra:
        return []
    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    return [str(nodes[tensor.node].get_output_partial_shape(tensor.output)) for tensor in compared.extra]


class _Chooser:
    """Chooses what is compared of one model."""

    def __init__(self, model: ov.Model, view: GraphView, heads: Heads):
        self._model, self._view, self._heads = model, view, heads
        self._computed = _computed(view)
        self._selected = dict(self._selections())
        self._choices = self._choices_above()

    def chosen(self, *, decided: bool = True) -> ComparedOutputs:
        """Return what is compared; without ``decided`` outputs behind a selection are compared as they are."""
        sources = [self._view.inputs[result.get_friendly_name()][0] for result in self._model.get_results()]
        asked = [source for source in sources if source.node in self._computed]
        direct = [source for source in asked if self._comparable(source)]
        others = [source for source in dict.fromkeys(asked) if not self._covered(source, direct)]
        extra = list(dict.fromkeys(t for source in others for t in self._before(source, direct))) if decided else []
        chosen = self._chosen_from([*direct, *extra]) if decided else {}
        more = dict.fromkeys(t for name in chosen for t in self._before(TensorId(name, 0), [*direct, *extra]))
        if not decided:
            direct = [source for source in asked if self._real(source)]
        parts: list[ComparedPart] = []
        for position, source in enumerate(sources):
            if source in direct:
                parts += self._named(port_name(self._model.outputs[position]), position, source)
        for position, tensor in enumerate([*extra, *more], len(sources)):
            parts += self._named(_name(tensor), position, tensor)
        notes = [*self._notes(sources, others, extra), *self._notes_on_layers(sources, chosen, list(more))]
        return ComparedOutputs(tuple(parts), (*extra, *more), tuple(notes) if parts else (NOTHING,))

    def _named(self, name: str, position: int, tensor: TensorId) -> list[ComparedPart]:
        """Return the parts of a tensor, with their positions behind its name."""
        found = [Joined(tensor)]
        if not PARTED.isdisjoint(self._view.types.values()):
            found = OutputParts(self._view, self._computed).of(tensor)
        if len(found) == 1 and not found[0].windows:
            known = [replace(found[0], windows=(window,)) for place, window in self._heads if place == position]
            found = known or found
        chosen = bool(self._choices[tensor.node])
        return [
            ComparedPart(name + _positions(part.windows), position, part.windows, part.bound, chosen) for part in found
        ]

    def _selections(self) -> Iterator[tuple[TensorId, str]]:
        """Yield each tensor that is behind a selection, without a layer in between, with the operation that selects."""
        selected: dict[TensorId, str] = {}
        for name, kind in self._view.types.items():
            if name not in self._computed or kind in LAYERS or kind in BODIES or kind == "Result":
                continue
            reads = self._view.inputs[name]
            behind = next((selected[tensor] for tensor in reads if tensor in selected), "")
            for index in range(self._view.nodes[name].get_output_size()):
                tensor = TensorId(name, index)
                if behind or kind in DECIDING or not self._real(tensor):
                    selected[tensor] = behind or f"{kind} {name!r}"
                    yield tensor, selected[tensor]

    def _choices_above(self) -> dict[str, frozenset[str]]:
        """Return each computed node → the operations above it that choose places."""
        above: dict[str, frozenset[str]] = {}
        for name in self._view.types:
            if name in self._computed:
                reads = [read for read in self._view.inputs[name] if read.node in self._computed]
                own = frozenset(
                    read.node for read in reads if self._places(read) and read.node not in self._view.inside
                )
                above[name] = own.union(*(above[read.node] for read in reads))
        return above

    def _chosen_from(self, tensors: Sequence[TensorId]) -> dict[str, TensorId]:
        """Return operation that chooses places → the first of these tensors that layers compute from what it chose."""
        return {name: tensor for tensor in reversed(tensors) for name in sorted(self._choices[tensor.node])}

    def _places(self, tensor: TensorId) -> bool:
        kind = self._view.types[tensor.node]
        return kind in PLACING and (kind != "TopK" or tensor.output == 1)

    def _real(self, tensor: TensorId) -> bool:
        return self._view.output(tensor).get_element_type().is_real()

    def _comparable(self, tensor: TensorId) -> bool:
        return tensor.node in self._computed and tensor not in self._selected and self._real(tensor)

    def _covered(self, tensor: TensorId, known: list[TensorId]) -> bool:
        """Return whether a tensor is one of those known, or computed from them without a layer in between."""
        queue, seen = [tensor], {tensor}
        for one in queue:  # grows as it is walked
            if one in known:
                continue
            if self._view.types[one.node] in LAYERS or self._view.types[one.node] in BODIES:
                return False
            inner = [read for read in self._view.inputs[one.node] if read.node in self._computed]
            if not inner:
                return False
            for read in inner:
                if read not in seen:
                    seen.add(read)
                    queue.append(read)
        return True

    def _before(self, tensor: TensorId, known: list[TensorId]) -> Iterator[TensorId]:
        """Yield the nearest tensors above one that can be compared, in the order of a breadth-first walk."""
        queue, seen = [tensor], {tensor}
        for one in queue:  # grows as it is walked
            if one in known:
                continue
            if self._comparable(one):
                yield one
                continue
            for read in self._view.inputs[one.node]:
                if read.node in self._computed and read not in seen:
                    seen.add(read)
                    queue.append(read)

    def _notes(self, sources: list[TensorId], others: list[TensorId], extra: list[TensorId]) -> Iterator[str]:
        """Yield a sentence for each operation that selects outputs."""
        selected: dict[str, list[str]] = defaultdict(list)
        for source in others:
            name = port_name(self._model.outputs[sources.index(source)])
            selected[self._selected.get(source, "the network")].append(repr(name))
        for what, names in selected.items():
            held = f"output {names[0]} holds" if len(names) == 1 else f"outputs {', '.join(names)} hold"
            if extra:
                instead = ", ".join(repr(_name(tensor)) for tensor in extra)
                yield f"{held} what {what} selects or rounds: what comes before it is compared instead, {instead}."
            else:
                yield (
                    f"{held} what {what} selects or rounds, and the tensors before it do not line up in the forms of "
                    "this network: real-valued outputs are compared as they are, others not at all. Give the model an "
                    "output before that operation"
                )

    def _notes_on_layers(
        self, sources: list[TensorId], chosen: dict[str, TensorId], more: list[TensorId]
    ) -> Iterator[str]:
        """Yield a sentence on tensors that layers compute from what was chosen, if there are any."""
        for name, tensor in list(chosen.items())[:1]:
            output = self._model.outputs[sources.index(tensor)] if tensor in sources else None
            computed = port_name(output) if output is not None else _name(tensor)
            as_well = (
                f"; what is chosen from is compared too, {', '.join(repr(_name(t)) for t in more)}" if more else ""
            )
            yield (
                f"layers compute {computed!r} from what {self._view.types[name]} {name!r} chooses: where scores are "
                f"close INT8 chooses others, or in another order, and that counts as error here{as_well}. Measure such "
                "a model with --metric and --max-drop."
            )


def _name(tensor: TensorId) -> str:
    return tensor.node if not tensor.output else str(tensor)


def _computed(view: GraphView) -> Set[str]:
    """Return the nodes that a layer takes part in; those that read an input if there is no layer."""
    computing = {*LAYERS, *BODIES, *LEFT_ALONE, *RECURRENT, *WRITTEN_OUT}
    roots = {name for name, kind in view.types.items() if kind in computing}
    roots = roots or {name for name, kind in view.types.items() if kind == "Parameter"}
    found: set[str] = set()
    for name, kind in view.types.items():
        if name in roots or (kind not in SHAPE_ONLY and any(tensor.node in found for tensor in view.inputs[name])):
            found.add(name)
    return found


def _positions(windows: tuple[Window, ...]) -> str:
    """Return windows in numpy's notation, such as ``[:, 4:]``; "" for the whole tensor."""
    if not windows:
        return ""
    texts = [":"] * (max(window.axis for window in windows) + 1)
    for window in windows:
        run = f"{window.start or ''}:{'' if window.stop is None else window.stop}"
        texts[window.axis] = f"{run} of every {window.every}" if window.every else run
    return f"[{', '.join(texts)}]"
