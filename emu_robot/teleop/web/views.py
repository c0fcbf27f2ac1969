"""Views for the websockets of pages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from emu_robot.teleop.loop import Loop
from emu_robot.teleop.view import View


@asynccontextmanager
async def views(loop: Loop) -> AsyncIterator[AsyncIterator[View]]:
    """The views of a control loop, as fast as they are taken; those between are left out."""
    ticked, here = asyncio.Event(), asyncio.get_running_loop()

    def on_tick() -> None:
        here.call_soon_threadsafe(ticked.set)

    async def each() -> AsyncIterator[View]:
        while True:
            await ticked.wait()
            ticked.clear()
            if (view := loop.view) is not None:
                yield view

    loop.watch(on_tick)
    try:
        yield each()
    finally:
        loop.unwatch(on_tick)
