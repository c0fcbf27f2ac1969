"""The main page: the arm in space with a handle to drag, cameras and episode. viser draws it, our bar watches over it.

A page has two websockets: one is viser's, over the other its own script says that the operator's finger is down. The
arm is driven only while both say so.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import viser
from starlette.websockets import WebSocket, WebSocketDisconnect

from emu_robot.teleop import keys
from emu_robot.teleop.desk import Desk
from emu_robot.teleop.loop import Loop
from emu_robot.teleop.web.arm_scene import HANDLE_M, ArmScene, pose_of, put
from emu_robot.teleop.web.panel import Panel
from emu_robot.teleop.web.portless_viser import VISIT, PortlessViser, Visit
from emu_robot.teleop.web.seat import Seat
from emu_robot.teleop.web.views import views

SCENE_EVERY_S = 1 / 15
"""Time between two updates of the scene [s]."""
PANEL_EVERY = 2
"""Updates of the scene per update of the panels."""
TELL_EVERY_S = 0.5
"""Longest silence towards a page's bar [s]."""
CAMERA_KEYS = frozenset({"left", "right"})
"""Keys that move viser's camera, and give no orders here."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What viser shows to one page alone."""

    visit: Visit
    """Its connection."""
    seat: Seat
    """Its operator."""
    handle: viser.TransformControlsHandle
    """What the operator drags; it follows the arm while it is not held."""
    panel: Panel
    """Its controls."""


class ArmPage:
    """Everything of the main page. viser's thread draws; the web server's thread calls `serve` and `hear`."""

    def __init__(self, desk: Desk, loop: Loop) -> None:
        self._desk, self._loop = desk, loop
        self._viser = PortlessViser()
        server = self._viser.server
        self._scene = ArmScene(server)
        self._seats: dict[str, Seat] = {}
        self._places: list[Place] = []
        self._shown_at, self._n_shown, self._waits = 0.0, 0, False
        server.gui.configure_theme(show_logo=False, show_share_button=False)
        server.gui.set_panel_label("Episode")
        server.gui.main_panel.dock_right()
        server.on_client_connect(self._enter)

    def start(self) -> None:
        """Begin to draw."""
        self._loop.watch(self._on_tick)

    def stop(self) -> None:
        """End viser's threads and connections."""
        self._loop.unwatch(self._on_tick)
        self._viser.stop()

    @property
    def html(self) -> str:
        """viser's page with our bar and script in it."""
        orders = {key: order for key, order in keys.ORDERS.items() if key not in CAMERA_KEYS}
        settings = json.dumps({"orders": orders, "home": keys.HOME_KEY})
        bar = Path(__file__).with_name("arm.html").read_text().replace("/*SETTINGS*/", settings)
        page = self._viser.html.replace("<title>Viser</title>", "<title>emu_robot teleop</title>")
        return page.replace("<body>", f"<body>{bar}", 1)

    # -- in the web server's thread

    async def serve(self, page: WebSocket, operator: str) -> None:
        """Serve viser's websocket of a page."""
        with self._seated(page, operator) as seat:
            await self._viser.serve(page, seat)

    async def hear(self, page: WebSocket, operator: str) -> None:
        """Serve the websocket of a page's own script: pulses and orders come, the bar's words go."""
        await page.accept()
        with self._seated(page, operator) as seat:
            telling = asyncio.create_task(self._tell(page, seat))
            try:
                while True:
                    seat.hear(await page.receive_text())
            except (
                WebSocketDisconnect,
                RuntimeError,
                KeyError,
            ):  # closed, closed while we sent, not text
                pass
            finally:
                seat.leave()
                telling.cancel()
                with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                    await telling

    @contextlib.contextmanager
    def _seated(self, page: WebSocket, operator: str) -> Iterator[Seat]:
        """The seat of a page while one of its websockets is open. operator: its name, if it is new."""
        key = page.path_params["key"]
        seat = self._seats.setdefault(key, Seat(self._desk, operator))
        seat.sockets += 1
        try:
            yield seat
        finally:
            seat.leave()
            seat.sockets -= 1
            if not seat.sockets:
                del self._seats[key]

    async def _tell(self, page: WebSocket, seat: Seat) -> None:
        said, said_at = "", -TELL_EVERY_S
        async with views(self._loop) as arriving:
            async for view in arriving:
                status, now = json.dumps(seat.status(view)), time.monotonic()
                if status != said or now - said_at >= TELL_EVERY_S:
                    said, said_at = status, now
                    await page.send_text(status)

    # -- in the control loop's thread

    def _on_tick(self) -> None:
        now = time.monotonic()
        if self._places and not self._waits and now - self._shown_at >= SCENE_EVERY_S:
            self._waits, self._shown_at = True, now
            self._viser.loop.call_soon_threadsafe(self._show)

    # -- in viser's thread

    async def _enter(self, client: viser.ClientHandle) -> None:
        """A page is there: it gets a handle and a panel."""
        visit = VISIT.get()
        seat: Seat = visit.who
        view = self._loop.view
        handle = client.scene.add_transform_controls("/handle", scale=HANDLE_M, line_width=4.0, depth_test=False)
        if view is not None and view.tool is not None:
            put(handle, view.tool)

        @handle.on_update
        async def _(event: viser.TransformControlsEvent) -> None:
            view = self._loop.view
            if event.phase == "start" and view is not None and view.target is not None:
                seat.grab(pose_of(handle), view.target)
            elif event.phase == "update":
                seat.drag(pose_of(handle))
            elif event.phase == "end":
                seat.let_go()

        self._places.append(Place(visit=visit, seat=seat, handle=handle, panel=Panel(client.gui, seat)))

    def _show(self) -> None:
        self._waits = False
        self._places = [place for place in self._places if place.visit.is_open]
        view = self._loop.view
        if view is None:
            return
        self._n_shown += 1
        self._scene.show(view)
        for place in self._places:
            place.handle.visible = view.tool is not None
            if view.tool is not None and not place.seat.clutch.is_dragged:
                put(place.handle, view.tool)
            if self._n_shown % PANEL_EVERY == 0:
                place.panel.show(view)
