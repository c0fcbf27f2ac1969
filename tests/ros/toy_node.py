"""A node that takes a second to come to rest, as an arm does. Its argument: what goes wrong, and on which executor.

"" nothing, "slow" it configures for a minute, "wrong" it cannot configure, "raises" a callback fails in motion; then
"awaits" for the executor of coroutines.
"""

import sys
import time

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import String

from emu_robot_ros.running import run_node

WRONG, AWAITS = sys.argv[1], "awaits" in sys.argv[2:]


def say(word: str) -> None:
    print(word, flush=True)


class ToyNode(LifecycleNode):
    def __init__(self) -> None:
        super().__init__("toy")
        self._words = self.create_publisher(String, "words", 10)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        say("configuring")
        if WRONG == "wrong":
            raise KeyError("joint")
        if WRONG == "slow":
            time.sleep(60)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._timer = self.create_timer(0.05, self._tick)
        say("active")
        return super().on_activate(state)

    def _tick(self) -> None:
        if WRONG == "raises":
            raise RuntimeError("a callback\nfails")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        say("braking")
        time.sleep(1)
        self._words.publish(String(data="at rest"))  # fails where the context is gone
        say("at rest")
        return super().on_deactivate(state)


if __name__ == "__main__":
    run_node(ToyNode, awaits=AWAITS)
