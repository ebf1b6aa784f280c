"""``report.html``: the report as one page that works from a disk, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calib.report import charts, digest, numbers, tables
from calib.report.files import write_text
from calib.report.histogram import histogram_data
from calib.report.network import network_data
from calib.report.page import addressed, render_page
from calib.values.facts import Report
from calib.values.pictures import SHOWN

FILE_NAME = "report.html"


def write_html(report: Report, path: str | Path, folder: Path | None = None) -> Path:
    """Write the page atomically and return its path.

    Args:
        report: Report of a run.
        path: File to write.
        folder: Folder of the report, with its pictures; by default that of the page.

    Raises:
        OutputError: The file can't be written.
    """
    return write_text(path, render_html(report, Path(path).parent if folder is None else folder))


def render_html(report: Report, folder: Path | None = None) -> str:
    """Return the page: summary, layers, ranges, sensitivity, search, cost and settings, as far as there are data.

    Args:
        report: Report of a run.
        folder: Folder of the report, with its pictures; None to leave them out.
    """
    specs = charts.report_charts(report)
    grids = {
        name: table.data()
        for name, table in (
            ("layers", tables.layer_table(report)),
            ("ranking", tables.ranking_table(report)),
            ("corrections", tables.correction_table(report)),
        )
        if table.rows
    }
    histograms = [histogram_data(q) for q in report.quantizers if q.histogram_counts]
    network = network_data(report) if report.layers else None
    return render_page(
        "report.html.j2",
        charts=specs,
        tables=grids,
        histograms=histograms,
        network=network,
        pictures=addressed(report.pictures[:SHOWN], folder),
        changed=report.changed.sentence if report.changed else "",
        pictures_note=report.pictures_note,
        graph=network is not None,
        **_context(report, specs, grids),
    )


def _context(report: Report, specs: dict[str, Any], grids: dict[str, Any]) -> dict[str, Any]:
    tone, headline = digest.headline(report)
    accuracy = report.accuracy
    return {
        "title": f"{report.model.name} – calib report",
        "report": report,
        "tone": tone,
        "headline": headline,
        "facts": digest.facts(report),
        "notes": digest.to_know(report)[0],
        "more_notes": digest.to_know(report)[1],
        "float_reasons": [[str(count), reason] for reason, count in digest.float_reasons(report)],
        "specs": specs,
        "grids": grids,
        "candidates": [
            ["chosen" if c.chosen else "", c.name, numbers.decibel(c.sqnr_db), c.detail] for c in report.candidates
        ],
        "search": _search_rows(report),
        "finalists": _finalist_rows(report),
        "stages": [[s.name, numbers.seconds(s.wall), numbers.seconds(s.cpu)] for s in report.stages],
        "settings": [[s.key, _plain(s.value), s.origin] for s in report.settings],
        "tensors": [
            [kind, t.name, t.shape, t.type]
            for kind, group in (("input", report.model.inputs), ("output", report.model.outputs))
            for t in group
        ],
        "model_facts": _model_rows(report),
        "measured": _accuracy_rows(report) if accuracy else [],
        "output_sqnr": _output_rows(report),
        "output_samples": digest.sqnr_samples(report.output_sqnr) if report.output_sqnr else "",
    }


def _output_rows(report: Report) -> list[list[str]]:
    """Return the SQNR of each output, or part of one, in the order of the model."""
    return [
        [
            name,
            numbers.decibel(part.held_out_db),
            numbers.decibels(part.interval) if part.interval else numbers.MISSING,
            numbers.decibel(part.written_db),
            numbers.decibel(part.default_db),
            numbers.decibel(part.fp32_default_db),
        ]
        for name, part in (report.output_sqnr.parts.items() if report.output_sqnr else ())
    ]


def _search_rows(report: Report) -> list[list[str]]:
    accuracy = report.accuracy
    if accuracy is None:
        return []
    return [
        [
            str(fact.step),
            fact.kind,
            str(len(fact.reverted)),
            str(fact.samples) if accuracy.images_evaluated else numbers.MISSING,
            numbers.value(accuracy, fact.value),
            numbers.drop(accuracy, fact.drop),
            "within" if fact.within else "over",
            fact.reason or ", ".join(fact.reverted[:3]) + (" …" if len(fact.reverted) > 3 else ""),
        ]
        for fact in report.search
    ]


def _finalist_rows(report: Report) -> list[list[str]]:
    accuracy = report.accuracy
    if accuracy is None:
        return []
    return [
        [
            "chosen" if fact.chosen else "",
            str(len(fact.reverted)),
            numbers.drop(accuracy, fact.drop),
            numbers.milliseconds(fact.latency_ms),
        ]
        for fact in report.finalists
    ]


def _accuracy_rows(report: Report) -> list[list[str]]:
    """Return how the accuracy was measured and what that cost."""
    accuracy = report.accuracy
    assert accuracy is not None, "asked only where accuracy was measured"
    rows = [
        *(
            ["metric", f"{one.metric}, {'higher' if one.higher_is_better else 'lower'} is better"]
            for one in accuracy.separately()
        ),
        ["interval", accuracy.interval_method],
        ["measured in", accuracy.precision],
        ["evaluations for the bound", str(accuracy.bound_evaluations or "")],
        ["inferences", f"{accuracy.images_evaluated:,}" if accuracy.images_evaluated else ""],
        ["compilations", str(accuracy.compilations or "")],
    ]
    return [row for row in rows if row[1]]


def _model_rows(report: Report) -> list[list[str]]:
    model = report.model
    samples = f" ({numbers.plural(report.calibration_samples, 'sample')})" if report.calibration_samples else ""
    rows = [
        ["model", model.source or model.name],
        ["format", model.format],
        ["sha256", model.fingerprint],
        ["operations", f"{model.operations:,}" if model.operations else ""],
        ["calibration data", report.calibration + samples if report.calibration else ""],
        ["validation data", report.validation],
        *(["changed on load", sentence] for sentence in model.normalization),
        *(["preprocessing", sentence] for sentence in model.preprocessing),
        ["calib", report.calib_version],
        *([name, value] for name, value in sorted(report.environment.items())),
    ]
    return [row for row in rows if row[1]]


def _plain(value: Any) -> str:
    if value is None or value in ("", [], ()):
        return numbers.MISSING
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
