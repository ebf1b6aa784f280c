"""A comparison of two models as text for a terminal and as one page."""

from __future__ import annotations

from pathlib import Path

from calib.accuracy.layer_error import JUMP_DB
from calib.report import numbers
from calib.report.charts import jumps_chart
from calib.report.console import paint, rule, table, wrap
from calib.report.escape import printable
from calib.report.files import write_text
from calib.report.page import addressed, render_page
from calib.report.tables import Column, Table
from calib.runtime.paired import slower_layers
from calib.values.comparison import Comparison, LayerComparison

_MARK = "◀"


def render_comparison_text(found: Comparison, width: int = 100, color: bool = False) -> str:
    """Return the comparison for a terminal: outputs, then every layer; the first jump is marked."""
    lines = [rule(found.both, width, color), *_outputs(found), ""]
    lines += [paint(line, "warning" if found.first_jump else "good", color) for line in wrap(summary(found), width)]
    if found.layers:
        titles = ("layer", "SQNR", "lost", "cosine", "runs in", "ms before", "ms after", "")
        rows = [_row(layer, found.first_jump) for layer in found.layers]
        lines += ["", *table(titles, rows, width, right=(1, 2, 3, 5, 6, 7), color=color)]
    for note in found.notes:
        lines += ["", *wrap(note, width)]
    return "\n".join(lines) + "\n"


def summary(found: Comparison) -> str:
    """Return one sentence: where the error first jumps."""
    over = f"on {numbers.plural(found.samples, 'sample')}"
    if not found.layers:
        return f"No layers to compare {over}."
    if all(layer.sqnr_db is None for layer in found.layers):
        return f"Where the error begins can't be told {over}: no layer can be looked at, for the reason in the notes."
    if not found.first_jump:
        known = sum(layer.sqnr_db is not None for layer in found.layers)
        which = "no layer" if known == len(found.layers) else f"none of the {known} that can be looked at"
        return f"The error jumps nowhere {over}: {which} loses {JUMP_DB:.0f} dB or more against the layers before it."
    layer = next(layer for layer in found.layers if layer.name == found.first_jump)
    return (
        f"The error first jumps at {printable(layer.name)} ({layer.type}) {over}: it loses "
        f"{numbers.decibel(layer.jump_db)} and is at {numbers.decibel(layer.sqnr_db)}."
    )


def render_comparison_html(found: Comparison, folder: Path | None = None) -> str:
    """Return the comparison as one page that sorts and searches and fetches nothing.

    Args:
        found: Comparison.
        folder: Folder of its pictures; None to leave them out.
    """
    outputs = [
        [name, numbers.decibel(value), _cosine(found.output_cosine[name])]
        for name, value in found.output_sqnr_db.items()
    ]
    jumps = jumps_chart(found)
    return render_page(
        "compare.html.j2",
        tables={"layers": comparison_table(found).data()},
        charts={} if jumps is None else {"jumps": jumps},
        jumps=jumps,
        title=f"{found.before.name} and {found.after.name} – calib compare",
        found=found,
        summary=summary(found),
        outputs=outputs,
        pictures=addressed(found.pictures, folder),
        pictures_note=found.pictures_note,
    )


def write_comparison_html(found: Comparison, path: str | Path) -> Path:
    """Write the page atomically and return its path.

    Raises:
        OutputError: The file can't be written.
    """
    return write_text(path, render_comparison_html(found, Path(path).parent))


def comparison_table(found: Comparison) -> Table:
    """Return the layers for the page, in topological order."""
    columns = (
        Column("layer", width=34),
        Column("type", width=16),
        Column("output", width=16),
        Column("SQNR", "db", help="of the output against the first model's; the error of all layers before is in it"),
        Column("lost", "db", help="SQNR lost between the layers before and this one"),
        Column("cosine", "labelled"),
        Column("before", "precision", help="precision of the primitive that ran in the first model"),
        Column("after", "precision", help="precision of the primitive that ran in the second model"),
        Column("ms before", "ms"),
        Column("ms after", "ms"),
        Column("primitive", hidden=True),
        Column("other name", hidden=True),
    )
    rows = [
        [
            layer.name,
            layer.type,
            layer.output_shape,
            layer.sqnr_db,
            layer.jump_db or None,
            None if layer.cosine is None else [layer.cosine, _cosine(layer.cosine)],
            layer.executed_before,
            layer.executed_after,
            layer.time_before_ms,
            layer.time_after_ms,
            layer.primitive,
            layer.other_name,
        ]
        for layer in found.layers
    ]
    choices = {
        "error jumps": [i for i, layer in enumerate(found.layers) if layer.jump_db >= JUMP_DB],
        "slower": slower_layers(*_times(found.layers)),
    }
    return Table("layer", columns, rows, choices)


def _outputs(found: Comparison) -> list[str]:
    return [
        f"  output  {printable(name)}  {numbers.decibel(value)}  cosine {_cosine(found.output_cosine[name])}"
        for name, value in found.output_sqnr_db.items()
    ]


def _row(layer: LayerComparison, first_jump: str) -> tuple[str, ...]:
    times = (layer.time_before_ms, layer.time_after_ms)
    return (
        layer.name,
        numbers.decibel(layer.sqnr_db),
        numbers.decibel(layer.jump_db) if layer.jump_db else "",
        numbers.MISSING if layer.cosine is None else _cosine(layer.cosine),
        f"{layer.executed_before or '?'} → {layer.executed_after or '?'}",
        *(numbers.MISSING if time is None else numbers.significant(time) for time in times),
        _MARK if layer.name == first_jump else "",
    )


def _cosine(value: float) -> str:
    return numbers.minus(f"{value:.5f}")


def _times(layers: list[LayerComparison]) -> tuple[dict[int, float], list[dict[int, float]]]:
    """Return the times of the second model, and those of the first, by the place of the layer."""
    after = {i: layer.time_after_ms for i, layer in enumerate(layers) if layer.time_after_ms is not None}
    before = {i: layer.time_before_ms for i, layer in enumerate(layers) if layer.time_before_ms is not None}
    return after, [before]
