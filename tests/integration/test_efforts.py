"""A sample of benchmarks/efforts.py: with 20 samples balanced is not below fast on samples that neither has seen."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import efforts

# The lowest of 74 networks, .56 dB below, and a decoder that keeps keys and values in states.
NETWORKS = ["generated/738", "cache/2"]


@pytest.mark.parametrize("name", NETWORKS)
def test_with_twenty_samples_balanced_is_not_a_decibel_below_fast(name: str, tmp_path: Path):
    options = argparse.Namespace(samples=20, efforts="fast,balanced", folder=None)
    row = efforts.one(name, options, tmp_path)
    assert row["status"] == "judged" and row["recipes"]["balanced"]
    assert efforts.steps(row)["balanced - fast"] > -efforts.ALLOWED_DB


def test_an_effort_is_held_against_the_one_before_it_by_the_worst_output():
    row = {"status": "judged", "db": {"fast": [30.0, 40.0], "balanced": [45.0, 28.5], "thorough": [math.inf, 99.0]}}
    assert efforts.steps(row) == {"balanced - fast": -1.5, "thorough - balanced": 70.0 - 28.5}
    found = efforts.tally({"poor": row, "refused": {"status": "refused", "reason": ""}})
    assert (found["networks"], found["judged"]) == (2, 1)
    assert found["balanced - fast"]["more than a decibel below"] == ["poor"]
    assert found["thorough - balanced"]["more than a decibel below"] == []
