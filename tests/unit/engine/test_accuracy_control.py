"""A search that a signal ends gives the best model until then, and is resumed to the same one.

covers: calib.engine.candidates, calib.engine.result
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images

import calib
from calib.accuracy.budget import Budget
from calib.accuracy.problem import Problem
from calib.accuracy.result import SearchResult
from calib.accuracy.search import search
from calib.engine.accuracy_control import _of_everything
from calib.engine.result import Result
from calib.metrics.label_free import RelativeL2
from calib.report import digest, numbers
from calib.values.accuracy_facts import AccuracyFacts, SearchStepFacts

SAMPLES = list(images(12))


class Interrupting(RelativeL2):
    """Sends this process a Ctrl-C while it measures a sample for the n-th time."""

    def __init__(self, after: int):
        self.calls, self.after = 0, after

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> Any:
        self.calls += 1
        if self.calls == self.after:
            os.kill(os.getpid(), signal.SIGINT)
        return super().measure(outputs, target, reference)


class Constant(RelativeL2):
    """A fraction that no model changes."""

    unit = "fraction"

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> Any:
        return [[1.0, 0.25**2]]  # a quarter of the output is lost


def quantized(store: Path, metric: RelativeL2, resume: bool = False, **more: Any) -> Result:
    # Weights in half range: the same accuracy, and so the same search, on every CPU.
    settings = {"max_drop": 0.004, "effort": "fast", "estimator": "minmax", "speed": False, "target": "cpu-no-vnni"}
    given = {"validation": SAMPLES, "metric": metric, "store": store, "resume": resume, **settings, **more}
    return calib.quantize(convnet(), SAMPLES, **given)


def saved(result: Result, folder: Path) -> dict[str, bytes]:
    """Return the bytes of the model's files."""
    result.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".xml", ".bin")}


def layers(result: Result) -> list[str]:
    return [layer.planned for layer in result.report.layers]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, int]:
    metric = Interrupting(0)
    return quantized(tmp_path_factory.mktemp("whole") / "run.sqlite", metric), metric.calls


def test_signal_during_the_baseline_leaves_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        quantized(tmp_path / "run.sqlite", Interrupting(5))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_signal_during_the_search_gives_the_best_model_and_resume_the_one_without(
    tmp_path: Path, whole: tuple[Result, int], share: float
):
    expected, calls = whole
    assert expected.report.accuracy is not None and not expected.report.accuracy.stopped and calls > 25
    known = len(SAMPLES) + 4 + 1  # FP32 was measured, and everything in INT8 on the samples that plans are screened on
    after = round(known + share * (calls - known))
    interrupted = quantized(tmp_path / "run.sqlite", Interrupting(after))
    assert interrupted.report.accuracy is not None and interrupted.report.accuracy.stopped == "it was interrupted"
    assert interrupted.report.search
    resumed = quantized(tmp_path / "run.sqlite", RelativeL2(), resume=True)
    assert layers(resumed) == layers(expected)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("speed", [False, True])
