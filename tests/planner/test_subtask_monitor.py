import pytest

from emu_robot.core import PolicyEvent
from emu_robot.errors import InvalidValueError
from emu_robot.planner.config import ReplanConfig
from emu_robot.planner.subtask_monitor import SubtaskMonitor


def monitor(**changes) -> SubtaskMonitor:
    return SubtaskMonitor(ReplanConfig(**changes), steps_per_chunk=8, segment_steps_p90=80)


def test_over_only_after_dwelling():
    follow = monitor(dwell=2, progress_threshold=0.9)
    verdicts = [follow.update(progress) for progress in (0.2, 0.95, 0.6, 0.9, 0.91)]
    assert verdicts == [(), (PolicyEvent.REACHED,), (), (), (PolicyEvent.SWITCHED,)]


def test_timeout_after_the_configured_share_of_a_long_segment():
    follow = monitor(timeout_factor=1.5)
    verdicts = [follow.update(0.5) for _ in range(16)]
    assert verdicts == [*[()] * 15, (PolicyEvent.TIMEOUT,)]  # 1.5 * 80 steps are 15 chunks of 8


def test_starting_forgets_the_last_subtask():
    follow = monitor(timeout_factor=1.5)
    for _ in range(15):
        follow.update(0.95 if _ == 14 else 0.1)
    follow.start()
    assert follow.update(0.95) == ()
    assert follow.update(0.95) == (PolicyEvent.SWITCHED,)


def test_reached_once_when_progress_has_risen():
    follow = monitor(reached_threshold=0.8)
    told = [follow.update(progress) for progress in (0.85, 0.95, 0.3, 0.79, 0.8, 0.7, 0.85)]
    assert [i for i, events in enumerate(told) if PolicyEvent.REACHED in events] == [4]
    follow.start()
    assert [follow.update(progress) for progress in (0.7, 0.8)] == [(), (PolicyEvent.REACHED,)]
    follow = monitor(reached_dwell=2, dwell=2)
    told = [follow.update(progress) for progress in (0.7, 0.85, 0.3, 0.95, 0.95)]
    assert told == [*[()] * 4, (PolicyEvent.REACHED, PolicyEvent.SWITCHED)]


@pytest.mark.parametrize("changes", [{"dwell": 0}, {"progress_threshold": 1.5}, {"timeout_factor": 0}])
def test_senseless_settings_are_refused(changes):
    with pytest.raises(InvalidValueError):
        ReplanConfig(**changes)
