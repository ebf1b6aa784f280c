"""All errors that calib raises on purpose.

::

    CalibError                      exit code 1
    ├── ModelError                  a model can't be read, or can't be quantized as it is
    ├── DataError                   samples: missing, empty, wrong shape or name, not finite
    ├── MetricError                 a metric is unknown, raised, or does not fit the outputs
    ├── BaselineError               the FP32 baseline is implausible
    ├── StatisticsError             a statistics file or a plan belongs to another model
    ├── ExecutionError              the written model does not compute what its plan says
    ├── OutputError                 a result can't be written
    ├── UsageError                  exit code 2: an argument or a setting is wrong
    │   └── ConfigError             several mistakes of one file, all at once
    └── MissingExtraError           exit code 5: an optional package is not installed

A message names the thing, the rule, the value and the way out. A missed budget is a result
(``report.status``, exit code 3), not an error.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence


class CalibError(Exception):
    """Base of all errors that calib raises on purpose; ``exit_code`` is that of the command line.

    Attributes:
        lines: Lines of the message. A line end inside a line came with a name and is shown as an escape.
    """

    exit_code = 1

    def __init__(self, message: str = "", *more: str):
        self.lines = (message, *more)
        super().__init__("\n".join(self.lines))


class ModelError(CalibError):
    """A model file can't be read, or the model can't be quantized as it is."""


class DataError(CalibError):
    """Samples are missing, empty, of the wrong shape or name, or not finite."""


class MetricError(CalibError):
    """A metric is unknown, raised, or does not fit the model's outputs."""


class BaselineError(CalibError):
    """The FP32 baseline is implausible: preprocessing or labels are probably wrong."""


class StatisticsError(CalibError):
    """A statistics file or a plan was made for another model or other settings."""


class ExecutionError(CalibError):
    """The written model does not compute what its plan says."""


class OutputError(CalibError):
    """A result can't be written to the given place."""


class UsageError(CalibError):
    """An argument or a setting is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """All mistakes of one config or manifest.

    Attributes:
        mistakes: Mistakes, one line each, with the path or line number in the file.

    Args:
        source: Name of the file.
        mistakes: Mistakes.
        way_out: Sentence on what can be done about all of them; "" for none.
    """

    def __init__(self, source: str, mistakes: Sequence[str], way_out: str = ""):
        self.source = source
        self.mistakes = tuple(mistakes)
        count = f"{len(self.mistakes)} mistake{'s' if len(self.mistakes) != 1 else ''}"
        hint = [way_out] if way_out else []
        super().__init__(f"{source}: {count}", *(f"  - {mistake}" for mistake in self.mistakes), *hint)


class MissingExtraError(CalibError):
    """An optional package is needed and not installed.

    Args:
        what: Feature that needs the package.
        package: Name of the package.
        requirements: What pip has to install, with versions; see ``calib.values.distribution``.
    """

    exit_code = 5

    def __init__(self, what: str, package: str, *requirements: str):
        way_out = f"pip install {' '.join(map(shlex.quote, requirements or (package,)))}"
        super().__init__(f"{what} needs the package {package!r}, which is not installed. Run: {way_out}")


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line, to be part of a sentence; code of others writes several."""
    return " ".join(str(error).split())
