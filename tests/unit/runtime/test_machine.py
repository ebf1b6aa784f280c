from __future__ import annotations

import pytest
from cpu_features import EXACT_INT8

from calib.runtime.isa import Cpu, exact_int8
from calib.runtime.machine import advice, diagnose, missing

OLD = Cpu("old", ("sse4.1", "avx2"), ("FP32",))
NEW = Cpu("new", ("sse4.1", "avx2", "avx512", "vnni", "bf16"), ("FP32", "BF16", "INT8"))


@pytest.mark.parametrize(
    ("machine", "limit", "exact"), [(NEW, "", True), (OLD, "", False), (NEW, "AVX2", False), (NEW, "avx2", False)]
)
def test_sums_are_exact_only_where_neither_cpu_nor_limit_forbids_it(machine, limit, exact):
    assert exact_int8(machine, limit) == exact


def test_a_limit_that_keeps_vnni_keeps_sums_exact():
    assert exact_int8(NEW, "AVX512_CORE_VNNI")


@pytest.mark.parametrize(("machine", "words"), [(NEW, "exact here"), (OLD, "can saturate here")])
def test_advice_says_whether_calibrations_hold_elsewhere_and_what_to_do(machine, words):
    said = " ".join(advice(machine, "", "f32"))
    assert words in said and "--target cpu-no-vnni" in said


def test_advice_names_the_limit_and_the_default_precision():
    said = advice(NEW, "AVX2", "bf16")
    assert any("ONEDNN_MAX_CPU_ISA is AVX2" in sentence for sentence in said)
    assert any("in bf16 here by default" in sentence for sentence in said)


def test_what_is_missing_is_named_as_pip_takes_it():
    assert missing({"no-such-package-9": "no-such-package-9>=1", "pytest": "pytest>=8.0"}) == ["no-such-package-9>=1"]


def test_the_diagnosis_of_this_machine_holds_its_sums_its_threads_and_its_precision():
    found = diagnose()
    assert found.exact_int8 == EXACT_INT8
    assert 1 <= found.threads <= found.cores
    assert found.default_precision in ("f32", "bf16", "f16")
