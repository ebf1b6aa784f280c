"""Keep operations in f32 where a budget is kept in f32 and not in the precision that the model will run in.

The layers in floating point lose accuracy there that no reverted layer gives back. A file can ask for f32 operation by
operation (`calib.loading.precise`), which costs time, so it is done only where it was measured to keep the budget: by
the layers in floating point alone, else by everything that is not quantized. It takes a compilation and a pass of the
search's samples each, and one of each to see that what ran in INT8 still does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from calib.accuracy.budget import Budget
from calib.accuracy.problem import Indices, Problem
from calib.accuracy.result import Figure, figure_of
from calib.engine.building import Int8Model, executed_in
from calib.engine.evaluators import Evaluator
from calib.engine.precisions import InBoth
from calib.graph.layers import LAYERS
from calib.graph.view import GraphView
from calib.loading.precise import kept_in_f32
from calib.report.numbers import plural
from calib.runtime.failures import left_out
from calib.runtime.session import precision_config
from calib.values.plan import QuantizationPlan

# What holds no arithmetic of its own, and what belongs to quantized weights and activations.
_NOT_MARKED = frozenset({"Parameter", "Result", "Constant", "FakeQuantize", "FakeConvert", "ReadValue", "Assign"})


@dataclass(frozen=True)
class Marked:
    """What came of marking operations.

    Attributes:
        built: Model that is written, with the marks or as it was.
        both: Its accuracy.
        names: Operations that are marked; empty if none are.
        warnings: Sentences for the report.
    """

    built: Int8Model
    both: InBoth
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def in_f32_only(budget: Budget, both: InBoth) -> bool:
    """Return whether a budget is kept in f32 and missed in the lower precision that the model will run in."""
    if both.precision == "f32" or both.deployed is None or both.other is None:
        return False
    return budget.fits(both.other.drop) and not budget.fits(both.deployed.drop)


def marked(problem: Problem, evaluator: Evaluator, built: Int8Model, both: InBoth, indices: Indices) -> Marked:
    """Mark operations in floating point if that keeps the budget in the precision that the model will run in.

    Args:
        problem: Problem of the search.
        evaluator: Evaluator of the search.
        built: Model that the search chose; its budget is kept `in_f32_only`.
        both: Accuracy of the model.
        indices: Samples that it is from.
    """
    missing: list[str] = []
    figure = both.deployed
    assert figure is not None
    text = problem.budget.text
    lost = f"loses {text(figure.drop)} in {both.precision}, over the budget of {text(problem.budget.max_drop)}"
    for names in _choices(built.plan, GraphView(built.model)):
        found: Figure | None = None
        form = built
        try:
            with left_out(f"{plural(len(names), 'operation')} could not be marked to stay in f32", missing):
                form = replace(built, model=kept_in_f32(built.model, names), compiled=None)
                if _still_int8(built, form, both.precision):
                    compiled = evaluator.compiled(form.model, precision_config(both.precision))
                    parts = evaluator.run(compiled, indices.tolist())
                    found = figure_of(problem, dict(zip(indices.tolist(), parts, strict=True)), indices)
        except KeyboardInterrupt:  # the model that the search chose is written all the same
            return Marked(built, both, (), (*missing, "No operation was marked to stay in f32: it was interrupted."))
        if found is not None and problem.budget.fits(found.drop):
            said = (
                f"{plural(len(names), 'operation')} in floating point, {names[0]!r} first, will run in f32 whatever "
                f"the default precision: the file marks them as precise. Without the marks the model {lost}, and with "
                f"them {text(found.drop)}. A replay of plan.json marks them only where it measures the accuracy."
            )
            return Marked(form, replace(both, deployed=found), names, (*missing, said))
    return Marked(built, both, (), (*missing, _useless(both.precision)))


def _useless(precision: str) -> str:
    return (
        f"Operations in floating point marked to run in f32 (precise) would not keep the budget in {precision} either, "
        "or would take layers out of INT8, so none is marked."
    )


def _choices(plan: QuantizationPlan, view: GraphView) -> Iterator[tuple[str, ...]]:
    """Yield the operations to mark: the layers in floating point, then all that is neither quantized nor weights."""
    fixed: set[str] = set()  # weights, and what is computed of them alone
    for name, read in view.inputs.items():
        if view.types[name] == "Constant" or (read and all(tensor.node in fixed for tensor in read)):
            fixed.add(name)
    left = fixed | {layer.name for layer in plan.layers} | set(view.inside)
    every = [name for name, kind in view.types.items() if kind not in _NOT_MARKED and name not in left]
    layers = [name for name in every if view.types[name] in LAYERS]
    yield from (tuple(names) for names in (layers, every) if names)


def _still_int8(built: Int8Model, form: Int8Model, precision: str) -> bool:
    """Return whether the layers that ran in INT8 still do with the marks, in a precision."""
    view = GraphView(form.model)
    executed = executed_in(form.model, view, built.plan, precision_config(precision))
    ran = [layer.name for layer in built.plan.layers if layer.name in built.executed]
    return all(executed[name].int8 for name in ran if built.executed[name].int8)