def test_no_plan_is_timed_unless_a_speedup_is_required_so_that_a_new_search_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: tuple[Result, int], speed: bool
):
    def timed(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("a finalist was timed")

    monkeypatch.setattr("calib.engine.candidates.time_models", timed)
    again = quantized(tmp_path / "run.sqlite", RelativeL2(), speed=speed)
    assert (again.report.speed is not None) == speed
    assert again.report.search == whole[0].report.search and not again.report.finalists
    assert again.plan == whole[0].plan and any(layer.reverted for layer in again.report.layers)
    assert saved(again, tmp_path / "second") == saved(whole[0], tmp_path / "first")


def test_plans_within_the_budget_are_timed_where_a_speedup_is_required(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found: list[Problem] = []

    def searched(problem: Problem) -> SearchResult:
        found.append(problem)
        return search(problem)

    monkeypatch.setattr("calib.engine.accuracy_control.search", searched)
    report = quantized(tmp_path / "run.sqlite", RelativeL2(), require_speedup=1e-3).report
    assert report.speed is not None and [problem.latency is None for problem in found] == [False]


@pytest.mark.parametrize(("given", "meant"), [(0.5, "0.5pt"), ("50%rel", "0.5%rel"), (0.2, ""), ("20pt", "")])
def test_a_budget_that_allows_a_fifth_of_everything_is_asked_about(given: Any, meant: str):
    labels = [(image, 0) for image in SAMPLES[:4]]
    settings = {"effort": "fast", "estimator": "minmax", "speed": False, "metric": Constant()}
    report = calib.quantize(convnet(), SAMPLES, validation=labels, max_drop=given, **settings).report
    asked = [text for text in report.warnings if "not what you meant" in text]
    assert len(asked) == bool(meant) and all(f"--max-drop {meant}" in text for text in asked)
    assert report.accuracy is not None and report.accuracy.budget == pytest.approx(0.5 if meant else 0.2)
    assert report.accuracy.drop_kind == ("relative" if str(given).endswith("rel") else "absolute")


class Halved(RelativeL2):
    """A fraction that every quantized layer lowers."""

    unit = "fraction"


def told(progress: list[str]) -> Any:
    """Return a progress that keeps every message."""

    class Stage:
        def update(self, count: int, note: str = "") -> None:
            progress.append(note)

        def say(self, text: str) -> None:
            progress.append(text)

    @contextmanager
    def show(name: str, total: int | None) -> Iterator[Any]:
        yield Stage()

    return show


@pytest.mark.parametrize(
    ("metric", "allowed", "said"),
    [
        (Halved(), 0.000001, "0.0001 points"),
        (Halved(), "0.0001%rel", "0.0001 % of the baseline"),
        (RelativeL2(), 0.000001, "1e-06 relative error"),
    ],
)
def test_every_sentence_has_the_unit_of_the_report(metric: RelativeL2, allowed: Any, said: str):
    messages: list[str] = []
    settings = {"effort": "fast", "estimator": "minmax", "speed": False, "max_evaluations": 3}
    report = calib.quantize(
        convnet(), SAMPLES, validation=SAMPLES, metric=metric, max_drop=allowed, progress=told(messages), **settings
    ).report
    assert report.accuracy is not None
    assert numbers.drop(report.accuracy, report.accuracy.budget or 0) == said
    unit = said.partition(" ")[2]
    assert f"budget of {said}" in report.status_reason or f"budget {said}" in report.status_reason
    assert f"budget of {said}" in report.accuracy.note
    assert f" {unit} at 95 %)" in report.accuracy.note
    steps = [message for message in messages if "of at most" in message and "drop" in message]
    assert steps and all(f"{unit} of {said} allowed" in message for message in steps)


def test_the_first_drop_is_said_with_the_value_only_where_every_sample_was_evaluated():
    problem: Any = SimpleNamespace(metric=Constant(), budget=Budget(0.01, unit="fraction"), search_indices=range(200))
    step = {"step": 1, "kind": "int8", "reverted": [], "value": 0.5, "drop": 0.002, "within": True}
    some, every = (SearchStepFacts(**step, samples=count) for count in (50, 200))
    assert (
        _of_everything(some, problem, "", 50)
        == "INT8: drop 0.20 points, expected from 50 samples near to another answer"
    )
    assert _of_everything(every, problem, " of 1.00 points allowed", 200) == (
        "INT8: relative-l2 50.00 %, drop 0.20 points of 1.00 points allowed, on 200 samples"
    )


def accuracy_of(function: Any, **more: Any) -> AccuracyFacts:
    settings = {"effort": "fast", "estimator": "minmax", "speed": False, "higher_is_better": True}
    report = calib.quantize(convnet(), SAMPLES, metric=function, **settings, **more).report
    assert report.accuracy is not None
    return report.accuracy


def test_a_function_that_returns_one_number_has_no_interval_and_no_number_of_samples():
    said: list[str] = []
    function = lambda predict: float(np.mean([predict(image)[0].max() for image in SAMPLES]))  # noqa: E731
    facts = accuracy_of(function, max_drop=1e6, progress=told(said))
    fp32, cost, int8 = (next(line for line in said if line.startswith(word)) for word in ("FP32", "search", "INT8"))
    assert fp32.endswith("by the function over its own samples") and "calls of it in all" in cost
    assert "sample" not in int8
    assert (facts.samples, facts.images_evaluated, facts.interval) == (0, 0, None)
    assert facts.interval_note == "no interval: the function returns one number and no score for each sample"
    assert facts.interval_note in digest.drop_fact(facts).detail
    assert "sample" not in digest.accuracy_fact(facts).detail


def test_a_function_that_returns_scores_has_an_interval_over_them():
    def highest(predict: Any) -> tuple[float, list[float]]:
        scores = [float(predict(image)[0].max()) for image in SAMPLES]
        return float(np.mean(scores)), scores

    facts = accuracy_of(highest)
    assert (facts.samples, facts.interval_note) == (len(SAMPLES), "")
    assert facts.interval is not None
    assert f"{len(SAMPLES)} samples" in digest.accuracy_fact(facts).detail
    assert calib.evaluate(convnet(), None, highest, higher_is_better=True).samples == len(SAMPLES)


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize("explained", [False, True])
def test_layers_are_ranked_as_they_execute_where_sums_saturate_and_simulation_does_not_explain_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saturating: bool, explained: bool
):
    asked: list[int] = []

    def executed(candidate: Any, simulated: dict[frozenset[str], float], *_: Any, **__: Any):
        asked.append(len(simulated))
        return {unit: float(number) for number, unit in enumerate(simulated)}

    monkeypatch.setattr("calib.engine.accuracy_control.saturates", lambda plan: saturating)
    monkeypatch.setattr("calib.corrections.sensitivity.UNEXPLAINED", 1e9 if explained else -1.0)
    monkeypatch.setattr("calib.engine.accuracy_control.executed_sensitivities", executed)
    result = quantized(tmp_path / "run.sqlite", Interrupting(0))
    ranked = [unit.sensitivity for unit in result.report.ranking]
    assert (ranked == [float(number) for number in reversed(range(len(ranked)))]) is (saturating and not explained)
    assert asked == ([len(ranked)] if saturating and not explained else [])
