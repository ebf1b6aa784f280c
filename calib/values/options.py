"""Options behind the ``?`` of a name or a path: ``key=value&key=value``."""

from __future__ import annotations

from urllib.parse import parse_qsl


def options_in(query: str) -> list[tuple[str, str]]:
    """Return the keys and values, with ``%XX`` read as the character it stands for; a plus sign is a plus sign."""
    return parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
