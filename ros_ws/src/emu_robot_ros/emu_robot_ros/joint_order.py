"""In which order a controller takes the numbers that it is commanded with: it is asked for its parameter `joints`."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.task import Future

PATIENCE_S = 3.0
"""How long an answer is waited for before the question is asked again [s]."""
STALE_S = 6.0
"""From this age on, an answer is none: the controller may be another one by now [s]."""


class JointOrder:
    """Asks one controller, about once a second; waits for nothing."""

    def __init__(self, node: Node, controller: str, joints: Sequence[str]) -> None:
        """controller: its full name. joints: the robot's, in the order of the policy's actions."""
        self._node, self._controller, self._joints = node, controller, tuple(joints)
        self._client = node.create_client(GetParameters, f"{controller}/get_parameters")
        self._question: Future | None = None
        self._asked_at = self._answered_at = float("-inf")
        self._answer: tuple[str, ...] | None = None
        self._change = ""
        self.indices: NDArray[np.intp] | None = None
        """Of the robot's joints in the order of the last answer, (J,); None unless that names just these joints."""

    def ask(self) -> None:
        """To be called about once a second. What is not answered is asked again after `PATIENCE_S`."""
        now = time.monotonic()
        if self._question is not None and now - self._asked_at < PATIENCE_S:
            return
        self._forget()
        if self._client.service_is_ready():
            self._asked_at = now
            self._question = self._client.call_async(GetParameters.Request(names=["joints"]))
            self._question.add_done_callback(self._on_answer)

    def problem(self) -> str:
        """Why the order is not known, in one line; empty if it is."""
        if time.monotonic() - self._answered_at > STALE_S:
            return f"{self._controller} does not answer which joints it takes: is it running? {_REMEDY}"
        if not self._answer:
            return f"{self._controller} has no parameter joints that names those it takes. {_REMEDY}"
        if self.indices is None:
            return f"{self._controller} takes {', '.join(self._answer)}, the robot's are {', '.join(self._joints)}"
        return ""

    def changed(self) -> str:
        """Whether the controller has said another order than before since this was last asked, in words."""
        change, self._change = self._change, ""
        return change

    def destroy(self) -> None:
        self._forget()
        self._node.destroy_client(self._client)

    def _forget(self) -> None:
        if self._question is not None:
            self._client.remove_pending_request(self._question)
            self._question = None

    def _on_answer(self, question: Future) -> None:
        if question is not self._question:  # one that was given up
            return
        self._question, self._answered_at = None, time.monotonic()
        response: Any = question.result()
        names = tuple(response.values[0].string_array_value) if response.values else ()
        if self._answer is not None and names != self._answer:
            self._change = f"{self._controller} takes {_list(names)} now, before it took {_list(self._answer)}"
        self._answer = names
        fits = sorted(names) == sorted(self._joints)
        self.indices = np.array([self._joints.index(name) for name in names], np.intp) if fits else None


_REMEDY = "Or name them in the robot's file: command_joints"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "no joints"
