"""Sequential bias correction of all layers in one inference of a twin network.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, §4.2; sequential
as in Nagel et al., "A White Paper on Neural Network Quantization", 2021, §3.4: a layer's shift is measured with the
layers before it quantized and corrected, so that nothing is counted twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from calib.corrections.candidate import Arrays, Candidate
from calib.corrections.scoring import Scorer
from calib.errors import ModelError
from calib.graph.insert import Edits
from calib.graph.twin import batchable, twin
from calib.runtime.session import F32, Session

SAMPLES = 16  # 8 to 32 gave the same output error within 1 dB on four networks
SIMULATED = {**F32, "LP_TRANSFORMS_MODE": "NO"}  # the means in between would keep the layers from INT8 anyway


def correct_biases(candidate: Candidate, samples: Sequence[Arrays]) -> Candidate | None:
    """Return the candidate with a correction of every layer's bias; None where the network takes no batch."""
    chosen = list(samples)[: batchable(candidate.model, list(samples)[:SAMPLES])]
    shapes = {tuple(array.shape for array in sample) for sample in chosen}
    if len(shapes) != 1 or any(not shape or shape[0] != 1 for shape in shapes.pop()):
        return None  # samples of different sizes do not stack
    made = twin(candidate.model, candidate.quantized(), candidate.plan, len(chosen))
    if made is None:
        return None
    model, layers = made
    stacked = [np.concatenate([sample[i] for sample in chosen]) for i in range(len(chosen[0]))]
    deltas = Session(model, SIMULATED)(stacked)
    biases = {layer: delta.astype(np.float32) for layer, delta in zip(layers, deltas, strict=True)}
    if not all(np.isfinite(delta).all() for delta in biases.values()):
        return None
    return replace(candidate, edits=Edits(candidate.edits.rounded, biases))


class RefitBiases:
    """Sequential biases of a plan that has lost layers: measured again, for those layers' errors are gone.

    What stands in for them where that scores higher are the edits that the network had before its biases were
    corrected in sequence, which depend on no other layer, see :mod:`calib.corrections.rounding`.

    Args:
        samples: that biases are learnt from.
        scorer: scores on other samples.
        alone: the edits before.
    """

    def __init__(self, samples: Sequence[Arrays], scorer: Scorer, alone: Edits):
        self._samples, self._scorer, self._alone = list(samples)[:SAMPLES], scorer, alone
        self._found: dict[frozenset[str], Edits] = {}
        self.mark = "sequential " + _hash([*self._samples, *scorer.held])

    def __call__(self, candidate: Candidate) -> Candidate:
        """Return the candidate with the biases that score higher on held-out samples."""
        layers = frozenset(layer.name for layer in candidate.plan.layers)
        if layers not in self._found:
            self._found[layers] = self._better(candidate, layers)
        return replace(candidate, edits=self._found[layers])

    def _better(self, candidate: Candidate, layers: frozenset[str]) -> Edits:
        edited = {*self._alone.biases, *(port.node for port in self._alone.rounded)}
        alone = replace(candidate, edits=self._alone.without(frozenset(edited - layers)), refit=None)
        try:
            again = correct_biases(replace(alone, edits=Edits(alone.edits.rounded)), self._samples)
            better = again is not None and self._scorer(again) >= self._scorer(alone)
        except ModelError:  # with these layers OpenVINO can't compile it: whoever builds it finds out which to leave
            return alone.edits
        return again.edits if again is not None and better else alone.edits


def _hash(samples: Iterable[Arrays]) -> str:
    digest = hashlib.sha256()
    for array in (array for sample in samples for array in sample):
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
