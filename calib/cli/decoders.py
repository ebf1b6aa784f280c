"""The table of decoders as text, for ``calib help decoders``."""

from __future__ import annotations

import dataclasses
import inspect

from calib.cli.help import reflow
from calib.outputs import DECODERS
from calib.outputs.postprocess import BoxSteps
from calib.outputs.resolve import decoder_class
from calib.report.console import rule, wrap

INTRODUCTION = (
    "A metric takes boxes, scores of classes, a class map or a text. How outputs become that is found from model_info, "
    "operations and shapes, and always said; --decode NAME?key=value&key=value sets the decoder and its options. "
    "Boxes come in pixels of the original image where the preprocessing is known. An object with "
    "decode(outputs, facts, size) is taken from Python: decode=."
)


def decoder_lines(width: int, color: bool) -> list[str]:
    """Return each decoder with what it reads and its options, then the options of all that give boxes."""
    lines = [*wrap(INTRODUCTION, width), ""]
    for name, row in DECODERS.items():
        maker = decoder_class(name)
        lines += [rule(f"{name}: gives {row.gives}", width, color), *_described(maker, width)]
        if row.gives == "boxes" and (own := _own(maker.postprocessing)):
            lines += wrap(f"Defaults of its own: {own}.", width)
        lines.append("")
    usual = ", ".join(f"{field.name}={_shown(field.default)}" for field in dataclasses.fields(BoxSteps))
    lines += [rule("options of all that give boxes", width, color), *_described(BoxSteps, width)]
    return [*lines, *wrap(f"Defaults: {usual}.", width)]


def _described(documented: object, width: int) -> list[str]:
    return reflow((inspect.getdoc(documented) or "").replace("Attributes:", "Options:"), width)


def _own(steps: BoxSteps) -> str:
    """Return the defaults of a decoder that differ from the usual ones."""
    fields = [(one.name, one.default, getattr(steps, one.name)) for one in dataclasses.fields(BoxSteps)]
    return ", ".join(f"{name}={_shown(value)}" for name, usual, value in fields if value != usual)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value == () else f"{value}"
