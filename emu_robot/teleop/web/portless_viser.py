"""A viser server without a port: pages reach it through our own web server, and so through the door.

viser listens by itself, asks for no token, and lets every page of every site in the browser connect. So its
listener is left out: `serve` hands it a page's websocket that was let in.
"""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import viser
import websockets.asyncio.server
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK


@dataclass
class Visit:
    """One connection of a page."""

    who: Any
    """What `serve` was told of the page."""
    is_open: bool = True
    """Whether it lasts; viser takes nothing for a page that has gone."""


VISIT: ContextVar[Visit] = ContextVar("visit")
"""The visit, in every `async` callback of viser's that the page causes."""
TAKEN = frozenset(
    {
        "GuiUpdateMessage",
        "TransformControlsDragEndMessage",
        "TransformControlsDragStartMessage",
        "TransformControlsUpdateMessage",
        "ViewerCameraMessage",
    }
)
"""Messages of a page that are passed on. Not among them: opening a public tunnel, uploads."""
MOST_WAITING = 256
"""Messages of a page that may wait to be handled; more end the connection."""

type Handler = Callable[[Any], Awaitable[None]]


class PageConnection:
    """A page's websocket as viser's handler knows it. Its methods are called in viser's thread, `push` in ours."""

    def __init__(self, page: WebSocket, subprotocol: str | None, there: asyncio.AbstractEventLoop) -> None:
        """there: the event loop of viser."""
        self.subprotocol = subprotocol
        self._page, self._here, self._there = page, asyncio.get_running_loop(), there
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()

    def push(self, data: bytes) -> None:
        """Take a message from the page."""
        if self._incoming.qsize() > MOST_WAITING:
            raise RuntimeError("the page sends faster than it is heard")
        if _is_taken(data):
            self._there.call_soon_threadsafe(self._incoming.put_nowait, data)

    def end(self) -> None:
        """The page is gone."""
        with contextlib.suppress(RuntimeError):  # viser has ended before
            self._there.call_soon_threadsafe(self._incoming.put_nowait, None)

    async def recv(self) -> bytes:
        """The next message."""
        data = await self._incoming.get()
        if data is None:
            raise ConnectionClosedOK(None, None)
        return data

    async def send(self, data: bytes) -> None:
        """Send a message to the page, and wait until it is on its way."""
        await self._at_home(self._page.send_bytes(data))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the page's websocket."""
        await self._at_home(self._page.close(code, reason[:120]))

    async def _at_home(self, call: Any) -> None:
        try:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._here))
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ConnectionClosedError(None, None) from error


class PortlessViser:
    """viser's server, its loop, and the way in for pages."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        with self._listener_left_out() as handlers, contextlib.redirect_stdout(io.StringIO()):  # its banner
            self.server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
        [self._handle] = handlers
        self.loop = self.server.get_event_loop()

    @property
    def html(self) -> str:
        """The page of viser's client: one file that needs no other."""
        return (Path(viser.__file__).parent / "client/build/index.html").read_text()

    async def serve(self, page: WebSocket, who: object) -> None:
        """Let viser talk with a page until one of them ends. who: what callbacks find in `VISIT`."""
        visit = Visit(who)
        offered = page.scope.get("subprotocols", [])
        chosen = next((name for name in offered if name.startswith("viser-v")), None)
        await page.accept(subprotocol=chosen)
        connection = PageConnection(page, chosen, self.loop)
        handled = asyncio.run_coroutine_threadsafe(self._run(connection, visit), self.loop)
        try:
            while True:
                connection.push(await page.receive_bytes())
        except (WebSocketDisconnect, RuntimeError, KeyError):  # closed, closed by viser, text in place of bytes
            pass
        finally:
            visit.is_open = False
            connection.end()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.wrap_future(handled)

    def stop(self) -> None:
        """End all connections and viser's threads."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    async def _run(self, connection: PageConnection, visit: Visit) -> None:
        VISIT.set(visit)
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await self._handle(connection)
        finally:
            visit.is_open = False
            self._running.discard(task)
            with contextlib.suppress(ConnectionClosedError):
                await connection.close()

    @contextlib.contextmanager
    def _listener_left_out(self) -> Iterator[list[Handler]]:
        """Replace the listener that viser starts by one that only keeps the handler of connections."""
        handlers: list[Handler] = []

        @contextlib.asynccontextmanager
        async def serve(handler: Handler, *_: Any, **__: Any) -> AsyncIterator[Any]:
            handlers.append(handler)
            try:
                yield SimpleNamespace(server=SimpleNamespace(sockets=()))
            finally:
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)

        module: Any = websockets.asyncio.server
        before, module.serve = module.serve, serve
        try:
            yield handlers
        finally:
            module.serve = before


def _is_taken(data: bytes) -> bool:
    """Whether a message is passed on. An update may change the value of a field, and nothing else of it."""
    try:
        message = msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        return False
    if not isinstance(message, dict) or message.get("type") not in TAKEN:
        return False
    updates = message.get("updates", {})
    return isinstance(updates, dict) and updates.keys() <= {"value"}
