"""Identify jobs by the bytes of the model, data, settings and the version of calib."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from calib.errors import CalibError
from calib.runtime.isa import cpu
from calib.samples.source import parse_source
from calib.values.version import __version__
from calib.zoo.jobs import SUBJECT_DIGITS
from calib.zoo.make_jobs import ZooJob
from calib.zoo.urls import is_url, open_place, parts

# A file changed within this many seconds before it was read may change again without a new time stamp (coarse clocks).
_RACY_SECONDS = 2.0

# How a configuration of Accuracy Checker, or the definitions of its data sets, names a file of classes.
_CLASS_FILE = re.compile(r"""dataset_meta_file["']?\s*:\s*["']?([^\s"',}#]+)""")

# Settings that statistics don't depend on: jobs that differ only in these share them.
_NOT_OF_STATISTICS = frozenset(
    {
        "estimator",
        "metric",
        "decode",
        "higher_is_better",
        "max_drop",
        "min_sqnr",
        "knee",
        "drop",
        "reference",
        "confirm_split",
        "float_precision",
    }
    | {"time_limit", "max_evaluations", "rank_samples", "memory_limit"}
    | {"require_speedup", "speed", "optimize_speed", "hint"}
)


class Memory(Protocol):
    """Store of digests of unchanged files, such as ``calib.zoo.jobs.JobStore``."""

    def digest(self, path: str, stamp: str) -> str | None:
        """Return the digest known for a path with this stamp."""
        ...

    def keep_digest(self, path: str, stamp: str, digest: str) -> None:
        """Store the digest of a path with this stamp."""
        ...


class Identity:
    """Computes keys of jobs; a file is read once, and not at all if size and times are those of an earlier run."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self._seen: dict[str, Any] = {}

    def key(self, job: ZooJob) -> str:
        """Return the key of a job, 32 hex digits."""
        checked = [job.accuracy_check] if job.accuracy_check else []
        return _hash([job.name, self._model(job), self._data(job), job.settings, __version__, *checked])[:32]

    def family(self, job: ZooJob) -> str:
        """Return ``SUBJECT-SETTINGS``, 16 hex digits each.

        Jobs of one subject (model and data) share the FP32 baseline; jobs of one family the statistics too, on CPUs of
        one kind where the target is that of the CPU. A job that
        measures no accuracy has no baseline, and so a subject for its family alone.
        """
        settings = {name: value for name, value in job.settings.items() if name not in _NOT_OF_STATISTICS}
        if settings.get("target", "auto") in ("auto", "this-cpu"):  # the plan, and what it needs, is this CPU's
            settings["features"] = list(cpu().features)
        measured = (
            job.validation
            or job.accuracy_check
            or job.settings.get("metric")
            or job.settings.get("max_drop") is not None
            or job.settings.get("min_sqnr") is not None
        )
        subject = _hash([self._model(job), self._data(job), __version__, {} if measured else settings])
        return f"{subject[:SUBJECT_DIGITS]}-{_hash(settings)[:16]}"

    def _model(self, job: ZooJob) -> list[str]:
        if is_url(job.model):
            return [self._once(job.model, lambda: _remote(job.model))]
        return [self._file(part) for part in parts(job.model)]

    def _data(self, job: ZooJob) -> list[list[str]]:
        return [
            [text, self._once(f"{job.base}\0{text}", lambda text=text: self._source(text, Path(job.base)))]
            for text in (job.calibration, job.validation)
            if text
        ] + self._configuration(job)

    def _configuration(self, job: ZooJob) -> list[list[str]]:
        """Return names and contents of what an Accuracy Checker configuration consists of, and its data."""
        found: list[list[str]] = []
        for key, text in sorted(job.accuracy_check.items()):
            path = Path(job.base) / Path(text).expanduser()
            named = key in ("dataset", "metric")
            found.append([key, text, "" if named else self._place(path)])
            if key in ("file", "definitions"):  # files that list classes lie beside them
                names = self._once(f"classes\0{path}", lambda path=path: _class_files(path))
                found += [[name, self._place(path.parent / name)] for name in names]
        return found

    def _place(self, path: Path) -> str:
        """Return the identity of a file or folder."""
        return self._once(str(path), lambda: _hash(list(_listing(path)))) if path.is_dir() else self._file(str(path))

    def _source(self, text: str, base: Path) -> str:
        """Return the identity of a DATA argument; data that can't be found is named, and its job fails later."""
        try:
            source = parse_source(text, (), base)
            if source.format == "python":
                return text
            path = source.path
        except CalibError:
            return "missing"
        return self._place(path)

    def _file(self, path: str) -> str:
        return self._once(path, lambda: self._digest(path))

    def _once(self, name: str, make: Any) -> Any:
        if name not in self._seen:
            self._seen[name] = make()
        return self._seen[name]

    def _digest(self, path: str) -> str:
        try:
            facts = os.stat(path)
            stamp = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"
            known = self._memory.digest(path, stamp)
            if known is None:
                with open(path, "rb") as file:
                    known = hashlib.file_digest(file, "sha256").hexdigest()
                if time.time() - facts.st_mtime > _RACY_SECONDS:
                    self._memory.keep_digest(path, stamp, known)
            return known
        except OSError as error:
            return f"unreadable: {error.strerror}"


def _listing(folder: Path) -> Iterator[list[Any]]:
    """Yield name, size and time of each file, since reading a whole data set would cost more than many jobs."""
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            facts = os.lstat(os.path.join(at, name))
            yield [os.path.relpath(os.path.join(at, name), folder), facts.st_size, facts.st_mtime_ns]


def _remote(url: str) -> str:
    system, path = open_place(url)
    digest = hashlib.sha256()
    try:
        for part in parts(path):
            if part == path or system.exists(part):
                with system.open(part, "rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
    except OSError as error:
        return f"unreadable: {error}"
    return digest.hexdigest()


def needs_histogram(job: ZooJob) -> bool:
    """Return whether a job's statistics include histograms anyway, so that keeping them costs nothing."""
    from calib.ranges import ESTIMATORS, get_estimator  # here: it loads numpy and scipy

    estimator = str(job.settings.get("estimator", "auto"))
    return estimator not in ESTIMATORS or bool(get_estimator(estimator).needs_histogram)


def _hash(value: Any) -> str:
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, default=str).encode("utf-8", "backslashreplace")
    ).hexdigest()


def _class_files(path: Path) -> list[str]:
    """Return the names of files with classes that a configuration or its definitions name and that lie beside it."""
    if path.is_dir():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    names = [name for name in set(_CLASS_FILE.findall(text)) if ".." not in name and not name.startswith("/")]
    return sorted(name for name in names if (path.parent / name).is_file())
