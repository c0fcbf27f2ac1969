import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import DatasetCard

from emu_robot.data import lerobot_export
from emu_robot.data.collect import CollectConfig, collect
from emu_robot.data.replay_buffer import ReplayBuffer
from emu_robot.errors import ConfigError, DataError, InvalidValueError

export = lerobot_export.export_lerobot


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def source(tmp_path, smooth_episode):
    buffer = ReplayBuffer.create(tmp_path / "buffer")
    buffer.extend([smooth_episode(seed) for seed in range(5)])
    return buffer


@pytest.fixture
def smooth_episode(make_episode):
    def make(seed: int, n_frames: int = 20):
        """Every frame has an image, smooth enough for a video to keep, that tells its episode and frame."""
        row = np.linspace(0, 40, 128)[:, None, None]
        shades = 20 + 20 * (seed % 5) + 4 * np.arange(n_frames)[:, None, None, None] + row
        front = np.broadcast_to(shades, (n_frames, 128, 128, 3)).astype(np.uint8)
        frames = np.arange(n_frames, dtype=np.int32)
        return make_episode(
            seed, n_frames=n_frames, image_frames=frames, images={"front": front, "wrist": 255 - front},
            subtasks=(f"take {seed % 2}", "go home"), success=True,
        )  # fmt: skip

    return make


def load(root: Path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/test", root=root, video_backend="pyav")


def check_same(root: Path, buffer: ReplayBuffer) -> None:
    import pandas as pd

    dataset = load(root)
    assert (dataset.num_episodes, dataset.num_frames) == (buffer.n_episodes, buffer.n_frames)
    texts = pd.read_parquet(root / "meta" / "subtasks.parquet").reset_index()
    subtask = dict(zip(texts["subtask_index"], texts["subtask"], strict=True))
    for i, end in enumerate(buffer.episode_ends):
        episode = buffer.episode(i)
        for t in (0, 9, 12, len(episode) - 1):
            frame: Any = dataset[int(end) - len(episode) + t]
            k = int(episode.subtask_T[t])
            assert (frame["episode_index"], frame["frame_index"], frame["task"]) == (i, t, episode.instruction)
            assert subtask[int(frame["subtask_index"])] == episode.subtasks[k]
            assert int(frame["keyframe"]) == episode.keyframes[k]
            assert bool(frame["next.success"]) == (t == len(episode) - 1)
            assert np.array_equal(frame["observation.state"], episode.state[t])
            assert np.array_equal(frame["action"], episode.action[t])
            for camera, images in episode.images.items():
                seen = frame[f"observation.images.{camera}"].numpy().transpose(1, 2, 0) * 255
                assert np.abs(seen - images[t]).mean() < 2
            active = [row["content"] for row in frame["language_persistent"] if row["timestamp"] <= frame["timestamp"]]
            assert active[-1] == episode.subtasks[k]


def test_lerobot_loads_what_was_exported(source, tmp_path, capfd):
    check_same(export(source.path, tmp_path / "set"), source)
    assert "libx264" not in capfd.readouterr().err
    assert not (tmp_path / "set.parts").exists()
    videos = list((tmp_path / "set").rglob("*.mp4"))
    assert len(videos) == 2 and all(path.stat().st_mode & 0o444 == 0o444 for path in videos)


def test_an_export_has_a_card(source, tmp_path):
    def told(license: str = "") -> tuple[DatasetCard, str]:
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        card = DatasetCard.load(export(source.path, tmp_path / "set", license=license) / "README.md")
        return card, card.data.to_dict()["license"]

    card, licence = told("cc-by-4.0")
    assert licence == "cc-by-4.0" and card.data.to_dict()["task_categories"] == ["robotics"]
    assert "5 episodes, 100 frames at 20 Hz, 5 instructions, 3 subtasks, robot `panda`" in card.text
    assert "| toy | seen | 5 | 5 | 5 in 0 .. 4 |" in card.text and "joint-position targets [rad]" in card.text
    assert "More Information Needed" not in card.text
    (source.path / "prepared.json").write_text('{"dataset": "me/my_set"}')
    card, licence = told()
    assert licence == "unknown" and "the terms of `me/my_set` hold for this one" in card.text
    (source.path / "collection.json").write_text('{"config": {"env": "tabletop", "noise": 0.01}}')
    card, licence = told()
    assert licence == "apache-2.0" and "with `noise=0.01`" in card.text


def test_a_grown_buffer_adds_its_new_episodes(source, tmp_path, smooth_episode, monkeypatch):
    monkeypatch.setattr(lerobot_export, "EPISODES_PER_PART", 2)
    out = export(source.path, tmp_path / "set")
    source.extend([smooth_episode(seed) for seed in (7, 8)])
    written = record_calls(monkeypatch)
    check_same(export(source.path, out), source)
    assert written == [range(5, 7)]
    export(source.path, out)
    assert written == [range(5, 7)]


def test_processes_write_the_same_set(source, tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot_export, "EPISODES_PER_PART", 2)
    check_same(export(source.path, tmp_path / "set", workers=2), source)


def test_an_interrupted_export_keeps_its_complete_parts(source, tmp_path, monkeypatch):
    monkeypatch.setattr(lerobot_export, "EPISODES_PER_PART", 2)
    written = record_calls(monkeypatch, interrupt_at=1)
    with pytest.raises(KeyboardInterrupt):
        export(source.path, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    check_same(export(source.path, tmp_path / "set"), source)
    assert written == [range(2), range(2, 4), range(2, 4), range(4, 5)]


def test_an_interrupted_swap_puts_the_old_set_back(source, tmp_path):
    out = export(source.path, tmp_path / "set")
    parts = tmp_path / "set.parts"
    parts.mkdir()
    out.rename(parts / "replaced")
    shutil.copytree(parts / "replaced", parts / "merged")
    check_same(export(source.path, out), source)
    assert not parts.exists()


def record_calls(monkeypatch, interrupt_at: int | None = None) -> list[range]:
    write_part, calls = lerobot_export.write_part, []

    def write(settings, episodes, part):
        calls.append(episodes)
        if len(calls) - 1 == interrupt_at:
            part.with_name(f"{part.name}.partial").mkdir()
            raise KeyboardInterrupt
        write_part(settings, episodes, part)

    monkeypatch.setattr(lerobot_export, "write_part", write)
    return calls


def test_collect_exports_too(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(lerobot_export, "export_lerobot", lambda *paths, workers: calls.append(paths))
    out = collect(CollectConfig(env="toy_arm", n=2, out=tmp_path / "toy", workers=1))
    assert calls == [(out, tmp_path / "toy_lerobot")]


def test_what_cannot_be_exported(source, tmp_path, make_episode):
    with pytest.raises(DataError, match="nowhere: no such replay buffer"):
        export(tmp_path / "nowhere", tmp_path / "set")
    with pytest.raises(DataError, match="holds no episodes"):
        export(ReplayBuffer.create(tmp_path / "empty").path, tmp_path / "set")
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="photos: exists and is not a LeRobotDataset"):
        export(source.path, tmp_path / "photos")
    sparse = ReplayBuffer.create(tmp_path / "sparse")
    sparse.append(make_episode())
    with pytest.raises(InvalidValueError, match=r"crf=60, .*crf lie in \[0, 51\]"):
        export(source.path, tmp_path / "set", crf=60)
    with pytest.raises(ConfigError, match=r"5 images for 20 frames.*image_every=1"):
        export(sparse.path, tmp_path / "set")
