"""Asks a controller for its parameter `joints`: the order in which it takes numbers."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.task import Future

PATIENCE_S = 3.0
"""Time to wait for an answer before asking again [s]."""
STALE_S = 6.0
"""Age from which an answer does not count [s]: another controller may run by then."""


class JointOrder:
    """The order of one controller's joints, asked for about once a second. It never blocks."""

    def __init__(self, node: Node, controller: str, joints: Sequence[str]) -> None:
        """controller: its full name. joints: the robot's joints in the order of the policy's actions."""
        self._node, self._controller, self._joints = node, controller, tuple(joints)
        self._client = node.create_client(GetParameters, f"{controller}/get_parameters")
        self._question: Future | None = None
        self._asked_at = self._answered_at = float("-inf")
        self._answer: tuple[str, ...] | None = None
        self._change = ""
        self.indices: NDArray[np.intp] | None = None
        """Indices (J,) of the robot's joints in the order of the last answer; None if it names other joints."""

    def ask(self) -> None:
        """Ask once; again if there is no answer after `PATIENCE_S`. Call it about once a second."""
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
        """How the order changed since the last call, in words; empty if it did not."""
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
        if question is not self._question:  # a question that was given up
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
