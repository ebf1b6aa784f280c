"""A benchmark as text for a terminal."""

from __future__ import annotations

from calib.report import numbers
from calib.report.console import paint, rule, table, wrap
from calib.values.benchmark import Benchmark, BenchmarkEntry


def render_benchmark_text(found: Benchmark, width: int = 100, color: bool = False) -> str:
    """Return the benchmark for a terminal; speed-ups are against the first line."""
    setting = f"{numbers.plural(found.threads, 'thread')}, batch {found.batch}, {found.rounds} interleaved rounds"
    busy = f"; throughput with {numbers.plural(found.streams, 'stream')}" if found.streams else ""
    lines = [rule(f"{setting}{busy}", width, color)]
    titles = ["model", "precision", "INT8", "latency", "CPU", "speed-up", "95 %"]
    rows = [_latency(entry) for entry in found.entries]
    lines += table(titles, rows, width, right=range(2, len(titles)), color=color)
    if found.streams:
        titles, rows = ["model", "precision", "per second", "gain", "95 %"], list(map(_throughput, found.entries))
        lines += ["", *table(titles, rows, width, right=range(2, len(titles)), color=color)]
    compared = f"speed-up of {found.basis.replace('cpu', 'CPU')} time over the first line, with its 95 % interval"
    star = "; * is the precision that this machine chooses" if any(entry.default for entry in found.entries) else ""
    lines += ["", *wrap(compared + star, width)]
    for note in found.notes:
        lines += [paint(line, "warning" if found.noisy else "dim", color) for line in wrap(note, width)]
    return "\n".join(lines) + "\n"


def _latency(entry: BenchmarkEntry) -> list[str]:
    return [
        *_named(entry),
        numbers.MISSING if entry.int8_share is None else numbers.share(entry.int8_share),
        f"{numbers.milliseconds(entry.latency_ms)} ± {numbers.significant(entry.latency_spread_ms)}",
        numbers.milliseconds(entry.latency_cpu_ms),
        numbers.ratio(entry.speedup),
        _interval(entry.speedup_interval),
    ]


def _throughput(entry: BenchmarkEntry) -> list[str]:
    return [
        *_named(entry),
        numbers.significant(entry.throughput or 0.0),
        numbers.ratio(entry.throughput_gain or 0.0),
        _interval(entry.throughput_interval or (0.0, 0.0)),
    ]


def _named(entry: BenchmarkEntry) -> list[str]:
    return [entry.model, f"{entry.precision}{' *' if entry.default else ''}"]


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f}–{ends[1]:.2f}"
