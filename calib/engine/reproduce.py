"""Write down a run so that it can be repeated: as a config file, a command line and Python."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ruamel.yaml import YAML

from calib.config.resolve import nested
from calib.config.run_inputs import RunInputs
from calib.values.facts import Report, ReproduceFacts

JOB_NAME = "job.yaml"  # what ``calib quantize --config`` reads

# Settings that are given by a flag of 'calib quantize'; others are given with --set.
FLAGS = (
    "metric",
    "decode",
    "max_drop",
    "drop",
    "min_sqnr",
    "effort",
    "estimator",
    "samples",
    "target",
    "threads",
    "time_limit",
)
SWITCHES = ("speed", "complete", "knee")  # flags that are given as --NAME or --no-NAME
FROM_THE_MODEL = ("default", "rt_info")  # origins of settings that the next run finds by itself


def reproduction(report: Report, inputs: RunInputs) -> ReproduceFacts | None:
    """Return how to repeat a run; None if its model or samples were Python objects.

    The config file writes to the folder that it is in, the other two to that of the inputs.

    Args:
        report: Report of the run, with its settings.
        inputs: Model, data and output as text; empty for Python objects.
    """
    if not inputs.model or not (inputs.calibration or inputs.plan):
        return None
    settings = {fact.key: fact.value for fact in report.settings if fact.origin not in FROM_THE_MODEL}
    output = inputs.output or f"{report.model.name}-int8"
    named = {key: text for key, text in asdict(replace(inputs, output=output)).items() if text}
    return ReproduceFacts(
        config=_yaml(named | {"output": "."} | nested(settings)),
        command=command_line(named, settings),
        python=_python(named, settings),
    )


def _yaml(data: Mapping[str, Any]) -> str:
    yaml: Any = YAML()
    yaml.width = 1 << 16  # a folded line would not be the same text in every editor
    stream = io.StringIO()
    yaml.dump(dict(data), stream)
    return stream.getvalue()


def command_line(inputs: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Return the command line of a run for a POSIX shell.

    Args:
        inputs: The model, and what else of calibration, validation, plan and output there is, as text.
        settings: Mapping from dotted key to value.
    """
    words = ["calib", "quantize", inputs["model"]]
    for key in ("calibration", "validation", "plan", "output"):
        words += [f"--{key}", inputs[key]] if key in inputs else []
    for key, value in settings.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if key == "higher_is_better":
            words.append("--higher-is-better" if value else "--lower-is-better")
        elif key in SWITCHES:
            words.append(f"--{key}" if value else f"--no-{key}")
        elif key in ("ignore", "extensions"):
            words += [word for one in value for word in (f"--{key.removesuffix('s')}", one)]
        elif key in FLAGS:
            words += [f"--{key.replace('_', '-')}", text]
        else:
            words += ["--set", f"{key}={text}"]
    return shlex.join(words)


def _python(inputs: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    given = {key: inputs[key] for key in ("validation", "plan") if key in inputs} | nested(settings)
    arguments = [
        repr(inputs["model"]),
        *([repr(inputs["calibration"])] if "calibration" in inputs else []),
        *(f"{key}={value!r}" for key, value in given.items()),
    ]
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"import calib\n\nresult = calib.quantize(\n{lines})\nresult.save({inputs['output']!r})\n"
