"""Views for the websockets of pages."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class Watched[V](Protocol):
    """Where views come from, such as a control loop."""

    @property
    def view(self) -> V | None:
        """The newest view; None before the first."""
        ...

    def watch(self, on_tick: Callable[[], None], /) -> None:
        """Call `on_tick` after every change, in a thread of its own choice; it must return at once."""
        ...

    def unwatch(self, on_tick: Callable[[], None], /) -> None:
        """End `watch`."""
        ...


@asynccontextmanager
async def views[V](watched: Watched[V]) -> AsyncIterator[AsyncIterator[V]]:
    """The views, as fast as they are taken; those between are left out."""
    ticked, here = asyncio.Event(), asyncio.get_running_loop()

    def on_tick() -> None:
        here.call_soon_threadsafe(ticked.set)

    async def each() -> AsyncIterator[V]:
        while True:
            await ticked.wait()
            ticked.clear()
            if (view := watched.view) is not None:
                yield view

    watched.watch(on_tick)
    try:
        yield each()
    finally:
        watched.unwatch(on_tick)
