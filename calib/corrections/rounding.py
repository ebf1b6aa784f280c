"""Round all weights of a network in one pass by the output error of each layer on its quantized input.

For each layer, with x_q its input quantized to levels, on calibration samples::

    H = E[x_q x_qᵀ]        clip = argmin Δ diag(H) Δᵀ        q = GPTQ rounding under H

The samples with an even index choose the weights and those with an odd index accept them: each output channel keeps
the new weights only if its error falls on the samples that did not choose them. The same pass measures the mean of each
layer's input, so the rounded weights go on to the layer's own bias correction, see
:func:`calib.corrections.bias_correction.local_correction`.

The inputs are those of the floating-point network: each layer corrects only its own error, so that no two layers
correct the same one. The weights and bias of a layer therefore do not depend on the layers before it: if one of those
is reverted, its own edits go with it, and those of later layers are to the last bit what they would be without it.

Acceptance is decided for each output channel, as above, and then for the whole network: with rounded weights and
corrected biases, the INT8 network has to score higher on calibration samples that neither statistics nor corrections
saw, see :mod:`calib.corrections.recipes`; otherwise all of them are dropped.

Only the positions that the rows are made of leave the network, and only their levels are kept, two bytes each. Sums of
products of levels are sums of integers and exact, so H is the same to the last bit in whatever order samples arrive.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calib.corrections.bias_correction import local_correction
from calib.corrections.candidate import Candidate, Feed, rounded_db
from calib.corrections.rounding_core import choose_clip, layer_error, nearest, one_blas_thread, round_weights
from calib.corrections.rows import Linear, Pick, Taken, linear, second_moments
from calib.corrections.scoring import Scorer
from calib.graph.insert import Edits
from calib.graph.layers import weights_of
from calib.graph.taps import expose
from calib.graph.view import GraphView
from calib.ranges.affine import dequantized, level_grid, quantize_weights, weight_scale
from calib.runtime.session import compile_model, infer_all, ov
from calib.samples.feed import frames_in
from calib.values.facts import CorrectionFacts
from calib.values.plan import Port, WeightQuantizer

# Rows of one sample at most, and at least; in between, all samples together give a layer ROWS_PER_INPUT times as many
# rows as it has inputs, for each half of them has to tell the inputs apart.
ROWS, FEW_ROWS = 256, 64
ROWS_PER_INPUT = 6
# The whole H is used of a layer with at most so many inputs for each sample: a sample gives 256 rows, and those of half
# the samples choose, 1.8 times the inputs at least. Beyond, H would be singular, and its factorization costs seconds (a
# 3x3 convolution of 512 channels has 4,608 inputs): such a layer gets a clip, by the diagonal of H, and no more.
INPUTS_PER_SAMPLE = 72
# Frames of all sequences together that rows are taken from, evenly spaced: neighbours resemble each other.
FRAMES = 256
# Bytes for the inputs of layers at any time; a single layer may exceed it.
MEMORY = 1 << 30
# Bytes of inputs that are kept for the next candidate.
KEPT = 32 << 20


@dataclass(frozen=True)
class _Layer:
    """One constant to round.

    Attributes:
        scale: Scale of the input's levels: one, or one for each group.
        below: Number of levels below zero: one, or one for each group.
        whole: Whether all of H is used; if not, its diagonal.
        rows: Number of rows taken from one sample.
    """

    linear: Linear
    quantizer: WeightQuantizer
    scale: NDArray[np.float64]
    below: NDArray[np.float64]
    levels: int
    whole: bool
    rows: int
    samples: int

    @property
    def bytes(self) -> int:
        """Most bytes kept of its inputs: two bytes per level, or sums of squares."""
        size = self.linear.groups * self.linear.inputs
        return size * (2 * self.rows * self.samples if self.whole else 4 * 8)


class _Seen:
    """Levels of a layer's quantized input over the two halves of the samples, and its means in each sample."""

    def __init__(self, layer: _Layer):
        self._layer = layer
        self._levels: tuple[list[Taken], list[Taken]] = ([], [])
        self._squares = np.zeros((2, layer.linear.groups, layer.linear.inputs))
        self._counts = [0, 0]
        # sums of x and of the levels, (groups, inputs), and the number of rows of each sample
        self._sums: dict[int, tuple[NDArray[np.float64], NDArray[np.float64], int]] = {}

    def add(self, given: Taken, sample: int) -> None:
        """Add the values of the layer's input in one inference of a sample."""
        half = sample % 2
        levels = Taken(_levels(self._layer, given.values), given.pick)
        x, x_q, count = self._sums.get(sample, (0.0, 0.0, 0))
        self._sums[sample] = (x + given.sums(), x_q + levels.sums(), count + given.count)
        self._counts[half] += given.count
        if self._layer.whole:
            self._levels[half].append(Taken(levels.values.astype(np.int16), given.pick))
        else:
            self._squares[half] += Taken(levels.values**2, given.pick).sums()

    @property
    def means(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """E[x] and E[x_q] of each sample in which the input is not empty, ``(groups, inputs)``."""
        scale = self._layer.scale.reshape(-1, 1)
        return [(x / count, x_q / count * scale) for x, x_q, count in self._sums.values() if count]

    def hessian(self, half: int) -> NDArray[np.float64]:
        """Return E[x_q x_qᵀ] in real numbers, ``(groups, inputs, inputs)`` or its diagonal ``(groups, inputs)``."""
        sums = self._squares[half]
        if self._layer.whole:
            sums = second_moments(self._levels[half])
        factor = self._layer.scale**2 / max(self._counts[half], 1)
        return sums * factor.reshape(-1, *[1] * (sums.ndim - 1))


def _levels(layer: _Layer, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the integers that ``(…, groups, inputs)`` are quantized to; zero, also from padding, is 0."""
    scale, below = (v.astype(np.float32).reshape(1, -1, 1) for v in (layer.scale, layer.below))
    levels = values / scale
    np.rint(levels, out=levels)
    return np.clip(levels, -below, layer.levels - 1 - below, out=levels)


def correct(candidate: Candidate, samples: Sequence[Feed], scorer: Scorer) -> tuple[Candidate, list[CorrectionFacts]]:
    """Round all weights and correct each layer's bias, see :func:`round_all`."""
    return round_all(candidate, samples, streams=scorer.streams, known=scorer.seen)


def round_all(
    candidate: Candidate,
    samples: Sequence[Feed],
    *,
    streams: int = 1,
    known: list[object] | None = None,
) -> tuple[Candidate, list[CorrectionFacts]]:
    """Round the weights of every layer that gains from it on held-out samples, and correct its bias.

    The samples run once for each group of layers that fits in memory; usually there is one group.

    Args:
        candidate: Candidate with ranges; its rounded weights, and its biases, which belong to them, are replaced.
        samples: Samples in the order of their ids; even ones choose the weights, odd ones accept them. If there is
            only one sequence, its frames count as samples.
        streams: Number of samples that run at the same time.
        known: Inputs of layers that an earlier call kept for this one, which then need not run the same network again
            on the same samples; None to keep none.

    Returns:
        The candidate with ``edits.rounded`` and ``edits.biases``, and a fact for each layer with the SQNR of its output
        before and after on the held-out half. The bytes do not depend on streams or BLAS threads, nor, for weights, on
        the order within each half of the samples.
    """
    whose = _whose(samples)
    seen_samples = {sample for sample in whose if sample is not None}
    layers, facts = _layers(candidate, sum(sample is not None for sample in whose))
    rounded: dict[Port, tuple[NDArray[np.int8], NDArray[np.float32]]] = {}
    biases: dict[str, NDArray[np.float32]] = {}
    if len(seen_samples) >= 2 and layers:
        for group in _groups(layers):
            collected = _known(known or (), candidate.model, group, samples)
            if collected is None:
                collected = _collect(candidate.model, group, samples, whose, streams, known)
            for layer, seen in zip(group, collected, strict=True):
                weights, port = weights_of(candidate.view, layer.linear.port), layer.linear.port
                with one_blas_thread():
                    values, fact = _round(layer, weights, seen)
                    q, scale = values or _to_nearest(layer, weights)
                    quantized = dequantized(q, scale.astype(np.float64))
                    delta, bias = local_correction(layer.linear, weights, quantized, seen.means)
                facts += [fact, bias] if bias else [fact]
                if values is not None:
                    rounded[port] = values
                if delta is not None:
                    biases[port.node] = delta
    return replace(candidate, edits=Edits(rounded, biases)), facts


def _layers(candidate: Candidate, samples: int) -> tuple[list[_Layer], list[CorrectionFacts]]:
    """Return the constants that can be rounded, in topological order, and a fact for each layer that can't."""
    inputs = candidate.plan.input_quantizers()
    layers: list[_Layer] = []
    facts: list[CorrectionFacts] = []
    tables = {layer.name for layer in candidate.plan.layers if layer.is_table}  # rows are picked, not summed
    for weight in sorted(candidate.plan.weights, key=lambda w: (candidate.view.order[w.port.node], w.port)):
        layer = weight.port.node
        if layer in tables:
            continue
        quantizer = inputs.get(Port(layer, 1 - weight.port.input))
        described = linear(candidate.view, layer, weight.port) if quantizer else "its input is not quantized"
        if isinstance(described, str) or quantizer is None or quantizer.range is None:
            facts.append(CorrectionFacts(correction="rounding", layer=layer, kept=False, detail=str(described)))
            continue
        ends = quantizer.channel_ranges or ((quantizer.range.low, quantizer.range.high),)
        low, high = np.asarray(ends).T
        scale, below = level_grid(low, high, quantizer.scheme, quantizer.levels)
        whole = described.inputs <= INPUTS_PER_SAMPLE * samples
        rows = min(ROWS, max(FEW_ROWS, math.ceil(ROWS_PER_INPUT * described.inputs / max(samples, 1))))
        layers.append(_Layer(described, weight, scale, below, quantizer.levels, whole, rows, samples))
    return layers, facts


def _groups(layers: Sequence[_Layer]) -> Iterator[list[_Layer]]:
    """Split the layers into groups whose inputs fit in memory together."""
    group: list[_Layer] = []
    held = 0
    for layer in layers:
        if group and held + layer.bytes > MEMORY:
            yield group
            group, held = [], 0
        group.append(layer)
        held += layer.bytes
    yield group


def _whose(samples: Sequence[Feed]) -> list[int | None]:
    """Return the sample that each inference belongs to; None for a frame that only moves the state on."""
    frames = [(sample, frame) for sample, feed in enumerate(samples) for frame in range(frames_in(feed))]
    step = math.ceil(len(frames) / FRAMES) if len(frames) > len(samples) else 1
    return [None if frame % step else sample if len(samples) > 1 else frame // step for sample, frame in frames]


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a network gives to a group of layers on some samples, whatever the ranges.

    Attributes:
        asked: Port and number of rows of each layer.
        taken: Place of a layer in the group, sample and values, in the order in which they are added up.
    """

    model: ov.Model
    samples: Sequence[Feed]
    asked: list[tuple[Port, int]]
    taken: list[tuple[int, int, Taken]]


def _known(
    known: Sequence[object], model: ov.Model, layers: Sequence[_Layer], samples: Sequence[Feed]
) -> list[_Seen] | None:
    """Return what an earlier call kept of these layers; None if that was another network, or other samples or rows."""
    asked = [(layer.linear.port, layer.rows) for layer in layers]
    for one in known:
        if isinstance(one, _Inputs) and one.model is model and one.samples is samples and one.asked == asked:
            made = [_Seen(layer) for layer in layers]
            with one_blas_thread():
                for place, sample, taken in one.taken:
                    made[place].add(taken, sample)
            return made
    return None


def _collect(
    model: ov.Model,
    layers: Sequence[_Layer],
    samples: Sequence[Feed],
    whose: Sequence[int | None],
    streams: int,
    known: list[object] | None,
) -> list[_Seen]:
    """Run the samples through the part of the network before these layers, and keep what they read if it is little."""
    made, kept, size = [_Seen(layer) for layer in layers], list[tuple[int, int, Taken]](), 0
    readers: dict[ov.Output, list[tuple[int, _Layer, Pick | None]]] = defaultdict(list)

    def inputs(view: GraphView) -> list[ov.Output]:
        for place, layer in enumerate(layers):
            port = layer.linear.port
            output, pick = layer.linear.tap(view.output(view.tensor(Port(port.node, 1 - port.input))), layer.rows)
            readers[output].append((place, layer, pick))
        return list(readers)

    tapped = expose(model, inputs, own=False)
    for sample, outputs in zip(whose, infer_all(compile_model(tapped, streams=streams), samples), strict=True):
        if sample is None:
            continue
        with one_blas_thread():
            for x, waiting in zip(outputs, readers.values(), strict=True):
                for place, layer, pick in waiting:
                    taken = layer.linear.take(x, layer.rows, pick)
                    made[place].add(taken, sample)
                    size += taken.values.nbytes
                    if known is not None and size <= KEPT:  # a copy: these may be views into the outputs
                        kept.append((place, sample, replace(taken, values=np.array(taken.values))))
    if known is not None:
        asked = [(layer.linear.port, layer.rows) for layer in layers]
        known[:] = [_Inputs(model, samples, asked, kept)] if size <= KEPT else []
    return made


def _round(
    layer: _Layer, weights: NDArray[np.float32], seen: _Seen
) -> tuple[tuple[NDArray[np.int8], NDArray[np.float32]] | None, CorrectionFacts]:
    """Return the rounded weights of one layer, None if no channel gains, and a fact on its output error."""
    quantizer, shape = layer.quantizer, layer.linear
    w = shape.matrices(weights).astype(np.float64)
    plain, plain_scale = _to_nearest(layer, weights)
    old, old_scale = shape.matrices(plain), plain_scale.reshape(w.shape[:2])
    fit, held = seen.hessian(0), seen.hessian(1).astype(np.float32)  # single precision tells better from worse
    # by the diagonal, for rounding will make up for much of the rest: the whole of H took 1.2 times the time and left
    # .3 dB more error on held-out samples, of four networks
    diagonal = np.einsum("gkk->gk", fit) if layer.whole else fit
    clip = choose_clip(w, diagonal, quantizer.levels)
    new_scale = weight_scale(weights, quantizer.scale_shape, quantizer.levels, clip.ravel().tolist()).reshape(
        w.shape[:2]
    )
    new = round_weights(w, new_scale, fit, quantizer.levels) if layer.whole else nearest(w, new_scale, quantizer.levels)
    before = layer_error(w - dequantized(old, old_scale[..., None]), held)
    after = layer_error(w - dequantized(new, new_scale[..., None]), held)
    better = after < before
    power = float(layer_error(w, held).sum())
    total = float(np.where(better, after, before).sum())
    fact = CorrectionFacts(
        correction="rounding",
        layer=shape.port.node,
        kept=bool(better.any()),
        sqnr_before_db=rounded_db(power, float(before.sum())),
        sqnr_after_db=rounded_db(power, total),
        detail=f"{better.sum()} of {better.size} channels gain, {int((clip < 1)[better].sum())} of them clipped"
        + ("" if layer.whole else f"; {shape.inputs} inputs: clip only, by the diagonal"),
    )
    if not better.any():
        return None, fact
    q = np.where(better[..., None], new, old)
    scale = np.where(better, new_scale, old_scale)
    return (shape.constant(q), scale.reshape(quantizer.scale_shape)), fact


def _to_nearest(layer: _Layer, weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the weights rounded to nearest, as they are without this correction."""
    quantizer = layer.quantizer
    return quantize_weights(weights, quantizer.scale_shape, quantizer.levels, quantizer.clip)
