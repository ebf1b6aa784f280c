"""Score candidates by the output error of their INT8 model on held-out calibration samples.

A few dozen samples have to tell candidates apart that differ by a decibel. The sum of squared errors can't: if one
sample's error is a hundred times another's, that sample decides alone, and after a Softmax or Sigmoid most samples show
no error at all. On a text-angle classifier, candidates at 28 to 32 dB on 100 samples were at 36 to 58 dB on 20 others.
So the score is that of a typical sample, and of the logits if an output holds probabilities. Outputs that hold several
things are scored by part, and those behind a selection before it, see :mod:`calib.graph.comparable`::

    score = -20 log10 (mean over samples of the relative root mean square error)

By this score the same candidates were at 26 to 31 dB, and at 26 to 30 dB on the 20 others.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.corrections.candidate import Arrays, Candidate, Feed
from calib.graph.comparable import compared_form, compared_outputs
from calib.runtime.session import compile_model, infer_all, ov
from calib.samples.feed import frames_in
from calib.values.compared import ComparedOutputs
from calib.values.sqnr import decibel, squared_error

SMALL = 32 << 20  # bytes of outputs that are kept, so that two models need not be compiled at once
PORTION = 8  # samples whose outputs are held at a time, where any number of samples is compared


@dataclass(frozen=True)
class Scored:
    """A candidate with its score.

    Attributes:
        compiled: Compiled ``model``, kept so that looking up what ran needs no second compilation; None if it was
            scored with further outputs, which can change what runs.
        errors: Mapping from the name of each part to its normalized error over all samples.
        energies: Mapping from the name of each part to the signal and noise energy of each sample, ``(samples, 2)``.
        score: SQNR in dB for a typical sample, see :func:`typical_db`.
    """

    model: ov.Model
    compiled: ov.CompiledModel | None
    errors: dict[str, float]
    energies: dict[str, NDArray[np.float64]]
    score: float


class Scorer:
    """Scores candidates by the SQNR of what is compared of a network, of the logits of parts that hold probabilities.

    Args:
        reference: FP32 model as it was read, see ``Job.reference``.
        held: Samples that neither statistics nor corrections see. Each frame of a sequence is scored as a sample;
            energies are those of the whole sequence.
        streams: Number of samples that run at the same time.
        outputs: Outputs of each inference of these samples of the reference, with the tensors that are compared behind
            its own, if another pass has run them already.
        compared: What is compared of the candidates and of the reference, see :func:`calib.graph.comparable.aligned`;
            None if the tensors of both have the same names.

    Attributes:
        held: Samples as given.
        streams: Number of streams as given.
        names: Name of each part that is compared.
        logits: Parts of the reference as they are compared.
        seen: What corrections keep of what they saw, for the next candidate that they correct.
    """

    def __init__(
        self,
        reference: ov.Model,
        held: Sequence[Feed],
        streams: int = 1,
        outputs: Sequence[list[NDArray[Any]]] | None = None,
        compared: tuple[ComparedOutputs, ComparedOutputs] | None = None,
    ):
        self.held = list(held)
        self.streams = streams
        self.seen: list[object] = []
        self._compared, own = compared or (compared_outputs(reference),) * 2
        self._model, self._own = reference, own
        self.names = own.names
        if outputs is None:
            outputs = self._run(self._compile(compared_form(reference, own)))
        self._reference = [own.values(sample) for sample in outputs]
        self.logits = [own.logits(sample) for sample in outputs]

    @property
    def useful(self) -> bool:
        """Whether there is anything to compare; the notes of what is compared say why not."""
        return bool(self.names)

    @property
    def on(self) -> str:
        """What a score is of, for sentences: "6 samples", by their logits where an output holds probabilities."""
        logits = " by their logits" if any(part.bound for part in self._own.parts) else ""
        return f"{len(self.held)} sample{'' if len(self.held) == 1 else 's'}{logits}"

    def __call__(self, candidate: Candidate) -> float:
        """Return the SQNR in dB for a typical sample."""
        return self.score(candidate.quantized()).score

    def shipped(self, candidate: Candidate) -> Scored:
        """Score a candidate in the form that is written."""
        return self.score(candidate.executable())

    def errors(self, model: ov.Model, compiled: ov.CompiledModel | None = None) -> dict[str, float]:
        """Return the name of each part → sum of squared errors over sum of squares."""
        return self.score(model, compiled).errors

    def score(self, model: ov.Model, compiled: ov.CompiledModel | None = None) -> Scored:
        """Score a model; it is compiled unless it is already and its own outputs are compared."""
        form = compared_form(model, self._compared)
        if compiled is None or form is not model:
            compiled = self._compile(form)
        outputs = self._run(compiled)
        energies = self._energies([self._compared.values(sample) for sample in outputs])
        score = typical_db(self.logits, [self._compared.logits(sample) for sample in outputs])
        return Scored(model, compiled if form is model else None, _normalized(energies), energies, score)

    def energies(self, model: ov.Model, config: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
        """Return the name of each part → signal and noise energy of each sample, of a form or of the reference itself.

        Args:
            model: Model as for ``score``, or the reference.
            config: Properties to compile it with.
        """
        compared = self._own if model is self._model else self._compared
        outputs = self._run(compile_model(compared_form(model, compared), config, streams=self.streams))
        return self._energies([compared.values(sample) for sample in outputs])

    def _energies(self, outputs: Sequence[Arrays]) -> dict[str, NDArray[np.float64]]:
        return _by_feed(sample_energies(self.names, self._reference, outputs), self.held)

    def _compile(self, model: ov.Model) -> ov.CompiledModel:
        return compile_model(model, streams=self.streams)

    def _run(self, compiled: ov.CompiledModel) -> list[list[NDArray[Any]]]:
        return [[output.copy() for output in outputs] for outputs in infer_all(compiled, self.held)]


def typical_db(reference: Sequence[Arrays], outputs: Sequence[Arrays]) -> float:
    """Return the SQNR for a typical sample: the average is over the amplitudes of errors, not their squares.

    Each sample's squared error is taken relative to the output's mean power over the samples and averaged over the
    outputs. If all samples have equal errors it is the SQNR; one whose squared error is a hundred times that of the
    others counts ten times as much, not a hundred times. Integer outputs are left out; an output whose shape differs
    counts as entirely wrong.
    """
    parts: list[NDArray[np.float64]] = []
    for position in range(len(reference[0]) if reference else 0):
        pairs = [(y[position], y_q[position]) for y, y_q in zip(reference, outputs, strict=True)]
        if all(y.dtype.kind == "f" for y, _ in pairs):
            powers, errors = np.array([squared_error(y, y_q) for y, y_q in pairs]).T
            if (power := powers.mean()) > 0:
                parts.append(errors / power)
    return _relative_db(float(np.sqrt(np.mean(parts, axis=0)).mean()) ** 2 if parts else 0.0)


def _normalized(energies: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return the name of each part → ``sum (y - y_q)² / sum y²`` over all samples; those without a signal left out."""
    sums = {name: rows.sum(axis=0).tolist() for name, rows in energies.items()}
    return {name: noise / signal for name, (signal, noise) in sums.items() if signal > 0}


