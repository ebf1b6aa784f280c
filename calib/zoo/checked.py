"""Accuracy Checker configurations of jobs: which file gives a model its data and metric, and what is refused of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.errors import CalibError, UsageError
from calib.zoo.sources import ModelFile, root_of
from calib.zoo.urls import is_url

if TYPE_CHECKING:
    from calib.zoo.make_jobs import ZooJob
    from calib.zoo.manifest import Read

FILE_NAME = "accuracy-check.yml"


class Configurations:
    """Finds the configurations of a manifest's models; a folder of configurations is listed once."""

    def __init__(self, read: Read):
        self._read = read
        self._listed: dict[Path, dict[str, str]] = {}

    def of(self, model: ModelFile, given: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
        """Return the keys of a model's configuration, and whether its file was found without being named.

        A ``file`` that is a folder, such as ``models`` of Open Model Zoo, is searched for the folder of the model's
        name. Without ``file``, it is the one beside the model. The keys have no ``file`` if there is none.

        Args:
            model: The model.
            given: Block ``accuracy_check`` that holds for the model.
        """
        keys = {key: str(value) for key, value in given.items() if value is not None}
        if "file" not in keys:
            beside = self.beside(model)
            return (keys | {"file": beside}, True) if beside else (keys, False)
        folder = self._read.folder / Path(keys["file"]).expanduser()
        if not folder.is_dir():
            return keys, False
        place = keys.pop("file")
        found = FILE_NAME if (folder / FILE_NAME).exists() else self._by_name(folder).get(Path(model.name).stem)
        return keys | ({"file": os.path.join(place, found)} if found else {}), bool(found)

    def beside(self, model: ModelFile) -> str:
        """Return the configuration in the folder of a model, <model>/<precision>/<model>.xml, relative to the manifest.

        "" if there is none, or if it is a link that leads out of the root.
        """
        path = Path(model.location)
        if is_url(model.location) or path.stem != path.parents[1].name:
            return ""
        found = path.parents[1] / FILE_NAME
        inside = found.is_file() and found.resolve().is_relative_to(root_of(self._read).resolve())
        return os.path.relpath(found, self._read.folder) if inside else ""

    def _by_name(self, folder: Path) -> dict[str, str]:
        """Return the configurations inside a folder by the name of the folder that each is in, the first if several."""
        if folder not in self._listed:
            real = folder.resolve()
            inside = [path for path in folder.rglob(FILE_NAME) if path.resolve().is_relative_to(real)]
            names = {path.parent.name: str(path.relative_to(folder)) for path in sorted(inside, reverse=True)}
            self._listed[folder] = names
        return self._listed[folder]


def refusal(job: ZooJob) -> str:
    """Return why the configuration of a job can't be followed, all of it; "" if it can, or if the job has none."""
    try:
        with_configuration(job)
    except CalibError as error:
        return " ".join(str(error).split())
    return ""


def with_configuration(job: ZooJob) -> tuple[str, dict[str, Any]]:
    """Return the calibration data of a job, and the validation data and metric to give to ``calib.quantize`` with it.

    What the manifest says in so many words wins over the configuration.

    Raises:
        ConfigError: The configuration asks for something that is not supported; all of it is listed.
        UsageError: There is no such file or folder, or none is named.
    """
    own = {"validation": job.validation} if job.validation else {}
    if not job.accuracy_check:
        return job.calibration, own
    keys = dict(job.accuracy_check)
    if "file" not in keys:
        raise UsageError(
            f"accuracy_check: there is no {FILE_NAME} for {job.pattern_name}, in the folder of the model "
            "(<model>/<precision>/<model>.xml) or below the folder that accuracy_check.file names. Give "
            "accuracy_check.file or calibration for the model, or exclude it"
        )
    from calib.accuracy_check.inputs import read_accuracy_check  # here: few manifests have one, and it loads numpy

    names = {key: keys.pop(key, "") for key in ("dataset", "metric")}
    at = {key: Path(job.base) / Path(text).expanduser() for key, text in keys.items()}
    found = read_accuracy_check(
        at["file"], source=at["source"], definitions=at.get("definitions"), annotations=at.get("annotations"), **names
    )
    metric = job.settings.get("metric") or found.metric
    return job.calibration or found.data, {"validation": found.data, **own, "metric": metric}


def found_by_itself(job: ZooJob) -> str:
    """Return the sentence for the report on a configuration that the manifest does not name; "" without one."""
    if not job.accuracy_check_found:
        return ""
    kept = [key for key in ("calibration", "validation") if getattr(job, key)]
    kept += ["metric"] if job.settings.get("metric") else []
    but = f", but {' and '.join(kept)} as the manifest says" if kept else ""
    file = job.accuracy_check["file"]
    return f"accuracy_check: {file} was found by the model's name and gives its data and metric{but}"
