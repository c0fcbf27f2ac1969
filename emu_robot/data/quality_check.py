"""Judge every episode of a set: PASS, REVIEW or EXCLUDE, with the reason."""

from collections.abc import Sequence

from emu_robot.data.conversion import Conversion
from emu_robot.data.dimensions import Dimensions
from emu_robot.data.lerobot_files import EpisodeFiles, LeRobotFiles
from emu_robot.data.quality import WORST_FIRST, EpisodeQuality, QualityConfig, SetQuality
from emu_robot.data.quality_episode import episode_findings
from emu_robot.data.quality_reading import Reading, read_buffer, read_lerobot
from emu_robot.data.quality_scale import SetScale
from emu_robot.data.quality_set import set_findings
from emu_robot.data.replay_buffer import ReplayBuffer


def check_lerobot(
    files: LeRobotFiles,
    episodes: Sequence[EpisodeFiles],
    conversion: Conversion,
    config: QualityConfig,
    workers: int = 0,
) -> SetQuality:
    """Judge these episodes of a LeRobotDataset."""
    readings = read_lerobot(files, episodes, conversion, config.picture_every_s, workers)
    whole = [reading for reading in readings if not reading.fault]
    dimensions = conversion.dimensions
    if whole:
        dimensions = dimensions.settled([r.state for r in whole], [r.action for r in whole], files.fps)
    notes = [f"not looked at: camera {camera}, which {why}" for camera, why in files.left_out.items()]
    return judge(readings, _scale(whole, dimensions), config, notes)


def check_buffer(buffer: ReplayBuffer, config: QualityConfig, n: int = 0) -> SetQuality:
    """Judge the episodes of a replay buffer, the first `n` or all; those without motion are left out."""
    readings, layout = list(read_buffer(buffer, config.picture_every_s, n)), buffer.layout
    left_out = len(buffer.metadata[: n or None]) - len(readings)
    notes = [f"not looked at: {left_out} episodes that were laid out without motion"] if left_out else []
    states, actions = [r.state for r in readings], [r.action for r in readings]
    kinds = layout.state_kinds, layout.action_kinds
    scale = None
    if readings:
        no_turns = [False] * len(layout.state_names), [False] * len(layout.action_names)
        scale = SetScale.of(states, actions, (layout.state_names, layout.action_names), kinds, no_turns)
    return judge(readings, scale, config, notes)


def judge(
    readings: Sequence[Reading], scale: SetScale | None, config: QualityConfig, notes: Sequence[str] = ()
) -> SetQuality:
    """What the checks say of these episodes. scale: None if none can be read."""
    found = {reading.index: list(episode_findings(reading, scale, config)) for reading in readings}
    told = list(notes)
    whole = [reading for reading in readings if not reading.fault]
    if scale is not None:
        beside, set_notes = set_findings(whole, scale, config)
        told += set_notes
        for index, findings in beside.items():
            found[index] += findings
        if not config.picture_every_s or not any(reading.parts for reading in whole):
            told.append("not checked: cameras, and contradictions, which need pictures")
        if not scale.pairs:
            told.append("not checked: offset of command and state (no action is the target of a state)")
    episodes = [
        EpisodeQuality(index=index, findings=tuple(sorted(own, key=lambda f: WORST_FIRST.index(f.verdict))))
        for index, own in found.items()
    ]
    return SetQuality(episodes=tuple(episodes), notes=tuple(told))


def _scale(readings: Sequence[Reading], dimensions: Dimensions) -> SetScale | None:
    if not readings:
        return None
    columns = dimensions.state, dimensions.action
    names, kinds, turns = (
        tuple([getattr(column, what) for column in some] for some in columns) for what in ("name", "kind", "wraps")
    )
    return SetScale.of(
        [r.state for r in readings],
        [r.action for r in readings],
        (names[0], names[1]),
        (kinds[0], kinds[1]),
        (turns[0], turns[1]),
    )
