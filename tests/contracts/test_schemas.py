"""Every field of what calib reads and writes as JSON or YAML says what it holds."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from calib.cli.schema import SCHEMAS, command
from calib.values.facts import Frozen


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
