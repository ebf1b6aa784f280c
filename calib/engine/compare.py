"""Compare two models layer by layer on the same samples: error, executed precision and time."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calib.accuracy.layer_error import LayerError, first_jump, jumps
from calib.engine.building import aliases, executed_in, for_two_threads, listed
from calib.engine.data_checks import Data, doubts_about, tell
from calib.engine.layer_errors import KNOWN, LayerComparer, LayerPair, Outputs, known_outputs
from calib.engine.prepare import check_state, open_samples, prepare
from calib.engine.reference import FEW, check_reference
from calib.errors import DataError, UsageError
from calib.graph.comparable import aligned, compared_form
from calib.graph.layers import LAYERS
from calib.graph.view import GraphView
from calib.loading.alike import require_float_first, require_same_inputs, require_same_outputs
from calib.loading.inputs import checked_shapes
from calib.loading.load import Loaded, load_model
from calib.progress import Clock, Progress
from calib.report.numbers import decibel, plural
from calib.runtime.executed import Ran, executed_layers
from calib.runtime.failures import left_out
from calib.runtime.layer_times import timed_layers
from calib.runtime.session import Session, ov
from calib.samples.feed import Arrays, feed_of
from calib.samples.sample import Frames
from calib.values.compared import ComparedOutputs
from calib.values.comparison import Comparison, LayerComparison
from calib.values.pictures import SHOWN, PictureFacts
from calib.values.plan import TensorId
from calib.values.version import __version__

TIMED_FEEDS = 8
UNLIKE_DB = 10.0  # outputs further apart, of layers that share no name, are hardly those of one network


_Kept = tuple[float, int, tuple[Any, Any]]
"""Relative error of a sample, its position, and the outputs of both models."""


@dataclass(frozen=True)
class _Side:
    """One of the two models."""

    loaded: Loaded
    view: GraphView


@dataclass(frozen=True)
class _Pair(LayerPair):
    matched: Literal["name", "position"]


def compare(
    fp32: str | Path | ov.Model,
    int8: str | Path | ov.Model,
    data: Any,
    *,
    samples: int = 16,
    pictures: Path | None = None,
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    progress: Progress | bool | None = None,
    **settings: Any,
) -> Comparison:
    """Run two models over the same samples and compare the outputs of every convolution and MatMul.

    Layers are matched by name, and where names differ, by type and shape in order. Both models run with their
    floating-point layers in f32. An output carries the error of all layers before it; channels that equalization
    has rescaled are compared at the scales of FP32.

    Args:
        fp32: Model to compare with: its path, or a model in memory.
        int8: The same network after quantization.
        data: Samples as a DATA string or an iterable that can be read more than once.
        samples: Number of samples to run.
        pictures: Folder to draw the samples that change most into, in ``pictures/`` there; None to draw none.
        config: Path of a YAML or JSON file of settings, such as preprocessing.
        sets: Settings as ``"key=value"``.
        progress: Receives the progress of each stage; silent by default.
        settings: Settings by name.

    Raises:
        UsageError: The models take different inputs, have outputs that can't be compared one by one, or stand in the
            wrong order; or no samples are asked for.
        DataError: There are no samples.
    """
    if samples < 1:
        raise UsageError(f"samples has to be at least 1, got {samples}")
    job, other = prepare(fp32, None, flags=settings, sets=sets, config=config, need_float=False), load_model(int8)
    before, after = _Side(job.loaded, job.view), _Side(other, GraphView(other.model))
    for require in (require_same_inputs, require_same_outputs, require_float_first):
        require(before.loaded, after.loaded)
    dataset = checked_shapes(open_samples(job, data), other.model)
    ids = dataset.choose(samples)
    if not ids:
        raise DataError(f"{dataset.source}: there are no samples to compare on; give at least one")
    job = check_reference(job, [*map(feed_of, dataset.load(ids[:FEW]))])
    before = _Side(job.loaded, job.view)
    pairs, unmatched = match(before.view, after.view)
    clock = Clock(progress)
    with clock("compare") as stage:
        job = job.warned(doubts_about(Data(job, dataset, ids, "samples")))
        tell(clock, stage, job.warnings)
        models = before.loaded.model, after.loaded.model
        heads, apart = job.heads
        form, *compared = aligned(before.loaded.model, before.loaded.reference, after.loaded.reference, heads=heads)
        models_as_read = before.loaded.reference, after.loaded.reference
        outputs, known, kept = _output_errors(models_as_read, compared, map(feed_of, dataset.load(ids)))
        drawn, undrawn = list[PictureFacts](), ""
        if pictures is not None:
            from calib.engine.pictures import write_compared  # here: few comparisons draw

            chosen = list(dataset.load([ids[index] for _, index, _ in kept]))
            changes, pairs_kept = [change for change, _, _ in kept], [pair for _, _, pair in kept]
            drawn, undrawn = write_compared(job, chosen, changes, pairs_kept, pictures)
        comparer = LayerComparer(models, before.view, lambda: map(feed_of, dataset.load(ids)), known, stage.update)
        shown = [
            pair for pair in pairs if {pair.before, pair.after}.isdisjoint({*before.view.inside, *after.view.inside})
        ]
        looked_at = comparer.errors(shown, halves=True)
        errors = looked_at.errors
    missing: list[str] = []
    with clock("time"):
        feeds = [*map(feed_of, dataset.load(ids[:TIMED_FEEDS]))]
        ran = [_timed(side, feeds, missing) for side in (before, after)]
    layers = _layers(before.view, pairs, errors, ran)
    return Comparison(
        calib_version=__version__,
        before=before.loaded.facts,
        after=after.loaded.facts,
        data=dataset.source,
        samples=len(ids),
        pictures=drawn,
        pictures_note=undrawn,
        unmatched=unmatched,
        output_sqnr_db={name: error.sqnr_db for name, error in outputs.items()},
        output_cosine={name: error.cosine for name, error in outputs.items()},
        notes=[
            *_unlike((before, after), pairs, compared[0].names, outputs),
            *form.notes,
            *([apart] if apart else []),
            *_notes(pairs, unmatched, errors),
            *_inside_notes(len(pairs) - len(shown)),
            *looked_at.notes,
            *_before_the_jump(before.view, errors, layers["first_jump"]),
            *check_state(job, dataset, ids),
            *job.remarks,
            *missing,
        ],
        **layers,
    )


def _timed(side: _Side, feeds: Sequence[Arrays | Frames], missing: list[str]) -> Mapping[str, tuple[Ran, float | None]]:
    """Return how each layer ran and for how long; nothing, with a sentence, where OpenVINO can't run the model."""
    with left_out(f"The layers of {side.loaded.facts.name} were not timed, since OpenVINO can't run it", missing):
        return _ran(side, feeds)
    return {}


