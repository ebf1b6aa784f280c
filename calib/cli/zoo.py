"""``calib zoo``: many models from one manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from calib.cli.options import color, print_lines, print_text, quiet, remark, width
from calib.cli.zoo_live import Live
from calib.config.types import parse_duration
from calib.errors import UsageError
from calib.report import numbers
from calib.report.console import table
from calib.report.escape import printable
from calib.report.files import write_text
from calib.report.leaderboard import (
    LeaderboardRow,
    render_leaderboard_csv,
    render_leaderboard_json,
    render_leaderboard_markdown,
    render_leaderboard_text,
)
from calib.report.leaderboard_page import render_leaderboard_html, write_leaderboard_html
from calib.values.version import __version__
from calib.zoo import commands as zoos
from calib.zoo import control
from calib.zoo.checked import found_by_itself
from calib.zoo.commands import Zoo, open_store, open_zoo
from calib.zoo.cost import bytes_of
from calib.zoo.events import doing
from calib.zoo.jobs import JobRow, JobStore
from calib.zoo.leaderboard_rows import check_statuses, filtered
from calib.zoo.make_jobs import select
from calib.zoo.process import Local
from calib.zoo.sources import shown_name
from calib.zoo.supervisor import Runner

PARTLY_FAILED = 4
LEFT = "its supervisor is gone; the next run continues it"

# As for calib quantize: no budget was missed, where the model will run.
_GOOD = ("within_budget", "within_budget_not_in_f32", "quantized", "mostly_float", "slower")

# format of export → how it is written
EXPORTS: dict[str, Callable[[Sequence[LeaderboardRow]], str]] = {
    "csv": render_leaderboard_csv,
    "json": render_leaderboard_json,
    "markdown": render_leaderboard_markdown,
    "html": lambda rows: render_leaderboard_html(rows, __version__),
    "text": render_leaderboard_text,
}

_SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".html": "html", ".txt": "text"}


@click.group(short_help="Quantize hundreds of models from one manifest.")
def command() -> None:
    """Quantize the models that a manifest names; finished jobs are not run again.

    The output folder holds zoo.sqlite, logs/ and models/.
    """


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("-o", "--output", metavar="OUT", help="Output folder. [default: next to the manifest]")(
        function
    )
    return click.argument("manifest")(function)


def _choosing(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option(
        "--shard", default="", metavar="I/N", help="Take only every N-th model, starting with the I-th."
    )(function)
    return click.option("--only", multiple=True, metavar="GLOB", help="Take only models or jobs whose names match.")(
        function
    )


def _running(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--allow-python", is_flag=True, help="Allow the manifest to run code, as python:module:function."),
        click.option(
            "--allow-extension",
            is_flag=True,
            help="Allow the manifest to name libraries of operations, whose code runs.",
        ),
        click.option(
            "--cluster",
            metavar="ADDRESS",
            help="Dask cluster to run on: dask://HOST:PORT, or local:N for N workers on this machine.",
        ),
        click.option("--time-limit", metavar="TIME", help="Stop after this time; the next run continues."),
        click.option(
            "-j",
            "--jobs",
            type=click.IntRange(1),
            help="Jobs to run at the same time. [default: as many as fit the cores]",
        ),
    ):
        function = option(function)
    return _common(_choosing(function))


@command.command("plan", short_help="List the jobs and what they would cost.")
@_common
@_choosing
def plan(manifest: str, output: str | None, only: tuple[str, ...], shard: str) -> None:
    """List the jobs of MANIFEST, their state, and the time and memory to expect.

    Times and memory come from the last run in this output folder. Those marked ~ are estimates from the operations of
    the model.
    """
    zoo = open_zoo(manifest, output)
    with open_store(zoo) as store:
        planned, learnt = zoos.plan(zoo, select(zoo.jobs, only, shard), store)
    rows = [
        (
            shown_name(one.job.name),
            numbers.size(bytes_of(one.job)),
            "–" if one.seconds is None else "~" * one.guessed + numbers.seconds(one.seconds),
            "–" if one.memory is None else "~" * one.guessed + numbers.size(int(one.memory)),
            one.status.replace("_", " "),
        )
        for one in planned
    ]
    print_lines(table(("job", "size", "time", "memory", "state"), rows, width(), right=(1, 2, 3), color=color()))
    todo = [one for one in planned if one.status == "run"]
    known = [one.seconds for one in todo if one.seconds is not None]
    cost = f", about {numbers.seconds(sum(known))} for one worker" if known else ""
    missing = f" (without {len(todo) - len(known)} of unknown cost)" if known and len(known) < len(todo) else ""
    print_lines(["", f"{numbers.plural(len(planned), 'job')}, {len(todo)} to run{cost}{missing}"])
    _print_configurations(planned)
    if any(zoos.code_of(one.job) for one in todo):
        print_lines(["some jobs run code that the manifest names (python:module:function), which needs --allow-python"])
    if any(one.guessed and one.seconds is not None for one in planned):
        basis = (
            f"the cost of {numbers.plural(learnt, 'finished job')} here" if learnt else "the speed of another machine"
        )
        print_lines(
            [f"~ estimated from the model's operations and {basis}; a search for layers to revert takes longer"]
        )


def _print_configurations(planned: Sequence[zoos.Planned]) -> None:
    """Print which Accuracy Checker configurations were found by themselves, and what is refused of any."""
    said = [f"{shown_name(one.job.name)}: {text}" for one in planned if (text := found_by_itself(one.job))]
    refused = [f"{shown_name(one.job.name)}: refused: {one.refusal}" for one in planned if one.refusal]
    if said or refused:
        print_lines([printable(line) for line in [*said, *refused]])


@command.command("run", short_help="Run the jobs that are not finished.")
@_running
@click.pass_context
def run(ctx: click.Context, **options: Any) -> None:
    """Run the jobs of MANIFEST that are not finished.

    The exit code is 4 if some jobs failed, missed their budget or are left after --time-limit.
    """
    _run(ctx, again=False, **options)


@command.command("retry", short_help="Run failed and unfinished jobs again.")
@_running
@click.pass_context
def retry(ctx: click.Context, **options: Any) -> None:
    """Run the failed jobs of MANIFEST again with all their attempts, and the unfinished ones too."""
    _run(ctx, again=True, **options)


@command.command("pause", short_help="Stop jobs until they are resumed.")
@_common
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
def pause(manifest: str, output: str | None, names: tuple[str, ...]) -> None:
    """Stop jobs of MANIFEST, running or waiting, until they are resumed; what they have found is kept.

    MANIFEST may also be the folder of the runs of calib studio.

    JOB is a name as calib zoo status shows it, or a pattern. A zoo that is running obeys within a second.
    """
    _control("pause", manifest, output, names)


@command.command("cancel", short_help="End jobs with the best model so far.")
@_common
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
def cancel(manifest: str, output: str | None, names: tuple[str, ...]) -> None:
    """End jobs of MANIFEST early, each with the best model that keeps its budget, if its search has found one.

    Without one nothing is written. Cancelled a second time, a job that is still saving is stopped at once. JOB is a
    name as calib zoo status shows it, or a pattern.
    """
    _control("cancel", manifest, output, names)


@command.command("resume", short_help="Let jobs run that were paused or cancelled.")
@_common
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
def resume(manifest: str, output: str | None, names: tuple[str, ...]) -> None:
    """Let jobs of MANIFEST run again that were paused or cancelled, from where they were.

    A zoo that is running takes them; else calib zoo run does. JOB is a name as calib zoo status shows it, or a pattern.
    """
    _control("resume", manifest, output, names)


def _control(action: str, manifest: str, output: str | None, names: tuple[str, ...]) -> None:
    with _store_of(manifest, output) as store:
        for row in control.named(store, names):
            said = control.told(row, action, control.ask(store, row.key, action))
            print_lines([printable(f"{shown_name(row.name)} {said}")])


def _store_of(manifest: str, output: str | None) -> JobStore:
    """Open the store of a manifest, or of a folder of runs, as that of a studio, which has no manifest."""
    path = Path(manifest) / "zoo.sqlite"
    return JobStore(path) if output is None and path.is_file() else open_store(open_zoo(manifest, output), new=False)


@command.command("status", short_help="Show the progress and the leaderboard.")
@_common
@click.option("--only", multiple=True, metavar="GLOB", help="Take only models or jobs whose names match.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="STATUS",
    help="Show only jobs with this status, such as failed or over_budget.",
)
@click.option("--watch", is_flag=True, help="Refresh every two seconds until no job is running.")
def status(manifest: str, output: str | None, only: tuple[str, ...], statuses: tuple[str, ...], watch: bool) -> None:
    """Show the leaderboard of MANIFEST and the jobs that are running."""
    check_statuses(statuses)
    zoo = open_zoo(manifest, output)
    select(zoo.jobs, only)
    with open_store(zoo, new=False) as store:
        while True:
            if watch and color():
                print_text("\x1b[H\x1b[J")  # over what was printed before, from the top of the screen
            left = {row.key for row, _ in store.abandoned()}
            rows = [replace(row, status="waiting", reason=LEFT) if row.key in left else row for row in store.rows()]
            print_lines([render_leaderboard_text(filtered(rows, only, statuses), width(), color()).rstrip()])
            running = [row for row in rows if row.status == "running"]
            print_lines(_under_way(zoo, store, running))
            if not (watch and running):
                return
            time.sleep(2)


@command.command("export", short_help="Write the leaderboard as CSV, JSON, Markdown or HTML.")
@_common
@click.argument("file", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(EXPORTS)),
    help="Format to write. [default: from the suffix of FILE, else csv]",
)
@click.option("--only", multiple=True, metavar="GLOB", help="Take only models or jobs whose names match.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="STATUS",
    help="Show only jobs with this status, such as failed or over_budget.",
)
def export(
    manifest: str,
    output: str | None,
    file: str | None,
    form: str | None,
    only: tuple[str, ...],
    statuses: tuple[str, ...],
) -> None:
    """Write the leaderboard of MANIFEST to FILE, or to stdout.

    The links of an HTML page are relative to its folder, so write the page into the output folder.
    """
    check_statuses(statuses)
    zoo = open_zoo(manifest, output)
    select(zoo.jobs, only)
    with open_store(zoo, new=False) as store:
        reports = zoo.reports_from(Path(file).absolute().parent if file else zoo.folders.root)
        rows = filtered(store.rows(), only, statuses, reports)
    text = EXPORTS[form or _SUFFIXES.get(Path(file or "").suffix.lower(), "csv")](rows)
    if file:
        write_text(Path(file), text)
    else:
        print_text(text)


@command.command("merge", short_help="Merge the results of shards.")
@_common
@click.argument("shards", nargs=-1, required=True, metavar="SHARD_OUT...")
@click.pass_context
def merge(ctx: click.Context, manifest: str, output: str | None, shards: tuple[str, ...]) -> None:
    """Merge the results of runs with --shard, in the folders SHARD_OUT..., into the output folder."""
    zoo = open_zoo(manifest, output)
    rows = zoos.merge(zoo, shards, lambda text: remark(ctx, printable(text)))
    _conclude(ctx, zoo, rows)


def _run(
    ctx: click.Context,
    again: bool,
    manifest: str,
    output: str | None,
    only: tuple[str, ...],
    shard: str,
    jobs: int | None,
    time_limit: str | None,
    cluster: str | None,
    allow_python: bool,
    allow_extension: bool,
) -> None:
    zoo = open_zoo(manifest, output)
    chosen = select(zoo.jobs, only, shard)
    runner = _runner(cluster, jobs, zoo)
    seconds = _seconds(time_limit)
    given = {"runner": runner, "time_limit": seconds, "again": again, "allow_python": allow_python}
    given["allow_extension"] = allow_extension
    if quiet(ctx):
        rows = zoos.run(zoo, chosen, lambda text: None, **given)
    else:
        with closing(Live()) as live:
            rows = zoos.run(zoo, chosen, live.notice, watch=live.watch, **given)
    _conclude(ctx, zoo, rows)


def _runner(cluster: str | None, jobs: int | None, zoo: Zoo) -> Runner:
    if cluster is None:
        return Local(jobs or zoos.default_slots(zoo.jobs))
    from calib.zoo.cluster import connect  # here: it loads dask

    return connect(cluster, jobs)


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(parse_duration(text))
    except ValueError as error:
        raise UsageError(f"--time-limit {text}: {error}") from error


def _conclude(ctx: click.Context, zoo: Zoo, rows: Sequence[JobRow]) -> None:
    """Print the leaderboard, write its page, and exit with the code for the jobs' states."""
    with open_store(zoo) as store:
        page = filtered(store.rows(), reports=zoo.reports_from(zoo.page.parent))
    write_leaderboard_html(page, zoo.page, __version__)
    print_lines([render_leaderboard_text(filtered(rows), width(), color()).rstrip("\n")])
    left = sum(row.status == "waiting" for row in rows)
    elsewhere = sum(row.status == "running" for row in rows)
    goes_on = (
        f"the other calib zoo run goes on with {'it' if left == 1 else 'them'}"
        if elsewhere
        else "run again to continue"
    )
    more = [f"{numbers.plural(left, 'job')} left; {goes_on}"] if left else []
    more += [f"{numbers.plural(elsewhere, 'job')} still run by another calib zoo run"] if elsewhere else []
    paused = sum(row.status == "paused" for row in rows)
    more += [f"{numbers.plural(paused, 'job')} paused; calib zoo resume lets them go on"] if paused else []
    print_lines(["", *more, f"leaderboard with all reports: {printable(str(zoo.page))}"])
    if any(row.status not in (*_GOOD, "running") for row in rows):  # what another one runs is that one's to judge
        ctx.exit(PARTLY_FAILED)


def _under_way(zoo: Zoo, store: JobStore, rows: Sequence[JobRow]) -> list[str]:
    lines = []
    for row in rows:
        attempt = store.attempts(row.key)[-1]
        since = numbers.seconds(max(0.0, time.time() - attempt.started))
        at = printable(doing(zoo.folders.events(row.name, row.key)))
        lines.append(f"running for {since}: {printable(shown_name(row.name))}  {at}")
    return lines
