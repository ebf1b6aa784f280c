"""What this machine can run, as text for a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from calib.report import numbers
from calib.report.console import pad, paint, rule, table, wrap
from calib.report.escape import printable
from calib.values.distribution import USES
from calib.values.doctor import Doctor

_NAME_WIDTH = 18
_ARM = ("dot product", "i8mm")  # features that only a CPU of ARM can have


def render_doctor_text(found: Doctor, width: int = 100, color: bool = False) -> str:
    """Return the findings for a terminal: CPU, versions, extras, and what they mean."""
    of_arm = any(there for name, there in found.features.items() if name in _ARM)
    features = [
        (name, "yes" if there else "no", "good" if there else "dim")
        for name, there in found.features.items()
        if there or (name in _ARM) == of_arm
    ]
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
        *_extras(found, width, color),
        rule("what this means", width, color),
        *(line for sentence in found.advice for line in wrap(sentence, width)),
    ]
    return "\n".join(lines) + "\n"


def _plain(values: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(name, value or "not installed", "neutral" if value else "bad") for name, value in values.items()]


def _extras(found: Doctor, width: int, color: bool) -> list[str]:
    """Return what optional packages are for, those that are there, and how to install each of the others."""
    if not found.extras:
        return []
    rows = [
        (name, "missing" if name in found.missing else "installed", USES.get(name, ""))
        for name in sorted(found.extras, key=lambda one: list(USES).index(one) if one in USES else len(USES))
    ]
    lines = [rule("optional packages", width, color), *table(("extra", "", "needed for"), rows, width, color=color), ""]
    for name, packages in found.missing.items():
        lines += wrap(f"for {name}: pip install {' '.join(map(shlex.quote, packages))}", width)
    return [*lines, ""] if found.missing else lines


def _pairs(rows: Iterable[tuple[str, str, str]], color: bool) -> list[str]:
    return [
        f"  {paint(pad(printable(name), _NAME_WIDTH), 'dim', color)}  {paint(printable(value), style, color)}"
        for name, value, style in rows
    ]
