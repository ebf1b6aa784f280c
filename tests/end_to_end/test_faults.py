"""Faults: full disks, signals, metrics and data that fail midway, kill -9: message, exit code and what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images, left_behind, opset, parameter, write_ir, write_work

import calib
from calib.cli import quantize as quantize_command
from calib.engine import candidates
from calib.runtime.session import core, ov
from calib.values.facts import Report

# A budget that plain min-max misses on the network whose channels are out of balance.
SEARCH = ("--metric", "relative-l2", "--max-drop", "0.02", "--no-speed", "--validation")
STAGES = ("load", "baseline", "equalize", "statistics", "correct", "insert", "search", "report")  # and speed, below


@pytest.fixture
def hard(work: Path) -> Path:
    """A folder with a network that min-max does not quantize without a loss, and validation data."""
    write_work(work, convnet(imbalance=300.0))
    np.savez(work / "validation.npz", image=images(200, seed=4))
    return work


def report_of(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_text())


def model_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("model.xml", "model.bin")}


def signalling(stage: str, number: int, at_update: int = 0) -> Callable[[Any], Any]:
    """Return what sends this process a signal when a stage begins, or at one of its updates."""

    class Inside:
        updates = 0

        def update(self, count: int = 1, note: str = "") -> None:
            self.updates += 1
            if self.updates == at_update:
                os.kill(os.getpid(), number)

        def say(self, line: str) -> None:
            pass

    @contextmanager
    def progress(name: str, total: int | None = None) -> Iterator[Any]:
        if name == stage and not at_update:
            os.kill(os.getpid(), number)
        inside = Inside()
        inside.updates = 0 if name == stage else at_update  # only this stage's updates count
        yield inside

    return lambda ctx: progress


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_ends_every_stage_with_130_and_nothing_written(
    stage: str, number: int, hard: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantize_command, "progress", signalling(stage, number))
    ended = quantize(*SEARCH, hard / "validation.npz")
    assert (ended.code, ended.out) == (130, "") and "interrupted" in ended.err
    kept = [] if stage in ("load", "baseline") else ["out", "out/run.sqlite"]  # the FP32 results are for --resume
    assert [name for name in left_behind(hard) if name != "validation.npz"] == kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_speed_is_measured_ends_with_130_and_nothing_written(
    number: int, quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    reached = []

    def measuring(*_: Any, **__: Any) -> Any:
        reached.append(number)
        os.kill(os.getpid(), number)

    monkeypatch.setattr("calib.engine.speedup.measure_speed", measuring)
    ended = quantize("--speed")
    assert (ended.code, ended.out, reached) == (130, "", [number]) and "interrupted" in ended.err
    assert left_behind(work) == []


def test_a_signal_while_the_result_is_written_leaves_no_half_of_it(
    quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("calib.engine.result.write_report", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    ended = quantize()
    assert ended.code == 130
    assert left_behind(work) == []


def test_an_older_result_survives_a_run_that_is_interrupted(quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch):
    assert quantize().code == 0
    before = {path.name: path.read_bytes() for path in (work / "out").iterdir()}
    monkeypatch.setattr("calib.engine.result.write_report", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert quantize("--ignore", "head").code == 130
    assert {path.name: path.read_bytes() for path in (work / "out").iterdir()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_search_still_writes_the_best_model_found(
    number: int, hard: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantize_command, "progress", signalling("search", number, at_update=1))
    ended = quantize(*SEARCH, hard / "validation.npz")
    report = report_of(hard / "out")
    assert ended.code == 130 and report.status == "over_budget"
    assert "interrupted" in report.status_reason and len(report.search) >= 1
    assert core().read_model(hard / "out" / "model.xml").get_rt_info("calib") is not None


def test_a_signal_before_the_first_verdict_of_a_search_writes_nothing(
    hard: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch
):
    parts = candidates.Candidates.parts

    def evaluating(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return parts(*arguments)

    monkeypatch.setattr(candidates.Candidates, "parts", evaluating)
    assert quantize(*SEARCH, hard / "validation.npz").code == 130
    assert not list((hard / "out").glob("*.xml")) and not (hard / "out" / "report.json").exists()


def test_a_missed_budget_is_exit_code_3_with_the_best_model_written(hard: Path, quantize: Any):
    ended = quantize(*SEARCH, hard / "validation.npz", "--max-evaluations", "1")
    report = report_of(hard / "out")
    assert ended.code == 3 and report.status == "over_budget"
    assert report.accuracy is not None and report.accuracy.drop > 0
    assert "limit of 1 evaluation " in report.status_reason
    assert (hard / "out" / "model.xml").exists() and (hard / "out" / "model.bin").exists()


def test_the_same_budget_is_kept_where_the_search_may_go_on(hard: Path, quantize: Any):
    ended = quantize(*SEARCH, hard / "validation.npz")
    report = report_of(hard / "out")
    assert ended.code == 0 and report.status == "within_budget"
    assert any(step.reverted for step in report.search) and report.accuracy is not None and report.accuracy.drop < 0.02


def test_samples_put_aside_confirm_the_choice(hard: Path, quantize: Any):
    ended = quantize(*SEARCH, hard / "validation.npz", "--confirm-split", "0.3")
    accuracy = report_of(hard / "out").accuracy
    assert ended.code in (0, 3) and accuracy is not None and accuracy.confirmed_samples == 60


def test_a_time_limit_over_before_the_first_verdict_says_so(hard: Path, quantize: Any):
    ended = quantize(*SEARCH, hard / "validation.npz", "--time-limit", "0.000001")
    assert ended.code == 2 and "--time-limit" in ended.err
    assert not (hard / "out" / "report.json").exists()


def test_a_time_limit_during_the_search_writes_the_best_model_found(
    hard: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch
):
    asked = iter([False, False, *[True] * 100])  # before the first plan, and before its only block of samples
    monkeypatch.setattr("calib.engine.accuracy_control._deadline", lambda limit: lambda: next(asked))
    ended = quantize(*SEARCH, hard / "validation.npz", "--time-limit", "2h")
    report = report_of(hard / "out")
    assert ended.code == 3 and "time limit" in report.status_reason and len(report.search) == 1


def limited(bytes_per_file: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process whose files can't grow beyond a size, as on a full disk."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_per_file}, {bytes_per_file}))\n"
        "from calib.cli import main\nmain(sys.argv[1:])"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


@pytest.mark.parametrize(("size", "search"), [(1500, False), (9000, False), (9000, True)])
def test_a_full_disk_is_said_and_leaves_nothing_half_written(size: int, search: bool, hard: Path):
    # 1,500 bytes are too few for the .bin, 9,000 for the .xml, and for the first page of verdicts.
    more = [*SEARCH, str(hard / "validation.npz")] if search else []
    places = [str(hard / "model.xml"), "--calibration", str(hard / "data.npz"), "-o", str(hard / "out")]
    done = limited(size, ["quantize", *places, "--effort", "fast", "--no-report", *more])
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    assert re.search("can't be written|full", done.stderr), done.stderr
    left = [name for name in left_behind(hard) if name not in ("validation.npz", "out")]
    assert all(name.startswith("out/run.sqlite") for name in left), left  # verdicts, for --resume


SCARCE = """
import re, resource, sys
from calib.cli import main
import calib.pipeline, calib.cli.quantize
now = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (now + (int(sys.argv[1]) << 20),) * 2)
main(sys.argv[2:])
"""


def test_too_little_memory_for_a_model_is_said_and_leaves_nothing(work: Path):
    image = parameter("image", [1, 2048])
    write_ir(ov.Model([opset.matmul(image, np.zeros((2048, 8192), np.float32), False, False)], [image], "model"),
             work / "model.xml")  # fmt: skip
    np.savez(work / "data.npz", image=np.zeros((4, 2048), np.float32))
    places = [str(work / "model.xml"), "--calibration", str(work / "data.npz"), "-o", str(work / "out")]
    # twice 64 MiB of weights is too much
    command = [sys.executable, "-c", SCARCE, "120", "quantize", *places, "--effort", "fast"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    assert "not enough memory" in done.stderr.splitlines()[-1], done.stderr
    assert left_behind(work) == []


class Scarce:
    """Stands for OpenVINO on a machine whose memory ends at the k-th compilation."""

    def __init__(self, core: Any, last: int):
        self._core, self._left = core, last

    def compile_model(self, *arguments: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("Exception from src/inference/src/cpp/core.cpp:117:\ncan't alloc\n")
        return self._core.compile_model(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


@pytest.mark.parametrize("compilations", [0, 1])
def test_memory_that_ends_at_a_compilation_is_no_fault_of_a_layer(
    compilations: int, quantize: Any, work: Path, monkeypatch: pytest.MonkeyPatch
):
    scarce = Scarce(core(), compilations)
    monkeypatch.setattr("calib.runtime.session.core", lambda: scarce)
    ended = quantize()
    assert (ended.code, ended.out) == (1, "") and "there was not enough memory (can't alloc)" in ended.err
    assert left_behind(work) == []


@pytest.mark.parametrize("place", ["/dev/null/out", "/proc/self/out"])
def test_an_output_that_can_not_be_written_is_named(place: str, quantize: Any, work: Path):
    ended = quantize(output=place)
    assert ended.code == 1 and place in ended.err and "folder" in ended.err and ended.out == ""
    assert left_behind(work) == []


METRIC = """
import numpy as np

