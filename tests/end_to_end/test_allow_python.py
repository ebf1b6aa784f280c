"""``python:module:function`` runs where it was given as an argument; a file may name it only where that is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cpu_features import needs
from trust_fixtures.tiny import images
from zoo_faults.nursery import Nursery
from zoo_faults.tiny_zoo import outcomes, write_zoo

import calib
from calib.errors import UsageError
from calib.progress import silent
from calib.runtime.isa import ISAS
from calib.zoo import worker
from calib.zoo.commands import open_zoo
from calib.zoo.make_jobs import ZooJob
from calib.zoo.task import Task

MODULE = """
from pathlib import Path
import numpy as np

Path({ran!r}).touch()

def samples():
    return np.load({data!r})["image"]

def score(predict):
    return 0.5

score.higher_is_better = True
"""


@pytest.fixture
def code(work: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current folder that leaves the file ``ran`` when it is imported."""
    name = f"code_of_{work.name}"  # another one for each test: Python imports a module once
    (work / f"{name}.py").write_text(MODULE.format(ran=str(work / "ran"), data=str(work / "data.npz")))
    monkeypatch.chdir(work)
    return name


@pytest.fixture
def config(work: Path, code: str) -> Path:
    (work / "c.yaml").write_text(f"samples: 4\nmetric: python:{code}:score\nhigher_is_better: true\n")
    return work / "c.yaml"


def has_run(work: Path) -> bool:
    """Tell whether the module was imported since this was last asked."""
    ran = (work / "ran").exists()
    (work / "ran").unlink(missing_ok=True)
    return ran


def test_code_that_was_given_as_an_argument_runs(quantize: Any, run: Any, work: Path, code: str):
    metric, data = f"python:{code}:score", f"python:{code}:samples"
    assert quantize("--set", f"metric={metric}", "--higher-is-better", data=data).code == 0 and has_run(work)
    flags = ("--validation", data, "--metric", metric, "--higher-is-better")
    assert run("evaluate", "model.xml", *flags).code == 0


def test_code_that_was_given_as_an_argument_can_be_forbidden(quantize: Any, run: Any, work: Path, code: str):
    flags = ("--metric", f"python:{code}:score", "--higher-is-better", "--no-allow-python")
    for ended in (
        quantize(*flags),
        quantize("--no-allow-python", data=f"python:{code}:samples"),
        run("evaluate", "model.xml", "--validation", "data.npz", *flags),
    ):
        assert ended.code == 2 and f"error: python:{code}:s" in ended.err and "runs code" in ended.err
    assert not has_run(work) and not (work / "out").exists()


@pytest.mark.parametrize("command", ["quantize", "evaluate"])
def test_code_that_a_config_names_runs_only_where_that_is_allowed(
    quantize: Any, run: Callable[..., Any], work: Path, config: Path, code: str, command: str
):
    def calib(*more: str) -> Any:
        if command == "quantize":
            return quantize("--config", config, *more)
        return run("evaluate", "model.xml", "--validation", "data.npz", "--config", config, *more)

    refused = calib()
    assert refused.code == 2 and not has_run(work) and not (work / "out").exists()
    assert f"error: {config}: line 2: metric: python:{code}:score runs code" in refused.err
    assert "--allow-python" in refused.err
    assert calib("--metric", f"python:{code}:score").code == 0 and has_run(work)  # the file's is not used


@needs(*ISAS["sse41"].needs)
@pytest.mark.parametrize("allowed", [True, False])
def test_permission_reaches_the_process_of_another_instruction_set(
    run: Any, work: Path, config: Path, code: str, allowed: bool
):
    flags = ("--config", config, "--isa", "sse41", *(["--allow-python"] if allowed else []))
    ended = run("evaluate", "model.xml", "--validation", "data.npz", *flags)
    assert (ended.code, has_run(work)) == ((0, True) if allowed else (2, False)), ended.err
    assert allowed or f"line 2: metric: python:{code}:score runs code" in ended.err


def test_allowed_code_of_a_config_runs(quantize: Any, work: Path, config: Path):
    assert quantize("--config", config, "--allow-python").code == 0 and has_run(work)


def test_a_config_that_names_code_is_fine_where_none_is_run(quantize: Any, work: Path, config: Path):
    assert quantize("--config", config, "--dry-run").code == 0
    assert quantize("--config", config, "--dry-run", "--allow-python").code == 0
    assert calib.inspect(work / "model.xml", config=config).layers
    assert not has_run(work)


