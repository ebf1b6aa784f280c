"""Ask the engine for what no command prints as data: ``python -P -m calib.studio.probe JSON``, a process of its own."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import asdict
from typing import Any

from calib.errors import CalibError
from calib.report.escape import printable


def main(arguments: list[str]) -> int:
    """Print a preview of samples as JSON, with pictures in base64; return the exit code."""
    from calib.engine.preview import preview

    given = json.loads(arguments[0])
    try:
        found = preview(
            given["model"],
            given["data"],
            count=given["count"],
            allow_python=given["allow_python"],
            **({"preprocessing": given["preprocessing"]} if given["preprocessing"] else {}),
        )
    except CalibError as error:
        print("error: " + "\n".join(map(printable, error.lines)), file=sys.stderr)
        return error.exit_code
    print(json.dumps(asdict(found), default=_text))
    return 0


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