class Agreeing:
    name, higher_is_better, unit, reads = "agreeing", True, "fraction", "anything"
    needs_target = needs_reference = False
    calls = 0

    def measure(self, outputs, target, reference):
        Agreeing.calls += 1
        if Agreeing.calls == 1235:
            raise ValueError("no such class")
        return 1.0

    def aggregate(self, parts):
        return float(np.mean(parts))

    def per_sample(self, parts):
        return np.asarray(parts)
"""


def test_a_metric_that_raises_names_the_sample(hard: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(hard)
    (hard / "raising_metric.py").write_text(METRIC)
    np.savez(hard / "validation.npz", image=images(1300))
    flags = ("--metric", "python:raising_metric:Agreeing", "--higher-is-better", "--max-drop", "0.01")
    ended = quantize("--validation", hard / "validation.npz", *flags)
    assert ended.code == 1 and "sample 1234" in ended.err and "no such class" in ended.err
    assert ended.out == "" and not (hard / "out" / "report.json").exists()


CHANGING = """
import numpy as np

class Noisy:
    passes = 0
    def __iter__(self):
        Noisy.passes += 1
        return (np.random.default_rng([Noisy.passes, i]).normal(size=(3, 8, 8)).astype("float32") for i in range(16))

def data():
    return Noisy()
