"""``calib bench``: several models timed side by side."""

from __future__ import annotations

from typing import Any

import click

from calib.cli.options import color, extension_flags, json_flag, print_json, print_text, progress, source_flags, width


def _a_number(_: click.Context, __: click.Parameter, value: float) -> float:
    if value != value:  # NaN is in no range and outside of none
        raise click.BadParameter("must be a number of seconds, got nan")
    return value


@click.command(short_help="Measure latency and throughput of several models.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL [MODEL]...")
@click.option("--data", metavar="DATA", help="Samples to feed, as [format:]PATH[?key=value]. [default: random numbers]")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of one inference.")
@click.option(
    "--streams",
    type=click.IntRange(0),
    help="Parallel streams when throughput is measured; 0 skips it. [default: one per CPU]",
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Samples per inference.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.01, 86400),
    callback=_a_number,
    default=5.0,
    show_default=True,
    help="Seconds to spend on latency, and again on throughput.",
)
@source_flags
@extension_flags
@json_flag
@click.pass_context
def command(ctx: click.Context, models: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Time each MODEL in f32 and in this machine's default precision.

    The runs are interleaved, so that what disturbs the machine disturbs all models alike. Speed-ups are relative to the
    first MODEL in f32 and have a 95 % interval. If the machine is too noisy for a conclusion, a note says so.
    """
    from calib.engine.bench import bench  # here: --help needs no OpenVINO
    from calib.report.bench import render_benchmark_text

    found = bench(models, progress=progress(ctx), **options)
    if as_json:
        print_json(found)
    else:
        print_text(render_benchmark_text(found, width(), color()))
