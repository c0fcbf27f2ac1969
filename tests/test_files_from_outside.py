"""Every file that comes from outside, damaged at random: it is read, or refused in one line."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from damage import Reader, fuzz
from lerobot_sets import edit_json, small_episode, write_set
from official_checkpoint import make_checkpoint
from PIL import Image as PillowImage
from recordings import subgoal, write_recording
from robots import SIX_JOINTS
from tiny_weights import write_weights

from emu_robot.core import PolicyEvent
from emu_robot.data.first_reading import read_set
from emu_robot.data.lerobot_files import LeRobotFiles
from emu_robot.data.mcap_recording import read_recorded
from emu_robot.data.prepare import RECORD, PrepareConfig, choose, chosen, prepare
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.emu35.checkpoint import (
    INDEX,
    load_language_model,
    load_vision_tokenizer,
    read_language_config,
    read_vision_config,
)
from emu_robot.emu35.config import DType, PlacementConfig
from emu_robot.emu35.text import RANKS, VISION, Emu3Text
from emu_robot.evaluation.records import EpisodeRecord, StepRecord
from emu_robot.observation.image_file import read_picture
from emu_robot.planner.planner import Planner
from emu_robot.policy.action_decoder import ActionDecoder
from emu_robot.policy.weights_contract import head_contract, planner_camera, planner_path
from emu_robot.robots.deployment import read_deployment

METADATA = "prepared/episodes/metadata.jsonl"
RECORDING = "recording/recording.mcap"
SHARD = "model-00001-of-00002.safetensors"
FLOAT32 = PlacementConfig(dtype=DType.float32, device="cpu")


def hashed(folder: Path) -> None:
    """Write the hashes of the weights' files as they are now: who changes a file can change its hash, too."""
    path = folder / "ours/manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["stages"].values():
        entry["sha256"] = hashlib.sha256((folder / "ours" / entry["file"]).read_bytes()).hexdigest()
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / "ours" / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))


def policy(folder: Path) -> None:
    """Read weights as every command does: what the manifest says, then head, planner and tokenizers."""
    ours = folder / "ours"
    contract, path = head_contract(ours), planner_path(ours)
    camera, size = planner_camera(ours)
    decoder, planner = ActionDecoder.load(ours), Planner.load(ours)
    assert (camera, size, path) == (planner.config.camera, planner.image_size, planner.config.dida_path)
    assert decoder.layout == contract.layout
    decoder.layout.hold(
        decoder.blank_observation().state, typical=np.zeros(len(contract.layout.action_names), np.float32)
    )


def lerobot_set(name: str):
    """Read a set as `prepare` does before it writes, then one picture of each camera."""

    def read(folder: Path) -> None:
        files, config = LeRobotFiles(folder / name), PrepareConfig(dataset=str(folder / name), workers=0)
        conversion, episodes = choose(files, config), chosen(files, config)
        read_set(files, episodes, conversion, keyframes=config.keyframes, use_labels=True, excluded=[])
        for camera in conversion.cameras.values():
            next(files.images(episodes[0], files.rows(episodes[0]), camera, [0]))

    return read


def again(folder: Path) -> None:
    """Prepare into the folder of a prepared set."""
    prepare(PrepareConfig(dataset=str(folder / "set"), out=folder / "prepared", workers=0, image_size=16))


def buffer(folder: Path) -> None:
    """Read a replay buffer's metadata, numbers and first picture."""
    opened = ReplayBuffer.open(folder / "prepared")
    for i in range(opened.n_episodes):
        opened.episode(i).validate()
    for camera in opened.cameras:
        opened.images(camera)[:1]
    assert opened.layout.gripper_states is not None


def counted(folder: Path) -> None:
    """Write the length of the metadata into the index: who changes the one can change the other."""
    edit_json(folder / "prepared/index.json", metadata_bytes=(folder / METADATA).stat().st_size)


def recording(folder: Path) -> None:
    read_recorded(folder / RECORDING)