"""


def test_data_that_change_between_passes_are_refused(work: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(work)
    (work / "changing_data.py").write_text(CHANGING)
    ended = quantize(data="python:changing_data:data")
    assert ended.code == 1 and "changed between two passes" in ended.err and "no random augmentation" in ended.err
    assert not (work / "out").exists()


def timed(plans: list[Any], *_: Any, **__: Any) -> Any:
    """Stand for the clock: every plan takes as long as its name says, in every process."""

    class Times:
        def time_ms(self, name: str) -> float:
            return 1.0 + int(name)

    return Times()


KILLED = """
import os, signal, sys
from calib.engine import candidates
from calib.store import RunStore
kept, last = RunStore.keep_verdict, int(sys.argv.pop(1))
count = 0
def keep(self, *arguments):
    global count
    kept(self, *arguments)
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
RunStore.keep_verdict = keep
class Times:
    def time_ms(self, name):
        return 1.0 + int(name)
candidates.time_models = lambda *a, **k: Times()
from calib.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("verdicts", [1, 2])
def test_a_search_killed_and_resumed_ends_with_the_same_bytes(
    verdicts: int, hard: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("calib.engine.candidates.time_models", timed)
    flags = [*SEARCH, str(hard / "validation.npz")]
    places = [str(hard / "model.xml"), "--calibration", str(hard / "data.npz"), "-o", str(hard / "out")]
    cheap = ["--effort", "fast", "--estimator", "minmax", "--target", "cpu-no-vnni", "--no-report"]
    command = [sys.executable, "-c", KILLED, str(verdicts), "quantize", *places, *cheap, *flags]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (hard / "out" / "report.json").exists() and (hard / "out" / "run.sqlite").exists()

    evaluated = []
    ask = calib.engine.candidates.Candidates.parts  # pyright: ignore
    monkeypatch.setattr(
        "calib.engine.candidates.Candidates.parts", lambda self, r, i: evaluated.append(r) or ask(self, r, i)
    )
    if verdicts == 2:
        refused = quantize(*flags)
        assert (refused.code, refused.out, evaluated) == (2, "", [])
        assert "holds 1 verdict of a run that did not end" in refused.err
        assert "--resume" in refused.err and "--fresh" in refused.err
    assert quantize(*flags, "--resume").code == 0
    assert not list((hard / "out").glob(".*"))  # what the killed run left is swept
    resumed = len(evaluated)
    assert quantize(*flags, output=hard / "undisturbed").code == 0
    assert len(evaluated) - resumed == resumed + verdicts - 1  # one verdict of the killed run was FP32's
    assert model_bytes(hard / "out") == model_bytes(hard / "undisturbed")
    assert report_of(hard / "out").search == report_of(hard / "undisturbed").search


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[frozenset[str], int]]:
    """What was really evaluated: layers reverted, and on how many samples."""
    found: list[tuple[frozenset[str], int]] = []
    ask = calib.engine.candidates.Candidates.parts  # pyright: ignore
    monkeypatch.setattr(
        "calib.engine.candidates.Candidates.parts", lambda self, r, i: found.append((r, len(i))) or ask(self, r, i)
    )
    monkeypatch.setattr("calib.engine.candidates.time_models", timed)
    return found


