"""Parameters of one entry of a configuration, read with their types; mistakes are collected, not raised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

Built = TypeVar("Built")


@dataclass
class Fields:
    """Parameters of an entry; every parameter that nothing reads is a problem.

    Attributes:
        name: Kind and name of the entry in messages, such as "preprocessing 'resize'".
        values: Parameters.
        problems: Sentences on what can't be done, which all entries of a configuration share.
    """

    name: str
    values: Mapping[str, Any]
    problems: list[str]
    _read: set[str] = field(default_factory=set[str])

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value of any type."""
        self._read.add(key)
        value = self.values.get(key)
        return default if value is None else value

    def refuse(self, sentence: str) -> None:
        """Note a problem of this entry."""
        self.problems.append(f"{self.name}: {sentence}")

    def number(self, key: str, default: Any = None, least: float = -math.inf, most: float = math.inf) -> Any:
        """Return a finite number, or the default."""
        value = self.get(key)
        if value is None:
            return default
        try:
            number = float(value) if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError):
            number = math.nan
        if not least <= number <= most:
            self.refuse(f"{key} must be a number from {least:g} to {most:g}, got {str(value)[:40]!r}")
            return default
        return int(number) if number == int(number) and not isinstance(value, float) else number

    def size(self, key: str, default: int | None = None) -> int | None:
        """Return a whole number of pixels or the like, at least 1."""
        value = self.number(key, default, 1, 1 << 16)
        if value is not None and value != int(value):
            self.refuse(f"{key} must be a whole number, got {value}")
        return None if value is None else int(value)

    def sides(self) -> tuple[int | None, int | None]:
        """Return (height, width) from ``size``, or from ``dst_height`` and ``dst_width``."""
        both, height, width = self.size("size"), self.size("dst_height"), self.size("dst_width")
        return (both, both) if both is not None else (height, width)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return true or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            self.refuse(f"{key} must be true or false, got {str(value)[:40]!r}")
        return bool(value)

    def text(self, key: str, default: str = "") -> str:
        """Return a text."""
        return str(self.get(key, default))

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return one of several texts."""
        value = self.text(key, default)
        if value not in choices:
            self.refuse(f"{key} {value!r} is not supported; supported are {', '.join(choices)}")
            return default
        return value

    def numbers(self, key: str, known: Mapping[str, Sequence[float]] | None = None) -> list[float] | None:
        """Return numbers from a list, one number, text with commas, or a name in ``known``; None if not given."""
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, str) and known and value in known:
            return list(known[value])
        listed = value.strip("[]() ").split(",") if isinstance(value, str) else value
        listed = listed if isinstance(listed, list | tuple) else [listed]
        try:
            found = [float(one) for one in listed]
        except (TypeError, ValueError):
            found = [math.nan]
        if not all(map(math.isfinite, found)):
            self.refuse(f"{key} must be numbers, got {str(value)[:60]!r}")
            return None
        return found

    def finish(self, *ignored: str) -> None:
        """Note every parameter that was given and not read; ``ignored`` ones change no result."""
        for key in self.values:
            if key not in self._read and key not in ignored:
                self.refuse(f"the parameter {key!r} is not supported")


def built(table: Mapping[str, Callable[[Fields], Built]], kind: str, entry: Any, problems: list[str]) -> Built | None:
    """Return what the builder of an entry's type makes of it; None, with a problem noted, if there is none.

    Args:
        table: Name → builder.
        kind: Kind of the entry in messages.
        entry: Mapping with ``type``, or the type alone.
        problems: Sentences on what can't be done, to which is added.
    """
    values = entry if isinstance(entry, Mapping) else {"type": entry}
    name = values.get("type")
    if not isinstance(name, str) or name not in table:
        problems.append(f"the {kind} {name!r} is not supported; supported are {', '.join(sorted(table))}")
        return None
    fields = Fields(f"{kind} {name!r}", values, problems)
    fields.get("type")
    return table[name](fields)
