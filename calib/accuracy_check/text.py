"""Text recognition in Accuracy Checker's conventions: adapters, annotation converters and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.annotated import Annotated, Convert, Places
from calib.accuracy_check.fields import Fields
from calib.accuracy_check.measure import IGNORED, Mean, Measure
from calib.accuracy_check.values import Labels, Text, Value
from calib.errors import DataError, MetricError
from calib.metrics.text_pairs import edits
from calib.samples.annotations import text_lines, whole_number

if TYPE_CHECKING:
    from calib.accuracy_check.adapters import Adapter, Outputs

Read = Callable[[NDArray[Any], Mapping[int, str]], str]

_LONGEST = 10_000  # characters of a text: the number of edits takes time that grows with the square of them
_ICDAR_13 = "0123456789abcdefghijklmnopqrstuvwxyz"


def _reads(fields: Fields, output: str, read: Read) -> Adapter:
    """Return the adapter that reads a text off one output with the symbols of the configuration or of the data set."""
    given = fields.get("custom_label_map")
    if fields.get("vocabulary_file"):
        fields.refuse("vocabulary_file is not supported; write its lines as custom_label_map, {number: symbol}")
    try:
        symbols = {int(number): str(symbol) for number, symbol in (given or {}).items()}
    except (AttributeError, TypeError, ValueError):
        fields.refuse(f"custom_label_map must be {{number: symbol}}, got {str(given)[:40]!r}")
        symbols = {}
    fields.finish()

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Text:
        known = symbols or outputs.labels.names
        if not known:
            raise MetricError("neither the adapter (custom_label_map) nor the data set says which symbol a class is")
        return Text(read(outputs.find(output), known))

    return adapt


def _symbol(symbols: Mapping[int, str], number: int) -> str:
    if number not in symbols:
        raise MetricError(f"class {number} is none of the {len(symbols)} symbols of the data set or the adapter")
    return symbols[number]


def ctc_greedy(fields: Fields) -> Adapter:
    """Return the adapter of the best class of each step of ``(T, 1, C)``, merged and without blanks.

    From the step behind the number of the blank on, classes that repeat are merged, as the original does it.
    """
    blank, shift = int(fields.number("blank_label", 0, 0)), int(fields.flag("shift_labels"))

    def read(scores: NDArray[Any], symbols: Mapping[int, str]) -> str:
        best = scores.argmax(2)[:, 0]
        merged = np.append(False, best[1:] == best[:-1]) & (np.arange(len(best)) > blank)
        return "".join(_symbol(symbols, one - shift) for one in best[(best != blank) & ~merged].tolist())

    return _reads(fields, fields.text("logits_output"), read)


def ctc_beams(fields: Fields) -> Adapter:
    """Return the adapter of the likeliest text of ``(T, 1, C)`` or ``(1, T, C)`` by a search of prefixes.

    A. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs",
    2014, algorithm 1 without a language model.
    """
    beams, blank = fields.size("beam_size", 10) or 10, fields.number("blank_label", None, 0)
    softmaxed = fields.flag("softmaxed_probabilities")

    def read(scores: NDArray[Any], symbols: Mapping[int, str]) -> str:
        steps = (scores.swapaxes(0, 1) if scores.shape[1] == 1 else scores)[0].astype(float)
        steps = np.log(steps) if softmaxed else steps
        best = _best_prefix(steps, beams, len(symbols) if blank is None else int(blank))
        return "".join(symbols.get(one, "") for one in best)

    return _reads(fields, fields.text("logits_output"), read)


def _best_prefix(steps: NDArray[Any], beams: int, blank: int) -> tuple[int, ...]:
    """Return the likeliest sequence of classes.

    Args:
        steps: Logarithms of the probabilities of the classes at each step, ``(T, C)``.
        beams: Number of prefixes that are kept.
        blank: Number of the blank class.
    """
    kept = {(): (0.0, -np.inf)}  # logarithms of the probabilities of ending in a blank, and of not
    for step in steps:
        # No more than `beams` extensions of a prefix can be among the best ones, beside those that are kept already.
        likely = {*np.argsort(-step, kind="stable")[: beams + 2].tolist(), *(one[-1] for one in kept if one), blank}
        found: dict[tuple[int, ...], list[float]] = {}

        def add(prefix: tuple[int, ...], place: int, value: float, found: Any = found) -> None:
            ends = found.setdefault(prefix, [-np.inf, -np.inf])
            ends[place] = np.logaddexp(ends[place], value)

        for prefix, (ended, running) in kept.items():
            whole, last = np.logaddexp(ended, running), prefix[-1] if prefix else None
            for symbol in sorted(one for one in likely if one < len(step)):
                if symbol == blank:
                    add(prefix, 0, whole + step[symbol])
                elif symbol == last:
                    add((*prefix, symbol), 1, ended + step[symbol])
                    add(prefix, 1, running + step[symbol])
                else:
                    add((*prefix, symbol), 1, whole + step[symbol])
        ranked = sorted(found.items(), key=lambda one: -np.logaddexp(one[1][0], one[1][1]))
        kept = {prefix: (ends[0], ends[1]) for prefix, ends in ranked[:beams]}
    return next(iter(kept))


def simple(fields: Fields) -> Adapter:
    """Return the adapter of the best class of each step of ``(1, T, C)`` up to a symbol that ends the text."""
    end, start, lower = (
        fields.text("eos_label", "[s]"),
        int(fields.number("start_index", 0, 0)),
        fields.flag("do_lower"),
    )
    fields.get("start_label")  # of a vocabulary_file

    def read(scores: NDArray[Any], symbols: Mapping[int, str]) -> str:
        text = "".join(_symbol(symbols, one) for one in scores[0].argmax(1)[start:].tolist())
        text = text[: text.find(end)]  # as the original: without an end the last character is lost
        return text.lower() if lower else text

    return _reads(fields, "", read)


def plates(fields: Fields) -> Adapter:
    """Return the adapter of class numbers up to −1, as networks for licence plates give them."""

    def read(numbers: NDArray[Any], symbols: Mapping[int, str]) -> str:
        whole = numbers.reshape(-1).astype(int).tolist()
        return "".join(_symbol(symbols, one) for one in whole[: whole.index(-1) if -1 in whole else None])

    return _reads(fields, "", read)


def _symbols(symbols: Sequence[str], first: int) -> Labels:
    return Labels({number + first: symbol for number, symbol in enumerate(symbols)})


def _annotated(rows: Sequence[tuple[str, str]], labels: Labels) -> Annotated:
    return Annotated([(image, Text(text)) for image, text in rows], labels)


def _cells(places: Places, name: str, separator: str, kept: Callable[[str], bool] = bool) -> list[tuple[str, str]]:
    """Return the image and the text of each line.

    Raises:
        DataError: A line has another form.
    """
    rows: list[tuple[str, str]] = []
    for number, line in enumerate(text_lines(places.find(name), name), 1):
        if not line.strip():
            continue
        image, found, text = line.strip().partition(separator)
        if not found or not kept(text):
            raise DataError(f"line {number} of {name}: a line is an image and its text, got {line[:60]!r}")
        if len(text) > _LONGEST:
            raise DataError(f"line {number} of {name}: a text of {len(text)} characters; at most {_LONGEST} are read")
        rows.append((image.strip(), text.strip()))
    return rows


def words(fields: Fields) -> Convert:
    """Return the converter of lines of an image and a word of digits and letters (ICDAR 2013)."""
    name = fields.text("annotation_file")
    separator = {"space": " ", "tab": "\t"}[fields.choice("delimeter", ("space", "tab"), "space")]
    fields.finish("images_dir")

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        rows = _cells(places, name, separator, lambda text: separator not in text)
        return _annotated(rows, _symbols(_ICDAR_13, 0))

    return convert


def lines(fields: Fields) -> Convert:
    """Return the converter of lines of an image, a comma and a text, with a file of all characters."""
    name, listed = fields.text("annotation_file"), fields.text("decoding_char_file")
    fields.finish("images_dir")

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        known = "".join(text_lines(places.find(listed), listed))
        return _annotated(_cells(places, name, ","), _symbols(known, 1))

    return convert


def plate_texts(fields: Fields) -> Convert:
    """Return the converter of lines of an image and a licence plate, with a file of lines of number and symbol."""
    name, listed = fields.text("annotation_file"), fields.text("decoding_dictionary_file")
    fields.finish("images_dir")

    def convert(places: Places, _: Mapping[str, Any]) -> Annotated:
        rows = [(image, text.split(" ")[0]) for image, text in _cells(places, name, " ")]
        known = {
            whole_number(number, f"{listed}: the number of a symbol"): symbol
            for number, symbol in _cells(places, listed, " ")
        }
        return _annotated([row for row in rows if row[1] != "NA"], Labels(known))

    return convert


def whole_texts(fields: Fields, _: Labels) -> Measure:
    """Return the share of images whose text is entirely right."""
    spaces = not fields.flag("remove_spaces")
    fields.finish(*IGNORED)

    def right(annotation: Value, prediction: Value) -> float:
        truth, found = _texts(annotation, prediction)
        return float(truth == found if spaces else truth.replace(" ", "") == found.replace(" ", ""))

    return Mean(right)


class _Characters:
    """1 minus the number of edits over the number of characters to find, summed over all images."""

    unit, mean, higher = "fraction", False, True

    def part(self, annotation: Value, prediction: Value) -> Any:
        """Return the number of edits and of characters to find."""
        truth, found = _texts(annotation, prediction)
        return [edits(truth, found), len(truth)]

    def value(self, parts: Sequence[Any]) -> float:
        """Return the metric over these images."""
        wrong, characters = np.sum(parts, axis=0).tolist()
        return 1 - wrong / max(characters, 1)


def characters(fields: Fields, _: Labels) -> Measure:
    """Return the share of characters that are right, by the number of edits."""
    fields.finish(*IGNORED)
    return _Characters()


def _texts(annotation: Value, prediction: Value) -> tuple[str, str]:
    if not isinstance(annotation, Text) or not isinstance(prediction, Text):
        raise MetricError("a metric of texts takes texts")
    return annotation.values, prediction.values
