"""Tables that a page shows sortable and searchable, as plain data; ``page/table.js`` draws the rows in sight."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from calib.report import digest, numbers
from calib.values.facts import LayerFacts, QuantizerFacts, Report

Kind = Literal[
    "text", "precision", "count", "db", "ms", "us", "share", "ratio", "bytes", "seconds", "number", "link", "labelled"
]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Title shown above.
        kind: Kind of values, for formatting and sorting; ``precision`` is a coloured word, ``link`` is
            [text, address] and ``labelled`` is [number to sort by, text to show].
        hidden: Whether it is shown only in the details of a row.
        width: Width in characters, for text columns.
        help: Explanation of the title.
    """

    title: str
    kind: Kind = "text"
    hidden: bool = False
    width: int = 0
    help: str = ""


@dataclass(frozen=True)
class Table:
    """Rows with one value per column (None if missing) and named filters of rows.

    Attributes:
        noun: Word for a row, such as "layer".
        filters: Mapping from the name of a filter to the indices of its rows.
    """

    noun: str
    columns: tuple[Column, ...]
    rows: list[list[Any]]
    filters: dict[str, list[int]] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """Return the table for JSON, without hidden or visible columns that hold nothing in any row."""
        used = [i for i in range(len(self.columns)) if any(row[i] not in (None, "") for row in self.rows)]
        return {
            "noun": self.noun,
            "columns": [asdict(self.columns[i]) for i in used],
            "rows": [[_rounded(row[i]) for i in used] for row in self.rows],
            "filters": {name: rows for name, rows in self.filters.items() if rows},
        }


def _layer_columns(default: str) -> tuple[Column, ...]:
    """Return the columns in the order of interest: what is left of 1,240 px is seen without scrolling."""
    return (
        Column("layer", width=34),
        Column("type", width=14),
        Column("shape", width=16, help="of the output"),
        Column("planned", "precision"),
        Column(
            "executed",
            "precision",
            help="precision of the primitive with two threads, and with one where it differs; ! if planned in INT8",
        ),
        Column("output", "precision", help="element type of what the primitive writes, with what is fused into it"),
        Column("SQNR", "db", help="signal to quantization noise of the output; higher is better"),
        Column("f32 time", "us", help="of one inference, in the FP32 model run in f32"),
        Column(f"{default} time", "us", help="in the FP32 model run in the machine's default precision"),
        Column("INT8 time", "us", help="in the INT8 model"),
        Column("INT8 / float", "ratio", help="time in INT8 over the fastest in floating point; below 1 is faster"),
        Column("estimator", width=9, help="which range estimator chose the input range"),
        Column("range", width=16, help="of the quantized input"),
        Column("clipped", "share", help="share of input values outside the range"),
        Column(
            "weight SQNR", "db", help="of the INT8 weights against those they round; rounding to the outputs costs some"
        ),
        Column("why", width=44, help="why it is not in INT8, or did not run as planned"),
        Column("weights", hidden=True),
        Column("multiply-adds", "count", hidden=True),
        Column("primitive", hidden=True),
        Column("quantized inputs", hidden=True),
    )


def layer_table(report: Report) -> Table:
    """Return the layers in the order of the model, with the quantizers of their inputs."""
    quantizers = digest.quantizers_of_layers(report)
    late = {layer.name for layer in digest.slower(report)}
    choices = {
        "INT8": lambda layer: layer.planned == "int8",
        "weights only": lambda layer: layer.planned == "int8-weights",
        "floating point": lambda layer: layer.planned == "float",
        "reverted": lambda layer: layer.reverted,
        "not run as planned": digest.ran_otherwise,
        "slower in INT8": lambda layer: layer.name in late,
    }
    return Table(
        "layer",
        _layer_columns((report.speed and report.speed.default_precision) or "default"),
        [_layer_row(layer, quantizers.get(layer.name, [])) for layer in report.layers],
        {name: [i for i, layer in enumerate(report.layers) if chosen(layer)] for name, chosen in choices.items()},
    )


def _layer_row(layer: LayerFacts, inputs: list[QuantizerFacts]) -> list[Any]:
    clipped = [q.clipped for q in inputs if q.clipped is not None]
    best = digest.float_ms(layer)
    return [
        layer.name,
        layer.type,
        layer.output_shape,
        layer.planned,
        digest.executed_in(layer),
        layer.output_precision,
        layer.sqnr_db,
        layer.time_fp32_ms,
        layer.time_default_ms,
        layer.time_int8_ms,
        layer.time_int8_ms / best if layer.time_int8_ms and best else None,
        ", ".join(dict.fromkeys(q.estimator for q in inputs)),
        ", ".join(numbers.span(q) for q in inputs),
        max(clipped, default=None),
        layer.weight_sqnr_db,
        layer.reason,
        layer.weight_shape,
        layer.macs or None,
        digest.primitive_of(layer),
        "; ".join(f"{q.tensor}: {q.estimator} {numbers.span(q)}, {q.reason or q.scheme}" for q in inputs),
    ]


def ranking_table(report: Report) -> Table:
    """Return the units by their sensitivity to being quantized alone, the most sensitive first."""
    reverted = {layer.name for layer in report.layers if layer.reverted}
    ranked = sorted(report.ranking, key=lambda fact: -fact.sensitivity)
    rows = [
        [place, ", ".join(fact.layers), fact.sensitivity, "float" if reverted & set(fact.layers) else "int8"]
        for place, fact in enumerate(ranked, 1)
    ]
    columns = (
        Column("place", "count"),
        Column("layers that change together", width=60),
        Column("sensitivity", "number", help="normalized squared error of the outputs when only this is quantized"),
        Column("in the end", "precision"),
    )
    return Table("unit", columns, rows)


def correction_table(report: Report) -> Table:
    """Return what every correction did on every layer."""
    rows = [
        [
            c.correction,
            c.layer or "the whole network",
            "kept" if c.kept else "dropped",
            c.sqnr_before_db,
            c.sqnr_after_db,
            c.detail,
        ]
        for c in report.corrections
    ]
    columns = (
        Column("correction", width=14),
        Column("layer", width=48),
        Column("outcome", width=11),
        Column("SQNR before", "db"),
        Column("SQNR after", "db"),
        Column("detail", width=40),
    )
    kept = [i for i, c in enumerate(report.corrections) if c.kept]
    dropped = [i for i, c in enumerate(report.corrections) if not c.kept]
    return Table("correction", columns, rows, {"kept": kept, "dropped": dropped})


def _rounded(value: Any) -> Any:
    """Keep six significant digits: more than is shown, a third of the bytes."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
