"""The dataset card of a LeRobotDataset: README.md with the hub's front matter, the contents and their origin."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from lerobot.datasets.utils import create_lerobot_dataset_card

from emu_robot.data.lerobot_files import INFO, LeRobotFiles
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.robots.spec import PANDA
from emu_robot.shared.files import replace_text

CARD = "README.md"
UNKNOWN = "unknown"
"""The hub's word for a licence that is not stated."""
MEANINGS = {
    "timestamp": "time since the episode's first frame [s]",
    "frame_index": "frame within the episode",
    "episode_index": "episode",
    "index": "frame within the whole set",
    "task_index": "row of `meta/tasks.parquet`: the instruction",
    "subtask_index": "row of `meta/subtasks.parquet`: the subtask pursued",
    "keyframe": "frame, within the episode, at which that subtask is complete",
    "next.success": "true at the last frame of an episode that succeeded",
    "language_persistent": "LeRobot's annotations, style `subtask`, stamped where each subtask starts",
}
"""Feature -> its meaning, the same in all our sets."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Facts about a set that none of its files states."""

    summary: str
    """One sentence."""
    license: str = UNKNOWN
    """Identifier of the hub, such as "apache-2.0" or "cc-by-4.0"."""
    provenance: str = ""
    """Markdown."""
    limits: tuple[str, ...] = ()
    """One sentence each."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Feature outside `MEANINGS` -> its meaning, with units."""


def write_card(root: Path, origin: Origin, name: str = "") -> Path:
    """Write the card of the dataset in `root`, replacing an older one; return its path.

    name: the set's name; empty: its folder's name. Raises `DataError` if `root` is not a LeRobotDataset.
    """
    files = LeRobotFiles(root)
    card = create_lerobot_dataset_card(tags=["emu_robot"], license=origin.license)
    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    card.text = "\n" + template.get_template("dataset_card.md.j2").render(
        name=name or root.resolve().name,
        origin=origin,
        files=files,
        robot=json.loads((root / INFO).read_text()).get("robot_type"),
        n_frames=sum(episode.length for episode in files.episodes),
        features=[_row(key, feature, origin) for key, feature in files.features.items()],
    )
    replace_text(root / CARD, str(card))
    return root / CARD


def origin_of(buffer: ReplayBuffer, license: str = "") -> Origin:
    """The origin that a replay buffer records.

    license: empty means Apache-2.0, our code's, for buffers of `emu_robot.data.collect`, and unknown for others.
    """
    names = ("collection.json", "prepared.json", "recorded.json")
    collected, prepared, recorded = (_settings(buffer.path / name) for name in names)
    if collected:
        config = collected["config"]
        summary = f"Demonstrations by scripted experts in the simulated environment `{config['env']}`."
        kinds = ("noise", "burst_probability", "policy", "policy_share", "keep_failed")
        settings = ", ".join(f"`{key}={config[key]}`" for key in kinds if key in config)
        said = f"Made by `emu-robot collect` with {settings}; actions are the expert's own, not the disturbed ones."
        license = license or "apache-2.0"
    elif prepared:
        dataset = str(prepared.get("dataset", ""))
        given = Path(dataset).name if Path(dataset).exists() else dataset
        summary = f"The LeRobotDataset `{given}`, its episodes cut into subtasks."
        said = f"Made by `emu-robot data prepare`; the terms of `{given}` hold for this one, too."
    elif recorded:
        summary, said = _of_recordings(recorded["recordings"])
    else:
        summary, said = "Demonstrations kept by emu_robot.", "Exported from a replay buffer by `emu-robot data export`."
    return Origin(
        summary=summary,
        license=license or UNKNOWN,
        provenance=f"{said}\n\n{family_table(buffer)}",
        limits=("Simulated, not real.",) if collected or _is_simulated(recorded) else (),
        meanings=_meanings(buffer),
    )


def family_table(buffer: ReplayBuffer) -> str:
    """A Markdown table: episodes, successes and seeds of each family and split."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for meta in buffer.metadata:
        groups.setdefault((meta["family"], meta["split"]), []).append(meta)
    lines = ["| family | split | episodes | succeeded | seeds |", "|---|---|---|---|---|"]
    for (family, split), metas in groups.items():
        seeds = sorted(meta["seed"] for meta in metas)
        span = f"{seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} in {seeds[0]} .. {seeds[-1]}"
        n_done = sum(meta["success"] for meta in metas)
        lines.append(f"| {family} | {split} | {len(metas)} | {n_done} | {span} |")
    return "\n".join(lines)


def _of_recordings(recordings: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Summary and provenance of a set that `emu-robot data from-mcap` made."""
    robots = ", ".join(f"`{name}`" for name in sorted({one["robot"] for one in recordings}))
    software = {" ".join(f"{name} {state}" for name, state in one["software"].items() if state) for one in recordings}
    weights = sorted({one["weights"] for one in recordings} - {""})
    said = [
        f"Made by `emu-robot data from-mcap` of {len(recordings)} recordings; actions are what the arm was commanded."
    ]
    said += [f"Recorded with {', '.join(sorted(software - {''}))}."] if software - {""} else []
    said += [f"Weights of the policy that drove: {', '.join(f'`{name}`' for name in weights)}."] if weights else []
    return f"Episodes of the robot {robots}, recorded from its ROS 2 graph.", " ".join(said)


def _is_simulated(recorded: Mapping[str, Any]) -> bool:
    return any(one["simulated"] for one in recorded.get("recordings", ()))


def _meanings(buffer: ReplayBuffer) -> dict[str, str]:
    if not buffer.layout.agrees(PANDA.layout) and not (buffer.path / "recorded.json").exists():
        return {}
    gripper = "opening in [0, 1], 1 open"
    return {
        "observation.state": f"joint positions [rad], gripper {gripper}",
        "action": f"joint-position targets [rad], gripper target, {gripper}",
    }


def _row(key: str, feature: Mapping[str, Any], origin: Origin) -> dict[str, str]:
    """Cells of the table of features."""
    names = feature.get("names")
    said = origin.meanings.get(key) or MEANINGS.get(key, "")
    if feature["dtype"] in ("video", "image"):
        info = feature.get("info") or {}
        said = f"RGB, {info.get('video.codec', feature['dtype'])}" + (f"; {said}" if said else "")
    elif isinstance(names, list | tuple) and names:
        said = f"{', '.join(map(str, names))}" + (f": {said}" if said else "")
    return {"key": key, "dtype": feature["dtype"], "shape": str(tuple(feature["shape"])), "said": said}


def _settings(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
