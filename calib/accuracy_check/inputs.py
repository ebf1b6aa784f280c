"""An Accuracy Checker configuration as what ``calib.quantize`` takes: data and metric."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from calib.accuracy_check.build import build
from calib.errors import UsageError

NAME = "accuracy-check"
FILE_NAME = "accuracy-check.yml"


@dataclass(frozen=True)
class CheckedInputs:
    """Data and metric of a configuration, as text that job.yaml and manifests can hold.

    Attributes:
        data: Samples, as DATA; for calibration and validation.
        metric: The metric, or several separated by commas.
    """

    data: str
    metric: str


def read_accuracy_check(
    file: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str],
    definitions: str | os.PathLike[str] | None = None,
    annotations: str | os.PathLike[str] | None = None,
    dataset: str = "",
    metric: str = "",
) -> CheckedInputs:
    """Return data and metric of an Accuracy Checker configuration, for ``quantize`` and ``evaluate``.

    Args:
        file: Path of accuracy-check.yml, or of the folder that holds it.
        source: Folder of the data sets that it names.
        definitions: Path of dataset_definitions.yml, which describes data sets by name.
        annotations: Folder of annotation files, if they are not below ``source``.
        dataset: Name of the data set, if there are several; "" for the first.
        metric: Name or type of the metric, or several separated by commas, each of which can have a budget of its own
            by that name; "" for the first.

    Raises:
        ConfigError: The configuration asks for something that is not supported; all of it is listed.
        UsageError: There is no such file or folder.
    """
    path = Path(file)
    path = path / FILE_NAME if path.is_dir() else path
    names = [one.strip() for one in metric.split(",")]
    given = {"definitions": definitions, "dataset": dataset}
    places = {"source": source, "annotations": annotations}
    for one in (path, *(Path(place) for place in (definitions, *places.values()) if place is not None)):
        if not one.exists():
            raise UsageError(f"{NAME}: no such file or folder: {one}")
    for one in names:
        build(path, definitions, dataset, one)
    shared = {key: _whole(value, key) for key, value in given.items() if value}
    chosen = [{"metric": one} if one else {} for one in names]
    wanted = {key: _whole(value, key) for key, value in places.items() if value is not None}
    data = {**shared, **chosen[0], **wanted}
    questions = [{"file": _whole(path, "file"), **shared, **one} for one in chosen]
    metrics = ",".join(f"{NAME}?{_query(question)}" for question in questions)
    return CheckedInputs(f"{NAME}:{path.absolute()}?{_query(data)}", metrics)


def _query(options: Mapping[str, str]) -> str:
    """Return options as they stand behind a ``?``; paths stay readable."""
    return urlencode(options, quote_via=quote, safe="/")


def _whole(value: str | os.PathLike[str], key: str) -> str:
    """Return an absolute path; names as they are."""
    return str(value) if key == "dataset" else str(Path(value).absolute())
