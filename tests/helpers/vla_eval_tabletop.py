"""The simulated table as a benchmark of vla-eval."""

from typing import Any, ClassVar

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult, repeat_last_hold
from vla_eval.specs import IMAGE_RGB, LANGUAGE, RAW, DimSpec

from emu_robot import environments
from emu_robot.core import Observation

SEED = 10_000_003


class Tabletop(StepBenchmark):
    """One task; `played` keeps what every episode saw and did."""

    render_backends = frozenset({"gpu", "cpu"})
    played: ClassVar[list[list[tuple[Observation, np.ndarray]]]] = []

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        return {}

    def __init__(self, task: str = "pick_place", send_state: bool = False, send_wrist_image: bool = False) -> None:
        super().__init__()
        self._world = environments.make("tabletop", task)
        self._sends = send_state, send_wrist_image

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": self._world.task_name}]

    def reset(self, task: dict[str, Any]) -> Observation:
        self.played.append([])
        self._success = False
        return self._world.reset(SEED)

    def step(self, action: dict[str, Any]) -> StepResult:
        vector = np.asarray(action["actions"], np.float32)
        self.played[-1].append((self._last_result.obs, vector))
        after = self._world.step(vector)
        self._success |= after.success
        return StepResult(obs=after.observation, reward=0.0, done=after.success, info={})

    def make_obs(self, raw_obs: Observation, task: dict[str, Any]) -> dict[str, Any]:
        assert self._sends == (True, True), "the server asks for them"
        images = {"agentview": raw_obs.images["front"], "wrist": raw_obs.images["wrist"]}
        return {"images": images, "states": raw_obs.state, "task_description": self._world.instruction}

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": self._success}

    def get_hold_action(self, last_action: dict[str, Any] | None) -> dict[str, Any]:
        if last_action is None and self.played:
            return {"actions": self._last_result.obs.state}
        return repeat_last_hold(last_action, len(self._world.spec.layout.action_names))

    def get_action_spec(self) -> dict[str, DimSpec]:
        return {"actions": RAW}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        return {"image": IMAGE_RGB, "language": LANGUAGE, "state": RAW}

    def cleanup(self) -> None:
        self._world.close()
