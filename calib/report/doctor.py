"""What this machine can run, as text for a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from calib.report import numbers
from calib.report.console import pad, paint, rule, wrap
from calib.report.escape import printable
from calib.values.doctor import Doctor

_NAME_WIDTH = 18


def render_doctor_text(found: Doctor, width: int = 100, color: bool = False) -> str:
    """Return the findings for a terminal: CPU, versions, extras, and what they mean."""
    features = [(name, "yes" if there else "no", "good" if there else "dim") for name, there in found.features.items()]
    facts = [
        ("cores", str(found.cores), "neutral"),
        ("threads", f"{found.threads} for one inference by default", "neutral"),
        ("memory", numbers.size(found.memory), "neutral"),
        ("default precision", found.default_precision, "neutral"),
        ("INT8 sums", "exact" if found.exact_int8 else "can saturate", "good" if found.exact_int8 else "warning"),
    ]
    if found.limit:
        facts.append(("limited to", found.limit, "warning"))
    lines = [
        rule(found.cpu, width, color),
        *_pairs(facts, color),
        "",
        rule("features", width, color),
        *_pairs(features, color),
        "",
        rule("versions", width, color),
        *_pairs([("calib", found.calib_version, "neutral"), *_plain(found.versions)], color),
        "",
        rule("extras", width, color),
        *_pairs(
            [_extra(name, packages, found.missing.get(name, ())) for name, packages in found.extras.items()], color
        ),
        "",
        rule("elsewhere", width, color),
        *(line for sentence in found.advice for line in wrap(sentence, width)),
    ]
    return "\n".join(lines) + "\n"


def _plain(values: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(name, value or "not installed", "neutral" if value else "bad") for name, value in values.items()]


def _extra(name: str, packages: dict[str, str], missing: Sequence[str]) -> tuple[str, str, str]:
    if missing:
        return name, f"missing: pip install {' '.join(map(shlex.quote, missing))}", "dim"
    return name, ", ".join(f"{package} {version}" for package, version in packages.items()), "good"


def _pairs(rows: Iterable[tuple[str, str, str]], color: bool) -> list[str]:
    return [
        f"  {paint(pad(printable(name), _NAME_WIDTH), 'dim', color)}  {paint(printable(value), style, color)}"
        for name, value, style in rows
    ]
