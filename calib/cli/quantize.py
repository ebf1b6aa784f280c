"""``calib quantize``: the command around ``calib.quantize``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

import calib
from calib.cli import BUDGET_MISSED, INTERRUPTED
from calib.cli.options import (
    accuracy_check_flags,
    checked_inputs,
    color,
    extension_flags,
    json_flag,
    print_json,
    print_lines,
    print_text,
    progress,
    python_flag,
    remark,
    setting_flags,
    source_flags,
    typed,
    verbose_flag,
    width,
)
from calib.cli.plan_table import plan_lines
from calib.config import Fallback, read_document
from calib.config.run_inputs import RunInputs, run_inputs
from calib.errors import CalibError, OutputError, UsageError
from calib.report.escape import printable
from calib.report.html import FILE_NAME as HTML_NAME
from calib.report.html import write_html
from calib.report.json_report import FILE_NAME, read_report
from calib.report.numbers import plural
from calib.report.text import render_text
from calib.store import RunStore
from calib.values.facts import Report
from calib.values.plan_file import plan_to_json

RUN_STORE = "run.sqlite"  # the verdicts of the search, in the output folder
_OF_FILES = (".xml", ".bin", ".onnx", ".html", ".json", ".zip")  # an -o that ends so was probably meant as a file
_NOT_FOR_A_PLAN = ("validation", "statistics", "plan", "resume", "allow_python")  # of --dry-run: it runs nothing


@click.command(short_help="Quantize a model to INT8 under an accuracy budget.")
@click.argument("model", required=False)
@click.option(
    "--calibration", metavar="DATA", help="Samples to calibrate with, as [format:]PATH[?key=value]; see 'calib data'."
)
@click.option("--validation", metavar="DATA", help="Samples with targets to measure accuracy on, in the same form.")
@click.option("-o", "--output", metavar="DIR", help="Folder to write the model, report.json and report.html to.")
@accuracy_check_flags
@setting_flags(
    "metric",
    "decode",
    "higher_is_better",
    "max_drop",
    "drop",
    "min_sqnr",
    "knee",
    "reference",
    "confirm_split",
    "float_precision",
)
@setting_flags("time_limit", "max_evaluations", "require_speedup", "speed", "optimize_speed", "hint")
@setting_flags("samples", "complete", "estimator", "ignore", "target", "effort", "threads", "memory_limit")
@source_flags
@python_flag
@extension_flags
@click.option(
    "--statistics",
    metavar="FILE",
    help="Read the statistics from this .npz file, or write them to it if it does not exist: those of all calibration "
    "samples, and apart those of the samples that are not held out.",
)
@click.option(
    "--plan",
    metavar="FILE",
    help="Apply this plan file instead of making a plan: the weights of FILE with .npz go with it on the same FP32 "
    "model, without calibration data; on others the corrections of --effort are computed again.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run into the same DIR.")
@click.option("--fresh", is_flag=True, help="Start again where DIR holds an interrupted run: its results are deleted.")
@click.option("--report/--no-report", "page", default=True, show_default=True, help="Whether to write report.html.")
@verbose_flag
@click.option("--dry-run", is_flag=True, help="Print the plan without running or writing anything.")
@json_flag
@click.pass_context
def command(
    ctx: click.Context,
    model: str | None,
    calibration: str | None,
    output: str | None,
    page: bool,
    dry_run: bool,
    as_json: bool,
    fresh: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Quantize MODEL, a file that OpenVINO reads (IR, ONNX, TensorFlow, TFLite, PaddlePaddle), to INT8.

    The exit code is 3 if the accuracy budget, in the precision that the model will run in, or the required speed-up
    was missed; the best model is written even so.
    """
    given = typed(ctx, options)
    checked = checked_inputs(given, given.get("metric"))
    if checked is not None:
        calibration = calibration or checked.data
        given = {"validation": checked.data, **given, "metric": checked.metric}
    named = run_inputs(read_document(given["config"])) if "config" in given else RunInputs()
    model, output = model or named.model, output or named.output
    if not model:
        raise click.UsageError("Missing argument MODEL (or a --config with 'model:' in it).")
    if dry_run:
        _dry_run(model, calibration, as_json, given)
        return
    samples = calibration or named.calibration or given.get("plan") or named.plan
    wanted = (("--calibration", samples), ("--output", output))
    if missing := [flag for flag, value in wanted if not value]:
        raise click.UsageError(f"Missing option {' and '.join(missing)} (or a --config that names it, or --dry-run).")
    if given.get("resume") and fresh:
        raise click.UsageError("--resume continues a run and --fresh starts again: give one of them.")
    _look_at_earlier(ctx, Path(output), goes_on=bool(given.get("resume")) or fresh)
    report = run(ctx, model, calibration, output, page, as_json, {"speed": Fallback(True), **given}, verbose=verbose)
    if report.accuracy and "interrupted" in report.accuracy.stopped:
        remark(ctx, "interrupted: this is the best model found so far; continue with --resume")
        ctx.exit(INTERRUPTED)
    if report.status in ("within_budget_in_f32_only", "over_budget", "fp32_kept"):
        ctx.exit(BUDGET_MISSED)


