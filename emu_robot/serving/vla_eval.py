"""A model server of vla-eval, so that its benchmarks reach our policies (package `vla-eval`).

Without a live clock every observation is answered by one action. Under its live clock the world goes on during a
computation: the rest of the last chunk is played meanwhile, and a new chunk begins at the tick for which it is needed.
"""

from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from anyio.abc import TaskGroup
from vla_eval.model_servers.base import ModelServer, SessionContext
from vla_eval.model_servers.serve import serve_async
from vla_eval.specs import IMAGE_RGB, LANGUAGE, RAW, DimSpec

from emu_robot.core import Floats32, Observation
from emu_robot.serving.config import VlaEvalConfig
from emu_robot.serving.served_policy import ServedPolicy, check_instruction

STATES = ("states", "state")
"""Keys of the state in an observation; benchmarks use the one or the other."""


@dataclass
class Episode:
    """An episode in progress."""

    act: Any
    """observation -> chunk (T, A)."""
    live: bool
    """Whether the world goes on during a computation."""
    chunk: Floats32
    """(T, A) present actions; empty before the first."""
    begin: int = 0
    """Tick of the first of them."""
    tick: int = 0
    """Number of observations so far."""
    is_computing: bool = False
    """Whether a chunk is on its way."""
    problem: Exception | None = None
    """Why the last computation under the live clock failed."""

    def action(self) -> Floats32 | None:
        """The action (A,) of this tick; None if there is none."""
        place = self.tick - self.begin
        return self.chunk[place] if 0 <= place < len(self.chunk) else None


class EmuModelServer(ModelServer):
    """Serves one policy to any number of episodes at once."""

    def __init__(self, config: VlaEvalConfig) -> None:
        self._policy = ServedPolicy(config)
        self._steps = config.policy_config.n_action_steps
        self._episodes: dict[str, Episode] = {}
        self._tasks: TaskGroup | None = None

    def get_action_spec(self) -> dict[str, DimSpec]:
        """Actions as the training set of the weights had them."""
        return {"actions": RAW}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """Pictures, words and the robot's state."""
        return {"image": IMAGE_RGB, "language": LANGUAGE, "state": RAW}

    def get_observation_params(self) -> dict[str, Any]:
        """What benchmarks shall send."""
        return {"send_state": True, "send_wrist_image": self._policy.n_cameras > 1}

    async def on_serve_start(self, tg: TaskGroup) -> None:
        self._tasks = tg

    async def on_episode_start(self, config: dict[str, Any], ctx: SessionContext) -> None:
        none = np.zeros((0, 0), np.float32)
        self._episodes[ctx.episode_id] = Episode(act=None, live=config.get("mode") == "live", chunk=none)

    async def on_episode_end(self, result: dict[str, Any], ctx: SessionContext) -> None:
        self._episodes.pop(ctx.episode_id, None)

    async def on_observation(self, obs: dict[str, Any], ctx: SessionContext) -> None:
        """Answer with the action of this tick."""
        episode = self._episodes[ctx.episode_id]
        words = check_instruction(obs.get("task_description"), list(obs))
        state = next((obs[key] for key in STATES if obs.get(key) is not None), ())
        seen = self._policy.observation(obs.get("images") or {}, state)
        if episode.act is None:
            episode.act = self._policy.begin(words, seen)
        if episode.live:
            self._compute_beside(episode, seen)
        elif episode.action() is None:
            chunk = await anyio.to_thread.run_sync(episode.act, seen)
            episode.begin, episode.chunk = episode.tick, chunk[: self._steps]
        if episode.problem is not None:
            problem, episode.problem = episode.problem, None
            raise problem
        action = episode.action()
        episode.tick += 1
        if action is not None:
            await ctx.send_action({"actions": action})

    def _compute_beside(self, episode: Episode, seen: Observation) -> None:
        """Under the live clock: begin a chunk once the present one is used up to the number of steps executed."""
        is_due = episode.tick - episode.begin >= self._steps or episode.action() is None
        if is_due and not episode.is_computing:
            assert self._tasks is not None
            episode.is_computing = True
            self._tasks.start_soon(self._compute, episode, seen, episode.tick)

    async def _compute(self, episode: Episode, seen: Observation, tick: int) -> None:
        try:
            chunk = await anyio.to_thread.run_sync(episode.act, seen)
        except Exception as error:  # told at the next observation
            episode.problem = error
        else:
            episode.begin, episode.chunk = tick, chunk
        finally:
            episode.is_computing = False


async def serve(config: VlaEvalConfig) -> None:
    """Serve until it is cancelled. Prints the address once it can be used."""
    server = EmuModelServer(config)
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(serve_async, server, config.host, config.port)
        print(f"policy {config.policy} serves vla-eval at ws://{config.host}:{port}", flush=True)
