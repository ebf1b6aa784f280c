"""Make the jobs of a manifest: every model with every cell of the matrix and its overrides; nothing is run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from calib.config.exceptions_file import with_files
from calib.config.settings import Settings
from calib.documents.document import Place
from calib.errors import StatisticsError, UsageError
from calib.zoo.checked import FILE_NAME, Configurations
from calib.zoo.manifest import DATA, Read, mistakes
from calib.zoo.sources import ModelFile, find_models, matches, shown_name


@dataclass(frozen=True)
class ZooJob:
    """One model with one set of settings.

    Attributes:
        name: Unique name in the zoo, and folder of the output: path of the model below the root, and cell of the
            matrix.
        pattern_name: Path of the model with its suffix, which patterns are matched against.
        model: Absolute path or URL of the model.
        base: Folder that relative paths of data start from.
        calibration, validation: DATA arguments; "" if not given.
        settings: Settings for ``calib.quantize`` as given, without defaults.
        threads: Number of threads.
        memory: Bytes above which the job is stopped; None for no limit.
        timeout: Seconds of one attempt; None for no limit.
        retries: Number of further attempts after a worker was killed or lost.
        accuracy_check: Keys of the Accuracy Checker configuration that gives data and metric where they are not given;
            {} without one.
        accuracy_check_found: Whether its file was found by the model's folder, not named for the model.
    """

    name: str
    pattern_name: str
    model: str
    base: str
    calibration: str
    validation: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    memory: int | None = None
    timeout: float | None = None
    retries: int = 2
    accuracy_check: dict[str, str] = field(default_factory=dict)
    accuracy_check_found: bool = False

    def to_json(self) -> str:
        """Return the job as JSON for the store and the worker."""
        return json.dumps(vars(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ZooJob:
        """Return the job in JSON of ``to_json``."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise StatisticsError(f"the store of the zoo is damaged: a job in it can't be read ({error})") from error


def make_jobs(read: Read) -> list[ZooJob]:
    """Return all jobs of a manifest in the order of their models.

    Raises:
        ConfigError: Sources name nothing, overrides match nothing, or settings don't fit each other.
    """
    models = find_models(read)
    wrong = _unmatched(read, models)
    cells = _cells(read)
    configurations = Configurations(read)
    jobs: list[ZooJob] = []
    for model in models:
        for cell in cells:
            jobs.append(_job(read, configurations, model, cell))
            wrong += _settings_mistakes(jobs[-1], cell)
    wrong += _data_mistakes(configurations, models, jobs)
    if wrong:
        raise mistakes(read.document, wrong)
    return jobs


def select(jobs: Sequence[ZooJob], only: Sequence[str] = (), shard: str = "") -> list[ZooJob]:
    """Return the jobs that ``--only`` and ``--shard`` select.

    All jobs of a model are in one shard, so that work they share is done once.

    Args:
        jobs: All jobs of the manifest.
        only: Patterns of job or model names, any of which may match.
        shard: Shard as "i/n", with i from 1.

    Raises:
        UsageError: The shard is malformed, or a pattern matches nothing.
    """
    index, count = _shard(shard) if shard else (0, 1)
    order = {name: i for i, name in enumerate(sorted({job.pattern_name for job in jobs}))}
    for pattern in only:
        if not any(_named(pattern, job) for job in jobs):
            raise UsageError(f"--only {pattern}: no job of this zoo has such a name; see calib zoo plan")
    chosen = [job for job in jobs if not only or any(_named(pattern, job) for pattern in only)]
    return [job for job in chosen if order[job.pattern_name] % count == index]


def _named(pattern: str, job: ZooJob) -> bool:
    return matches(pattern, job.name) or matches(pattern, job.pattern_name)