def test_verdicts_survive_another_limit_budget_and_split(hard: Path, quantize: Any, asked: list[Any]):
    flags = (*SEARCH, hard / "validation.npz")
    assert quantize(*flags, "--max-evaluations", "1").code == 3
    assert asked == [(frozenset(), 200)]
    ended = quantize(*flags, "--resume", "--time-limit", "1h")
    assert ended.code == 0 and "resumed: 1 verdict" in ended.err and frozenset() not in [r for r, _ in asked[1:]]
    before = len(asked)
    resumed = report_of(hard / "out").search
    quantize(*flags, "--resume", "--max-drop", "0.9", "--confirm-split", "0.25")
    assert len(asked) == before
    assert quantize(*flags, "--resume").code == 0 and len(asked) == before
    again = model_bytes(hard / "out")
    assert quantize(*flags, output=hard / "undisturbed").code == 0
    assert model_bytes(hard / "undisturbed") == again and report_of(hard / "undisturbed").search == resumed


def test_labels_that_changed_before_resume_are_noticed(hard: Path, quantize: Any, asked: list[Any]):
    seen, labels = images(60, seed=4), np.zeros(60, np.int64)
    flags = ("--metric", "top-1", "--reference", "1", "--max-drop", "0.9")
    for changed in (None, 7, None):
        if changed is not None:
            labels[changed] = 1
        np.savez(hard / "validation.npz", image=seen, labels=labels)
        ended = quantize(*flags, "--validation", hard / "validation.npz", "--resume")
        assert ended.code == 0, ended.err
        warned = "1 of 60 samples" in ended.err
        assert warned == (changed is not None)
        assert any("other contents or targets" in text for text in report_of(hard / "out").warnings) == warned
    assert sum(count for _, count in asked) == 2 * 60  # every sample once, in portions, for each set of labels


def test_an_unfinished_run_is_neither_lost_nor_in_the_way(hard: Path, quantize: Any, asked: list[Any]):
    flags = (*SEARCH, hard / "validation.npz", "--max-evaluations", "1")
    ended = quantize(*flags)
    assert ended.code == 3 and "earlier result" not in ended.err
    (hard / "out" / "report.json").unlink()  # as if it had been killed just before
    refused = quantize(*flags)
    assert refused.code == 2 and "--resume" in refused.err and "--fresh" in refused.err and len(asked) == 1
    both = quantize(*flags, "--resume", "--fresh")
    assert both.code == 2 and "one of them" in both.err and len(asked) == 1
    assert quantize(*flags, "--resume").code == 3 and len(asked) == 1
    (hard / "out" / "report.json").unlink()
    assert quantize(*flags, "--fresh").code == 3 and len(asked) == 2
    again = quantize(*flags)  # that one ended
    assert again.code == 3 and "holds an earlier result, which will be replaced" in again.err and len(asked) == 3
    report = json.loads((hard / "out" / "report.json").read_text())
    report["accuracy"]["stopped"] = "it was interrupted"
    (hard / "out" / "report.json").write_text(json.dumps(report))
    assert quantize(*flags).code == 2 and len(asked) == 3


def test_without_resume_old_verdicts_are_dropped(hard: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch):
    flags = (*SEARCH, hard / "validation.npz", "--max-evaluations", "1")
    assert quantize(*flags).code == 3
    evaluated = []
    ask = calib.engine.candidates.Candidates.parts  # pyright: ignore
    monkeypatch.setattr(
        "calib.engine.candidates.Candidates.parts", lambda self, r, i: evaluated.append(r) or ask(self, r, i)
    )
    assert quantize(*flags, "--resume").code == 3 and len(evaluated) == 0
    assert quantize(*flags).code == 3 and len(evaluated) == 1


def test_verdicts_of_other_ranges_are_not_taken_for_those_of_these(
    hard: Path, quantize: Any, monkeypatch: pytest.MonkeyPatch
):
    write_ir(convnet(imbalance=2.0), hard / "other.xml")
    flags = (*SEARCH, hard / "validation.npz", "--max-evaluations", "1")
    quantize(*flags)
    evaluated = []
    ask = calib.engine.candidates.Candidates.parts  # pyright: ignore
    monkeypatch.setattr(
        "calib.engine.candidates.Candidates.parts", lambda self, r, i: evaluated.append(r) or ask(self, r, i)
    )
    quantize(*flags, "--resume", "--samples", "5")
    quantize(*flags, "--resume", model=hard / "other.xml")
    assert len(evaluated) == 2
