"""Every field of what calib reads and writes as JSON or YAML says what it holds.

covers: calib.values.accuracy_facts, calib.values.benchmark, calib.values.comparison, calib.values.doctor,
calib.values.evaluation, calib.values.frozen, calib.values.inspection
"""

from __future__ import annotations

import importlib
import json
import pkgutil

import pytest
from click.testing import CliRunner

import calib.values
from calib.cli.schema import SCHEMAS, command
from calib.values.frozen import Frozen

for module in pkgutil.iter_modules(calib.values.__path__):  # so that all subclasses of Frozen are known
    importlib.import_module(f"calib.values.{module.name}")


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_of_a_printed_schema_has_a_description(kind: str):
    done = CliRunner().invoke(command, [kind])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.output)
    blocks = {kind: printed, **printed.get("$defs", {})}
    fields = {f"{block}.{name}": field for block, body in blocks.items() for name, field in body["properties"].items()}
    assert len(fields) > 5
    assert [name for name, field in fields.items() if not field.get("description", "").strip()] == []


@pytest.mark.parametrize("facts", Frozen.__subclasses__(), ids=lambda facts: facts.__name__)
def test_every_field_of_the_facts_has_a_description(facts: type[Frozen]):
    assert [name for name, field in facts.model_fields.items() if not field.description] == []
