"""A sample of the models that the onnx package generates: calib quantizes them or says why not."""

from __future__ import annotations

import warnings
from random import Random

import pytest
from onnx_corpus import corpus, verdict

CASES = 100


@pytest.fixture(scope="module")
def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own reference data divide by zero
        found = list(corpus())
    chosen = Random(0).sample(found, CASES - 10)
    layers = [case for case in found if any(node.op_type in ("Conv", "MatMul", "Gemm") for node in case[1].graph.node)]
    return chosen + Random(0).sample(layers, 10)


def test_every_model_is_quantized_or_refused_with_a_reason(cases, tmp_path):
    said = {name: verdict(model, tmp_path / "model.onnx") for name, model in cases}
    assert not {name: reason for name, (what, reason) in said.items() if what == "crashed"}
    assert all(len(reason) > 20 for what, reason in said.values() if what != "quantized")
    assert sum(what == "quantized" for what, _ in said.values()) >= 5