def _shard(text: str) -> tuple[int, int]:
    first, slash, second = text.partition("/")
    if not (slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise UsageError(f"--shard {text}: must be i/n with 1 ≤ i ≤ n, such as 2/8")
    return int(first) - 1, int(second)


def _cells(read: Read) -> list[dict[str, Any]]:
    matrix = read.manifest.matrix
    return [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]


def _unmatched(read: Read, models: Sequence[ModelFile]) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    for index, override in enumerate(read.manifest.overrides):
        for pattern in override.match:
            if not any(matches(pattern, model.name) for model in models):
                named = ", ".join(shown_name(model.name.removesuffix(".xml")) for model in models[:3])
                rule = f"{pattern!r} matches no model of the sources, which name {named}{', …' * (len(models) > 3)}"
                within = "; * stays within one folder, ** matches any folders" * ("**" not in pattern)
                found.append((("overrides", index, "match"), rule + within))
    return found


def _job(read: Read, configurations: Configurations, model: ModelFile, cell: dict[str, Any]) -> ZooJob:
    """Apply defaults, then matching overrides in their order, then the cell of the matrix."""
    block = read.given("defaults")
    resources: dict[str, Any] = read.manifest.resources.model_dump()
    for index, override in enumerate(read.manifest.overrides):
        if any(matches(pattern, model.name) for pattern in override.match):
            given = read.given("overrides", index)
            block = _over(block, {key: value for key, value in given.items() if key not in ("match", "resources")})
            resources |= {key: getattr(override.resources, key) for key in override.resources.model_fields_set}
    block |= cell
    if "ignore" in block:  # what a file of patterns holds now, since it is part of what the job is
        block["ignore"] = with_files(block["ignore"], read.folder)
    data = {key: block.pop(key, None) or "" for key in DATA}
    checked = block.pop("accuracy_check", None)
    keys, found = configurations.of(model, checked) if checked is not None else ({}, False)
    if "file" not in keys and data["calibration"]:
        keys = {}  # a model without such a file is calibrated as the manifest says
    label = ",".join(f"{key}={_text(value)}" for key, value in cell.items())
    bare = model.name.removesuffix(".xml")
    if not bare.rpartition("/")[2].strip("."):  # of a file "..xml": as a folder it would be another one
        bare = model.name
    return ZooJob(
        name=f"{bare}/{label}" if label else bare,
        pattern_name=model.name,
        model=model.location,
        base=str(read.folder),
        settings=block,
        accuracy_check=keys,
        accuracy_check_found=found,
        **data,
        **resources,
    )


def _over(block: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return a block with stronger keys put over it; of accuracy_check each key counts by itself, and null ends it."""
    before, after = block.get("accuracy_check"), given.get("accuracy_check")
    both = {"accuracy_check": {**before, **after}} if before is not None and after is not None else {}
    return {**block, **given, **both}


def _data_mistakes(
    configurations: Configurations, models: Sequence[ModelFile], jobs: Sequence[ZooJob]
) -> list[tuple[Place, str]]:
    """Return the mistakes of missing data: one for all models without the data that their settings need."""
    own = [job for job in jobs if not job.accuracy_check]
    bare = [job.pattern_name for job in own if not job.calibration]
    missing = [job.pattern_name for job in own if job.settings.get("max_drop") is not None and not job.validation]
    found: list[tuple[Place, str]] = []
    if bare:
        beside = sum(bool(configurations.beside(model)) for model in models if model.name in set(bare))
        way = f"; {FILE_NAME} lies in the folders of {beside}: give accuracy_check: {{source: DIR}}" if beside else ""
        found.append((("defaults", "calibration"), f"is missing: there is no calibration data for {_some(bare)}{way}"))
    without = [job.pattern_name for job in jobs if job.accuracy_check and "source" not in job.accuracy_check]
    if without:
        rule = "accuracy_check needs source, the folder of the data sets that configurations name"
        found.append((("defaults", "accuracy_check"), f"{rule}, for {_some(without)}"))
    if missing:
        found.append((("defaults", "validation"), f"is missing: max_drop needs data with targets for {_some(missing)}"))
    return found


def _some(names: Sequence[str]) -> str:
    different = list(dict.fromkeys(names))
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return ", ".join(different[:3]) + more


def _text(value: Any) -> str:
    """Return a value of the matrix in a form for folder names."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text.replace("/", "_").replace("\0", "_")


def _settings_mistakes(job: ZooJob, cell: dict[str, Any]) -> list[tuple[Place, str]]:
    """Return the mistakes that show only in a whole job: settings that need each other."""
    found: list[tuple[Place, str]] = []
    place: Place = ("matrix",) if cell else ("defaults",)
    judged: dict[str, Any] = {}
    if job.accuracy_check and "metric" not in job.settings:
        judged["metric"] = "accuracy-check"
    try:
        Settings(**judged, **job.settings)
    except ValidationError as error:
        rules = [str(one.get("ctx", {}).get("error", one["msg"])) for one in error.errors(include_url=False)]
        found += [(place, f"{job.name}: {rule}") for rule in rules]
    return found
