"""A process that is limited to an older instruction set computes as such a CPU does.

covers: calib.engine.evaluate_as
"""

from __future__ import annotations

import sys
from functools import cache

import pytest
from cpu_features import needs

from calib.engine.evaluate_as import evaluate_as
from calib.errors import UsageError
from calib.runtime.isa import FEATURES, ISAS, cpu, get_isa, run_as

# Every product pair is 2 · 255 · top: 64,770 for 127 and 32,130 for 63; i16 ends at 32,767.
SATURATING = """
import sys
import numpy as np
from calib.runtime.executed import executed_nodes
from calib.runtime.session import F32, Session, ov
op = ov.opset13
feed = [np.full((1, 64, 8, 8), 255, np.float32)]
for top in map(int, sys.argv[1:]):
    x = op.parameter([1, 64, 8, 8], np.float32)
    low, high = np.float32(0), np.float32(255)
    weights = op.multiply(
        op.convert(op.constant(np.full((32, 64, 3, 3), top, np.int8)), "f32"),
        op.constant(np.full((32, 1, 1, 1), 1 / top, np.float32)),
    )
    conv = op.convolution(op.fake_quantize(x, low, high, low, high, 256), weights, [1, 1], [1, 1], [1, 1], [1, 1])
    model = ov.Model([op.result(conv)], [x], "saturating")
    session = Session(model)
    exact = Session(model, {**F32, "LP_TRANSFORMS_MODE": "NO"})(feed)[0]
    assert any(node.int8 for node in executed_nodes(session.compiled) if node.kind == "Convolution")
    print(abs(session(feed)[0] - exact).max() / abs(exact).max())
"""


RUNNABLE = {name: pytest.param(name, marks=needs(*isa.needs)) for name, isa in ISAS.items()}


@cache
def errors_as(isa: str) -> list[float]:
    """Return the relative errors with weights of 127 and of 63, from one child process."""
    done = run_as(isa, [sys.executable, "-W", "error", "-c", SATURATING, "127", "63"])
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]


@pytest.mark.parametrize("isa", RUNNABLE.values())
def test_full_weights_saturate_exactly_where_the_table_says_so(isa):
    error = errors_as(isa)[0]
    assert error > 0.01 if ISAS[isa].saturates else error < 1e-5


@pytest.mark.parametrize("isa", [RUNNABLE[name] for name, isa in ISAS.items() if isa.saturates])
def test_half_range_weights_are_exact_without_vnni(isa):
    assert errors_as(isa)[1] < 1e-5


def test_an_unknown_instruction_set_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"sse41, avx2, avx512.*got 'mmx'"):
        get_isa("mmx")


def test_names_are_taken_in_any_spelling(monkeypatch):
    monkeypatch.setattr("calib.runtime.isa._cpu_flags", lambda: frozenset({"avx512bw", "avx512_vnni"}))
    assert get_isa("AVX512_VNNI") is ISAS["avx512-vnni"]


def test_an_instruction_set_the_machine_lacks_is_refused(monkeypatch):
    monkeypatch.setattr("calib.runtime.isa._cpu_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(UsageError, match=r"avx512-amx needs a CPU with avx512 and vnni and amx"):
        get_isa("avx512-amx")


@pytest.mark.parametrize("flags", [set(), {"avx2", "avx512bw"}, {"avx_vnni"}, {"asimddp"}])
def test_sums_are_exact_only_with_dot_product_instructions(monkeypatch, flags):
    monkeypatch.setattr("calib.runtime.isa._cpu_flags", lambda: frozenset(flags))
    assert cpu().exact_int8 == bool(flags & {"avx_vnni", "asimddp"})


def test_what_an_instruction_set_needs_is_in_the_table_of_features():
    assert {feature for isa in ISAS.values() for feature in isa.needs} <= set(FEATURES)


@needs("avx2")
def test_objects_of_this_process_can_not_be_evaluated_in_another():
    with pytest.raises(UsageError, match="can't take validation as a list"):
        evaluate_as("avx2", "model.xml", [1, 2])


@needs("avx2")
def test_what_the_child_says_is_the_error_and_several_mistakes_keep_a_line_each():
    with pytest.raises(UsageError) as raised:
        evaluate_as("avx2", "missing.xml", "missing.npz", sets=("no_such_setting=1", "samples=x"))
    first, *more = raised.value.lines
    assert first.startswith("evaluating as a CPU with avx2: ") and "\n" not in first
    assert len(more) == 2 and "--set samples" in more[0] and "no_such_setting" in more[1]
