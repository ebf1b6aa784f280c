"""A client of a studio without a network: it calls the application as a server would, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from calib.studio.allowed import Allowed
from calib.studio.app import make_app
from calib.studio.guard import Door, Guard
from calib.studio.sessions import Sessions

HOST, PORT = "127.0.0.1", 8123
OURS = f"http://{HOST}:{PORT}"


@dataclass
class Answered:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """Sends requests as a browser that has opened the link; a context manager."""

    def __init__(self, folder: Path, *, uploads: int = 1 << 20, enter: bool = True, **allowed: Any):
        output = folder / "calib-studio"
        output.mkdir(exist_ok=True)
        self.output = output
        self.sessions = Sessions(output / ".session.json")
        self.door = Door(HOST, PORT)
        self.runner = asyncio.Runner()
        self.app = self.runner.run(self._made(Allowed(folder.resolve(), **allowed), output))
        self.swaps = 0
        self.guard = Guard(self.app, self.sessions, self.door, uploads, self._swapped)
        self.headers = {"host": f"{HOST}:{PORT}"}
        if enter:
            self.get(f"/?token={self.sessions.token}")

    async def _made(self, allowed: Allowed, output: Path):
        return make_app(allowed, output)

    def _swapped(self) -> None:
        self.swaps += 1

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.run(self.app.state.studio.close())
        self.runner.close()

    def get(self, path: str, headers: Mapping[str, str | None] | None = None, **query: str) -> Answered:
        return self.send("GET", f"{path}?{urlencode(query)}" if query else path, b"", headers or {})

    def post(self, path: str, headers: Mapping[str, str | None] | None = None, **form: Any) -> Answered:
        kind = "application/x-www-form-urlencoded"
        given = {"origin": OURS, "content-type": kind, **(headers or {})}
        return self.send("POST", path, urlencode(form, doseq=True).encode(), given)

    def send(self, method: str, target: str, body: bytes, headers: Mapping[str, str | None]) -> Answered:
        """Send a request; a header of None is left out."""
        given = {name: value for name, value in {**self.headers, **headers}.items() if value is not None}
        given.setdefault("content-length", str(len(body)))
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": (HOST, 1),
            "server": (HOST, PORT),
        }
        answered = self.runner.run(_exchange(self.guard, scope, body))
        if (cookie := answered.headers.get("set-cookie")) is not None:
            self.headers = {**self.headers, "cookie": cookie.partition(";")[0]}
        return answered


async def _exchange(app: Any, scope: dict[str, Any], body: bytes) -> Answered:
    answered = Answered()
    parts = [body[at : at + 65536] for at in range(0, max(len(body), 1), 65536)]

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answered.status = message["status"]
            answered.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            answered.body += message.get("body", b"")

    await app(scope, receive, send)
    return answered
