"""The web server of teleoperation: the main page, the page /pad, and their websockets, in a thread of its own."""

import asyncio
import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from emu_robot.core import Image
from emu_robot.errors import EmuRobotError, InvalidValueError, SystemSetupError
from emu_robot.teleop import keys
from emu_robot.teleop.desk import Desk, Sample, read_order
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.web.arm_page import ArmPage
from emu_robot.teleop.web.door import Door
from emu_robot.teleop.web.messages import LARGEST, read_message, read_number, write_picture, write_view
from emu_robot.teleop.web.views import views

PICTURES_EVERY_S = 1 / 15
"""Time between two pictures of a camera on the page [s]."""
MOST_SOCKETS = 32
"""Open websockets beyond which another one is refused; a page has one or two."""
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'self'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
ARM_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob: data:; font-src data:; "
    "connect-src 'self' blob: data:; frame-ancestors 'self'",
}
"""viser's client starts a worker and decodes in WebAssembly. No page may reach another machine."""


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


class Pages:
    """The pages of one session. `url` is the address to open."""

    def __init__(self, desk: Desk, loop: Loop, *, host: str, port: int, token: str, faces_arm: bool) -> None:
        """port: 0 for any free one. faces_arm: whether operators look at the arm from its front.

        Raises `ConfigError` for a host without token, `SystemSetupError` if the port is in use.
        """
        self._desk, self._loop, self._faces_arm, self._door = desk, loop, faces_arm, Door(host, token)
        self._socket = _listen(host, port)
        self._numbers, self._open = itertools.count(1), 0
        self._encoded: dict[int, tuple[Image, bytes]] = {}
        self._arm_page = ArmPage(desk, loop)
        self._page = Path(__file__).with_name("pad.html").read_text()
        bound = self._socket.getsockname()[1]
        shown = "localhost" if host in ("127.0.0.1", "localhost", "::1") else host
        self.url = f"http://{shown}:{bound}/" + (f"?token={token}" if token else "")
        routes = [
            Route("/", self._main),
            Route("/pad", self._pad),
            WebSocketRoute("/ws", self._counted(self._serve)),
            WebSocketRoute("/viser/{key}", self._counted(self._arm_page.serve)),
            WebSocketRoute("/pulse/{key}", self._counted(self._arm_page.hear)),
        ]
        app = Guard(Starlette(routes=routes), self._door)
        config = uvicorn.Config(
            app,
            log_level="warning",
            ws="websockets-sansio",
            ws_max_size=LARGEST,
            ws_per_message_deflate=False,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="pages", daemon=True)

    def start(self) -> None:
        """Begin to serve. Raises `SystemSetupError` if that fails."""
        self._thread.start()
        self._arm_page.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise SystemSetupError("the web server did not start")
            time.sleep(0.01)

    def stop(self) -> None:
        """End all connections and the server."""
        self._arm_page.stop()
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    # -- pages

    async def _main(self, request: Request) -> Response:
        return HTMLResponse(self._arm_page.html, headers=HEADERS | ARM_HEADERS | (self._door.cookie() or {}))

    async def _pad(self, request: Request) -> Response:
        settings = {"moves": keys.MOVES, "turns": keys.TURNS, "orders": keys.ORDERS, "home": keys.HOME_KEY}
        text = self._page.replace("/*SETTINGS*/", json.dumps(settings))
        return HTMLResponse(text, headers=HEADERS | (self._door.cookie() or {}))

    # -- the websocket

    def _counted(self, serve: Callable[[WebSocket, str], Awaitable[None]]) -> Callable[[WebSocket], Awaitable[None]]:
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

    async def _serve(self, page: WebSocket, operator: str) -> None:
        await page.accept()
        telling = asyncio.create_task(self._tell(page, operator))
        try:
            while True:
                refused = self._take(await page.receive_text(), operator)
                if refused:
                    await page.send_text(json.dumps({"refused": refused}))
        except (WebSocketDisconnect, RuntimeError, KeyError):  # closed, closed while we sent, bytes in place of text
            pass
        finally:
            self._desk.leave(operator, time.monotonic())
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await telling

    def _take(self, text: str, operator: str) -> str:
        """Take a message. Returns why it is refused, "" if it is taken."""
        now = time.monotonic()
        try:
            message = read_message(text)
            if "order" in message:
                return self._desk.order(operator, read_order(message["order"], message.get("text", "")), now)
            drive = message.get("drive")
            if not isinstance(drive, dict):
                raise InvalidValueError(f"a message must have drive or order, it has {', '.join(message)[:60]}")
            wish = keys.read_wish(drive, faces_arm=self._faces_arm)
        except EmuRobotError as error:
            return str(error)
        pressed = drive.get("pressed") is True
        return self._desk.drive(operator, Sample(at=now, pressed=pressed, wish=wish, number=read_number(message)))

    async def _tell(self, page: WebSocket, operator: str) -> None:
        """Send views, and now and then pictures, as fast as the page takes them."""
        shown: dict[str, Image] = {}
        cameras: list[str] = []
        sent_at = 0.0
        async with views(self._loop) as arriving:
            async for view in arriving:
                if cameras != list(view.pictures):
                    cameras = list(view.pictures)
                    await page.send_text(json.dumps({"cameras": cameras}))
                await page.send_text(json.dumps({"view": write_view(view, operator)}))
                if time.monotonic() - sent_at >= PICTURES_EVERY_S:
                    sent_at = time.monotonic()
                    await self._show(page, view.pictures, shown)

    async def _show(self, page: WebSocket, pictures: Mapping[str, Image], shown: dict[str, Image]) -> None:
        for index, (camera, image) in enumerate(pictures.items()):
            if shown.get(camera) is not image:
                shown[camera] = image
                await page.send_bytes(self._encode(index, image))

    def _encode(self, index: int, image: Image) -> bytes:
        """The picture for all pages; each is encoded once."""
        kept = self._encoded.get(index)
        if kept is None or kept[0] is not image:
            kept = self._encoded[index] = (image, write_picture(index, image))
        return kept[1]


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
