"""How a model's outputs are decoded for a metric, and which of their parts mean boxes and which scores."""

from __future__ import annotations

from typing import Any

from calib.config import Settings
from calib.errors import UsageError
from calib.graph.comparable import Heads
from calib.graph.output_facts import model_facts
from calib.loading.load import Loaded, input_specs
from calib.metrics.metric import compares_parts, taken
from calib.outputs import DECODERS
from calib.outputs.decoder import ModelFacts, WithParts
from calib.outputs.decoding import Decoding
from calib.outputs.resolve import resolve_decoder


def decoding_for(loaded: Loaded, settings: Settings, metric: Any) -> Decoding | None:
    """Return how outputs become what the metric takes; None if it reads them as they are.

    Raises:
        UsageError: There is no such decoder, or the metric does not take what it gives.
        MetricError: Nothing was asked for, and the outputs are of no family, or of several.
    """
    if compares_parts(metric):
        raise UsageError(f"decode: {metric.name} compares outputs whatever they mean: leave it out")
    return resolve_decoder(settings.decode, taken(metric), _facts(loaded), metric.name)


def heads_of(loaded: Loaded, settings: Settings) -> tuple[Heads, str]:
    """Return the parts of raw heads that the decoder of their boxes tells apart, and a sentence on them.

    A convolution that gives offsets of boxes and scores of classes at once has one output, and its graph does not show
    what is what.
    """
    given = settings.decode
    if isinstance(given, str) and DECODERS[given.partition("?")[0]].gives != "boxes":
        return (), f"decode {given}: gives nothing to tell apart, so outputs are compared as the graph shows them."
    facts = _facts(loaded)
    decoding = resolve_decoder(given, "boxes", facts)
    decoder: Any = decoding.decoder if decoding is not None else None
    parts = decoder.parts(facts) if isinstance(decoder, WithParts) else []
    name = decoding.name if decoding is not None else ""
    if not parts:
        return (), f"decode {name}: outputs are compared in the parts that the graph shows."
    return parts, f"decode {name}: boxes and scores of its heads are compared apart."


def _facts(loaded: Loaded) -> ModelFacts:
    return model_facts(loaded.model, input_specs(loaded.model), loaded.rt_info)
