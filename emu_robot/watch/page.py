"""The page of a board, and its websocket. The page only listens: a message from it ends its connection."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from emu_robot.core import Image
from emu_robot.teleop.web.door import Door, is_loopback, new_token
from emu_robot.teleop.web.messages import EncodedPictures
from emu_robot.teleop.web.site import Site
from emu_robot.teleop.web.views import views
from emu_robot.watch.board import Board
from emu_robot.watch.messages import pictures, write_thought

EVERY_S = 1 / 15
"""Time between two messages to a page [s]."""
COOKIE = "emu_robot_watch"
SEEN = "other machines could see the cameras"


class WatchPage:
    """Serves a board. `url` is the address to open."""

    def __init__(self, board: Board, *, host: str, port: int, token: str) -> None:
        """port: 0 for any free one.

        Raises `ConfigError` for a host without token, `SystemSetupError` if the port is in use.
        """
        self._board, self._encoded = board, EncodedPictures()
        self._site = Site(Door(host, token, cookie=COOKIE, risk=SEEN), host=host, port=port, token=token)
        self._html = Path(__file__).with_name("watch.html").read_text()
        self.url = self._site.url

    def start(self) -> None:
        """Begin to serve. Raises `SystemSetupError` if that fails."""
        self._site.start([Route("/", self._page), WebSocketRoute("/ws", self._site.counted(self._serve))])

    def stop(self) -> None:
        """End all connections and the server."""
        self._site.stop()

    async def _page(self, request: Request) -> Response:
        return self._site.page(self._html)

    async def _serve(self, page: WebSocket, name: str) -> None:
        await page.accept()
        telling = asyncio.create_task(self._tell(page))
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            if (await page.receive())["type"] == "websocket.receive":
                await page.close(code=1008, reason="this page only listens")
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await telling

    async def _tell(self, page: WebSocket) -> None:
        """Send what changed, as fast as the page takes it."""
        told = _Told()
        async with views(self._board) as arriving:
            await self._send(page, told)
            async for _ in arriving:
                begun = time.monotonic()
                await self._send(page, told)
                await asyncio.sleep(max(EVERY_S - (time.monotonic() - begun), 0.0))

    async def _send(self, page: WebSocket, told: "_Told") -> None:
        """Send the newest thought and its new pictures."""
        thought = self._board.view
        words = json.dumps(write_thought(thought))
        if words != told.words:
            told.words = words
            await page.send_text(words)
        if thought.number != told.number:  # the page has dropped the pictures of the task before
            told.number, told.pictures = thought.number, {}
        for slot, image in pictures(thought):
            if told.pictures.get(slot) is not image:
                told.pictures[slot] = image
                await page.send_bytes(self._encoded.of(slot, image))


@dataclass
class _Told:
    """What a page was sent."""

    words: str = ""
    number: int = 0
    pictures: dict[int, Image] = field(default_factory=dict)


@contextmanager
def served(board: Board, *, host: str, port: int, token: str) -> Iterator[str]:
    """The address of a board's page while the block runs. token: "new" makes one. Raises as `WatchPage`."""
    page = WatchPage(board, host=host, port=port, token=new_token() if token == "new" else token)
    if not is_loopback(host):
        print(
            f"everyone who can reach {host} and has the address sees the cameras; it travels unencrypted: use it in a "
            "network of your own, or behind a proxy with TLS",
            flush=True,
        )
    page.start()
    try:
        yield page.url
    finally:
        page.stop()
