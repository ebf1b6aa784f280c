"""Settings: their meaning and checks (settings), where values come from (resolve), and config files (document).

A new setting is one field of ``Settings``: its description is the help of the command line and of the schema. What a
setting does belongs with the step that reads it; nothing here runs a model.
"""

from calib.config.preprocessing import Preprocessing
from calib.config.resolve import Fallback, Resolved, plain_value, resolve
from calib.config.settings import Settings, json_schema
from calib.config.types import parse_duration, parse_memory
from calib.documents.document import Document, parse_json, parse_yaml, read_document

__all__ = [
    "Document",
    "Fallback",
    "Preprocessing",
    "Resolved",
    "Settings",
    "json_schema",
    "parse_duration",
    "parse_json",
    "parse_memory",
    "parse_yaml",
    "plain_value",
    "read_document",
    "resolve",
]
