"""The planner node, each of whose plans takes ten seconds of computing, in calls that no signal interrupts."""

import runpy
import time
from typing import Any

import torch

from emu_robot.planner.planner import Planner
from emu_robot.planner.task_execution import PlanningError

PLAN_S = 10.0


def plan(self: Planner, *given: Any, **named: Any) -> Any:
    print("computing", flush=True)
    until, matrix = time.monotonic() + PLAN_S, torch.rand(800, 800)
    while time.monotonic() < until:
        matrix = torch.linalg.svd(matrix)[0]
    raise PlanningError("this planner never comes to an end")


if __name__ == "__main__":
    Planner.plan = plan
    runpy.run_module("emu_robot_ros.planner_node", run_name="__main__")
