"""Bias correction: restore the mean of each layer's output that quantization has shifted, in one of two ways.

Locally: a layer's shift is that caused by its own quantized weights and input, ``W E[x] - W_q E[x_q]`` with x the input
in the floating-point network; each layer corrects only its own error. Source: Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019, §4.2. The means come from the pass of
:mod:`calib.corrections.rounding`.

In sequence: a layer's shift is measured with the layers before it quantized and corrected, so that nothing is counted
twice. Source: Nagel et al., "A White Paper on Neural Network Quantization", 2021, §3.4. All layers are measured in one
inference of a network that holds the floating-point and the INT8 form.

Both shrink a shift by how well the samples agree on it, see :mod:`calib.corrections.bias_correction_core`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calib.corrections.bias_correction_core import bias_delta, left_out_errors, standard_error
from calib.corrections.candidate import Candidate, Feed, rounded_db
from calib.corrections.rows import Linear
from calib.corrections.scoring import Scorer
from calib.graph.insert import Edits
from calib.graph.side_by_side import batchable, side_by_side
from calib.runtime.failures import FAILURES
from calib.runtime.session import SIMULATED, Session
from calib.samples.sample import Frames
from calib.values.facts import CorrectionFacts

SAMPLES = 16  # 8 to 32 gave the same output error within 1 dB on four networks


def correct(
    candidate: Candidate, samples: Sequence[Feed], scorer: Scorer
) -> tuple[Candidate, list[CorrectionFacts]] | None:
    """Correct all biases in sequence, replacing those of the candidate; None if its network can't be batched."""
    found = sequential_correction(replace(candidate, edits=Edits(candidate.edits.rounded)), samples)
    if found is None:
        return None
    found = replace(found, refit=RefitBiases(samples, scorer, candidate.edits))
    return found, [bias_fact(layer, delta) for layer, delta in found.edits.biases.items()]


def local_correction(
    linear: Linear,
    weights: NDArray[np.float32],
    quantized: NDArray[np.float64],
    means: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float32] | None, CorrectionFacts | None]:
    """Return the correction of a layer's output, ``(channels,)``, and its fact for the report.

    A shift that can't be told from noise is left alone. The correction is None unless it brings samples that are held
    out in turn nearer to floating point.

    Args:
        linear: Layer to correct.
        weights: Weights in floating point, in the constant's shape.
        quantized: INT8 weights as real numbers, in the same shape.
        means: E[x] and E[x_q] of each sample, ``(groups, inputs)``.

    Returns:
        None twice if the layer has no channels, if no channel has a shift, or without means.
    """
    if not means or (linear.axes.stack and linear.groups > 1):
        return None, None  # one bias for all groups would be wrong for each
    x, x_q = (np.stack(each, axis=-1) for each in zip(*means, strict=True))
    matrices = linear.matrices(weights).astype(np.float64), linear.matrices(quantized)
    y, y_q = ((w @ mean).reshape(-1, mean.shape[-1]).T for w, mean in zip(matrices, (x, x_q), strict=True))
    delta = bias_delta(y.mean(axis=0), y_q.mean(axis=0), standard_error(y - y_q)).astype(np.float32)
    if not np.isfinite(delta).all() or not delta.any():
        return None, None
    fact = local_bias_fact(linear.port.node, delta, y, y_q)
    return delta if fact.kept else None, fact


def bias_fact(layer: str, delta: NDArray[np.float32]) -> CorrectionFacts:
    """Return the fact of a corrected bias for the report."""
    detail = f"{np.count_nonzero(delta)} of {delta.size} channels, the largest change is {abs(delta).max():.3g}"
    return CorrectionFacts(correction="bias", layer=layer, kept=True, detail=detail)


def local_bias_fact(
    layer: str, delta: NDArray[np.float32], y: NDArray[np.float64], y_q: NDArray[np.float64]
) -> CorrectionFacts:
    """Return the fact of a bias with the shift of the mean outputs before and after, holding out each sample once.

    The correction is kept if the shift becomes smaller.

    Args:
        layer: Name of the layer.
        delta: Correction to add to the bias, ``(channels,)``.
        y: Mean outputs in floating point, ``(samples, channels)``.
        y_q: Mean outputs with quantized weights and inputs, ``(samples, channels)``.
    """
    fact, power = bias_fact(layer, delta), float((y**2).sum())
    before, after = (float((errors**2).sum()) for errors in left_out_errors(y, y_q))
    found = {
        "kept": after < before,
        "sqnr_before_db": rounded_db(power, before),
        "sqnr_after_db": rounded_db(power, after),
        "detail": f"{fact.detail}; SQNR is of each sample's mean output, corrected by what the other samples say",
    }
    return fact.model_copy(update=found)


def sequential_correction(candidate: Candidate, samples: Sequence[Feed]) -> Candidate | None:
    """Return the candidate with every layer's bias corrected; None if the network can't be batched or has state."""
    fed = [sample for sample in samples if not isinstance(sample, Frames)]
    if len(fed) < len(samples):
        return None
    chosen = fed[: batchable(candidate.model, fed[:SAMPLES])]
    shapes = {tuple(array.shape for array in sample) for sample in chosen}
    if len(shapes) != 1 or any(not shape or shape[0] != 1 for shape in shapes.pop()):
        return None  # samples of different sizes do not stack
    made = side_by_side(candidate.model, candidate.quantized(), candidate.plan, len(chosen))
    if made is None:
        return None
    model, layers = made
    stacked = [np.concatenate([sample[i] for sample in chosen]) for i in range(len(chosen[0]))]
    deltas = Session(model, SIMULATED)(stacked)  # the means in between would keep the layers from INT8 anyway
    biases = {layer: delta.astype(np.float32) for layer, delta in zip(layers, deltas, strict=True)}
    if not all(np.isfinite(delta).all() for delta in biases.values()):
        return None
    return replace(candidate, edits=Edits(candidate.edits.rounded, biases))


class RefitBiases:
    """Measures sequential biases again after layers were reverted, because the errors of those layers are gone.

    The edits from before the sequential correction are taken instead if they score higher; they depend on no other
    layer, see :mod:`calib.corrections.rounding`.

    Args:
        samples: Samples that biases are learnt from.
        scorer: Scorer on other samples.
        alone: Edits from before the sequential correction.
    """

    def __init__(self, samples: Sequence[Feed], scorer: Scorer, alone: Edits):
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
            again = sequential_correction(replace(alone, edits=Edits(alone.edits.rounded)), self._samples)
            better = again is not None and self._scorer(again) >= self._scorer(alone)
        except FAILURES:  # with these layers OpenVINO can't compile it: whoever builds it finds out which to leave
            return alone.edits
        return again.edits if again is not None and better else alone.edits


def _hash(samples: Iterable[Feed]) -> str:
    digest = hashlib.sha256()
    frames = (frame for sample in samples for frame in (sample if isinstance(sample, Frames) else [sample]))
    for array in (array for frame in frames for array in frame):
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
