"""What stands in front of every page: host, origin, session, size of what is sent, and the headers of answers.

A page of another site that the user has open can send requests to this machine. None gets through: its ``Host`` is that
of the other site (DNS rebinding), or its ``Origin`` and ``Sec-Fetch-Site`` say where it is from, and it has no cookie,
because the cookie is ``SameSite=Strict``.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import ipaddress
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calib.studio.sessions import Sessions

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # Not no-referrer: with that, browsers send forms with the origin "null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

FORM_BYTES = 1 << 20  # of any request but an upload


@dataclass(frozen=True)
class Door:
    """Where the studio is reached.

    Attributes:
        host: Address that it listens on.
        port: Port that it listens on.
    """

    host: str
    port: int

    @property
    def cookie(self) -> str:
        """Name of the cookie: cookies do not tell ports apart."""
        return f"calib-studio-{self.port}"

    @property
    def address(self) -> str:
        """Address of the first page, without a token."""
        name = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"

    def is_ours(self, authority: str) -> bool:
        """Return whether ``Host``, or the host of an ``Origin``, names this server.

        A name is ours only if it is the one we listen on: any other may be a stranger's that points here. An address
        can't point anywhere else.
        """
        try:
            parts = urlsplit(f"//{authority}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.port:
            return False
        if name in ("127.0.0.1", "localhost", "::1", self.host):
            return True
        try:
            return self.host in ("0.0.0.0", "::") and bool(ipaddress.ip_address(name))
        except ValueError:
            return False


class Guard:
    """Wraps the application; see the module.

    Args:
        app: Application that answers what gets through.
        sessions: Token and session.
        door: Where the studio is reached.
        uploads: Most bytes of a request to ``/upload``.
        on_swap: Called when a token was used, so that the next link can be shown.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, door: Door, uploads: int, on_swap):
        self._app = app
        self._sessions = sessions
        self._door = door
        self._uploads = uploads
        self._on_swap = on_swap

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page opens a web socket
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send)
        headers = Headers(scope=scope)
        if refused := self._refusal(scope, headers) or self._entered(scope, headers):
            await refused(scope, receive, send)
            return
        most = self._uploads if scope["path"] == "/upload" else FORM_BYTES
        if int(_number(headers.get("content-length"))) > most:
            await _said(413, f"That is more than the {most:,} bytes that may be sent.")(scope, receive, send)
            return
        try:
            await self._app(scope, _counted(receive, most), send)
        except asyncio.CancelledError:  # the server ends while this waits for an answer of the engine
            with contextlib.suppress(RuntimeError):  # part of an answer was sent already
                await _said(503, "This studio has ended.")(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a request that another site sent, or may have sent."""
        if not self._door.is_ours(headers.get("host", "")):
            return _said(421, f"This studio is at {self._door.address}, under no other name.")
        origin = headers.get("origin")
        ours = origin is not None and origin.startswith("http://") and self._door.is_ours(origin[7:])
        if origin is not None and not ours:
            return _said(403, "This request comes from another site.")
        site = headers.get("sec-fetch-site", "none")
        link = scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not link:
            return _said(403, "This request comes from another site.")
        if scope["method"] not in ("GET", "HEAD") and not ours:
            return _said(403, "This request does not say which site it comes from.")
        return None

    def _entered(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a request without a session: a redirect with its cookie for the token, or a refusal."""
        known = self._sessions.knows(_cookie(headers, self._door.cookie))
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] != "/" or not token:
            return None if known else _said(403, "Open the link that calib studio printed in its terminal.")
        session = self._sessions.swap(token)
        if session is None and not known:
            return _said(403, "This link was used before, or is of an earlier start; open the last one printed.")
        answer = RedirectResponse("/", 303)
        if session is not None:
            answer.set_cookie(self._door.cookie, session, httponly=True, samesite="strict", path="/")
            self._on_swap()
        return answer


class TooLarge(Exception):  # it ends a request, and is no mistake of the program
    """More was sent than may be."""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


def _counted(receive: Receive, most: int) -> Receive:
    """Return ``receive`` that ends a request whose body grows past ``most`` bytes, whatever its length says."""
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise TooLarge(f"more than {most:,} bytes were sent")
        return message

    return receiving


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _said(status: int, sentence: str) -> Response:
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>calib studio</title><h1>calib studio</h1><p>{html.escape(sentence)}</p></html>"
    )
    return HTMLResponse(page, status)
