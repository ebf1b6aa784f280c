"""Layers that OpenVINO can't compile in INT8 are found and left out, everywhere in the same way."""

from __future__ import annotations

import pytest

from calib.corrections.candidate import Candidate
from calib.corrections.compiling import without_failing
from calib.errors import ExecutionError, ModelError
from calib.graph.insert import Edits
from calib.values.plan import QuantizableNode, QuantizationPlan


class Named:
    def get_friendly_name(self):
        return "net"


def candidate(*names: str) -> Candidate:
    layers = tuple(QuantizableNode(name, "Convolution", (0,), (1,)) for name in names)
    model: object = Named()
    view: object = None
    return Candidate(model, view, QuantizationPlan(layers, (), ()), Edits())  # pyright: ignore[reportArgumentType]


def failing(*bad: str, error: type[Exception] = ModelError):
    def attempt(one: Candidate) -> set[str]:
        left = {layer.name for layer in one.plan.layers}
        if left & set(bad):
            raise error("Exception from some/file.cpp:12:\nno such primitive.")
        return left

    return attempt


@pytest.mark.parametrize("error", [ModelError, RuntimeError])
@pytest.mark.parametrize("bad", [("a",), ("e",), ("b", "d"), ("a", "b", "c", "d", "e")])
def test_exactly_the_layers_that_fail_are_left_out_with_what_openvino_said(bad, error):
    whole, attempt = candidate(*"abcde"), failing(*bad, error=error)
    with pytest.raises(error) as raised:
        attempt(whole)
    kept, made = without_failing(whole, attempt, raised.value)
    assert made == {layer.name for layer in kept.plan.layers} == set("abcde") - set(bad)
    reasons = {skipped.name: skipped.reason for skipped in kept.plan.skipped}
    assert reasons == dict.fromkeys(bad, "OpenVINO could not compile it in INT8: no such primitive")


def test_a_model_that_fails_without_any_layer_ends_in_an_error_that_says_why():
    def attempt(one: Candidate) -> None:
        raise RuntimeError("nothing helps")

    with pytest.raises(ExecutionError, match=r"net: OpenVINO can't compile .* It said: nothing helps"):
        without_failing(candidate("a", "b"), attempt, RuntimeError("nothing helps"))


def test_lack_of_memory_is_no_layers_fault():
    def attempt(one: Candidate) -> None:
        raise RuntimeError("std::bad_alloc")

    with pytest.raises(MemoryError):
        without_failing(candidate("a", "b"), attempt, RuntimeError("it failed"))
