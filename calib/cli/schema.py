"""``calib schema``: JSON Schemas for editors and for programs that read what calib writes."""

from __future__ import annotations

import importlib
import json
from typing import Any

import click

from calib.cli.options import print_text

# name → module:function without arguments that returns the schema
SCHEMAS = {
    "config": "calib.config:json_schema",
    "report": "calib.values.facts:Report.model_json_schema",
    "manifest": "calib.zoo.manifest:json_schema",
    "inspection": "calib.values.inspection:Inspection.model_json_schema",
    "evaluation": "calib.values.evaluation:Evaluation.model_json_schema",
    "verification": "calib.values.verification:Verification.model_json_schema",
}


@click.command(short_help="Print a JSON Schema.")
@click.argument("name", type=click.Choice(list(SCHEMAS)))
def command(name: str) -> None:
    """Print the JSON Schema of a config file, report.json, a manifest, or the JSON of inspect, evaluate or verify."""
    module, _, path = SCHEMAS[name].partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    print_text(json.dumps(found(), indent=1, ensure_ascii=False) + "\n")
