import numpy as np
import pytest

from emu_robot.data.episode import Episode


@pytest.fixture
def make_episode():
    def make(seed: int = 0, n_frames: int = 20, size: int = 16, **changes) -> Episode:
        rng = np.random.default_rng(seed)
        frames = np.array([0, 5, 9, 12, n_frames - 1], np.int32)
        images = {c: rng.integers(0, 256, (len(frames), size, size, 3)).astype(np.uint8) for c in ("front", "wrist")}
        fields = {
            "instruction": f"do task {seed}",
            "family": "toy",
            "split": "seen",
            "seed": seed,
            "success": True,
            "fps": 20,
            "subtasks": ("first", "second"),
            "keyframes": np.array([9, n_frames - 1], np.int32),
            "starts": np.array([0, 12], np.int32),
            "state": rng.normal(size=(n_frames, 8)).astype(np.float32),
            "action": rng.normal(size=(n_frames, 8)).astype(np.float32),
            "image_frames": frames,
            "images": images,
        }
        return Episode(**(fields | changes))

    return make
