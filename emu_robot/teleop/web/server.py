"""The web server of teleoperation: the main page, the page /pad, and their websockets, in a thread of its own."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from emu_robot.core import Image
from emu_robot.teleop import keys
from emu_robot.teleop.desk import Desk
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.web.arm_page import ArmPage
from emu_robot.teleop.web.door import Door
from emu_robot.teleop.web.messages import EncodedPictures, write_view
from emu_robot.teleop.web.pad_seat import PadSeat
from emu_robot.teleop.web.site import Site
from emu_robot.teleop.web.tls import Tls
from emu_robot.teleop.web.views import views

PICTURES_EVERY_S = 1 / 15
"""Time between two pictures of a camera on the page [s]."""
SCRIPTS = ("pad.js", "pictures.js", "tilt.js", "headset.js", "headset_board.js")
"""Scripts of the page /pad."""
ARM_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob: data:; font-src data:; "
    "connect-src 'self' blob: data:; frame-ancestors 'self'",
}
"""viser's client starts a worker and decodes in WebAssembly. No page may reach another machine."""


class Pages:
    """The pages of one session. `url` is the address to open."""

    def __init__(
        self, desk: Desk, loop: Loop, *, host: str, port: int, token: str, faces_arm: bool, tls: Tls | None = None
    ) -> None:
        """port: 0 for any free one. faces_arm: whether operators look at the arm from its front. tls: None for http.

        Raises `ConfigError` for a host without token, `SystemSetupError` if the port is in use.
        """
        self._desk, self._loop, self._faces_arm = desk, loop, faces_arm
        self._site = site = Site(Door(host, token), host=host, port=port, token=token, tls=tls)
        self._pictures = EncodedPictures()
        self._arm_page = ArmPage(desk, loop)
        self._page = Path(__file__).with_name("pad.html").read_text()
        self._scripts = {name: Path(__file__).with_name(name).read_text() for name in SCRIPTS}
        self.url = site.url
        self._routes = [
            Route("/", self._main),
            Route("/pad", self._pad),
            *(Route(f"/pad/{name}", self._script) for name in SCRIPTS),
            WebSocketRoute("/ws", site.counted(self._serve)),
            WebSocketRoute("/viser/{key}", site.counted(self._arm_page.serve)),
            WebSocketRoute("/pulse/{key}", site.counted(self._arm_page.hear)),
        ]

    def start(self) -> None:
        """Begin to serve. Raises `SystemSetupError` if that fails."""
        self._arm_page.start()
        self._site.start(self._routes)

    def stop(self) -> None:
        """End all connections and the server."""
        self._arm_page.stop()
        self._site.stop()

    # -- pages

    async def _main(self, request: Request) -> Response:
        return self._site.page(self._arm_page.html, ARM_HEADERS)

    async def _pad(self, request: Request) -> Response:
        settings = {"moves": keys.MOVES, "turns": keys.TURNS, "orders": keys.ORDERS, "home": keys.HOME_KEY}
        return self._site.page(self._page.replace("/*SETTINGS*/", json.dumps(settings)))

    async def _script(self, request: Request) -> Response:
        return self._site.script(self._scripts[request.url.path.rpartition("/")[2]])

    # -- the websocket

    async def _serve(self, page: WebSocket, operator: str) -> None:
        await page.accept()
        seat = PadSeat(self._desk, self._loop, operator, faces_arm=self._faces_arm)
        telling = asyncio.create_task(self._tell(page, operator))
        try:
            while True:
                if refused := seat.hear(await page.receive_text()):
                    await page.send_text(json.dumps({"refused": refused}))
        except (WebSocketDisconnect, RuntimeError, KeyError):  # closed, closed while we sent, bytes in place of text
            pass
        finally:
            seat.leave()
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await telling

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
                await page.send_bytes(self._pictures.of(index, image))
