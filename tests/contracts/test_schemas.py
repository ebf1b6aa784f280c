"""Every field of what calib reads and writes as JSON or YAML says what it holds.

covers: calib.values.accuracy_facts, calib.values.benchmark, calib.values.comparison, calib.values.doctor,
calib.values.evaluation, calib.values.inspection
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import Any

import pytest
from click.testing import CliRunner

import calib.values
from calib.cli.schema import SCHEMAS, command
from calib.values.frozen import Frozen, Shown

for module in pkgutil.iter_modules(calib.values.__path__):  # so that all subclasses of Frozen are known
    importlib.import_module(f"calib.values.{module.name}")


def printed(kind: str) -> dict[str, Any]:
    done = CliRunner().invoke(command, [kind])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_of_a_printed_schema_has_a_description(kind: str):
    schema = printed(kind)
    blocks = {kind: schema, **schema.get("$defs", {})}
    fields = {f"{block}.{name}": field for block, body in blocks.items() for name, field in body["properties"].items()}
    assert len(fields) > 5
    assert [name for name, field in fields.items() if not field.get("description", "").strip()] == []


FACTS = [kind for kind in (*Frozen.__subclasses__(), *Shown.__subclasses__()) if kind is not Shown]


@pytest.mark.parametrize("facts", FACTS, ids=lambda facts: facts.__name__)
def test_every_field_of_the_facts_has_a_description(facts: type[Frozen]):
    assert [name for name, field in facts.model_fields.items() if not field.description] == []


# Those of draft 2020-12 that are used; any other word is ignored by whoever checks a file.
_WORDS = """
$schema $defs $ref title description type properties required additionalProperties items prefixItems enum const default
anyOf allOf oneOf minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems minLength maxLength pattern
uniqueItems format examples
"""


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_printed_schema_uses_the_words_of_json_schema_alone(kind: str):
    def unknown(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set[str]().union(*map(unknown, schema))
        if not isinstance(schema, dict):
            return set()
        named = [inner for word in ("properties", "$defs") for inner in schema.get(word, {}).values()]
        values = ("properties", "$defs", "default", "enum", "const", "examples")
        inner = [value for word, value in schema.items() if word not in values]
        return (schema.keys() - set(_WORDS.split())) | unknown(named) | unknown(inner)

    assert unknown(printed(kind)) == set()