READERS = {
    reader.file: reader
    for reader in (
        Reader("emu/config.json", lambda folder: read_language_config(folder / "emu")),
        Reader(f"emu/{INDEX}", lambda folder: load_language_model(folder / "emu", FLOAT32)),
        Reader(f"emu/{SHARD}", lambda folder: load_language_model(folder / "emu", FLOAT32)),
        Reader(f"emu/{RANKS}", lambda folder: Emu3Text.load(folder / "emu")),
        Reader(f"emu/{VISION}", lambda folder: Emu3Text.load(folder / "emu")),
        Reader("emu/vision/config.yaml", lambda folder: read_vision_config(folder / "emu/vision")),
        Reader("emu/vision/model.ckpt", lambda folder: load_vision_tokenizer(folder / "emu/vision")),
        Reader("ours/manifest.json", policy),
        Reader("ours/head.safetensors", policy, hashed, shown=8, many=2000),
        Reader("ours/planner.safetensors", policy, hashed, shown=8, many=2000),
        Reader("ours/text.json", policy, hashed, shown=8, many=2000),
        *(
            Reader(f"set/{file}", lerobot_set("set"), many=2000)
            for file in (
                *("meta/info.json", "meta/stats.json", "meta/tasks.parquet"),
                *("meta/episodes/chunk-000/file-000.parquet", "data/chunk-000/file-000.parquet"),
                "videos/observation.images.top/chunk-000/file-000.mp4",
            )
        ),
        *(
            Reader(f"old/meta/{file}", lerobot_set("old"), many=2000)
            for file in ("info.json", "episodes.jsonl", "tasks.jsonl")
        ),
        Reader(f"prepared/{RECORD}", again, many=500),
        Reader("prepared/index.json", buffer),
        Reader(METADATA, buffer, counted, many=2000),
        Reader("prepared/frames/state/zarr.json", buffer, many=2000),
        Reader(RECORDING, recording, many=500),
        Reader("robot.yaml", lambda folder: read_deployment(str(folder / "robot.yaml"))),
        Reader("photo.png", lambda folder: read_picture(folder / "photo.png")),
        Reader("photo.jpg", lambda folder: read_picture(folder / "photo.jpg")),
        Reader("episode.json", lambda folder: EpisodeRecord.read(folder / "episode.json")),
    )
}


def record() -> EpisodeRecord:
    step = StepRecord(subtask="open", truth=None, first_tick=0, last_tick=9, reached=True, before="a.jpg")
    return EpisodeRecord(
        index=0, task="t", group="g", split="s", seed=1, instruction="open it", success=False, ending="timeout",
        n_steps=9, n_chunks=2, subtasks=("open",), subtasks_done=(False,), steps=(step,),
        events=((3, PolicyEvent.SWITCHED),), failure="lost", detail=None, control_hz=20, max_steps=9,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("whole")
    make_checkpoint(folder / "emu")
    write_weights(folder / "ours")
    episodes = [small_episode(seed) for seed in range(2)]
    write_set(folder / "set", episodes, size=(16, 16))
    write_set(folder / "old", episodes, size=(16, 16), version="v2.1")
    again(folder)
    write_recording(folder / "recording", [subgoal(0.0, 1, "open the drawer")], seconds=0.3)
    next((folder / "recording").glob("*.mcap")).rename(folder / RECORDING)
    (folder / "robot.yaml").write_text(SIX_JOINTS)
    picture = PillowImage.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8))
    picture.save(folder / "photo.png")
    picture.save(folder / "photo.jpg")
    record().write(folder / "episode.json")
    yield folder


@pytest.mark.parametrize("file", READERS)
def test_no_damage_is_more_than_a_line(whole: Path, file: str) -> None:
    READERS[file].read(whole)
    fuzz(READERS[file], whole, READERS[file].shown)


@pytest.mark.slow
@pytest.mark.parametrize("file", READERS)
def test_many_damages_are_a_line_each(whole: Path, file: str) -> None:
    fuzz(READERS[file], whole, READERS[file].many)
