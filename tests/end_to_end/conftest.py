"""The command line in this process, and a small model with data to run it on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trust_fixtures.tiny import write_work
from zoo_faults.nursery import Nursery

from calib import cli


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, stdout, stderr."""

    code: Any
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the command line in this process; what native code prints is seen too."""

    def calib(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as caught:
            cli.main.main([os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments], prog_name="calib")
        captured = capfd.readouterr()
        return Ended(caught.value.code or 0, captured.out, captured.err)

    return calib


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with model.xml/.bin (two convolutions and a MatMul) and data.npz."""
    return write_work(tmp_path)


@pytest.fixture
def quantize(run: Callable[..., Ended], work: Path) -> Callable[..., Ended]:
    """Quantize the model of ``work`` the cheapest way, on levels that no CPU has to choose; more arguments override."""

    def calib(*arguments: object, model: object = None, data: object = None, output: object = None) -> Ended:
        places = [model or work / "model.xml", "--calibration", data or work / "data.npz", "-o", output or work / "out"]
        cheap = ["--effort", "fast", "--estimator", "minmax", "--target", "cpu-no-vnni", "--no-speed", "--no-report"]
        return run("quantize", *places, *cheap, *arguments)

    return calib


@pytest.fixture(autouse=True)
def _quick(quick_timing: None) -> None:
    """No test of a command is of how fast a model is."""


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A process that has loaded calib and forks children that start at once."""
    with Nursery() as made:
        yield made
