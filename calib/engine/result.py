"""The result of a run: the INT8 model and its report, and how they are written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from calib.config.run_inputs import RunInputs
from calib.engine.job import NOT_IDENTITY
from calib.engine.reproduce import JOB_NAME, reproduction
from calib.errors import ExecutionError, OutputError, UsageError
from calib.graph.insert import Edits
from calib.loading.ir_file import save_model
from calib.report.digest import summary
from calib.report.json_report import FILE_NAME, write_report
from calib.report.summary_html import render_summary_html
from calib.runtime.session import ov
from calib.runtime.temporary import temporary_folder, temporary_path
from calib.values.facts import Report
from calib.values.pictures import FOLDER as PICTURES
from calib.values.pictures import Drawn
from calib.values.plan import QuantizationPlan
from calib.values.plan_file import plan_to_json
from calib.values.plan_weights import PlanWeights, plan_hash, weights_path, weights_to_bytes

PLAN_NAME = "plan.json"  # what --plan reads
WEIGHTS_NAME = weights_path(PLAN_NAME).name


@dataclass(frozen=True)
class Result:
    """The outcome of ``quantize``.

    Attributes:
        model: INT8 model, or the FP32 model if ``report.status`` says so.
        plan: Plan of the model; it can be applied again to a retrained IR.
        edits: Rounded weights and bias corrections of the model.
        inputs: Model and data of the run as text; without an output, that of "to reproduce" is the folder saved to.
        rt_info: What is written into the model about the run that made it; None for this run.
    """

    model: ov.Model
    report: Report
    plan: QuantizationPlan
    fp16_stored: frozenset[str] = frozenset()
    source: Path | None = None
    verify: Callable[[Path], list[str]] = field(default=lambda path: [], repr=False)
    inputs: RunInputs = field(default_factory=RunInputs)
    edits: Edits = field(default_factory=Edits, repr=False)
    rt_info: Mapping[str, str] | None = field(default=None, repr=False)
    draw: Callable[[Path], Drawn] = field(default=lambda folder: Drawn(), repr=False)

    def __repr__(self) -> str:
        return f"<Result {summary(self.report)}>"

    def _repr_html_(self) -> str:
        """Return the summary for a notebook."""
        return render_summary_html(self.report)

    def save(self, folder: str | Path, *, pictures: bool = False) -> Report:
        """Write ``<model>.xml``, ``.bin``, ``plan.json``, ``job.yaml`` and then ``report.json`` into a folder.

        ``plan.npz`` beside ``plan.json`` holds its weights, for a replay without calibration data.
        ``job.yaml`` is the run itself, for ``calib quantize --config``; there is none if model or samples were Python
        objects. The files are first written to a temporary folder in it and checked: the model loaded from there must
        give the outputs of the model in memory. A folder without report.json is incomplete.

        Args:
            folder: Folder to write to.
            pictures: Whether the samples that change most from FP32 to INT8 are drawn into ``pictures/`` there, where
                accuracy was measured on images. They run once more through both models.

        Raises:
            UsageError: The input would be overwritten.
            OutputError: The folder can't be written.
            ExecutionError: The written model does not give the outputs it should.
        """
        folder = Path(folder)
        name = self.report.model.name
        check_output(folder, name, self.source)
        new, temporary = not folder.exists(), temporary_path(folder)
        try:
            temporary.mkdir(parents=True)
            save_model(self.model, temporary / f"{name}.xml", fp16_constants=self.fp16_stored, rt_info=self._rt_info())
            doubts = self.verify(temporary / f"{name}.xml")
            size = (temporary / f"{name}.bin").stat().st_size
            facts = self.report.model.model_copy(update={"bytes_after": size})
            output = self.inputs.output or str(folder.absolute())
            how = reproduction(self.report, replace(self.inputs, output=output))
            changes = {"model": facts, "reproduce": how, "warnings": [*self.report.warnings, *doubts]}
            if pictures:
                drawn = self.draw(temporary)
                changes |= {"pictures": list(drawn.pictures), "pictures_note": drawn.note, "changed": drawn.changed}
            report = self.report.model_copy(update={**changes, "files": digests(temporary / f"{name}.xml")})
            if how is not None:
                (temporary / JOB_NAME).write_text(how.config, encoding="utf-8")
            plan_text = plan_to_json(self.plan)
            (temporary / PLAN_NAME).write_text(plan_text, encoding="utf-8")
            (temporary / WEIGHTS_NAME).write_bytes(weights_to_bytes(self._weights(plan_text)))
            write_report(report, temporary)
            for stale in (FILE_NAME, JOB_NAME, WEIGHTS_NAME):
                (folder / stale).unlink(missing_ok=True)
            plan = [PLAN_NAME, WEIGHTS_NAME, *([JOB_NAME] if how else [])]
            _replace_pictures(temporary / PICTURES, folder / PICTURES)
            for part in (f"{name}.bin", f"{name}.xml", *plan, FILE_NAME):
                os.replace(temporary / part, folder / part)
        except OSError as error:
            raise OutputError(
                f"{folder}: the result can't be written ({error.strerror or error}). "
                "Check that it is writable and has room, or choose another folder with -o"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if new:
                with contextlib.suppress(OSError):  # it is empty only if nothing was written
                    folder.rmdir()
        return report

    def _weights(self, plan_text: str) -> PlanWeights:
        facts = self.report.model
        return PlanWeights(
            facts.fingerprint,
            tuple(facts.preprocessing),
            tuple(facts.normalization),
            plan_hash(plan_text),
            self._rt_info(),
            self.edits.rounded,
            self.edits.biases,
        )

    def _rt_info(self) -> Mapping[str, str]:
        if self.rt_info is not None:
            return self.rt_info
        settings = {
            f"settings/{fact.key}": str(fact.value)
            for fact in self.report.settings
            if fact.value is not None and fact.key not in NOT_IDENTITY
        }
        return {
            "version": self.report.calib_version,
            "fingerprint": self.report.model.fingerprint,
            "status": self.report.status,
            **settings,
        }


def _replace_pictures(new: Path, old: Path) -> None:
    """Put pictures in the place of those of an earlier run; other files in that folder stay."""
    for stale in old.glob("[0-9]*.png"):
        stale.unlink()
    if new.is_dir():
        old.mkdir(exist_ok=True)
        for path in sorted(new.iterdir()):
            os.replace(path, old / path.name)


def digests(path_xml: Path) -> dict[str, str]:
    """Return the names of a model's two files and the SHA-256 of their bytes, of those that are there."""
    found: dict[str, str] = {}
    for path in (path_xml, path_xml.with_suffix(".bin")):
        if path.is_file():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def check_output(folder: Path, name: str, source: Path | None) -> None:
    """Refuse an output folder that is a file, can't be written or holds the input.

    Raises:
        UsageError: The folder is a file, or holds the input.
        OutputError: The folder can't be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; the output has to be a folder")
    if folder.is_symlink() and not folder.exists():
        raise UsageError(f"{folder} is a broken link; the output has to be a folder")
    if source is not None and folder.resolve() == source.resolve().parent and source.stem == name:
        raise UsageError(f"{folder} holds the input {source.name}, which would be overwritten; choose another folder")
    try:
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except FileNotFoundError as error:  # of the current folder
        raise OutputError(f"{folder}: the current folder is gone, so give an absolute path") from error
    if not nearest.is_dir():
        raise OutputError(f"{folder}: the result can't be written: {nearest} is a file. Choose another folder with -o")
    _try_writing(folder, nearest)


def _try_writing(folder: Path, nearest: Path) -> None:
    """Make a temporary folder in ``folder`` and remove it again, with all that had to be made for it.

    Permissions alone don't tell: root may write to what is read-only, and a file system may refuse new folders.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with temporary_folder(folder, parents=True):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: the result can't be written: {nearest} takes no files ({error.strerror or error}). "
            "Choose another folder with -o"
        ) from error
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # it was not made, or somebody else has put something there
                place.rmdir()


__all__ = ["ExecutionError", "Result", "check_output"]
