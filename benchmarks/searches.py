"""Ways to an INT8 model within an accuracy budget: calib's search, NNCF's accuracy control, and a plain greedy loop.

Each keeps account of the images it ran through any model to judge or to rank, the FP32 pass included. Calibration,
which none of them can do without, is not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from ablations import Ablation
from cases import Case, Reference, arrays_of
from numpy.typing import NDArray
from peers import TARGET

from calib.accuracy.problem import Problem
from calib.accuracy.result import SearchResult
from calib.corrections.compiling import without
from calib.engine import accuracy_control
from calib.engine.building import build
from calib.engine.prepare import prepare
from calib.runtime.session import Session, core, ov


@dataclass(frozen=True)
class Found:
    """What a search hands back.

    Attributes:
        images: run through any model to judge or to rank.
        within: whether the search says that it kept the budget.
        ranking: of the images those that only ranked, where that is known.
        could: how many of the units reverted could each go back to INT8 within the budget, where that was tried; not
            among the images.
    """

    model: ov.Model
    images: int
    within: bool
    ranking: int | None = None
    could: int | None = None


class Search(Protocol):
    """Finds a quantized model within a budget."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def start(self, case: Case) -> ov.Model:
        """Return everything in INT8, as the search begins."""
        ...

    def run(self, case: Case, reference: Reference, max_drop: float) -> Found:
        """Search on the case's validation samples."""
        ...


@dataclass(frozen=True)
class CalibSearch:
    """calib with some settings."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def start(self, case: Case) -> ov.Model:
        """Quantize without a budget."""
        return self._quantize(case).model

    def run(self, case: Case, reference: Reference, max_drop: float) -> Found:
        """Quantize with one."""
        targets = case.targets or [None] * len(case.validation)
        validation = list(zip(case.validation, targets, strict=True)) if case.targets else list(case.validation)
        with units_that_could_return() as could:
            result = self._quantize(case, validation=validation, metric=case.metric, max_drop=max_drop)
        report = result.report
        asked = {fact.key: fact.value for fact in report.settings}["rank_samples"]
        ranking = len(report.ranking) * min(asked, len(case.calibration))
        return Found(
            result.model,
            report.accuracy.images_evaluated + ranking,
            report.accuracy.drop <= max_drop + 1e-12,
            ranking,
            could[0] if could else None,
        )

    def _quantize(self, case: Case, **more: Any) -> Any:
        import calib

        count = len(case.calibration)
        # no timing for the report: the others do none
        return calib.quantize(case.path, list(case.calibration), samples=count, speed=False, **self.settings, **more)


@dataclass(frozen=True)
class NncfSearch:
    """``nncf.quantize_with_accuracy_control`` as it comes, given scores of single samples."""

    name: str = "nncf"

    def start(self, case: Case) -> ov.Model:
        """Quantize without a budget."""
        import nncf

        dataset = nncf.Dataset(list(case.calibration))
        return nncf.quantize(core().read_model(case.path), dataset, subset_size=len(case.calibration))

    def run(self, case: Case, reference: Reference, max_drop: float) -> Found:
        """Quantize with one."""
        import nncf

        images = 0

        def validate(compiled: Any, items: Iterable[int]) -> tuple[float, list[float]]:
            nonlocal images
            parts = []
            for index in items:
                images += 1
                parts.append(_part(reference, index, list(compiled(case.validation[index]).values())))
            scores = case.metric.per_sample(parts)
            return float(case.metric.aggregate(parts)), [float(score) for score in scores]

        model = nncf.quantize_with_accuracy_control(
            core().read_model(case.path),
            nncf.Dataset(list(case.calibration)),
            nncf.Dataset(list(range(len(case.validation))), lambda index: case.validation[index]),
            validate,
            max_drop=max_drop,
            subset_size=len(case.calibration),
        )
        return Found(model, images, reference.score(model).drop <= max_drop)


@dataclass(frozen=True)
class GreedyLoop:
    """What accuracy control usually is, on calib's plain min-max model.

    Rank the units by leaving each one out of INT8 alone, on at most ``ranking`` samples; then revert one after the
    other, the most helpful first, and evaluate on all samples until the budget is kept.
    """

    name: str = "greedy loop"
    ranking: int = 300

    def start(self, case: Case) -> ov.Model:
        """Quantize without a budget."""
        return Ablation("minmax").quantize(case.path, case.calibration)

    def run(self, case: Case, reference: Reference, max_drop: float) -> Found:
        """Quantize with one."""
        flags = {"samples": len(case.calibration), "effort": "fast", "target": TARGET}
        job = prepare(case.path, list(case.calibration), flags=flags)
        built = build(Ablation("minmax").candidate(job))
        everything = range(len(case.validation))
        images = len(everything)  # the FP32 pass

        def drop(model: ov.Model, indices: Sequence[int]) -> float:
            nonlocal images
            images += len(indices)
            session = Session(model)
            parts = [_part(reference, index, session(arrays_of(case.validation[index]))) for index in indices]
            before = case.metric.aggregate([reference.parts[index] for index in indices])
            return float(before - case.metric.aggregate(parts)) * (1 if case.metric.higher_is_better else -1)

        def reverted(layers: Iterable[str]) -> ov.Model:
            return without(built.candidate, sorted(layers)).quantized()

        model = built.model
        if drop(model, everything) <= max_drop:
            return Found(model, images, True)
        some = everything[: self.ranking]
        units = sorted(built.plan.units(), key=lambda unit: drop(reverted(unit), some))  # stable: layer order
        gone: set[str] = set()
        for unit in units[:-1]:
            gone |= unit
            model = reverted(gone)
            if drop(model, everything) <= max_drop:
                return Found(model, images, True)
        return Found(model, images, False)


def _part(reference: Reference, index: int, outputs: Sequence[NDArray[np.generic]]) -> Any:
    case = reference.case
    target = case.targets[index] if case.targets else None
    return case.metric.measure(outputs, target, reference.outputs[index])


@contextmanager
def units_that_could_return() -> Iterator[list[int]]:
    """Try, after each search, which of the units reverted could go back to INT8 within the budget; put down how many.

    Each is evaluated on all samples, outside the bound and the account of the search, but in its time.
    """
    found: list[int] = []
    original = accuracy_control.search

    def search(problem: Problem) -> SearchResult:
        result = original(problem)
        indices, budget = problem.search_indices, problem.budget
        if result.status == "within_budget":
            baseline = problem.baseline(indices)
            values = (
                problem.metric.aggregate(problem.evaluate(result.reverted - unit, indices))
                for unit in problem.units
                if unit <= result.reverted
            )
            found.append(sum(budget.fits(budget.drop(baseline, float(value))) for value in values))
        return result

    accuracy_control.search = search
    try:
        yield found
    finally:
        accuracy_control.search = original


@contextmanager
def counted_compilations() -> Iterator[list[int]]:
    """Count all compilations of models in this process; the list's only number grows."""
    count, original = [0], ov.Core.compile_model

    def compile_model(self: ov.Core, *arguments: Any, **settings: Any) -> Any:
        count[0] += 1
        return original(self, *arguments, **settings)

    ov.Core.compile_model = compile_model
    try:
        yield count
    finally:
        ov.Core.compile_model = original


FAST = {"effort": "fast", "estimator": "minmax"}
SEARCHES: Mapping[str, Search] = {
    search.name: search
    for search in (CalibSearch("calib minmax", FAST), CalibSearch("calib"), NncfSearch(), GreedyLoop())
}
"""Name → search; the greedy loop begins as "calib minmax" does, with the levels of weights that suit this CPU."""
