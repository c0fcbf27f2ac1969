"""Renders a world's cameras in a thread of its own, so that pictures do not delay the control loop."""

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from emu_robot.core import Floats, Image
from emu_sim.world import World

GONE_S = 10.0
"""Longest wait for the thread to end [s]."""


class PictureThread:
    """Takes states of a world, renders the newest one on a copy, and keeps the last pictures."""

    def __init__(self, world: World, cameras: Sequence[str], size: int) -> None:
        """size: height and width of the pictures [px]."""
        self._world, self._cameras, self._size = world, tuple(cameras), size
        self._mirror = World(world.grammar)
        self._news = threading.Condition()
        self._wanted: tuple[Floats, float] | None = None
        self._taken: tuple[Mapping[str, Image], float] | None = None
        self._error: Exception | None = None
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()

    def show(self, now: float) -> None:
        """Render the world as it is `now`. A state that waits is left out."""
        with self._news:
            self._wanted = (self._world.save(), now)
            self._news.notify_all()

    def new_scene(self, now: float) -> None:
        """Take over a world that was laid again, and wait for its first pictures."""
        with self._news:
            for name in ("geom_rgba", "geom_contype", "geom_conaffinity", "body_gravcomp"):
                np.copyto(getattr(self._mirror.model, name), getattr(self._world.model, name))
        self.show(now)
        with self._news:
            self._news.wait_for(lambda: self._error is not None or (self._taken or ((), -1.0))[1] >= now, GONE_S)

    @property
    def newest(self) -> tuple[Mapping[str, Image], float] | None:
        """The last pictures and their time; None before the first. Raises what went wrong while rendering."""
        with self._news:
            if self._error is not None:
                raise self._error
            return self._taken

    def close(self) -> None:
        """End the thread; it frees its renderers."""
        with self._news:
            self._ends = True
            self._news.notify_all()
        self._thread.join(GONE_S)

    def _run(self) -> None:
        try:
            while (wanted := self._next()) is not None:
                state, at = wanted
                self._mirror.restore(state)
                pictures = {name: self._mirror.render(name, self._size) for name in self._cameras}
                with self._news:
                    self._taken = (pictures, at)
                    self._news.notify_all()
        except Exception as error:  # the control loop raises it where it asks for pictures
            with self._news:
                self._error = error
                self._news.notify_all()
        finally:
            self._mirror.close()

    def _next(self) -> tuple[Floats, float] | None:
        with self._news:
            self._news.wait_for(lambda: self._wanted is not None or self._ends)
            wanted, self._wanted = self._wanted, None
            return None if self._ends else wanted