def _look_at_earlier(ctx: click.Context, folder: Path, *, goes_on: bool) -> None:
    """Say that an earlier result will be replaced, and refuse to delete the results of a run that did not end.

    Raises:
        UsageError: There are such results, and the user has not said what becomes of them.
    """
    if not folder.exists():
        return
    report, verdicts = folder / FILE_NAME, folder / RUN_STORE
    if verdicts.is_file() and not goes_on and not _ended_after(report, verdicts):
        with RunStore(verdicts) as store:
            count = store.searched()
        if count:
            raise UsageError(
                f"{folder} holds {plural(count, 'verdict')} of a run that did not end, or still runs: give --resume to "
                "continue it, --fresh to delete them and start again, or another folder with -o"
            )
        remark(ctx, f"{printable(str(folder))} holds a run that ended before its search: it starts again")
    if report.is_file():
        remark(ctx, f"{printable(str(folder))} holds an earlier result, which will be replaced")


def _ended_after(report: Path, verdicts: Path) -> bool:
    """Return whether the report is of the run that wrote these verdicts last, and that was not interrupted."""
    written = [path.stat().st_mtime_ns for path in (verdicts, Path(f"{verdicts}-wal")) if path.exists()]
    try:
        if report.stat().st_mtime_ns < max(written):
            return False
        accuracy = read_report(report).accuracy
    except (OSError, CalibError):
        return False
    return accuracy is None or "interrupted" not in accuracy.stopped


def run(
    ctx: click.Context,
    model: str,
    calibration: str | None,
    output: str,
    page: bool,
    as_json: bool,
    given: dict[str, Any],
    *,
    verbose: bool,
) -> Report:
    """Quantize, write the folder and print the result; ``given`` holds further arguments of ``calib.quantize``."""
    from calib.engine.reproduce import JOB_NAME
    from calib.engine.result import check_output
    from calib.loading.find import find_model  # here: --help needs no OpenVINO

    folder = Path(output).absolute()  # the current folder may be gone when the run ends
    if (source := Path(model)).exists():  # before hours are spent on a result that can't be kept
        source = find_model(source)
        check_output(folder, source.stem, source)
        if folder.suffix in _OF_FILES and not folder.exists():
            remark(ctx, f"{printable(output)} will be a folder: -o names the one to write the model and its report to")
    result = calib.quantize(model, calibration, store=folder / RUN_STORE, progress=progress(ctx), **given)
    report = result.save(folder, pictures=page)
    try:
        if page:
            write_html(report, folder / HTML_NAME)
        if as_json:
            print_json(report)
        else:
            print_lines([render_text(report, width(), color(), verbose=verbose).rstrip("\n")])
    except OutputError as error:
        kept = f"the model and {FILE_NAME} are complete in {folder}; 'calib report' writes the page again from them"
        raise OutputError(*error.lines, kept) from error
    remark(ctx, f"written to {printable(output)}{'; see report.html there' if page else ''}")
    if report.reproduce:
        remark(ctx, f"to reproduce: calib quantize --config {printable(shlex.quote(str(Path(output) / JOB_NAME)))}")
    return report


def _dry_run(model: str, calibration: str | None, as_json: bool, given: dict[str, Any]) -> None:
    settings = {name: value for name, value in given.items() if name not in _NOT_FOR_A_PLAN}
    found = calib.plan(model, calibration, **settings)
    if as_json:
        print_text(plan_to_json(found))
    else:
        print_lines(plan_lines(found, width(), color()))
