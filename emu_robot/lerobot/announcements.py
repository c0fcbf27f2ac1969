"""Listen to the words by which LeRobot's recording commands announce episodes. Knows nothing of robots.

LeRobot calls neither robot nor teleoperator when an episode begins or ends. It tells the operator, in words that pass
through Python's log as well (`lerobot.utils.utils.log_say`).
"""

import logging
from enum import Enum


class Phase(Enum):
    """The last announced phase of the program that drives the robot."""

    UNANNOUNCED = "unannounced"
    RECORDING = "recording"
    RESETTING = "resetting"


# Words of `lerobot-record` and of `lerobot-rollout --strategy.type=episodic`.
_ANNOUNCED = {"Recording episode": Phase.RECORDING, "Reset the environment": Phase.RESETTING}


class Announcements(logging.Filter):
    """Keeps the phase last announced on the root logger while listening; lets every record pass.

    reset_requested: a new scene is due; the robot clears it when the scene is laid.
    """

    def __init__(self) -> None:
        super().__init__()
        self.phase = Phase.UNANNOUNCED
        self.reset_requested = False

    def listen(self) -> None:
        logging.getLogger().addFilter(self)

    def stop(self) -> None:
        logging.getLogger().removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        for words, phase in _ANNOUNCED.items():
            if text.startswith(words):
                self.phase = phase
                self.reset_requested |= phase is Phase.RESETTING
        return True
