"""A web server in a thread of its own, behind the door. It knows neither pages nor sessions."""

import itertools
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from emu_robot.errors import SystemSetupError
from emu_robot.teleop.web.door import Door
from emu_robot.teleop.web.messages import LARGEST
from emu_robot.teleop.web.tls import Tls

MOST_SOCKETS = 32
"""Open websockets beyond which another one is refused; a page has one or two."""
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'self'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""No page may reach another machine."""


class Guard:
    """Lets a request in if the door does."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        asked, is_socket = HTTPConnection(scope), scope["type"] == "websocket"
        why = self._door.why_refused(asked.headers, asked.url.query, asked.cookies, socket=is_socket)
        if not why:
            await self._app(scope, receive, send)
        elif is_socket:
            await WebSocket(scope, receive, send).close(code=1008, reason=why[:120])
        else:
            await PlainTextResponse(f"refused: {why}\n", status_code=403)(scope, receive, send)


class Site:
    """Listens from the beginning, serves its routes from `start` on. `url` is the address to open."""

    def __init__(self, door: Door, *, host: str, port: int, token: str, tls: Tls | None = None) -> None:
        """port: 0 for any free one. tls: None for plain http. Raises `SystemSetupError` if the port is in use."""
        self._door, self._socket, self._tls = door, _listen(host, port), tls
        self._numbers, self._open = itertools.count(1), 0
        bound = self._socket.getsockname()[1]
        shown = "localhost" if host in ("127.0.0.1", "localhost", "::1") else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{bound}/" + (f"?token={token}" if token else "")
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, routes: Sequence[BaseRoute]) -> None:
        """Begin to serve. Raises `SystemSetupError` if that fails."""
        config = uvicorn.Config(
            Guard(Starlette(routes=routes), self._door),
            log_level="warning",
            ws="websockets-sansio",
            ws_max_size=LARGEST,
            ws_per_message_deflate=False,
            lifespan="off",
            ssl_certfile=self._tls.certificate if self._tls else None,
            ssl_keyfile=self._tls.key if self._tls else None,
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, args=([self._socket],), name="pages", daemon=True)
        self._thread.start()
        while not server.started:
            if not self._thread.is_alive():
                raise SystemSetupError("the web server did not start")
            time.sleep(0.01)

    def stop(self) -> None:
        """End all connections and the server."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join()
        self._socket.close()

    def page(self, text: str, headers: dict[str, str] | None = None) -> Response:
        """A page with the headers of every page, those given in place of theirs."""
        return HTMLResponse(text, headers=HEADERS | (headers or {}) | (self._door.cookie() or {}))

    def script(self, text: str) -> Response:
        """A page's script, with the same headers."""
        return Response(text, media_type="text/javascript", headers=HEADERS)

    def counted(self, serve: Callable[[WebSocket, str], Awaitable[None]]) -> Callable[[WebSocket], Awaitable[None]]:
        """Refuse websockets beyond the most, and name the others."""

        async def counted(page: WebSocket) -> None:
            if self._open >= MOST_SOCKETS:
                await page.close(code=1013, reason="too many open pages")
                return
            self._open += 1
            try:
                await serve(page, f"page {next(self._numbers)}")
            finally:
                self._open -= 1

        return counted


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener: Any = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SystemSetupError(f"cannot listen on {host}:{port}: {error.strerror}; choose another port=") from error
    return listener
