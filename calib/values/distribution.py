"""The extras of the installed distribution: their packages, and how to install them with pip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata

# Not "calib": the package index has another project of that name.
NAME = "calib-openvino"

# extra → what it is for. The others are for work on calib itself.
USES = {
    "studio": "calib studio, the local page",
    "text": "the metrics wer and cer",
    "accuracy-check": "configurations of Accuracy Checker: --accuracy-check",
    "fsspec": "models and results of a zoo at URLs, such as s3://",
    "dask": "a zoo on a cluster: --cluster",
}

_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_PACKAGE = re.compile(r"[A-Za-z0-9._-]+")


def requirement(package: str) -> str:
    """Return an optional package in the form for pip, such as ``jiwer>=3.0``.

    That works wherever calib was installed from: a checkout, a wheel or a repository. An extra of calib
    (``calib-openvino[text]``) can be given to pip only if an index has the distribution.
    """
    return next((packages[package] for packages in extras().values() if package in packages), package)


def needed_with(package: str) -> list[str]:
    """Return what is missing of the extra that a package belongs to, so that one call of pip is enough.

    Args:
        package: Package that was found missing.
    """
    found = [name for packages in extras().values() if package in packages for name in missing(packages)]
    return found or [package]


def missing(packages: Mapping[str, str]) -> list[str]:
    """Return the requirements of an extra's packages that are not installed.

    Args:
        packages: Mapping from package to requirement.
    """
    return [requirement for package, requirement in packages.items() if not version(package)]


def extras(requirements: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """Return extra → package → requirement in alphabetical order.

    Extras that stand for others (``calib-openvino[…]``) are left out: their packages are listed once.

    Args:
        requirements: Requirements in the metadata of a distribution; None for those of calib, which are empty if it is
            not installed.
    """
    found: dict[str, dict[str, str]] = {}
    for text in _installed() if requirements is None else requirements:
        extra, package = _EXTRA.search(text), _PACKAGE.match(text)
        if extra and package and _normal(package[0]) != NAME:
            found.setdefault(extra[1], {})[package[0]] = text.partition(";")[0].strip()
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def version(package: str) -> str:
    """Return the installed version of a package; "" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _installed() -> list[str]:
    try:
        return metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:  # run from its sources
        return []


def _normal(name: str) -> str:
    """Return a distribution's name in normal form (https://peps.python.org/pep-0503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
