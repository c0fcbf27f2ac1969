"""What LeRobot's recording commands tell the operator about their episodes. Knows nothing of robots.

LeRobot calls neither robot nor teleoperator when an episode begins or ends; a human at the table hears it. The words
go through Python's log as well (`lerobot.utils.utils.log_say`), and that is where we listen.
"""

import logging
from enum import Enum


class Phase(Enum):
    """What the program that drives the robot is doing, as far as it was heard."""

    UNANNOUNCED = "unannounced"
    RECORDING = "recording"
    RESETTING = "resetting"


# Said by `lerobot-record` and by `lerobot-rollout --strategy.type=episodic`.
_ANNOUNCED = {"Recording episode": Phase.RECORDING, "Reset the environment": Phase.RESETTING}


class Announcements(logging.Filter):
    """Keeps the phase last announced on the root logger while listening; lets every record pass.

    reset_requested: somebody is expected to lay a new scene; whoever does sets it back.
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
