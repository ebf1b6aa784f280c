"""Build the INT8 model of a candidate and look up the precision that its layers execute in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from calib.corrections.candidate import Candidate
from calib.corrections.scoring import Scored
from calib.errors import ExecutionError, ModelError
from calib.graph.finder import already_quantized, find
from calib.graph.insert import INT8_WEIGHTS
from calib.graph.layers import LAYERS
from calib.graph.view import GraphView
from calib.loading.load import Loaded
from calib.runtime.executed import Executed, executed_layers
from calib.runtime.session import compile_model, ov
from calib.values.plan import QuantizationPlan, TensorId


@dataclass(frozen=True)
class Int8Model:
    """An INT8 model and the primitives that its layers execute.

    Attributes:
        compiled: The compiled model that these were looked up in, to run a few samples; None if it is gone.
    """

    model: ov.Model
    candidate: Candidate
    executed: Mapping[str, Executed] = field(default_factory=dict[str, Executed])
    compiled: ov.CompiledModel | None = None

    @property
    def plan(self) -> QuantizationPlan:
        """Plan of what is quantized in the model."""
        return self.candidate.plan


def build(candidate: Candidate, scored: Scored | None = None) -> Int8Model:
    """Insert the quantizers, compile, and take out layers that were planned as INT8 but do not run in INT8.

    A FakeQuantize whose layer runs in floating point costs time and accuracy and gains nothing.

    Args:
        candidate: Candidate to build.
        scored: The same candidate if it was already inserted and compiled.

    Raises:
        ExecutionError: OpenVINO can't compile the model, whichever layers are left out.
    """
    executed: Mapping[str, Executed] = {}
    for _ in range(3):  # a layer taken out can change how its neighbours run; once was all that was ever seen
        known = scored and scored.compiled
        candidate, model, compiled = (candidate, scored.model, known) if scored and known else _compiling(candidate)
        scored = None
        executed = executed_layers(compiled, aliases(candidate.view, candidate.plan))
        ran = {layer.name: executed.get(layer.name) for layer in candidate.plan.layers}
        failed = {name: node.primitive if node else "" for name, node in ran.items() if node is None or not node.int8}
        if not failed or len(failed) == len(candidate.plan.layers):
            return Int8Model(model, candidate, executed, compiled)
        whats = {n: f"ran it as {p}" if p else "dissolved it into other operations" for n, p in failed.items()}
        candidate = candidate.without(
            {n: f"OpenVINO {what} although its inputs were quantized" for n, what in whats.items()}
        )
    return Int8Model(candidate.executable(), candidate, executed)


def _compiling(candidate: Candidate) -> tuple[Candidate, ov.Model, ov.CompiledModel]:
    """Return the candidate, its model and the compiled model, without layers that make compilation fail.

    Those layers are found by bisection, the first in order and then the next.
    """
    reason = ""
    for _ in range(8):
        model = candidate.executable()
        try:
            return candidate, model, compile_model(model)
        except ModelError as error:
            reason = str(error)
        names = [layer.name for layer in candidate.plan.layers]
        bare = replace(candidate, refit=None)  # biases decide nothing
        fits, breaks = 0, len(names)
        while breaks - fits > 1:
            middle = (fits + breaks) // 2
            try:
                compile_model(without(bare, names[middle:]).executable())
                fits = middle
            except ModelError:
                breaks = middle
        candidate = without(candidate, names[breaks - 1 : breaks], f"OpenVINO could not compile it in INT8: {reason}")
    raise ExecutionError(
        f"{candidate.model.get_friendly_name()}: OpenVINO can't compile the quantized model, even without eight of its "
        f"layers; leave more out with --ignore. It said: {reason}"
    )


def without(candidate: Candidate, layers: Sequence[str], reason: str = "reverted") -> Candidate:
    """Return the candidate with layers back in floating point; corrections that depended on them are computed again."""
    return candidate.without(dict.fromkeys(layers, reason))


def listed(loaded: Loaded, view: GraphView, ignore: Sequence[str] = (), *, exact_int8: bool = True) -> QuantizationPlan:
    """List the layers of a floating-point or quantized model in a plan without quantizers.

    Args:
        loaded: The model.
        view: View of the model.
        ignore: Patterns as for :func:`calib.graph.finder.find`; unused for a model that is quantized already.
        exact_int8: Likewise.
    """
    quantized = loaded.quantized or loaded.weight_compressed
    found = already_quantized(view) if quantized else find(view, ignore, exact_int8=exact_int8)
    return QuantizationPlan(found.layers, (), (), found.skipped)


def aliases(view: GraphView, plan: QuantizationPlan) -> dict[str, tuple[str, ...]]:
    """Return, for each layer, the names it may have in the executed graph.

    These are its INT8 weights, if no other layer shares them, then the operations that may be fused after it: a MatMul
    runs under the name of its bias, or under a name that OpenVINO makes up.
    """
    found: dict[str, tuple[str, ...]] = {}
    for layer in (*plan.layers, *plan.skipped):
        names, tensor = _own_weights(view, layer.name), TensorId(layer.name)
        while layer.name in view.nodes and len(names) < 5:
            readers = view.value_consumers(tensor)
            if len(readers) != 1 or view.types[readers[0].node] == "Result" or view.types[readers[0].node] in LAYERS:
                break
            names.append(readers[0].node)
            tensor = TensorId(readers[0].node)
        found[layer.name] = tuple(names)
    return found


def _own_weights(view: GraphView, layer: str) -> list[str]:
    """Return the names of the INT8 weights that only this layer reads, before or after insertion."""
    for tensor in view.inputs.get(layer, ())[:2]:
        for kind in ("Multiply", "Convert"):  # Constant → Convert → Multiply, or the Constant alone
            if view.types[tensor.node] == kind:
                tensor = view.inputs[tensor.node][0]
        if view.is_constant(tensor) and len(view.consumers[tensor]) == 1:
            return [tensor.node if tensor.node.endswith(INT8_WEIGHTS) else tensor.node + INT8_WEIGHTS]
    return []