def test_in_python_a_config_runs_code_only_with_allow_python(work: Path, config: Path, code: str):
    data, cheap = images(8), {"effort": "fast", "speed": False}
    with pytest.raises(UsageError, match=rf"c\.yaml: line 2: metric: python:{code}:score .*allow_python=True"):
        calib.quantize(work / "model.xml", data, config=config, **cheap)
    with pytest.raises(UsageError, match=rf"c\.yaml: line 2: metric: python:{code}:score .*allow_python=True"):
        calib.evaluate(work / "model.xml", data, config=config)
    with pytest.raises(UsageError, match=rf"^python:{code}:samples runs code"):
        calib.quantize(work / "model.xml", f"python:{code}:samples", allow_python=False)
    assert not has_run(work)
    assert calib.evaluate(work / "model.xml", data, config=config, allow_python=True).value == 0.5
    assert has_run(work)


@pytest.fixture
def zoo(work: Path, code: str) -> Path:
    """A manifest whose model a runs no code, b takes its samples from code, and c its metric."""
    overrides = [
        f"- {{match: b.xml, calibration: 'python:{code}:samples'}}",
        f"- {{match: c.xml, validation: data.npz, metric: 'python:{code}:score', higher_is_better: true}}",
    ]
    (work / "model.xml").unlink()
    return write_zoo(work, "abc", more="overrides:\n" + "\n".join(overrides) + "\n")


def test_code_that_a_manifest_names_runs_only_where_that_is_allowed(
    nursery: Nursery, work: Path, zoo: Path, code: str, tmp_path_factory: pytest.TempPathFactory
):
    said = tmp_path_factory.mktemp("said")

    def calib(*arguments: str) -> tuple[int, str, str]:
        files = {name: said / f"{name} {' '.join(arguments).replace('/', ' ')}" for name in ("out", "err")}
        ended = nursery.start("calib.cli:main", ["zoo", *arguments, str(zoo)], **files).wait()
        return ended, files["out"].read_text(), files["err"].read_text()

    for command in ("run", "retry"):
        ended, _, err = calib(command)
        assert ended == 2 and "--allow-python" in err
        assert f"{zoo}: 2 mistakes" in err
        assert f"line 4: overrides.0.calibration: python:{code}:samples runs code" in err
        assert f"line 5: overrides.1.metric: python:{code}:score runs code" in err
    assert not has_run(work) and not (work / "zoo-out").exists()

    assert "needs --allow-python" in calib("plan")[1]
    assert "--allow-python" not in calib("plan", "--only", "a")[1]
    assert calib("run", "--only", "a")[0] == 0 and not has_run(work)
    assert calib("run", "--allow-python")[0] == 0 and has_run(work)
    assert all(attempts == [("done", 0)] for attempts in outcomes(open_zoo(str(zoo))).values())


def test_code_in_a_matrix_is_refused_too(nursery: Nursery, work: Path, code: str, tmp_path: Path):
    more = f"matrix:\n  metric:\n  - relative-l2\n  - python:{code}:score\n"
    manifest = write_zoo(work, "a", "effort: fast, validation: data.npz, higher_is_better: true", more)
    manifest.write_text(manifest.read_text().replace("- relative-l2\n", ""))
    child = nursery.start("calib.cli:main", ["zoo", "run", str(manifest)], err=tmp_path / "err")
    assert child.wait() == 2
    assert f"line 5: matrix.metric.0: python:{code}:score runs code" in (tmp_path / "err").read_text()
    assert not has_run(work)


@pytest.mark.parametrize("place", ["calibration", "validation", "metric"])
def test_a_worker_runs_no_code_that_its_supervisor_was_not_allowed_to_run(work: Path, code: str, place: str):
    data = {"calibration": "data.npz", "validation": "data.npz", place: f"python:{code}:samples"}
    settings = {"metric": data.pop("metric", "relative-l2"), "effort": "fast"}
    if place == "metric":
        settings["higher_is_better"] = True
    job = ZooJob("model", "model.xml", str(work / "model.xml"), str(work), settings=settings, **data)
    task = Task("key", 1, job, str(work / "attempt"), str(work / "log"))
    with pytest.raises(UsageError, match=f"python:{code}:samples runs code"):
        worker.quantize(task, silent)
    assert not has_run(work)