def sample_energies(
    names: Sequence[str], reference: Sequence[Arrays], outputs: Sequence[Arrays]
) -> dict[str, NDArray[np.float64]]:
    """Return output name → ``(sum y², sum (y - y_q)²)`` of each sample, ``(samples, 2)``, in sample order, float64.

    Integer and index outputs are left out, since their differences have no meaning. So is an output whose shape depends
    on the data and differs.
    """
    energies: dict[str, NDArray[np.float64]] = {}
    for position, name in enumerate(names):
        rows: list[tuple[float, float]] = []
        for before, after in zip(reference, outputs, strict=True):
            y, y_q = before[position], after[position]
            if y.dtype.kind == "f" and y.shape == y_q.shape:
                rows.append(squared_error(y, y_q))
        if rows and len(rows) == len(reference):
            energies[name] = np.array(rows, np.float64)
    return energies


def _by_feed(energies: Mapping[str, NDArray[np.float64]], feeds: Sequence[Feed]) -> dict[str, NDArray[np.float64]]:
    """Return the energies with those of all frames of a sequence added up: frames are no independent samples."""
    frames = [frames_in(feed) for feed in feeds]
    starts = np.cumsum([0, *frames[:-1]])
    return {name: np.add.reduceat(rows, starts) if len(rows) > len(frames) else rows for name, rows in energies.items()}


