"""Settings of recordings that LeRobot itself makes in a test."""

from pathlib import Path

from lerobot.configs import RGBEncoderConfig
from lerobot.configs.dataset import DatasetRecordConfig


def short_recording(name: str, root: Path, words: str) -> DatasetRecordConfig:
    """Two episodes of two seconds at 20 Hz, encoded fast."""
    return DatasetRecordConfig(
        repo_id=name,
        root=root,
        single_task=words,
        fps=20,
        num_episodes=2,
        episode_time_s=2,
        reset_time_s=0,
        push_to_hub=False,
        rgb_encoder=RGBEncoderConfig(vcodec="h264", preset="ultrafast"),
        streaming_encoding=True,
        encoder_threads=1,
    )
