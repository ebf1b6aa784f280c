"""The first run of the FP32 network: its outputs on the samples that models are scored on, and what running it costs.

Every form of the network is compared with these outputs, so they are kept, and the network as it was read is compiled
once for all of them. What that takes says what the rest of the run will take, see :mod:`calib.config.cost`, and how
many streams pay: OpenVINO builds its graph once for each, which two of them make a third dearer (measured on a
MobileNetV2-like network in INT8).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from calib.errors import DataError
from calib.graph.comparable import compared_form
from calib.runtime.session import Given, compile_model, infer_all, notice_memory, ov, values_of
from calib.samples.feed import frames_in
from calib.values.compared import ComparedOutputs

Outputs = Sequence[list[NDArray[Any]]]
"""Outputs of each inference of one sample."""

KEPT = 64 << 20  # bytes of outputs; those of more are dropped, and the network runs again where they are needed
TIMED = 4  # samples that run even if no outputs are kept
WEIGHTS = 32 << 20  # most bytes of constants of a network that stays compiled for the rest of the run
STREAMS_PAY = 4.0  # compilations that the samples of the first run have to take, so that it is compiled for streams too


@dataclass(frozen=True, eq=False)
class FirstRun:
    """FP32 outputs on the first samples that models are scored on, with the CPU seconds that they took.

    Attributes:
        own: What is compared of the network, whose tensors follow its own outputs.
        outputs: Id of each sample → its outputs; empty if they are too large to keep.
        compiling: Seconds of compiling the network.
        inference: Seconds of one inference; that of the first sample, which takes longer, is not counted.
        frames: Inferences of one sample on average: more than one for sequences.
        compiled: The network compiled with what is compared; None if its weights are large.
    """

    own: ComparedOutputs
    outputs: Mapping[str, Outputs] = field(default_factory=dict[str, Outputs])
    compiling: float = 0.0
    inference: float = 0.0
    frames: float = 1.0
    compiled: ov.CompiledModel | None = None

    def streams(self, samples: int, most: int) -> int:
        """Return the number of streams that pay for this many samples: each takes as long as compiling the network.

        Outputs do not depend on it.

        Args:
            samples: Number of samples.
            most: Most streams there may be.
        """
        if self.compiling <= 0:
            return most
        return max(1, min(most, int(samples * self.frames * self.inference / self.compiling)))

    def of(self, ids: Sequence[str], own: ComparedOutputs) -> list[list[NDArray[Any]]] | None:
        """Return the outputs of each inference of these samples; None if they, or what is compared, are others."""
        if own != self.own or any(name not in self.outputs for name in ids):
            return None
        return [outputs for name in ids for outputs in self.outputs[name]]


def run_first(
    reference: ov.Model,
    own: ComparedOutputs,
    samples: Mapping[str, Given],
    streams: int,
) -> FirstRun:
    """Compile a network, run the samples and keep the outputs.

    Args:
        reference: Network as it was read.
        own: What is compared of it.
        samples: Id → sample.
        streams: Number of samples that may run at the same time; they do if that pays for compiling once more.

    Raises:
        ModelError: OpenVINO can't compile the network.
        DataError: It can't run on a sample.
    """
    form = compared_form(reference, own)
    started = time.process_time()
    compiled = compile_model(form)
    compiling = time.process_time() - started
    try:
        ids = list(samples)
        first, seconds = _outputs(compiled, ids[:1], samples)
        size = sum(y.nbytes for outputs in first.values() for one in outputs for y in one)
        keeps = size * len(ids) <= KEPT
        rest = ids[1:] if keeps else ids[1:TIMED]
        frames = sum(map(frames_in, samples.values())) / max(len(ids), 1)
        if streams > 1 and len(rest) * frames * seconds > STREAMS_PAY * compiling:
            del compiled  # never two of a large network
            compiled = compile_model(form, streams=min(streams, len(rest)))
        others, usual = _outputs(compiled, rest, samples) if rest else ({}, seconds)
    except RuntimeError as error:  # what OpenVINO raises, such as for a size or a value that a layer can't take
        notice_memory(error)
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"the model can't run on the calibration samples: {reason}") from error
    kept = compiled if constant_bytes(reference) <= WEIGHTS else None
    return FirstRun(own, {**first, **others} if keeps else {}, compiling, usual, frames, kept)


def constant_bytes(model: ov.Model) -> int:
    """Return the bytes of a model's constants, those inside bodies apart."""
    constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
    return sum(values_of(node).nbytes for node in constants)


def _outputs(
    compiled: ov.CompiledModel, ids: Sequence[str], samples: Mapping[str, Given]
) -> tuple[dict[str, Outputs], float]:
    """Return the outputs of each sample, and the CPU seconds of one inference."""
    feeds = [samples[name] for name in ids]
    frames = [frames_in(feed) for feed in feeds]
    started = time.process_time()
    outputs = iter([[y.copy() for y in one] for one in infer_all(compiled, feeds)])
    seconds = (time.process_time() - started) / max(sum(frames), 1)
    return {name: [next(outputs) for _ in range(count)] for name, count in zip(ids, frames, strict=True)}, seconds
