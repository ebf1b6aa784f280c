"""Compare the normalized model with the file on a few samples, and the file's reader with onnxruntime.

The reference is the model as it was read (``Job.reference``). calib works on a normalized copy, and every
transformation that made it should keep the function. One that does not is left out, at the operations where it changes
something; the others are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from numpy.typing import NDArray

from calib.corrections.candidate import Feed
from calib.engine.job import Job
from calib.engine.prepare import embedded
from calib.errors import ModelError
from calib.graph.view import GraphView
from calib.loading.inputs import embedded_alone
from calib.loading.isolate import can_be_isolated, fewest
from calib.loading.load import Loaded, input_specs, normalized_again
from calib.loading.onnx_check import WARN_ABOVE, compare_with_onnxruntime
from calib.report.numbers import plural
from calib.runtime.isa import exact_here
from calib.runtime.session import SIMULATED, Session, drawing, notice_memory, ov
from calib.samples.feed import Arrays
from calib.samples.sample import Frames
from calib.values.sqnr import relative_difference

FEW = 4  # samples that the models are compared on: a wrong transformation shows on all of them, a tie on one
# Largest relative difference of an output that sums in another order explain, the median of the samples. Of 500
# generated networks none was above 1e-5; a weight that is rounded to half precision again moves by 5e-4 at most.
SAME_BELOW = 3e-3
# The same for outputs of integers, as a share of their elements: equal scores can change places.
SAME_INTEGERS = 0.05

Outputs = Sequence[Sequence[NDArray[Any]]]


def check_reference(job: Job, feeds: Sequence[Feed] | None = None) -> Job:
    """Return the job with a normalized model that computes what the file does, and with warnings where they differ.

    These are the first inferences of a run, so everything that needs only the graph is checked before. Nothing is run
    if normalization changed nothing and the file is no ONNX model.

    Args:
        job: Run with its model.
        feeds: A few samples; by default those of the job's first run, or the first of the calibration samples.

    Raises:
        ModelError: OpenVINO does not compute what the ONNX file says.
    """
    path = job.loaded.path if job.loaded.facts.format == "onnx" else None
    if job.reference is job.loaded.model and path is None:
        return job
    known = tuple(job.first.outputs)[:FEW] if job.first and feeds is None else ()
    feeds = job.feeds(known or job.ids[:FEW]) if feeds is None else feeds
    if not feeds:  # a replay without samples
        return job
    expected = job.outputs(known) if known else None
    count = len(job.reference.outputs)
    expected = [one[:count] for one in expected] if expected else outputs_of(job.reference, feeds)
    if path is not None and drawing(job.reference):
        found = [f"not compared with onnxruntime, which draws other random numbers for {path.name}"]
        job = replace(job, warnings=(*job.warnings, *found))
    elif path is not None:
        single = [tuple(feed) for feed in feeds if not isinstance(feed, Frames)]  # no ONNX model keeps state
        read, said = _exact(job, feeds, expected) if job.loaded.quantized and not exact_here() else (expected, [])
        found = compare_with_onnxruntime(path, job.given.reference, _before_embedding(job, single), read)
        job = replace(job, warnings=(*job.warnings, *found, *said))
    if job.reference is job.loaded.model or _same(expected, job.loaded.model, feeds):
        return job
    if not _same(expected, job.reference, feeds):
        return replace(job, warnings=(*job.warnings, _unsteady(job)))
    return _left_out(job, feeds, expected)


def _exact(job: Job, feeds: Sequence[Feed], outputs: Outputs) -> tuple[Outputs, list[str]]:
    """Return the outputs of a quantized model with exact sums, and a sentence if they differ from those given."""
    exact = list(Session(job.reference, SIMULATED).each(feeds))
    pairs = (zip(*both, strict=True) for both in zip(outputs, exact, strict=True))
    worst = max((relative_difference(here, there) for pair in pairs for here, there in pair), default=0.0)
    if worst <= WARN_ABOVE:
        return exact, []
    return exact, [
        "INT8 sums of what the model quantizes already saturate on this CPU, which has no VNNI: with exact sums its "
        f"outputs differ by {worst:.3g} (relative), and figures compare with the model as it runs here"
    ]


def _left_out(job: Job, feeds: Sequence[Feed], expected: Outputs) -> Job:
    """Return the job with a model on which the transformations that change the function were not run."""
    names = [node.get_friendly_name() for node in job.given.reference.get_ordered_ops() if can_be_isolated(node)]

    def fits(apart: Collection[str]) -> bool:
        try:
            return _same(expected, embedded(normalized_again(job.given, apart), job.settings)[0].model, feeds)
        except ModelError:  # that OpenVINO can't compile is another transformation that has to be left out
            return False

    apart = fewest(names, fits) if fits(names) else None
    given = normalized_again(job.given, apart)
    loaded, host, _ = embedded(given, job.settings)
    sentence = _say(job.given, given, apart, len(feeds))
    facts = job.loaded.facts.model_copy(
        update={"operations": given.facts.operations, "normalization": [*given.facts.normalization, sentence]}
    )
    return replace(
        job,
        given=given,
        loaded=replace(loaded, facts=facts),
        view=GraphView(loaded.model),
        host=host,
        warnings=(*job.warnings, sentence),
    )


def _say(before: Loaded, after: Loaded, apart: Collection[str] | None, samples: int) -> str:
    """Return the sentence on the transformations that were left out."""
    start = f"OpenVINO's transformations change what this model computes, as {plural(samples, 'sample')} showed. "
    if apart is None:
        return start + "All of them were left out, so that fewer layers may run in INT8"
    wrong, types = (GraphView(loaded.model).types for loaded in (before, after))
    where = ", ".join(f"{name!r} ({types[name]})" for name in list(apart)[:5])
    more = f" and {len(apart) - 5} more" if len(apart) > 5 else ""
    made, removed = _more(wrong, types), _more(types, wrong)
    did = " and ".join([f"made {made}"] * bool(made) + [f"removed {removed}"] * bool(removed))
    what = f", where they {did}" if did else ""
    return start + f"They were left out at {where}{more}{what}, and kept everywhere else"


def _more(types: Mapping[str, str], others: Mapping[str, str]) -> str:
    """Return the operations that one model has more of than another, as text."""
    more = Counter(types.values()) - Counter(others.values())
    return ", ".join(f"{count} {kind}" for kind, count in sorted(more.items()) if kind != "Constant")


def _unsteady(job: Job) -> str:
    return (
        f"{job.loaded.facts.name}: two runs of the FP32 model on the same samples give different outputs, so no figure "
        "holds for more than the run it was measured in. Look for memory that an operation of the model reads before "
        "it was written, such as a custom operation's"
    )


def outputs_of(model: ov.Model, feeds: Sequence[Feed]) -> list[list[NDArray[Any]]]:
    """Return the outputs of a model for each sample."""
    return list(Session(model).each(feeds))


def _same(expected: Outputs, model: ov.Model, feeds: Sequence[Feed]) -> bool:
    """Return whether a model computes these outputs, in the median over the samples; False if it can't run."""
    try:
        found = outputs_of(model, feeds)
    except RuntimeError as error:
        notice_memory(error)
        return False
    except ModelError:
        return False
    outside = [max(map(_excess, *pair), default=0.0) for pair in zip(expected, found, strict=True)]
    return median(outside) <= 1 if outside else True


def _excess(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Return the difference of an output as a multiple of what is still the same."""
    limit = SAME_BELOW if expected.dtype.kind == "f" else SAME_INTEGERS
    return relative_difference(found, expected) / limit


def _before_embedding(job: Job, feeds: Sequence[Arrays]) -> Sequence[Arrays]:
    """Return the feeds as the file takes them, where the model's first input is an image by embedded preprocessing."""
    model = job.given.reference
    if model is job.reference:
        return feeds
    specs = input_specs(model)
    block = job.settings.preprocessing_for(specs[0].name, specs[0].names, only=len(specs) == 1)
    session = Session(embedded_alone(model, block.on_host(), specs[0]))
    return [(session(feed[:1])[0], *feed[1:]) for feed in feeds]
