"""Tiny weights and a small set of another robot than theirs."""

from pathlib import Path

import pytest
from lerobot_sets import small_episode, write_set
from tiny_weights import write_weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """Two cameras, three dimensions, the gripper first."""
    episodes = [small_episode(seed, n_subtasks=1 + seed % 2, task=f"task {seed % 2}") for seed in range(6)]
    return write_set(tmp_path_factory.mktemp("sets") / "set", episodes, cameras=("side", "top"))
