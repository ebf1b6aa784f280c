"""What a plan promises against what OpenVINO ran: the whole way of a model in memory to INT8, at full sight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cpu_features import FEATURES, TARGET
from numpy.typing import NDArray

from calib.engine.building import aliases, executed_inside
from calib.graph.insert import insert
from calib.graph.placement import planned
from calib.graph.taps import Need
from calib.graph.view import GraphView
from calib.loading.load import input_specs, load_model
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.executed import Executed, executed_layers, executed_nodes
from calib.runtime.session import F32, Session, ov
from calib.statistics.collect import collect
from calib.values.plan import FULL_RANGE, HALF_RANGE, ActivationQuantizer, QuantizationPlan, TensorId

Arrays = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Proof:
    """A model, its INT8 form, and what the plug-in made of it."""

    original: ov.Model
    view: GraphView
    plan: QuantizationPlan
    model: ov.Model
    executed: Mapping[str, Executed]
    nodes: Sequence[Executed]
    feeds: Sequence[Arrays]
    float_outputs: Sequence[Arrays]
    int8_outputs: Sequence[Arrays]

    @property
    def planned(self) -> set[str]:
        """Names of the layers that the plan quantizes."""
        return {layer.name for layer in self.plan.layers}

    @property
    def ran(self) -> set[str]:
        """Names of the layers of the graph that ran in INT8."""
        known = self.planned | {skipped.name for skipped in self.plan.skipped}
        return {name for name, node in self.executed.items() if node.int8 and name in known}

    @property
    def broken(self) -> dict[str, str]:
        """Layer → primitive of what was planned as INT8 and ran otherwise."""
        return {
            name: self.executed[name].primitive if name in self.executed else "not found"
            for name in sorted(self.planned - self.ran)
        }

    @property
    def reasons(self) -> dict[str, str]:
        """Layer → why it stays in floating point."""
        return {skipped.name: skipped.reason for skipped in self.plan.skipped}

    def simulated(self) -> list[Arrays]:
        """Run the INT8 model with its FakeQuantize operations computed in f32.

        Left out are those on a branch whose layer takes in the Add behind it: it clips the branch, and does not round.
        """
        rounded = [q for q in self.plan.activations if q.routes or not self._taken_in(q)]
        model = insert(self.original, replace(self.plan, activations=tuple(rounded)), fold=True)
        session = Session(model, {**F32, "LP_TRANSFORMS_MODE": "NO"})
        return [session(feed) for feed in self.feeds]

    def _taken_in(self, quantizer: ActivationQuantizer) -> bool:
        """Say whether one node ran a quantizer and what it is fused with."""
        both = {f"{quantizer.tensor}/fq", *(fused.port.node for fused in quantizer.fused)}
        return any(both <= set(node.originals) for node in self.nodes)

    def computes_what_it_says(self) -> bool:
        """Say whether the INT8 outputs agree with their own simulation.

        Sums of integers and of floats differ by f32 rounding (1e-5 with room), which makes a value between two levels
        fall on the other one now and then. Where a share f of the values does, the error is √(12 f) of the
        quantization error (step · √f against step / √12): a quarter is one value in 200.
        """
        simulated = self.simulated()
        return error(self.int8_outputs, simulated) <= 1e-5 + 0.25 * error(simulated, self.float_outputs)

    def keeps_the_interface(self) -> bool:
        """Say whether names, shapes and types of inputs and outputs are those of the FP32 model."""

        def ports(model: ov.Model) -> list[Any]:
            ports = [*model.inputs, *model.outputs]
            return [(p.get_names(), p.get_partial_shape(), p.get_element_type()) for p in ports]

        return ports(self.model) == ports(self.original)


def random_feeds(model: ov.Model, count: int = 4, seed: int = 0, size: int = 8) -> list[list[NDArray[Any]]]:
    """Return samples for a model; dynamic axes get ``size``, or 1 in front."""
    rng = np.random.default_rng(seed)
    feeds = []
    for _ in range(count):
        arrays: list[NDArray[Any]] = []
        for spec in input_specs(model):
            shape = [(1 if axis == 0 else size) if length is None else length for axis, length in enumerate(spec.shape)]
            if spec.dtype.kind == "f":
                arrays.append(rng.standard_normal(shape).astype(spec.dtype))
            else:
                arrays.append(rng.integers(0, 256 if spec.dtype == np.uint8 else 4, shape).astype(spec.dtype))
        feeds.append(arrays)
    return feeds


def prove(
    model: Any, feeds: Sequence[Arrays] | None = None, ignore: Sequence[str] = (), *, target: str = TARGET
) -> Proof:
    """Quantize with min-max ranges as the pipeline does, compile, and ask what ran.

    Without VNNI, what was made for a CPU with it (``target="cpu"``) runs in INT8, and its sums may saturate.
    """
    exact = target == "cpu"
    original = load_model(model).model
    feeds = random_feeds(original) if feeds is None else feeds
    view = GraphView(original)
    plan = planned(view, ignore, exact_int8=exact, weight_levels=FULL_RANGE if exact else HALF_RANGE)
    needs = {q.tensor: Need(channels=q.per_channel) for q in plan.activations}
    summaries = collect(original, needs, [(f"{i:04d}", f"sample {i}", feed) for i, feed in enumerate(feeds)]).whole
    plan = assign(plan, summaries, get_estimator("minmax"))
    quantized = insert(original, plan, fold=True)
    session, reference = Session(quantized), Session(original)
    names = aliases(view, plan)
    inside = executed_inside(quantized, session.compiled, {name: names[name] for name in names if name in view.inside})
    return Proof(
        original,
        view,
        plan,
        quantized,
        inside | executed_layers(session.compiled, names),
        executed_nodes(session.compiled),
        feeds,
        [reference(feed) for feed in feeds],
        [session(feed) for feed in feeds],
    )


def faults(proof: Proof) -> list[str]:
    """List what a proof should never show, one sentence each; empty for a good one."""
    found = [
        f"{layer} was planned as INT8 and ran as {what}"
        for layer, what in proof.broken.items()
        if not _left_to_the_cpu(proof, layer)
    ]
    if not proof.keeps_the_interface():
        found.append("names, shapes or types of inputs or outputs changed")
    if proof.planned and not proof.computes_what_it_says():  # without levels it is its own simulation
        found.append("INT8 execution differs from its own simulation")
    return found


def _left_to_the_cpu(proof: Proof, layer: str) -> bool:
    """Say whether it is a deconvolution of dynamic shape, for which only CPUs with AVX-512 have an INT8 primitive."""
    dynamic = None in (proof.view.shape(TensorId(layer)) or (None,))
    return dynamic and proof.view.types[layer] == "ConvolutionBackpropData" and "avx512" not in FEATURES


def error(ours: Sequence[Arrays], reference: Sequence[Arrays]) -> float:
    """Return the root of the error's power over the reference's power, all outputs and samples together."""
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for one, other in zip(ours, reference, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    power = sum(float((b**2).sum()) for _, b in pairs)
    return float(np.sqrt(noise / max(power, 1e-30)))
