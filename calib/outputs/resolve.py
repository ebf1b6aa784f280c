"""Find the decoder of a model's outputs, or make the one that is asked for, with its options."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
from collections.abc import Mapping
from typing import Any

from calib.errors import MetricError, UsageError
from calib.outputs import DECODERS
from calib.outputs.decoder import Match, ModelFacts
from calib.outputs.decoding import Decoding
from calib.outputs.postprocess import BoxSteps
from calib.values.options import options_in

_TRUE, _FALSE = ("true", "yes", "1", "on", ""), ("false", "no", "0", "off", "none")


def resolve_decoder(given: Any, takes: str | None, facts: ModelFacts, metric: str = "the metric") -> Decoding | None:
    """Return how outputs are decoded for a metric; None if the metric reads them as they are.

    Args:
        given: Name in the table with options as ``?key=value``; an object with ``decode``; or None to find it.
        takes: What the metric takes: "boxes", "scores", "class map" or "text"; None for a metric that does not say.
        facts: What is known of the model.
        metric: Name of the metric, for messages.

    Raises:
        UsageError: There is no such decoder or option, or the metric does not take what it gives.
        MetricError: Nothing was asked for, and the outputs are of no family, or of several.
    """
    if given is None:
        return _found(takes or "", facts, metric)
    if not isinstance(given, str):
        return Decoding(
            type(given).__name__,
            takes or "",
            given,
            facts,
            None,
            "The outputs are decoded by the object given as decode.",
        )
    name, _, query = given.partition("?")
    if name not in DECODERS:
        near = difflib.get_close_matches(name, DECODERS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(f"decode: there is no decoder {name!r}{hint}. Decoders: {', '.join(DECODERS)}")
    if takes not in (None, DECODERS[name].gives):
        fitting = ", ".join(name for name, row in DECODERS.items() if row.gives == takes)
        raise UsageError(
            f"decode {name}: gives {DECODERS[name].gives}, and {metric} takes {takes}. Decoders for it: {fitting}"
        )
    match = decoder_class(name).recognize(facts)
    found = dict(match.options) if match else {}
    options = found | options_of(name, query)
    return _made(name, options, facts, f"The outputs are decoded as {given}, as asked.")


def decoder_class(name: str) -> Any:
    """Return the class of a decoder of the table."""
    module, _, maker = DECODERS[name].maker.partition(":")
    return getattr(importlib.import_module(module), maker)


def options_of(name: str, query: str) -> dict[str, Any]:
    """Return the options behind the ``?`` of a decoder, converted to their types.

    Raises:
        UsageError: There is no such option, or its value is of another type.
    """
    known = known_options(name)
    found: dict[str, Any] = {}
    for key, text in options_in(query):
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UsageError(f"decode {name}: there is no option {key!r}{hint}. Options: {', '.join(known)}")
        if key in found:
            raise UsageError(f"decode {name}: the option {key!r} is given twice. Give it once")
        found[key] = _converted(name, key, text, str(known[key].type))
    return found


def known_options(name: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the options of a decoder of the table by name: its own and, for boxes, those of the postprocessing."""
    fields = {one.name: one for one in dataclasses.fields(decoder_class(name))}
    if DECODERS[name].gives == "boxes":
        fields |= {one.name: one for one in dataclasses.fields(BoxSteps)}
    return fields


def _converted(name: str, key: str, text: str, kind: str) -> Any:
    try:
        if kind == "bool":
            if text.lower() not in (*_TRUE, *_FALSE):
                raise ValueError
            return text.lower() in _TRUE
        if kind.startswith("tuple"):
            number = int if "int" in kind else float
            values = tuple(number(part) for part in text.split(",") if part.strip())
            if not all(map(math.isfinite, values)):
                raise ValueError
            return values
        if kind in ("int", "float") and text.lower() == "none":
            return 0 if kind == "int" else 0.0
        value = {"int": int, "float": float, "str": str}[kind](text)
        if kind == "float" and not math.isfinite(value):
            raise ValueError
        return value
    except ValueError as error:
        wanted = {"bool": "true or false", "int": "a whole number", "float": "a finite number"}.get(
            kind, "finite numbers"
        )
        raise UsageError(f"decode {name}: {key} is {wanted}, got {text!r}") from error


def _found(takes: str, facts: ModelFacts, metric: str) -> Decoding | None:
    matches: dict[str, Match] = {}
    for name, row in DECODERS.items():
        if row.gives == takes and (match := decoder_class(name).recognize(facts)) is not None:
            matches[name] = match
    told = facts.info.get("model_type", "").strip().lower()
    named = {name: match for name, match in matches.items() if told in DECODERS[name].model_types}
    matches = named or matches
    matches = {name: match for name, match in matches.items() if match.sure} or matches
    if len(matches) == 1:
        ((name, match),) = matches.items()
        also = f", and model_info says {told}" if named else ""
        sentence = (
            f"The outputs are decoded as {name}: {match.reason}{also}. For another decoder or other options: "
            "--decode NAME?key=value (decode=…)."
        )
        return _made(name, match.options, facts, sentence)
    shapes = ", ".join(map(str, facts.outputs))
    if matches:
        candidates = "; ".join(f"{name} ({match.reason})" for name, match in matches.items())
        raise MetricError(
            f"{metric}: the outputs {shapes} may be of several families: {candidates}. Say which: --decode NAME "
            "(decode=…)"
        )
    if takes != "boxes":
        return None
    families = ", ".join(name for name, row in DECODERS.items() if row.gives == takes)
    raise MetricError(
        f"{metric}: takes boxes, and the outputs {shapes} are of no family that is known by its shapes. Say how they "
        f"are decoded: --decode NAME?key=value (decode=…), one of {families}; or give a metric of your own: "
        "python:module:function"
    )


def _made(name: str, options: Mapping[str, Any], facts: ModelFacts, sentence: str) -> Decoding:
    maker = decoder_class(name)
    own = {one.name for one in dataclasses.fields(maker)}
    decoder = maker(**{key: value for key, value in options.items() if key in own})
    steps = None
    if DECODERS[name].gives == "boxes":
        rest = {key: value for key, value in options.items() if key not in own}
        steps = dataclasses.replace(maker.postprocessing, **rest)
    return Decoding(name, DECODERS[name].gives, decoder, facts, steps, sentence)