def energies_on(
    samples: Callable[[], Iterable[Feed]],
    reference: ov.Model,
    model: ov.Model,
    compiled: ov.CompiledModel | None = None,
    compared: tuple[ComparedOutputs, ComparedOutputs] | None = None,
    streams: int = 1,
    known: ov.CompiledModel | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return the signal and noise energy of each part on any samples, ``(samples, 2)``, as a :class:`Scorer` does.

    Few outputs are held at a time, whatever the number of samples. If neither model is compiled yet, FP32 runs first
    and is dropped, for two large models take twice the memory; where its outputs turn out not to be small, it is
    compiled again. A part is missing if a sample has no energies of it, see :func:`sample_energies`.

    Args:
        samples: Function that reads the samples, one by one.
        reference: FP32 model.
        model: Model that is compared with it.
        compiled: Compiled ``model``, used if its own outputs are compared.
        compared: What is compared, as for a :class:`Scorer`.
        streams: Number of samples that run at the same time.
        known: Compiled FP32 model with what is compared of it; None to compile it.
    """
    ours, own = compared or (compared_outputs(reference),) * 2
    form, plain = compared_form(model, ours), compared_form(reference, own)
    compiled = compiled if form is model else None
    kept = None
    if known is None and compiled is None:
        kept = _small_outputs(compile_model(plain, streams=streams), own, samples())
    if compiled is None:
        compiled = compile_model(form, streams=streams)
    if known is None and kept is None:
        known = compile_model(plain, streams=streams)
    rest, found = iter(samples()), list[dict[str, NDArray[np.float64]]]()
    while some := list(islice(rest, PORTION)):
        if kept is not None:
            before = [kept.popleft() for _ in range(sum(map(frames_in, some)))]
        else:
            assert known is not None
            before = _values(known, own, some)
        found.append(_by_feed(sample_energies(own.names, before, _values(compiled, ours, some)), some))
    names = [name for name in own.names if all(name in one for one in found)] if found else []
    return {name: np.concatenate([one[name] for one in found]) for name in names}


def _small_outputs(
    compiled: ov.CompiledModel, what: ComparedOutputs, samples: Iterable[Feed]
) -> deque[list[NDArray[Any]]] | None:
    """Return what is compared of each inference; None, without running the rest, if it is not small."""
    found, size = deque[list[NDArray[Any]]](), 0
    for outputs in infer_all(compiled, samples):
        found.append([value.copy() for value in what.values(outputs)])
        size += sum(value.nbytes for value in found[-1])
        if size > SMALL:
            return None
    return found


def _values(compiled: ov.CompiledModel, what: ComparedOutputs, samples: Sequence[Feed]) -> list[list[NDArray[Any]]]:
    """Return what is compared of each inference of a few samples."""
    return [[value.copy() for value in what.values(outputs)] for outputs in infer_all(compiled, samples)]


def _relative_db(error: float) -> float:
    """Return the SQNR in dB of an error relative to the signal; -inf for NaN."""
    return decibel(1.0, math.inf if math.isnan(error) else error)