def match(before: GraphView, after: GraphView) -> tuple[list[_Pair], list[str]]:
    """Pair the layers of two models by name, and the rest by type and output shape if both have equally many.

    Returns:
        The pairs in topological order of the first model, and the names without a partner.
    """
    layers = [[name for name, kind in view.types.items() if kind in LAYERS] for view in (before, after)]
    names = [name for name in layers[0] if name in layers[1] and before.types[name] == after.types[name]]
    pairs = [_Pair(name, name, "name") for name in names]
    rest = [
        _by_shape(view, [n for n in own if n not in names]) for view, own in zip((before, after), layers, strict=True)
    ]
    for key, own in rest[0].items():
        others = rest[1].get(key, [])
        if len(own) == len(others):
            pairs += [_Pair(a, b, "position") for a, b in zip(own, others, strict=True)]
    paired = {pair.before for pair in pairs}, {pair.after for pair in pairs}
    alone = [name for own, known in zip(layers, paired, strict=True) for name in own if name not in known]
    return sorted(pairs, key=lambda pair: before.order[pair.before]), list(dict.fromkeys(alone))


def _by_shape(view: GraphView, names: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        groups[view.types[name], str(view.output(TensorId(name)).get_partial_shape())].append(name)
    return groups


def _output_errors(
    models: tuple[ov.Model, ov.Model], compared: Sequence[ComparedOutputs], feeds: Iterable[Arrays | Frames]
) -> tuple[dict[str, LayerError], list[Outputs], list[_Kept]]:
    """Return part of the outputs → its error, the first outputs, and the samples that differ most with their outputs.

    Both models are as they were read, with no layer exposed.

    A part whose shape differs in every sample is left out.
    Models whose tensors before a selection are compared run without these outputs as well on the first samples.
    """
    errors, known = [LayerError(channel_axis=None) for _ in compared[0].parts], list[Outputs]()
    sessions = [Session(compared_form(model, one)) for model, one in zip(models, compared, strict=True)]
    plain = [Session(model) for model in models] if any(one.extra for one in compared) else None
    kept: list[_Kept] = []
    for index, feed in enumerate(feeds):
        if plain and len(known) < KNOWN:
            known += known_outputs(*(one.each([feed]) for one in plain))
        for first, second in zip(*(session.each([feed]) for session in sessions), strict=True):
            if not plain and len(known) < KNOWN:
                known.append((first, second))
            for error, a, b in zip(errors, compared[0].values(first), compared[1].values(second), strict=True):
                if a.shape == b.shape:
                    error.add(a, b)
            kept.append((_relative_error(first, second), index, (first, second)))
        kept = sorted(kept, key=lambda one: (-one[0], one[1]))[:SHOWN]
    return {name: error for name, error in zip(compared[0].names, errors, strict=True) if error.values}, known, kept


def _relative_error(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Return the largest relative L2 distance of two models' outputs."""
    found = [0.0]
    for a, b in zip(first, second, strict=True):
        old, new = np.asarray(a), np.asarray(b)
        if old.shape == new.shape and old.dtype.kind in "fiu":
            wide = old.astype(np.float64)
            finite = np.isfinite(wide) & np.isfinite(new)
            wide, new = np.where(finite, wide, 0.0), np.where(finite, new, 0.0)
            found.append(float(np.linalg.norm(wide - new) / max(float(np.linalg.norm(wide)), 1e-30)))
    return max(np.nan_to_num(found, posinf=1e6))


def _ran(side: _Side, feeds: Sequence[Arrays | Frames]) -> dict[str, tuple[Ran, float | None]]:
    """Return layer → what it executed as, and its time in milliseconds with one thread."""
    listing = listed(side.loaded, side.view)
    names = aliases(side.view, listing)
    compiled = for_two_threads(side.loaded.model)
    two = executed_layers(compiled, names) if compiled else {}
    timed = timed_layers(side.loaded.model, feeds, names)
    found = {layer: (Ran(node, two.get(layer)), time) for layer, (node, time) in timed.items()}
    if side.view.inside:
        ran = executed_in(side.loaded.model, side.view, listing)
        found |= {layer: (node, None) for layer, node in ran.items() if layer in side.view.inside}
    return found


def _inside_notes(count: int) -> list[str]:
    """Say of layers inside bodies that their outputs were not compared."""
    if not count:
        return []
    have = "has" if count == 1 else "have"
    return [f"{plural(count, 'layer')} inside bodies {have} no output to compare, and no time of their own."]


def _precision(ran: Ran | None) -> str:
    """Return what a layer executed in with two threads, and with one in brackets where that is something else."""
    usual = ran.usual if ran else None
    if ran is None or usual is None:
        return ""
    return f"{usual.precision} ({ran.one.precision} with one thread)" if ran.differs and ran.one else usual.precision


def _layers(
    view: GraphView,
    pairs: Sequence[_Pair],
    errors: Mapping[str, LayerError],
    ran: Sequence[Mapping[str, tuple[Ran, float | None]]],
) -> dict[str, Any]:
    names = [pair.before for pair in pairs if pair.before in errors]
    values = {name: errors[name].sqnr_db for name in names}
    jump = jumps(values, _upstream(view, names))
    layers: list[LayerComparison] = []
    for pair in pairs:
        (before, time_before), (after, time_after) = (
            side.get(name, (None, None)) for side, name in zip(ran, (pair.before, pair.after), strict=True)
        )
        layers.append(
            LayerComparison(
                name=pair.before,
                other_name=pair.after if pair.after != pair.before else "",
                type=view.types[pair.before],
                output_shape=str(view.output(TensorId(pair.before)).get_partial_shape()),
                matched=pair.matched,
                sqnr_db=values.get(pair.before),
                cosine=errors[pair.before].cosine if pair.before in errors else None,
                rescaled=pair.before in errors and errors[pair.before].rescaled,
                jump_db=jump.get(pair.before, 0.0),
                executed_before=_precision(before),
                executed_after=_precision(after),
                primitive=after.usual.primitive if after and after.usual else "",
                time_before_ms=time_before,
                time_after_ms=time_after,
            )
        )
    return {"layers": layers, "first_jump": first_jump(names, jump)}


def _upstream(view: GraphView, names: Sequence[str]) -> dict[str, set[str]]:
    """Return, for each layer, the layers whose outputs reach it without passing through another layer."""
    known = set(names)
    reaching: dict[str, set[str]] = {}  # node → layers that its output comes from, nearest only
    for node in view.nodes:
        reaching[node] = set(
            itertools.chain.from_iterable(
                {tensor.node} if tensor.node in known else reaching[tensor.node] for tensor in view.inputs[node]
            )
        )
    return {name: reaching[name] for name in names}


def _before_the_jump(view: GraphView, errors: Mapping[str, LayerError], first: str) -> Iterator[str]:
    """Yield a sentence where layers without a figure stand right before the first layer that the error jumps at."""
    if not first:
        return
    layers = [name for name, kind in view.types.items() if kind in LAYERS]
    unknown = [
        name for name in sorted(_upstream(view, layers)[first], key=view.order.__getitem__) if name not in errors
    ]
    if unknown:
        yield (
            f"Right before {first!r} there is no figure for {', '.join(map(repr, unknown))}: what is lost at {first!r} "
            "may be lost there."
        )


def _unlike(
    sides: Sequence[_Side], pairs: Sequence[_Pair], names: Sequence[str], outputs: Mapping[str, LayerError]
) -> Iterator[str]:
    """Yield sentences where the outputs, and the names of the layers, are those of two networks and not of one."""
    if missing := [name for name in names if name not in outputs]:
        shapes = "another shape in the two models in every sample, so it was not compared"
        yield f"{', '.join(map(repr, missing))} has {shapes}."
    best = max((error.sqnr_db for error in outputs.values()), default=math.inf)
    named = any(pair.matched == "name" for pair in pairs)
    if best < (0 if named else UNLIKE_DB):
        before, after = (side.loaded.facts.source or side.loaded.facts.name for side in sides)
        layers = "" if named else ", and no layer has the same name in both"
        yield (
            f"{before} and {after} may not be of one network: no output of the second has an SQNR above "
            f"{decibel(best)} against the first{layers}. Compare a model with what was made from it."
        )


def _notes(pairs: Sequence[_Pair], unmatched: Sequence[str], errors: Mapping[str, LayerError]) -> list[str]:
    notes: list[str] = []
    placed = sum(pair.matched == "position" for pair in pairs)
    if placed:
        have = "has another name" if placed == 1 else "have other names"
        notes.append(f"{plural(placed, 'layer')} {have} in the two models: matched by type, shape and order.")
    if unmatched:
        notes.append(f"Not compared, as in one model only: {plural(len(unmatched), 'layer')}.")
    rescaled = sum(error.rescaled for error in errors.values())
    if rescaled:
        notes.append(
            f"Compared at the first model's scales: {plural(rescaled, 'layer')} with rescaled channels (equalization)."
        )
    return notes
