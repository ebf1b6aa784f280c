"""Who may use a studio: a token in the link that it prints, swapped once for the cookie of a session."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path


class Sessions:
    """The token that the next link carries, and the session that browsers have in exchange for one.

    The session outlives the server, so that a page that is open can be loaded again after a restart.

    Args:
        file: File that keeps the session and the port, readable for its owner alone.
    """

    def __init__(self, file: Path):
        self._file = file
        kept = _read(file)
        self._session = str(kept.get("session") or secrets.token_urlsafe(32))
        port = kept.get("port")
        self.port = port if isinstance(port, int) else 0
        self.token = secrets.token_urlsafe(32)

    def keep(self, port: int) -> None:
        """Write the session and the port for the next server of this folder."""
        self.port = port
        self._file.unlink(missing_ok=True)
        handle = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with open(handle, "w", encoding="ascii") as stream:
            json.dump({"session": self._session, "port": port}, stream)

    def swap(self, token: str) -> str | None:
        """Return the session for the token of the link and make a new token; None for any other text."""
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            return None
        self.token = secrets.token_urlsafe(32)
        return self._session

    def knows(self, cookie: str) -> bool:
        """Return whether a cookie is that of the session."""
        return secrets.compare_digest(cookie.encode(), self._session.encode())


def _read(file: Path) -> dict[str, object]:
    """Return what an earlier server kept, unless anybody else could have read or written it."""
    try:
        facts = file.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            return {}
        found = json.loads(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
